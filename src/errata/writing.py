"""The small files of an audit directory: settings, summary, and what could not be read."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from errata.errors import SettingsError
from errata.staging import guard_writes

__all__ = [
    "FORMAT",
    "as_text",
    "write_memory",
    "write_settings",
    "write_summary",
    "write_unreadable",
]

FORMAT = 1
"""Version of the directory's layout; settings without the key ``format`` are version 1."""


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the resolved run as TOML, with the version of this layout; None is left out.

    Raises:
        SettingsError: The package that writes TOML is missing.
        OutputError: The file cannot be written.
    """
    try:
        import tomli_w
    except ModuleNotFoundError:
        raise SettingsError(
            "package `tomli-w` is missing; settings are written as TOML",
            hint="pip install 'errata[cli]'",
        ) from None
    with guard_writes(path):
        text = tomli_w.dumps(_without_none({"format": FORMAT, **settings}))
        path.write_text(as_text(text), "utf-8")


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the object that ``--json`` prints; numbers that are not finite become null.

    Raises:
        OutputError: The file cannot be written.
    """
    text = json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False)
    with guard_writes(path):
        path.write_text(as_text(text) + "\n", "utf-8")


def write_memory(folder: Path, memory: Mapping[str, Tensor]) -> None:
    """Write what a run remembered beside its rows, one npy file each; no folder for nothing.

    Raises:
        OutputError: A file cannot be written.
    """
    for name, tensor in memory.items():
        path = folder / f"{name}.npy"
        with guard_writes(path):
            folder.mkdir(parents=True, exist_ok=True)
            np.save(path, tensor.detach().cpu().numpy())


def write_unreadable(path: Path, unreadable: Iterable[tuple[str, str, str]]) -> None:
    """List the samples that could not be read: ``id,path,why``, one line each.

    Raises:
        OutputError: The file cannot be written.
    """
    with guard_writes(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "path", "why"])
        writer.writerows([as_text(cell) for cell in line] for line in unreadable)


def as_text(name: str) -> str:
    r"""Percent-encode what a file name holds beside text, so that it can be written and shown.

    Example:
        >>> as_text("caf\udce9.jpg")
        'caf%E9.jpg'
    """
    # Python reads a byte that is no UTF-8 as a lone surrogate, which no file of text can hold.
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_none(item) for k, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value if item is not None]
    return str(value) if isinstance(value, Path) else value

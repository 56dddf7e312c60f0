"""Saving and loading the state of a run: one safetensors file, one JSON file, no pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from errata.errors import OutputError, SettingsError

__all__ = ["flatten", "load_checkpoint", "save_checkpoint", "unflatten"]

_TENSOR = "$tensor"
_ITEMS = "$items"


def flatten(value: Any, tensors: dict[str, Tensor], path: str = "state") -> Any:
    """Turn nested state into JSON values, moving its tensors into `tensors`.

    Dictionaries become lists of pairs, so that keys keep their type.
    """
    if isinstance(value, Tensor):
        tensors[path] = value.detach().contiguous().cpu()
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        pairs = [[k, flatten(v, tensors, f"{path}/{k}")] for k, v in value.items()]
        return {_ITEMS: pairs}
    if isinstance(value, list | tuple):
        return [flatten(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]
    assert value is None or isinstance(value, bool | int | float | str), f"{path}: {type(value)}"
    return value


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `flatten`; tuples come back as lists."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {k: unflatten(v, tensors) for k, v in value[_ITEMS]}
    if isinstance(value, list):
        return [unflatten(v, tensors) for v in value]
    return value


def save_checkpoint(folder: Path, state: Mapping[str, Any], *, settings: str) -> None:
    """Save the state of a run so that a kill at any moment leaves a whole checkpoint behind.

    Args:
        folder: Replaced in one step.
        state: From ``TrainingRun.state``.
        settings: Digest of everything that must be equal for the state to be of use.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    tensors: dict[str, Tensor] = {}
    tree = flatten(state, tensors)
    # safetensors refuses tensors that share memory, as tied weights do.
    owned = {name: tensor.clone() for name, tensor in tensors.items()}
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(owned, fresh / "state.safetensors")
        text = json.dumps({"version": 1, "settings": settings, "state": tree})
        (fresh / "state.json").write_text(text, encoding="utf-8")
        for name in ("state.safetensors", "state.json"):
            with (fresh / name).open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():
            # Where it does not, the older one is the only whole checkpoint.
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"the checkpoint `{folder}` cannot be written: {getattr(error, 'strerror', error)}",
            hint="free some space or choose another --out, then go on with --resume",
        ) from error


def load_checkpoint(folder: Path, *, settings: str) -> dict[str, Any] | None:
    """Load the newest whole checkpoint, or give None where there is none.

    Raises:
        SettingsError: It was made with other settings or other data.
        OutputError: It is damaged.
    """
    for place in (folder, folder.with_name(folder.name + ".old")):
        if not (place / "state.json").exists():
            continue
        try:
            document = json.loads((place / "state.json").read_text(encoding="utf-8"))
            tensors = load_file(place / "state.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise OutputError(
                f"the checkpoint `{place}` cannot be read: {error}",
                hint="remove it to start from the beginning",
            ) from error
        if document["settings"] != settings:
            raise SettingsError(
                f"the unfinished run in `{folder.parent}` was started with other settings or data",
                hint="repeat the first command with --resume, or choose another --out",
            )
        state: dict[str, Any] = unflatten(document["state"], tensors)
        return state
    return None

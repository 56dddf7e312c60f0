"""Places where corrected labels may be written, checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from errata.correct.lineage import origin_name
from errata.directory import AuditDirectory
from errata.errors import OutputError, SettingsError
from errata.exchange.tables import check_table

__all__ = ["check_copy", "check_file", "check_tables", "source_of"]

_INPUTS = ("labels", "truth", "verified")


def source_of(audit: AuditDirectory) -> dict[str, Any]:
    """Give the settings of an audit's source; ``spec`` is what was typed."""
    source = audit.settings.get("source")
    return dict(source) if isinstance(source, Mapping) else {"spec": str(source or "")}


def check_tables(audit: AuditDirectory, labels: Path, verified: Path | None) -> None:
    """Refuse tables that cannot be written, or that would replace what must stay.

    Raises:
        SettingsError: A name is no table's, is used twice, or is a file of the source or the audit.
        OutputError: A folder cannot be written.
    """
    for flag, path in (("--out", labels), ("--verified-out", verified)):
        if path is not None:
            check_table(path)
            check_file(audit, path, flag=flag)
    check_file(audit, origin_name(labels), flag="--out")
    if verified is not None and labels.resolve() == verified.resolve():
        raise SettingsError(
            f"--out and --verified-out both name `{labels}`; allowed: two files",
            hint="choose another name for one of them",
        )


def check_file(audit: AuditDirectory, path: Path, *, flag: str = "--out") -> None:
    """Refuse a file that cannot be written, or that belongs to the source or the audit.

    Raises:
        SettingsError: It is a folder, or a file that must stay as it is.
        OutputError: Its folder cannot be written.
    """
    if path.is_dir():
        raise SettingsError(
            f"{flag} `{path}` is a folder; allowed: the name of a file",
            hint=f"write for example `{path / 'labels.csv'}`",
        )
    source = source_of(audit)
    spec = str(source.get("spec", ""))
    inputs = [spec, spec.partition(":")[2], *(str(source.get(key) or "") for key in _INPUTS)]
    for each in (Path(text).expanduser() for text in inputs if text):
        inside = each.is_dir() and path.resolve().is_relative_to(each.resolve())
        if path.exists() and (inside or (each.exists() and path.samefile(each))):
            raise _stays(path, "the source", flag)
    # New files beside those of the audit do no harm; everything else there is the audit's.
    folder = audit.path.resolve()
    own = {"issues.csv", "unreadable.csv"}
    if path.resolve().is_relative_to(folder) and (
        path.resolve().parent != folder or path.name in own
    ):
        raise _stays(path, "the audit", flag)
    _check_folder(path)


def check_copy(out: Path, root: Path) -> None:
    """Refuse a place where a copy of class folders would harm something.

    Args:
        out: Where the copy is to go.
        root: The folder that is copied.

    Raises:
        OutputError: Something is there, or it lies inside of the source or around it.
    """
    place = out.resolve()
    if place.is_relative_to(root.resolve()) or root.resolve().is_relative_to(place):
        raise OutputError(
            f"`{out}` lies inside of the source `{root}` or around it; allowed: a place outside, "
            "since the source is never touched",
            hint="choose another --copy",
        )
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise OutputError(
            f"`{out}` exists; allowed: a new name or an empty directory",
            hint="choose another --copy; nothing was changed",
        )
    _check_folder(out)


def _check_folder(out: Path) -> None:
    folder = next(each for each in out.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(
            f"cannot write `{out}`: `{folder}` is no folder that can be written",
            hint="allow writing there, or choose another place",
        )


def _stays(path: Path, owner: str, flag: str) -> SettingsError:
    return SettingsError(
        f"`{path}` is a file of {owner} and is never written over; allowed: another file",
        hint=f"choose another name with {flag}",
    )

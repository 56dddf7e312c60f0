"""Where an audit directory is built, and how it appears under its final name.

An audit is built in a hidden sibling, ``.NAME.partial``, and renamed when it is complete. A
directory under its final name is therefore always whole.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from errata.errors import OutputError

__all__ = [
    "check_out",
    "damaged",
    "guard_writes",
    "is_audit",
    "partial_of",
    "publish",
    "read_settings",
    "staging",
]

Standing = Literal["new", "resume", "finished"]

_OURS = {
    "settings.toml",
    "ledger",
    "issues.csv",
    "summary.json",
    "report.html",
    "log.jsonl",
    "model",
    "truth.npz",
    "unreadable.csv",
}
_VERDICTS = "verdicts.sqlite"


@contextmanager
def guard_writes(place: Path, *, kept: str = "") -> Iterator[None]:
    """Turn a failing write (disk full, read-only, no permission) into an `OutputError`.

    Args:
        place: What was being written, for the message.
        kept: What is not lost and how to go on, for the hint.
    """
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error) or type(error).__name__).lower()
        raise OutputError(
            f"cannot write `{place}`: {why}; the place must be writable and have room",
            hint=kept or "make room or allow writing there, or choose another place with --out",
        ) from error


def staging(out: Path, *, fresh: bool = False) -> Path:
    """Make the place where an unfinished audit is built: the sibling ``.NAME.partial``.

    Args:
        out: The final name of the audit.
        fresh: Throw away what an earlier, interrupted run left there. Otherwise it stays.

    Raises:
        OutputError: The place cannot be made.
    """
    partial = partial_of(out)
    with guard_writes(partial):
        if fresh and partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
    return partial


def publish(partial: Path, out: Path, *, overwrite: bool = False) -> None:
    """Give a complete audit its final name; it appears whole or not at all.

    Every file is forced to the disk before the rename. Files in an overwritten directory that
    errata did not write move along.

    Args:
        partial: What `staging` gave.
        out: The final name.
        overwrite: Replace an audit that is there already, unless people have reviewed it.

    Raises:
        OutputError: Something else is in the place, or it cannot be written. The unfinished
            directory stays as it is.
    """
    out = out.resolve()
    kept = f"nothing is lost: the audit is kept in `{partial}`; when the cause is gone, run the "
    kept += "same command with --resume"
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise OutputError(f"`{out}` has appeared meanwhile and is not empty", hint=kept)
        _refuse_reviewed(out)
    with guard_writes(out, kept=kept):
        _force_to_disk(partial)
        replaced = out.with_name(f".{out.name}.replaced")
        if out.is_dir() and any(out.iterdir()):
            if replaced.exists():
                # An earlier run was killed between its rename and its clearing up.
                _move_along(replaced, out)
            out.rename(replaced)
        try:
            partial.rename(out)
        except OSError:
            if replaced.exists() and not out.exists():
                replaced.rename(out)
            raise
        _fsync(out.parent)
        if replaced.exists():
            _move_along(replaced, out)


def check_out(
    out: Path, fingerprint: str, *, resume: bool = False, overwrite: bool = False
) -> Standing:
    """Say whether an audit of these data may be written, before any work is done.

    Args:
        out: The final name of the audit.
        fingerprint: Of the ledger that is about to be filled: ids and given labels.
        resume: Go on with an interrupted audit.
        overwrite: Replace a finished one.

    Returns:
        ``"new"``: start (with ``staging(out, fresh=True)``); ``"resume"``: go on with what lies
        in ``staging(out)``; ``"finished"``: nothing is left to do.

    Raises:
        OutputError: Something is there that must not be lost.
    """
    partial, out = partial_of(out), out.resolve()
    finished = out.is_dir() and any(out.iterdir())
    if out.exists() and not out.is_dir():
        raise OutputError(
            f"`{out}` is a file; an audit needs a directory", hint="choose another --out"
        )
    if finished:
        if not is_audit(out):
            raise OutputError(
                f"`{out}` exists and is not an audit; allowed: a new name or an empty directory",
                hint="choose another --out; nothing was changed",
            )
        _refuse_other_data(out, fingerprint)
    if partial.exists():
        _refuse_other_data(partial, fingerprint)
    if finished and overwrite:
        _refuse_reviewed(out)
    if partial.exists() and (overwrite or not finished):
        if resume:
            return "resume"
        if not overwrite:
            raise OutputError(
                f"an unfinished audit of these data lies in `{partial}`",
                hint="pass --resume to go on with it, or --overwrite to start again",
            )
    if finished and resume:
        return "finished"
    if finished and not overwrite:
        raise OutputError(
            f"`{out}` already holds a finished audit of these data",
            hint="choose another --out, or pass --overwrite to replace it "
            "(--resume reports it as it is)",
        )
    return "new"


def partial_of(out: Path) -> Path:
    """Name the place where the audit `out` is built."""
    out = out.resolve()
    if not out.name:
        raise OutputError(
            f"`{out}` cannot be the name of an audit", hint="choose another --out, such as `audit`"
        )
    return out.with_name(f".{out.name}.partial")


def is_audit(path: Path) -> bool:
    """Tell an audit from any other directory."""
    return (path / "settings.toml").is_file() and (path / "ledger").is_dir()


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of an audit directory, finished or not."""
    try:
        return tomllib.loads((path / "settings.toml").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path / "settings.toml", error) from None


def _fingerprint_of(path: Path) -> str | None:
    """Read which data a directory belongs to; None where a run was killed before it wrote that."""
    if not (path / "settings.toml").is_file():
        return None
    fingerprint = read_settings(path).get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) else None


def _refuse_other_data(path: Path, fingerprint: str) -> None:
    theirs = _fingerprint_of(path)
    if theirs is not None and theirs != fingerprint:
        raise OutputError(
            f"`{path}` belongs to other data or other labels: fingerprint `{theirs}`; "
            f"these data have `{fingerprint}`",
            hint=f"choose another --out, or remove `{path}` yourself if nobody needs it",
        )


def _refuse_reviewed(out: Path) -> None:
    if (out / _VERDICTS).exists():
        raise OutputError(
            f"`{out}` holds what people decided (`{_VERDICTS}`) and is never overwritten",
            hint="choose another --out",
        )


def _force_to_disk(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _fsync(path)
    _fsync(folder)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move_along(replaced: Path, out: Path) -> None:
    for path in sorted(replaced.iterdir()):
        if path.name not in _OURS and not (out / path.name).exists():
            path.rename(out / path.name)
    shutil.rmtree(replaced)


def damaged(path: Path, why: object) -> OutputError:
    """Build the error for a file of an audit that cannot be read."""
    return OutputError(
        f"`{path}` cannot be read: {why}", hint="restore the file, or run `errata audit` again"
    )

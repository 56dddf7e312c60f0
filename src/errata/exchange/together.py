"""Several outputs that appear together: all are whole on the disk before the first has its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from errata.staging import guard_writes

__all__ = ["together"]


@contextmanager
def together() -> Iterator[Callable[[Path], Path]]:
    """Give hidden siblings to write; at the end they get their final names, one after the other.

    Where anything fails before the end, the siblings are removed and no final name has changed.

    Raises:
        OutputError: A place cannot be written.

    Example:
        >>> import tempfile
        >>> final = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> with together() as sibling:
        ...     _ = sibling(final).write_text("id,label")
        ...     final.exists()
        False
        >>> final.read_text()
        'id,label'
    """
    pending: list[tuple[Path, Path]] = []

    def sibling(final: Path) -> Path:
        partial = final.with_name(f".{final.name}.partial")
        with guard_writes(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            # A run that was killed may have left it.
            _remove(partial)
        pending.append((partial, final))
        return partial

    try:
        yield sibling
        for partial, final in pending:
            with guard_writes(final):
                _to_disk(partial)
        for partial, final in pending:
            with guard_writes(final):
                partial.replace(final)
    finally:
        for partial, _ in pending:
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    if path.is_dir():
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())

"""The verdict journal: what people decided, on disk before anybody hears that it is saved.

One SQLite file per audit. Lines are added and never changed: triggers refuse it, also to other
programs. Taking a verdict back is a verdict too, so the file tells how a review went.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, fields, replace
from datetime import UTC, datetime
from operator import index
from pathlib import Path
from types import TracebackType

from errata.errors import OutputError
from errata.review.decision import VERDICTS, Verdict, check, refuse_other
from errata.review.journal_file import FILE_NAME, explain, prepare

__all__ = ["FILE_NAME", "VERDICTS", "Journal", "Verdict"]

WAIT_S = 5.0
"""How long a verdict waits for another process that holds the journal."""


_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(Verdict))
_ADD = f"INSERT INTO verdicts ({_COLUMNS}) VALUES ({', '.join('?' * len(fields(Verdict)))})"
_FIND = f"SELECT {_COLUMNS} FROM verdicts WHERE uid = ?"
_SINCE = f"SELECT number, {_COLUMNS} FROM verdicts WHERE number > ? ORDER BY number"


class Journal:
    """The journal of one audit, open for reading and adding; threads may share it.

    Several processes may have the same journal open; each sees what the others added.

    Args:
        path: The file ``verdicts.sqlite`` in the audit; made where there is none.
        audit: What tells this audit from others, such as its fingerprint. A journal that was
            begun for another audit is refused.

    Raises:
        OutputError: The file is no journal, is damaged, belongs to another audit, was written by
            another version, cannot be written, or another process holds it for over 5 s.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / FILE_NAME
        >>> with Journal(place, audit="9f2c") as journal:
        ...     journal.add(Verdict("u1", 7, "a.jpg", "keep", reviewer="ada"))
        ...     journal.add(Verdict("u1", 7, "a.jpg", "keep", reviewer="ada"))
        ...     journal.count()
        True
        False
        1
    """

    def __init__(self, path: Path, *, audit: str) -> None:
        self.path = Path(path)
        self.audit = audit
        self._lock = threading.Lock()
        self._closed = False
        self._connection = prepare(self.path, audit, wait_s=WAIT_S)
        self._inode = _inode(self.path)
        self._all: list[Verdict] = []
        self._last = 0
        self._stacks: dict[tuple[int, str], list[Verdict]] = {}
        self._standing: dict[int, dict[str, Verdict]] = {}
        try:
            with self._held():
                self._catch_up()
        except BaseException:
            self.close()
            raise

    def add(self, verdict: Verdict) -> bool:
        """Write a verdict; it is on disk when this returns.

        Returns:
            True where it is new; False where the same ``uid`` is there already.

        Raises:
            SettingsError: A value is not allowed, or the ``uid`` stands for another decision:
                another row, id, verdict, label or reviewer.
            OutputError: It cannot be written, and was not; send it again with the same ``uid``.
        """
        check(verdict)
        verdict = replace(
            verdict,
            row=index(verdict.row),
            blind=bool(verdict.blind),
            control=bool(verdict.control),
            seconds=None if verdict.seconds is None else float(verdict.seconds),
            when=verdict.when or datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        with self._held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            # A connection goes on writing to a file that was moved or deleted under it.
            if _inode(self.path) != self._inode:
                raise OutputError(
                    f"journal `{self.path}` was moved, replaced or deleted while it was open",
                    hint="put the audit back, or start the review again where it is now; "
                    "this verdict is not saved",
                )
            known = connection.execute(_FIND, (verdict.uid,)).fetchone()
            if known is not None:
                connection.execute("ROLLBACK")
                refuse_other(_verdict(known), verdict)
                return False
            connection.execute(_ADD, astuple(verdict))
            connection.execute("COMMIT")
        return True

    def all(self) -> list[Verdict]:
        """Give every verdict, those of other processes too, in the order they were written."""
        with self._held():
            self._catch_up()
            return list(self._all)

    def current(self) -> dict[int, dict[str, Verdict]]:
        """Give the verdicts that stand: by row, by reviewer.

        A later verdict of the same person on the same row replaces the earlier; ``undo`` takes
        the last standing one back, so that the one before it stands again. The result stays as
        it is when verdicts are added. The inner mappings are shared: read them, do not edit them.
        """
        with self._held():
            self._catch_up()
            return dict(self._standing)

    def count(self) -> int:
        """Count the verdicts, undone ones and undos included."""
        with self._held():
            self._catch_up()
            return len(self._all)

    def close(self) -> None:
        """Let the file go; closing twice does no harm."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection; whatever fails is rolled back and explained."""
        start = time.monotonic()
        if not self._lock.acquire(timeout=WAIT_S):
            raise explain(self.path, _busy())
        try:
            if self._closed:
                raise OutputError(
                    f"journal `{self.path}` is closed; nothing can be read from it or added",
                    hint="open it again",
                )
            # Threads that queue here share the time, or the last of them would wait for ages.
            left = max(WAIT_S - (time.monotonic() - start), 0.01)
            self._connection.execute(f"PRAGMA busy_timeout = {math.ceil(left * 1000)}")
            yield self._connection
        except sqlite3.Error as error:
            raise explain(self.path, error) from error
        finally:
            try:
                if not self._closed and self._connection.in_transaction:
                    # Where even this fails, the first error says why.
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
            finally:
                self._lock.release()

    def _catch_up(self) -> None:
        """Read what was added since; writers take turns, so numbers grow from commit to commit."""
        for number, *values in self._connection.execute(_SINCE, (self._last,)):
            self._last = number
            verdict = _verdict(values)
            self._all.append(verdict)
            stack = self._stacks.setdefault((verdict.row, verdict.reviewer), [])
            if verdict.verdict != "undo":
                stack.append(verdict)
            elif stack:
                stack.pop()
            # Replaced, never edited: whoever asked before keeps what they got.
            by = dict(self._standing.get(verdict.row, {}))
            by.pop(verdict.reviewer, None)
            if stack:
                by[verdict.reviewer] = stack[-1]
            if by:
                self._standing[verdict.row] = by
            else:
                self._standing.pop(verdict.row, None)


def _verdict(values: list[object] | tuple[object, ...]) -> Verdict:
    made = Verdict(*values)
    return replace(made, blind=bool(made.blind), control=bool(made.control))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error

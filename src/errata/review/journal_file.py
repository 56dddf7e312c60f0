"""The SQLite file behind the journal: how it is made, recognised, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from errata.errors import OutputError

__all__ = ["FILE_NAME", "explain", "prepare"]

FILE_NAME = "verdicts.sqlite"
"""Name of the journal in an audit directory."""

LAYOUT = 1
"""Version of the tables, kept as ``user_version``."""

# "erra", so that other programs, and this one, know whose file it is.
_APPLICATION = 0x65727261

_TABLES = (
    """
    CREATE TABLE verdicts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        uid TEXT NOT NULL UNIQUE,
        "row" INTEGER NOT NULL CHECK ("row" >= 0),
        id TEXT NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('keep', 'relabel', 'drop', 'unsure', 'undo')),
        label TEXT CHECK ((label IS NOT NULL) = (verdict = 'relabel')),
        seconds REAL CHECK (seconds >= 0),
        reviewer TEXT NOT NULL,
        blind INTEGER NOT NULL CHECK (blind IN (0, 1)),
        control INTEGER NOT NULL CHECK (control IN (0, 1)),
        proposed TEXT,
        "when" TEXT NOT NULL
    )
    """,
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_GUARDS = (
    "CREATE TRIGGER verdicts_stay BEFORE UPDATE ON verdicts "
    "BEGIN SELECT RAISE(ABORT, 'verdicts are never changed'); END",
    "CREATE TRIGGER verdicts_remain BEFORE DELETE ON verdicts "
    "BEGIN SELECT RAISE(ABORT, 'verdicts are never deleted'); END",
    # INSERT OR REPLACE deletes without asking the trigger above.
    "CREATE TRIGGER verdicts_once BEFORE INSERT ON verdicts "
    "WHEN EXISTS (SELECT 1 FROM verdicts WHERE uid = NEW.uid OR number = NEW.number) "
    "BEGIN SELECT RAISE(ABORT, 'verdicts are never replaced'); END",
    "CREATE TRIGGER about_stays BEFORE UPDATE ON about "
    "BEGIN SELECT RAISE(ABORT, 'a journal belongs to one audit'); END",
    "CREATE TRIGGER about_remains BEFORE DELETE ON about "
    "BEGIN SELECT RAISE(ABORT, 'a journal belongs to one audit'); END",
    "CREATE TRIGGER about_once BEFORE INSERT ON about "
    "WHEN EXISTS (SELECT 1 FROM about WHERE name = NEW.name) "
    "BEGIN SELECT RAISE(ABORT, 'a journal belongs to one audit'); END",
)


def prepare(path: Path, audit: str, *, wait_s: float) -> sqlite3.Connection:
    """Open a journal and make it first where there is none, whole or not at all.

    Args:
        path: The file.
        audit: What tells its audit from others.
        wait_s: How long to wait for other processes [s].

    Raises:
        OutputError: There is something else in its place, or it cannot be opened and written.
    """
    if path.is_dir():
        raise OutputError(
            f"`{path}` is a directory; a journal is a file", hint=f"give `{path / FILE_NAME}`"
        )
    if not path.parent.is_dir():
        raise OutputError(
            f"the audit of journal `{path}` does not exist; `{path.parent}` is no directory",
            hint="it may have been moved; give the directory where it is now",
        )
    connection: sqlite3.Connection | None = None
    try:
        # Transactions are begun by hand; the journal lets one thread in at a time.
        connection = sqlite3.connect(
            path, timeout=wait_s, isolation_level=None, check_same_thread=False
        )
        _make(connection, path, audit, until=time.monotonic() + wait_s)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise explain(path, error) from error
        raise
    return connection


def explain(path: Path, error: sqlite3.Error) -> OutputError:
    """Say in words what SQLite found, and what to do."""
    # Only errors that SQLite itself reports carry a code; the low byte is the kind.
    kind = getattr(error, "sqlite_errorcode", -1) & 0xFF
    match kind:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return OutputError(
                f"journal `{path}` is locked by another process",
                hint="close the program that has it open and try again; nothing was written, and "
                "what was saved before is safe",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return OutputError(
                f"journal `{path}` cannot be written: {error}; the file and its directory must "
                "be writable",
                hint="allow writing there, or copy the audit to a place where you may write; "
                "nothing was written",
            )
        case sqlite3.SQLITE_FULL:
            return OutputError(
                f"journal `{path}` cannot be written: the disk is full",
                hint="make room and send the verdict again; what was saved before is safe",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, str(error))
    return OutputError(
        f"journal `{path}` cannot be used: {error}",
        hint="see whether the disk works; what was saved before is safe",
    )


def _make(connection: sqlite3.Connection, path: Path, audit: str, *, until: float) -> None:
    # One snapshot: between two reads, another process may have made the tables.
    connection.execute("BEGIN")
    _recognise(connection, path, audit)
    connection.execute("COMMIT")
    # The change to a write-ahead log does not wait for others by itself.
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
    # Every commit reaches the disk before it returns, not at the next checkpoint.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    if not _recognise(connection, path, audit):
        for statement in (*_TABLES, *_GUARDS):
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES ('audit', ?)", (audit,))
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {LAYOUT}")
    connection.execute("COMMIT")
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found)


def _recognise(connection: sqlite3.Connection, path: Path, audit: str) -> bool:
    """Tell a journal of this audit from an empty file; anything else is refused untouched."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    layout = connection.execute("PRAGMA user_version").fetchone()[0]
    if not names and not application and not layout:
        return False
    if application != _APPLICATION:
        raise OutputError(
            f"`{path}` is a database, but no journal of errata",
            hint="move it away; nothing in it was changed",
        )
    if layout != LAYOUT:
        age = "a newer" if layout > LAYOUT else "an older"
        raise OutputError(
            f"journal `{path}` has layout `{layout}`, written by {age} version of errata; "
            f"this one reads layout {LAYOUT}",
            hint="use the version that wrote it; nothing was changed",
        )
    if not {"verdicts", "about"} <= names:
        raise _damaged(path, "its tables are missing")
    theirs = connection.execute("SELECT value FROM about WHERE name = 'audit'").fetchone()
    if theirs is None or theirs[0] != audit:
        raise OutputError(
            f"journal `{path}` belongs to another audit: `{theirs and theirs[0]}`; this one is "
            f"`{audit}`",
            hint="put it back into its own audit; nothing was changed",
        )
    return True


def _damaged(path: Path, why: str) -> OutputError:
    return OutputError(
        f"journal `{path}` is damaged: {why}",
        hint="keep the file and those beside it (`-wal`, `-shm`), and restore it from a copy; "
        "`sqlite3 FILE .recover` reads what is left",
    )

"""Many verdicts in one transaction: all of them are on disk, or none is."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from errata.errors import OutputError
from errata.review.decision import Verdict, check
from errata.review.journal_file import explain, prepare

__all__ = ["add_all"]

WAIT_S = 5.0
"""How long the verdicts wait for another process that holds the journal."""

_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(Verdict))
_ADD = f"INSERT INTO verdicts ({_COLUMNS}) VALUES ({', '.join('?' * len(fields(Verdict)))})"


def add_all(path: Path, verdicts: Sequence[Verdict], *, audit: str) -> None:
    """Write new verdicts to a journal; when this returns, all of them are on disk.

    The journal may be open elsewhere, as it is in the server that calls this.

    Args:
        path: The journal, which exists.
        verdicts: Each with a ``uid`` that is not in the journal.
        audit: What the journal was opened with.

    Raises:
        SettingsError: A value is not allowed; none is written.
        OutputError: They cannot be written, and none was; send them again with the same ids.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    for verdict in verdicts:
        check(verdict)
    lines = [astuple(replace(verdict, when=verdict.when or now)) for verdict in verdicts]
    if not path.is_file():
        raise OutputError(
            f"journal `{path}` was moved or deleted while it was open",
            hint="put the audit back, or start the review again where it is now; "
            "these verdicts are not saved",
        )
    # Closing rolls back whatever was not committed.
    with closing(prepare(path, audit, wait_s=WAIT_S)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_ADD, lines)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise explain(path, error) from error

"""What a review server keeps with its audit, so that a restarted server is the same server."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from errata.errors import OutputError, SettingsError
from errata.staging import guard_writes

__all__ = ["FILE_NAME", "Session"]

FILE_NAME = "review.json"
"""Name of the file in an audit directory; only its owner may read it."""

FORMAT = 1
_SHORTEST = 32


@dataclass(frozen=True)
class Session:
    """The secrets of a review server, and the port where it was last.

    Example:
        >>> import tempfile
        >>> audit = Path(tempfile.mkdtemp())
        >>> first = Session.open(audit).remember_port(8123)
        >>> Session.open(audit) == first
        True
    """

    token: str = field(repr=False)
    """Carried by the address that is printed; text that fits into a URL as it is."""
    secret: str = field(repr=False)
    """Signs the cookie; never leaves this machine."""
    port: int | None
    """Where the server was last; None before the first time."""
    path: Path = field(compare=False)
    """The file."""

    @classmethod
    def open(cls, audit_path: str | Path) -> Session:
        """Read the session of an audit; it is made the first time, with mode 0600.

        A file that others may read, as a careless copy is, no longer holds secrets: it is
        replaced by new ones, and the port is kept.

        Args:
            audit_path: The audit directory.

        Raises:
            OutputError: There is no such directory, it cannot be written, or the file is damaged.
        """
        folder = Path(audit_path)
        path = folder / FILE_NAME
        if not folder.is_dir():
            raise OutputError(
                f"audit `{folder}` does not exist",
                hint="it may have been moved; give the directory where it is now",
            )
        found = _read(path)
        if found is None:
            # Of several servers that start at once, one makes the file and all read it.
            _write(_fresh(path, None), replacing=False)
            found = _read(path)
            if found is None:
                raise _damaged(path, "it vanished while it was read")
        session, is_private = found
        if not is_private:
            session = _fresh(path, session.port)
            _write(session, replacing=True)
        return session

    def remember_port(self, port: int) -> Session:
        """Note where the server listens, so that a bookmark and the cookie stay good.

        Args:
            port: 1 to 65535.

        Returns:
            The session with this port.

        Raises:
            SettingsError: The port cannot be.
            OutputError: The file cannot be written.
        """
        if not 1 <= port <= 65535:
            raise SettingsError(
                f"port `{port}` cannot be; allowed: 1 to 65535",
                hint="choose one from 1024 up, or leave it out for a free one",
            )
        session = replace(self, port=port)
        if session != self or not self.path.exists():
            _write(session, replacing=True)
        return session


def _fresh(path: Path, port: int | None) -> Session:
    return Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), port, path)


def _read(path: Path) -> tuple[Session, bool] | None:
    """Give the session and whether its owner alone may read it; None where there is no file."""
    try:
        # A link could point to a file of somebody else's choice, a pipe would never end.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else str(error.strerror).lower()
        raise _damaged(path, why) from None
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise _damaged(path, "it is no plain file")
        text = file.read(64 * 1024)
    try:
        kept = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(kept, dict):
        raise _damaged(path, "no JSON object")
    if kept.get("format") != FORMAT:
        raise _damaged(path, f"layout `{kept.get('format')}`; this version reads {FORMAT}")
    token, secret, port = (kept.get(name) for name in ("token", "secret", "port"))
    for name, value in (("token", token), ("secret", secret)):
        if not isinstance(value, str) or len(value) < _SHORTEST:
            raise _damaged(path, f"`{name}` is no text of at least {_SHORTEST} characters")
    if port is not None and (type(port) is not int or not 1 <= port <= 65535):
        raise _damaged(path, f"port `{port}`; allowed: 1 to 65535, or null")
    return Session(str(token), str(secret), port, path), not stat.S_IMODE(mode) & 0o077


def _write(session: Session, *, replacing: bool) -> None:
    """Write the file so that it appears whole; without `replacing`, the first writer wins."""
    path = session.path
    kept = {
        "format": FORMAT,
        "token": session.token,
        "secret": session.secret,
        "port": session.port,
    }
    with guard_writes(path, kept="allow writing in the audit, or copy it where you may write"):
        # Made with mode 0600 from the start, whatever the umask.
        handle, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(kept, indent=2) + "\n")
                file.flush()
                os.fsync(handle)
            if replacing:
                Path(name).replace(path)
            else:
                _link(Path(name), path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()


def _link(made: Path, path: Path) -> None:
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS):
            raise
        # Some disks, such as memory cards, know no second name for a file.
        made.replace(path)


def _damaged(path: Path, why: str) -> OutputError:
    return OutputError(
        f"`{path}` cannot be used: {why}",
        hint="remove it; the server makes a new one with a new address, and no verdict is lost",
    )

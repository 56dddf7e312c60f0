"""`errata review` in a process of its own, to be talked to, killed and started again."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from errata.directory import AuditDirectory
from errata.review.journal import Journal, Verdict

__all__ = ["Client", "ReviewServer", "audit_digits", "journal_of"]


class ReviewServer:
    """The command on one audit; started again, it listens where it was.

    Args:
        audit: The audit directory.
        flags: Of every start.
    """

    def __init__(self, audit: Path, *flags: str) -> None:
        self.audit = audit
        self.address = ""
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> ReviewServer:
        """Start it and wait until it says where it listens."""
        command = [sys.executable, "-m", "errata.cli.app", "review", str(self.audit), "--json"]
        self._process = subprocess.Popen(
            [*command, *self._flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            found = re.search(r"review at (http://\S+)", line)
            if found:
                self.address = found[1]
                return self
        raise AssertionError(f"it ended with {self._process.wait()}: {''.join(said)}")

    @property
    def origin(self) -> str:
        """Its address without the token."""
        return self.address.split("/?")[0]

    def kill(self) -> None:
        """End it without a chance to tidy up (SIGKILL)."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def end(self) -> dict[str, Any]:
        """End it as Ctrl-C does, and give what it printed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        out, _ = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        document: dict[str, Any] = json.loads(out)
        return document


class Client:
    """A script that has been let in; its cookie outlives the server.

    Args:
        server: Whom it talks to.
        cookie: That of another client; the printed address works once.
    """

    def __init__(self, server: ReviewServer, cookie: str = "") -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None
        self.cookie = cookie
        if not cookie:
            status, headers, _ = self.ask("GET", server.address[len(server.origin) :])
            self.close()
            assert status == 303
            self.cookie = headers["set-cookie"].split(";")[0]

    def ask(
        self, method: str, path: str, document: object = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request.

        Raises:
            OSError: The server is gone, or went before it answered.
            http.client.HTTPException: The same.
        """
        if self._connection is None:
            place = urlsplit(self._server.address)
            self._connection = http.client.HTTPConnection(
                str(place.hostname), place.port, timeout=30
            )
        body = None if document is None else json.dumps(document).encode()
        headers = {"Cookie": self.cookie, "Origin": self._server.origin}
        try:
            self._connection.request(method, path, body=body, headers=headers)
            answer = self._connection.getresponse()
            read = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read

    def close(self) -> None:
        """Let the connection go; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def journal_of(audit: Path) -> list[Verdict]:
    """Read every line of the journal of an audit."""
    fingerprint = str(AuditDirectory.open(audit).settings["fingerprint"])
    with Journal(audit / "verdicts.sqlite", audit=fingerprint) as journal:
        return journal.all()


def audit_digits(out: Path) -> Path:
    """Audit 400 digits, a fifth of them with wrong labels, into a new directory."""
    command = [sys.executable, "-m", "errata.cli.app", "audit", "digits", "--noise", "uniform:0.2"]
    command += ["--epochs", "2", "--limit", "400", "--threads", "1", "--out", str(out), "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    return out

"""Many clients at once, and a server that is killed while they work."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from review_server import Client, ReviewServer, journal_of

from ..unit.fake_audit import NAMES, make_audit

CLIENTS = 8
CLASSES = 5


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ReviewServer]:
    audit = make_audit(tmp_path, request.param, CLASSES, epochs=2, log=False)
    made = ReviewServer(audit, "--reviewer", "ada", "--quiet").start()
    yield made
    made.kill()


class Reviewer(threading.Thread):
    """Sends verdicts one after the other, each until it is acknowledged, some of them again."""

    def __init__(self, number: int, rows: range, server: ReviewServer, cookie: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.repeats = 0
        self.refused: list[str] = []
        self._rng = random.Random(number)
        self._number, self._rows = number, rows
        self._client = Client(server, cookie)

    def run(self) -> None:
        for row in self._rows:
            fields = self._decide(row)
            while not self._send(fields):
                self.repeats += 1
                time.sleep(0.05)
            self.acknowledged[fields["uid"]] = fields
            if self._rng.random() < 0.05:
                # A client that never heard the answer asks again, much later too.
                again = self._rng.choice(list(self.acknowledged.values()))
                while not self._send(again):
                    time.sleep(0.05)
        self._client.close()

    def _decide(self, row: int) -> dict[str, Any]:
        verdict = self._rng.choice(["keep", "relabel", "drop", "unsure"])
        fields = {"uid": f"{self._number}-{row}", "row": row, "verdict": verdict, "seconds": 1.5}
        if verdict == "relabel":
            fields["label"] = self._rng.choice(NAMES[:CLASSES])
        return fields

    def _send(self, fields: dict[str, Any]) -> bool:
        try:
            if self._rng.random() < 0.02:
                self._client.ask("GET", "/api/card")
            status, _, body = self._client.ask("POST", "/api/verdicts", fields)
        except (OSError, http.client.HTTPException):
            return False
        if status != 200 or json.loads(body) != {"saved": True, "uid": fields["uid"]}:
            self.refused.append(f"{status} {body!r}")
            return status < 500
        return True


def play(server: ReviewServer, rows: int, kills: int) -> list[Reviewer]:
    """Let all clients judge every row once, while the server is killed and started again."""
    cookie = Client(server).cookie
    reviewers = [Reviewer(i, range(i, rows, CLIENTS), server, cookie) for i in range(CLIENTS)]
    for reviewer in reviewers:
        reviewer.start()
    address = server.origin
    for kill in range(kills):
        enough = rows * (kill + 1) // (kills + 1)
        while sum(len(reviewer.acknowledged) for reviewer in reviewers) < enough:
            assert any(reviewer.is_alive() for reviewer in reviewers)
            time.sleep(0.002)
        server.kill()
        server.start()
        assert server.origin == address
    for reviewer in reviewers:
        reviewer.join()
    return reviewers


def check(server: ReviewServer, rows: int, reviewers: list[Reviewer], kills: int) -> None:
    assert [refusal for reviewer in reviewers for refusal in reviewer.refused] == []
    # Without requests that broke off, nothing has been tested.
    assert sum(reviewer.repeats for reviewer in reviewers) >= kills
    sent = {uid: fields for r in reviewers for uid, fields in r.acknowledged.items()}
    assert len(sent) == rows
    assert server.end()["verdicts"] == rows
    lines = journal_of(server.audit)
    assert Counter(line.uid for line in lines) == Counter(list(sent))
    found = {line.uid: (line.row, line.verdict, line.label, line.seconds) for line in lines}
    assert found == {
        uid: (fields["row"], fields["verdict"], fields.get("label"), fields["seconds"])
        for uid, fields in sent.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("server", [300], indirect=True)
def test_no_verdict_is_lost_or_doubled_when_the_server_is_killed(server: ReviewServer) -> None:
    check(server, 300, play(server, 300, kills=1), kills=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("server", [10_000], indirect=True)
def test_ten_thousand_verdicts_outlive_five_kills(server: ReviewServer) -> None:
    check(server, 10_000, play(server, 10_000, kills=5), kills=5)

"""How fast a card appears where the audit has 1,000,000 rows.

    python benchmarks/review_speed.py

Makes an audit of made-up findings (20 classes, about 10 % flagged), serves it with `errata review`
in a process of its own, and asks over HTTP from this one: the part of the page that changes from
card to card, each after a verdict on the card before. Then 2,000 verdicts are added by grids, to
see what a long review costs, and cards are timed again; last the grids themselves. The bars, set
before measuring: the first card and 95 % of all cards in under 100 ms, at the start and after 2,000
verdicts; the server starts within 15 s of processor time, which says more than the clock where
others use the machine, as the time that the server works on a card and its verdict does. Numbers go
to `benchmarks/review_speed.json`. Two minutes on one idle core, on Linux.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from provenance import made, versions

from errata.directory import publish, staging, write_issues, write_settings, write_summary
from errata.ledger import Ledger, standard
from errata.record import Reason

CLASSES, EPOCHS, BAR_MS, START_BAR_S = 20, 10, 100.0, 15.0


@dataclass(frozen=True)
class Found:
    """Made-up findings: arrays [N] in row order."""

    suspicion: np.ndarray
    p_wrong: np.ndarray
    p_proposed: np.ndarray
    flagged: np.ndarray
    proposed: np.ndarray
    tier: np.ndarray

    def reasons(self, row: int) -> tuple[Reason, ...]:
        """Give one reason that looks like a real one."""
        return (Reason("loss", float(self.suspicion[row]), "loss 3.20, typical is 0.31"),)


def make_audit(place: Path, rows: int, seed: int) -> Path:
    """Write an audit of `rows` rows."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, CLASSES, rows)
    suspicion = rng.random(rows)
    p_wrong = 1 / (1 + np.exp(-20 * (suspicion - 0.9)))
    flagged = p_wrong > 0.5
    # Some confusions are far more common than others.
    step = 1 + np.minimum(rng.geometric(0.4, rows), CLASSES - 1) % (CLASSES - 1)
    proposed = np.where(flagged, (given + step) % CLASSES, -1)
    tier = np.where(flagged, np.where(p_wrong > 0.95, "obvious", "possible"), "fine")
    ids = [f"img/{row:07d}.jpg" for row in range(rows)]
    names = [f"class {number:02d}" for number in range(CLASSES)]
    ledger = Ledger(ids, given, names)
    ledger.add("track", standard("loss_curve", keep=EPOCHS))
    everyone = torch.arange(rows)
    for epoch in range(EPOCHS):
        ledger.write("loss_curve", everyone, torch.from_numpy(suspicion).float(), stamp=epoch)
    ledger.sync()
    made = staging(place, fresh=True)
    ledger.save(made / "ledger")
    found = Found(suspicion, p_wrong, p_wrong * 0.9, flagged, proposed, tier)
    write_issues(made / "issues.csv", ids, names, given, found)
    settings = {"source": "nowhere", "seed": seed, "fingerprint": ledger.fingerprint}
    write_settings(made / "settings.toml", settings)
    write_summary(made / "summary.json", {"command": "audit", "rows": rows})
    publish(made, place)
    return place


class Asking:
    """One reviewer who talks to the server."""

    def __init__(self, address: str) -> None:
        self._place = urlsplit(address)
        self._origin = f"http://{self._place.netloc}"
        self._connection = http.client.HTTPConnection(self._place.netloc, timeout=60)
        self._headers = {"Origin": self._origin}
        entered = self._send("GET", f"/?{self._place.query}")
        self._headers["Cookie"] = str(entered.getheader("set-cookie")).split(";")[0]
        entered.read()
        self.said = 0

    def get(self, path: str) -> tuple[str, float]:
        """Give a page and the milliseconds until it was here whole."""
        start = time.perf_counter()
        page = self._send("GET", path).read().decode()
        return page, 1000 * (time.perf_counter() - start)

    def post(self, path: str, fields: dict[str, object]) -> float:
        """Give a verdict; returns the milliseconds until it was acknowledged."""
        self.said += 1
        body = json.dumps({"uid": f"u{self.said}", "seconds": 1.5, **fields})
        start = time.perf_counter()
        answer = self._send("POST", path, body)
        told = answer.read()
        assert answer.status == 200, told
        return 1000 * (time.perf_counter() - start)

    def _send(self, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        self._connection.request(method, path, body=body, headers=self._headers)
        return self._connection.getresponse()


def time_cards(asking: Asking, cards: int) -> dict[str, object]:
    """Judge cards one after the other; times of the card and of the verdict."""
    shown, saved = [], []
    for turn in range(cards):
        page, taken = asking.get("/card")
        shown.append(taken)
        row = int(re.search(r'data-row="(\d+)"', page)[1])
        verdict = ("keep", "drop", "unsure")[turn % 3]
        saved.append(asking.post("/api/verdicts", {"row": row, "verdict": verdict}))
    return {"cards": cards, "card_ms": spread(shown), "verdict_ms": spread(saved)}


def time_grids(asking: Asking, verdicts: int) -> dict[str, object]:
    """Judge grids until there are so many verdicts; times of the grid and of its verdicts."""
    shown, saved, done = [], [], 0
    while done < verdicts:
        page, taken = asking.get("/grid/part")
        shown.append(taken)
        rows = [int(row) for row in re.findall(r'name="row" value="(\d+)" checked', page)]
        saved.append(asking.post("/api/grid", {"rows": rows, "verdict": "keep"}))
        done += len(rows)
    return {"verdicts": done, "grid_ms": spread(shown), "verdicts_ms": spread(saved)}


def spread(times: list[float]) -> dict[str, float]:
    """Give the median, the 95th percentile and the largest, and the first apart."""
    cuts = np.percentile(times, [50, 95, 100])
    named = dict(zip(("median", "p95", "largest"), cuts.tolist(), strict=True))
    return {name: round(value, 1) for name, value in ({"first": times[0]} | named).items()}


def serve(audit: Path) -> tuple[subprocess.Popen[str], str, float]:
    """Start the server; gives its address and the seconds until it said so."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "errata.cli.app", "review", str(audit), "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr or ():
        if found := re.search(r"review at (http://\S+)", line):
            return process, found[1], time.perf_counter() - start
    raise SystemExit("the server did not start")


def processor_time(process: subprocess.Popen[str]) -> float:
    """Give the processor time [s] that a process has used, on Linux."""
    told = Path(f"/proc/{process.pid}/stat")
    ticks = told.read_text("ascii").rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--cards", type=int, default=200)
    parser.add_argument("--verdicts", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/review_speed.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        audit = make_audit(Path(folder) / "audit", args.rows, args.seed)
        process, address, started_s = serve(audit)
        start_cpu_s = processor_time(process)
        try:
            asking = Asking(address)
            start = time_cards(asking, args.cards)
            cards_cpu_s = processor_time(process) - start_cpu_s
            grids = time_grids(asking, args.verdicts)
            later = time_cards(asking, args.cards)
        finally:
            process.kill()
            process.wait()
    p95 = max(phase["card_ms"]["p95"] for phase in (start, later))
    first = start["card_ms"]["first"]
    report = {
        "bar_ms": BAR_MS,
        **made(),
        "first_cards": start,
        "grids": grids,
        "card_and_verdict_cpu_ms": round(1000 * cards_cpu_s / args.cards, 1),
        "later_cards": later,
        "met": {
            "cards": bool(p95 < BAR_MS),
            "first_card": bool(first < BAR_MS),
            "start": bool(start_cpu_s < START_BAR_S),
        },
        "rows": args.rows,
        "seed": args.seed,
        "load_of_machine": round(os.getloadavg()[0], 1),
        "start_bar_s": START_BAR_S,
        "start_cpu_s": round(start_cpu_s, 1),
        "start_s": round(started_s, 1),
        "versions": versions("errata", "numpy") | {"python": platform.python_version()},
    }
    assert math.isfinite(p95)
    args.json.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
    print(json.dumps(report, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()

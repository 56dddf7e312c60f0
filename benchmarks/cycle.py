"""The whole cycle on real digits with planted errors: audit, review, apply, retrain.

    python benchmarks/cycle.py

A fifth of the labels is drawn again. Somebody who knows the truth answers what the page asks, on a
budget of a tenth of the rows, over the same HTTP interface. Corrected labels are written twice,
from people alone and with the model's proposals, and `erm` is trained on the given labels and on
the corrected ones, with the same settings. Bars, for each seed and on average: label accuracy
rises at every step; a card of the queue, controls included, finds at least 4 times as many errors
as a row at random; test accuracy after the cycle is higher than before, on average over the seeds.

Numbers go to `benchmarks/cycle.json`. Two minutes on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from provenance import made, versions

from errata.cli.app import main as run_errata
from errata.directory import AuditDirectory
from errata.review.journal import FILE_NAME, Journal
from errata.review.queue import Queue, columns_of
from errata.review.server import make_app

with warnings.catch_warnings():
    # Newer versions of the test client ask for another package than httpx, which works as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

SEEDS, EPOCHS, NOISE, SHARE, TIMES = (0, 1, 2), 20, "uniform:0.2", 0.1, 4.0
HOST, PORT, TOKEN = "127.0.0.1", 8000, "let-me-in"


def command(*words: object) -> dict[str, Any]:
    """Run an errata command in this process and give its JSON.

    Raises:
        RuntimeError: It failed.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_errata([*map(str, words), "--json", "--quiet"])
    if code:
        raise RuntimeError(f"{words} ended with {code}: {err.getvalue()}")
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def review(place: Path, *, budget: int, seed: int) -> dict[str, Any]:
    """Judge cards by the truth, over HTTP, until the page says that it is done.

    Returns:
        What `errata review` prints, with ``cards``, ``errors`` that they found, and the true number
        ``truly_left``.
    """
    audit = AuditDirectory.open(place)
    ledger = audit.ledger
    clean = np.load(place / "truth.npz")["clean"]
    queue = Queue(*columns_of(audit), seed=seed, budget=budget)
    with Journal(place / FILE_NAME, audit=str(audit.settings["fingerprint"])) as journal:
        app = make_app(
            *(audit, journal, queue),
            reviewer="",
            token=TOKEN,
            host=HOST,
            port=PORT,
            images=None,
            budget=budget,
        )
        base = f"http://{HOST}:{PORT}"
        client = TestClient(app, base_url=base, headers={"Origin": base})
        client.get(f"/?token={TOKEN}")
        rows: list[int] = []
        while "row" in (card := client.get("/api/card").json()):
            row = int(card["row"])
            right = str(ledger.classes[clean[row]])
            verdict = (
                {"verdict": "keep"}
                if right == card["given"]
                else {
                    "verdict": "relabel",
                    "label": right,
                }
            )
            sent = {"uid": f"{seed}-{len(rows)}", "row": row, "seconds": 3.0, **verdict}
            client.post("/api/verdicts", json=sent).raise_for_status()
            rows.append(row)
        told: dict[str, Any] = app.state.desk.summary()
    wrong = np.asarray(ledger.given) != clean
    errors = int(wrong[rows].sum())
    return told | {"cards": len(rows), "errors": errors, "truly_left": int(wrong.sum()) - errors}


def accuracy_of(labels: Path, place: Path) -> float:
    """Give the share of right labels in a file, rows that weigh nothing left out."""
    ledger = AuditDirectory.open(place).ledger
    clean = np.load(place / "truth.npz")["clean"]
    true = {str(key): str(ledger.classes[n]) for key, n in zip(ledger.ids, clean, strict=True)}
    with labels.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if float(line["weight"]) > 0]
    return float(np.mean([line["label"] == true[line["id"]] for line in lines]))


def play(
    folder: Path, seed: int, *flags: object, epochs: int = EPOCHS, trains: bool = True
) -> dict[str, Any]:
    """Play the cycle once.

    Args:
        folder: Where audit, labels and models go.
        seed: Of everything.
        *flags: More flags of the audit and both trainings.
        epochs: Of the audit and both trainings.
        trains: Train models, too.
    """
    audit, given = folder / "audit", folder / "given.csv"
    people, both = folder / "people.csv", folder / "both.csv"
    common = ("digits", "--seed", seed, "--epochs", epochs, "--threads", 1, *flags)
    found = command("audit", *common, "--noise", NOISE, "--out", audit)
    command("apply", audit, "--out", given, "--auto-above", 1)
    reviewed = review(audit, budget=round(SHARE * found["rows"]), seed=seed)
    command("apply", audit, "--out", people, "--auto-above", 1)
    applied = command("apply", audit, "--out", both)
    files = {"given": given, "people": people, "both": both}
    tests = {}
    for name, labels in files.items() if trains else ():
        out = folder / f"model-{name}"
        trained = command("train", *common, "--recipe", "erm", "--labels", labels, "--out", out)
        tests[name] = trained["test"]["accuracy"]
    at_random = 1 - accuracy_of(given, audit)
    left = reviewed["errors_left"]
    return {
        "label_accuracy": {name: accuracy_of(labels, audit) for name, labels in files.items()},
        "test_accuracy": tests,
        "cards": reviewed["cards"],
        "errors_per_card": reviewed["errors"] / reviewed["cards"],
        "errors_per_random_row": at_random,
        "times_random": reviewed["errors"] / reviewed["cards"] / at_random,
        "errors_left": {"true": reviewed["truly_left"], **left},
        "applied": applied["by_source"],
        "expected_gain": applied["expected_gain"]["estimate"],
    }


def bars(runs: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Say which bars are met."""
    labels = [run["label_accuracy"] for run in runs]
    before, after = (
        float(np.mean([run["test_accuracy"][name] for run in runs])) for name in ("given", "both")
    )
    return {
        "labels_rise_at_every_step": all(
            each["given"] < each["people"] < each["both"] for each in labels
        ),
        "four_times_random": all(run["times_random"] >= TIMES for run in runs),
        "retrained_is_better": after > before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/cycle.json"))
    args = parser.parse_args()
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(play(Path(folder), seed))
        print(seed, json.dumps(runs[-1]), flush=True)
    found = {
        "bars": bars(runs),
        **made(),
        "epochs": EPOCHS,
        "mean_test_accuracy": {
            name: float(np.mean([run["test_accuracy"][name] for run in runs]))
            for name in runs[0]["test_accuracy"]
        },
        "noise": NOISE,
        "runs": dict(zip(map(str, SEEDS), runs, strict=True)),
        "versions": versions("errata", "numpy"),
    }
    found = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))
    args.json.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""How far each rule for the noise rate is off, on tables whose wrong labels are known.

    ERRATA_DATA=DIR python benchmarks/rate_study.py [--tables FOLDER] [--simulated 630]

None of it is what `benchmarks/published.py` tests. Three sources: tables simulated from a known
model of rows, labels and faults (`benchmarks/rate_tables.py`), nets trained on planted errors, as
they are and made too sure (squared), and people's votes (both `benchmarks/rate_nets.py`). The one
constant of `surest` is chosen on the simulated tables, and by leaving out one kind of noise
after another; decision 0014 tells how its form was found. Tables whose model is right in fewer than
.6 of the rows are left out. Strong: right in .85 or more.

`benchmarks/rate_study.json` tells the mean absolute error of each rule by source, strength and kind
of noise; F1 over that of the best threshold; and how often held-out tables are warned of as
in-sample, and in-sample ones are. About eight CPU minutes; trained tables in FOLDER are used again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rate_nets import make_tables, vote_tables
from rate_tables import Table, simulated

from errata.blocks import blocks_of
from errata.detect import how_many
from errata.detect.how_many import DEFAULT_RULE, RULES, RateReadings, estimate_rate, read_rates
from errata.detect.one_pass import OnePass, one_pass
from errata.detect.pointwise import log_ratio
from errata.detect.score import spread_rate
from errata.machine import processor_name
from errata.measures import oracle_f1, precision_recall_f1

BY_ROW = ("hard", "people", "instance", "ambiguous", "votes")
RIGHT, STRONG, SURE = 0.6, 0.85, (1.0, 2.0)
BELIEVED = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
DECIDED = ("surest", "gated", "fitted", "confident")
# What the five groups count for when a constant is chosen: mostly models that people would bring.
WEIGHTS = {
    "strong by row": 0.3,
    "strong by class": 0.3,
    "clean": 0.2,
    "weak by row": 0.1,
    "weak by class": 0.1,
}


def tables(data: Path, folder: Path, count: int) -> Iterator[tuple[str, Table]]:
    """Give every table with its source."""
    for number in range(count):
        yield "simulated", simulated(number)
    for path in sorted(folder.glob("*.npz")):
        file, (_, noise, model) = np.load(path), path.stem.split("-")
        kind = noise.rstrip("0123456789.")
        given, true = file["given"].astype(np.int64), file["true"].astype(np.int64)
        for sure in SURE:
            probs = np.maximum(file["probs"].astype(np.float64), 1e-9) ** sure
            yield "trained", Table(probs / probs.sum(1, keepdims=True), given, true, kind, model)
    for _, table in vote_tables(data):
        yield "votes", table


def group_of(table: Table, right: float) -> str:
    """Say which of the five groups a table belongs to."""
    if table.noise == "none":
        return "clean"
    strength = "strong" if right >= STRONG else "weak"
    return f"{strength} by {'row' if table.noise in BY_ROW else 'class'}"


def measured(source: str, table: Table) -> dict[str, Any] | None:
    """Measure one table; None where its model is right too seldom."""
    probs = blocks_of(table.probs, "probabilities")
    found = one_pass(probs, table.given)
    right = float((found.top == table.true).mean())
    if right < RIGHT:
        return None
    readings = read_rates(found, probs)
    wrong = table.given != table.true
    rates = {rule: estimate_rate(readings, rule=rule).estimate for rule in RULES}
    told = {
        "source": source,
        "noise": table.noise,
        "group": group_of(table, right),
        "right": right,
        "wrong": float(wrong.mean()),
        "readings": readings,
        "rates": rates,
        "warned": "in_sample" in [each.code for each in found.warnings],
    }
    return told | ({"f1": decided(found, wrong, rates)} if wrong.mean() > 0.01 else {})


def decided(found: OnePass, wrong: np.ndarray, rates: dict[str, float]) -> dict[str, float]:
    """Give F1 over the oracle's: of as many rows as a rule says, or of p_wrong above .5."""
    suspicion = log_ratio(found.given_prob, found.other_prob)
    order = np.argsort(-suspicion, kind="stable")
    best = oracle_f1(suspicion, wrong)

    def ratio(flagged: np.ndarray) -> float:
        return precision_recall_f1(flagged, wrong)[2] / best

    counts = {rule: rates[rule] for rule in DECIDED} | {"true rate": float(wrong.mean())}
    told = {}
    for name, rate in counts.items():
        flagged = np.zeros(len(wrong), dtype=bool)
        flagged[order[: round(rate * len(wrong))]] = True
        told[name] = ratio(flagged)
    for name in ("surest", "gated"):
        told[f"p_wrong > .5 by {name}"] = ratio(spread_rate(suspicion, rates[name]) > 0.5)
    return told


def errors_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Give the mean absolute error of every rule."""
    return {
        rule: round(float(np.mean([abs(each["rates"][rule] - each["wrong"]) for each in rows])), 4)
        for rule in RULES
    }


def split(rows: list[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    return {
        value: [each for each in rows if each[key] == value]
        for value in sorted({each[key] for each in rows})
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Give how far the rules are off, and what comes of it, by group and kind."""
    f1 = [each["f1"] for each in rows if "f1" in each and each["right"] >= STRONG]
    return {
        "tables": len(rows),
        "error": {"all": errors_of(rows)}
        | {group: errors_of(each) for group, each in split(rows, "group").items()},
        "error_by_noise_of_strong_models": {
            noise: errors_of(each)
            for noise, each in split([r for r in rows if r["right"] >= STRONG], "noise").items()
        },
        "f1_of_oracle_of_strong_models": {
            name: {
                "mean": round(float(np.mean([each[name] for each in f1])), 4),
                "worst_tenth": round(float(np.quantile([each[name] for each in f1], 0.1)), 4),
            }
            for name in f1[0]
        },
        "warned_as_in_sample": round(float(np.mean([each["warned"] for each in rows])), 4),
    }


def off_by(rows: list[dict[str, Any]], believed: float) -> float:
    """Give the weighted mean error of `surest` with another constant."""

    def rate(readings: RateReadings) -> float:
        # The rule compares the surest tenth with a share of the disagreement.
        scale = how_many._BELIEVED / believed
        return RULES["surest"](replace(readings, surest=readings.surest * scale))

    total = 0.0
    for group, each in split(rows, "group").items():
        off = [abs(rate(told["readings"]) - told["wrong"]) for told in each]
        total += WEIGHTS[group] * float(np.mean(off))
    return total


def chosen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Tell the error by constant, and which one is best without each kind of noise."""
    left_out = {}
    for noise in sorted({each["noise"] for each in rows}):
        rest = [each for each in rows if each["noise"] != noise]
        left_out[noise] = min(BELIEVED, key=lambda value, rest=rest: off_by(rest, value))  # type: ignore[misc]
    return {
        "weighted_error": {f"{value:g}": round(off_by(rows, value), 4) for value in BELIEVED},
        "best_without": left_out,
        "in_use": how_many._BELIEVED,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, default=Path("benchmarks/.cells/rate_study"))
    parser.add_argument("--simulated", type=int, default=630)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/rate_study.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.tables.mkdir(exist_ok=True, parents=True)
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    make_tables(data, args.tables)
    rows = [
        told
        for source, table in tables(data, args.tables, args.simulated)
        if (told := measured(source, table)) is not None
    ]
    seen = [
        "in_sample" in [each.code for each in one_pass(table, file["given"]).warnings]
        for file in map(np.load, sorted(args.tables.glob("*.npz")))
        for table in [blocks_of(file["in_sample"], "probabilities")]
    ]
    sources = split(rows, "source")
    result = {
        "constant": chosen(sources["simulated"]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "in_sample_tables": len(seen),
        "in_sample_tables_warned": round(float(np.mean(seen)), 4),
        "numpy": np.__version__,
        "processor": processor_name(),
        "rule": DEFAULT_RULE,
        "sources": {source: summary(each) for source, each in sources.items()},
        "torch": torch.__version__,
    }
    args.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()

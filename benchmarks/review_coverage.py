"""Errors left after a review, and the stopping rule, in simulations whose truth is known.

    python benchmarks/review_coverage.py

A simulated review is a real one without a person: `errata.review.queue.Queue` chooses each card,
the truth answers, and `errata.review.estimate.errors_left` counts. Half of the cards are controls.
Given and proposed labels are drawn from ten classes, one of which is wrong more often; the order
within flagged and within unflagged rows is informed (errors are 1.5 standard deviations higher), or
not at all; probabilities of being wrong are too sure, by a factor of 2 in the log-odds.

1. Coverage: 300 cards, so that at least 100 controls are drawn; shares of errors among flagged and
   unflagged rows, and the number of rows, by setting; the true number left differs from review to
   review. Bar: the 95 % interval holds it in 93 to 99 % of all reviews. Where errors are so rare
   that controls hardly ever meet one, no interval that is fixed by its controls can miss in 5 %:
   such settings are above 99 % by nature, and each is listed.
2. Stopping: after every 20 cards `may_stop` is asked for at most 1 % left, until it says yes or all
   rows are reviewed. Bars: of all reviews that stop, 95 % leave at most 1.5 %; in no setting do
   more than 5 % of the reviews stop with more.

Numbers go to `benchmarks/review_coverage.json` after each setting; settings that are there already
are not run again unless the number of reviews differs. Some eight minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from provenance import made, versions

from errata.review.decision import Verdict
from errata.review.estimate import Left, errors_left, may_stop
from errata.review.queue import Queue

CLASSES, CARDS, CONTROLS, TOO_SURE, SHIFT = 10, 300, 0.5, 2.0, 1.5
REVIEWS = {"coverage": 125, "stopping": 200}
"""Per setting; a thousand in all."""
LEAST_CONTROLS, ASK_EVERY, ASKED, ALLOWED = 100, 20, 0.01, 0.015
APART = 10_000
COVERAGE_BAR, STOPPING_BAR = (0.93, 0.99), 0.95


@dataclass(frozen=True)
class Setting:
    """Rows, and shares of errors among them."""

    rows: int
    flagged: float
    """Share of rows that are flagged."""
    wrong_flagged: float
    wrong_unflagged: float
    informed: bool = True
    """The order within flagged and unflagged rows says something."""


COVERAGE = {
    "20 % wrong": Setting(5_000, 0.2, 0.9, 0.03),
    "20 % wrong, order says nothing": Setting(5_000, 0.2, 0.9, 0.03, informed=False),
    "20 % wrong, 1,000 rows": Setting(1_000, 0.2, 0.9, 0.03),
    "20 % wrong, 100,000 rows": Setting(100_000, 0.2, 0.9, 0.03),
    "poorly flagged": Setting(5_000, 0.1, 0.4, 0.12),
    "5 % wrong": Setting(5_000, 0.05, 0.6, 0.02),
    "rare outside": Setting(5_000, 0.05, 0.7, 0.005),
    "very rare outside": Setting(5_000, 0.05, 0.7, 0.0005),
}
STOPPING = {
    "0.2 % outside": Setting(2_000, 0.04, 0.6, 0.002),
    "0.7 % outside": Setting(2_000, 0.04, 0.6, 0.007),
    "1.6 % outside": Setting(2_000, 0.04, 0.6, 0.016),
    "1.6 % outside, order says nothing": Setting(2_000, 0.04, 0.6, 0.016, informed=False),
    "3 % outside": Setting(2_000, 0.04, 0.6, 0.03),
}


class Review:
    """A review by somebody who knows the truth.

    Args:
        setting: What is reviewed.
        seed: Of the errors, their order, and the queue.
        budget: Cards; None goes on until all rows are reviewed.
    """

    def __init__(self, setting: Setting, seed: int, *, budget: int | None) -> None:
        rng = np.random.default_rng([seed, setting.rows])
        rows = setting.rows
        self.flagged = rng.permutation(rows) < round(setting.flagged * rows)
        given = rng.integers(0, CLASSES, rows)
        # One class is wrong twice as often as the others, so that active ordering has work.
        tilt = np.where(given == 0, 2.0, 1 - 1 / (CLASSES - 1))
        share = np.where(self.flagged, setting.wrong_flagged, setting.wrong_unflagged * tilt)
        self.truth = rng.random(rows) < share
        order = rng.normal(size=rows) + SHIFT * self.truth * setting.informed
        ranks = order.argsort().argsort() / rows
        self.suspicion = (self.flagged + ranks) / 2
        odds = np.log(np.maximum(share, 1e-3)) - np.log1p(-share) + (order - order.mean()) / 2
        p_wrong = np.sort(1 / (1 + np.exp(-TOO_SURE * odds)))[self.suspicion.argsort().argsort()]
        self._queue = Queue(
            *(self.suspicion, p_wrong, self.flagged, given, (given + 1) % CLASSES),
            seed=seed,
            controls=CONTROLS,
            budget=budget,
        )
        self._current: dict[int, dict[str, Verdict]] = {}
        self._control: list[bool] = []

    def step(self) -> bool:
        """Judge one card; False where there is none."""
        card = self._queue.next(self._current)
        if card is None:
            return False
        word = "drop" if self.truth[card.row] else "keep"
        self._current[card.row] = {"": Verdict(str(card.row), card.row, "", word)}
        self._control.append(card.control)
        return True

    @property
    def controls(self) -> int:
        """How many cards were controls."""
        return sum(self._control)

    def left(self) -> tuple[Left, int]:
        """Give the estimate and the truth."""
        rows = np.fromiter(self._current, dtype=np.int64)
        wrong = self.truth[rows]
        control = np.array(self._control, dtype=bool)
        found = errors_left(self.flagged, rows, wrong, control, suspicion=self.suspicion)
        return found, int(self.truth.sum() - wrong.sum())


def cover(setting: Setting, seed: int) -> dict[str, float]:
    """Review a fixed number of cards and compare the interval with the truth."""
    review = Review(setting, seed, budget=CARDS)
    while review.step():
        pass
    if review.controls < LEAST_CONTROLS:
        raise RuntimeError(f"{review.controls} controls are too few")
    found, truth = review.left()
    return {
        "held": found.low <= truth <= found.high,
        "above": truth > found.high,
        "below": truth < found.low,
        "off": found.estimate - truth,
        "width": found.high - found.low,
        "truth": truth,
        "controls": review.controls,
        "controls_used": found.controls,
    }


def stop(setting: Setting, seed: int) -> dict[str, float]:
    """Review until the rule says stop."""
    review = Review(setting, seed, budget=None)
    cards = 0
    while review.step():
        cards += 1
        if cards % ASK_EVERY == 0:
            found, truth = review.left()
            if may_stop(found, setting.rows, ASKED):
                return {"early": True, "cards": cards, "left": truth / setting.rows}
    return {"early": False, "cards": cards, "left": 0.0}


def told_of_coverage(trials: list[dict[str, float]]) -> dict[str, float]:
    """Average what `cover` gave."""
    told = {key: float(np.mean([trial[key] for trial in trials])) for key in trials[0]}
    return told | {"least_controls": min(trial["controls"] for trial in trials)}


def told_of_stopping(trials: list[dict[str, float]]) -> dict[str, float]:
    """Average what `stop` gave."""
    left = np.array([trial["left"] for trial in trials])
    return {
        "at_most_1.5_percent": float((left <= ALLOWED).mean()),
        "left_mean": float(left.mean()),
        "left_95th": float(np.quantile(left, 0.95)),
        "cards": float(np.mean([trial["cards"] for trial in trials])),
        "before_all_was_reviewed": float(np.mean([trial["early"] for trial in trials])),
    }


def rounded(told: dict[str, float]) -> dict[str, float]:
    """Round to what the number of reviews can tell."""
    return {key: round(value, 4) for key, value in told.items()}


def summary(settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Join all settings of both parts and say whether the bars are met."""
    told: dict[str, Any] = {}
    if settings["coverage"]:
        held = [cell["held"] for cell in settings["coverage"].values()]
        low, high = COVERAGE_BAR
        told["coverage"] = {
            "bar": list(COVERAGE_BAR),
            "reviews": sum(cell["reviews"] for cell in settings["coverage"].values()),
            "held": round(float(np.mean(held)), 4),
            "met": bool(low <= np.mean(held) <= high),
            "settings_within": sum(low <= each <= high for each in held),
            "settings_above": sum(each > high for each in held),
            "settings_below": sum(each < low for each in held),
        }
    if settings["stopping"]:
        good = [cell["at_most_1.5_percent"] for cell in settings["stopping"].values()]
        told["stopping"] = {
            "bar": STOPPING_BAR,
            "reviews": sum(cell["reviews"] for cell in settings["stopping"].values()),
            "at_most_1.5_percent": round(float(np.mean(good)), 4),
            "met": bool(np.mean(good) >= STOPPING_BAR and min(good) >= STOPPING_BAR),
            "worst_setting": min(good),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, help="per setting")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/review_coverage.json"))
    args = parser.parse_args()
    kept = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
    settings: dict[str, dict[str, Any]] = kept.get("settings", {"coverage": {}, "stopping": {}})
    parts = (
        ("coverage", COVERAGE, cover, told_of_coverage),
        ("stopping", STOPPING, stop, told_of_stopping),
    )
    for part, cells, trial, told in parts:
        reviews = args.reviews or REVIEWS[part]
        for first, (name, setting) in enumerate(cells.items()):
            if settings[part].get(name, {}).get("reviews") == reviews:
                continue
            # Reviews of different settings are independent of one another.
            seeds = range(first * APART, first * APART + reviews)
            trials = [trial(setting, seed) for seed in seeds]
            cell = {
                "reviews": reviews,
                "first_seed": seeds[0],
                **asdict(setting),
                **rounded(told(trials)),
            }
            settings[part][name] = cell
            print(part, name, json.dumps(cell), flush=True)
            found = {
                "cards": CARDS,
                "controls_share": CONTROLS,
                **made(),
                "settings": settings,
                "summary": summary(settings),
                "versions": versions("errata", "numpy"),
            }
            args.json.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Errors left, agreement and recalibration, against simulated reviews whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from errata.review.estimate import agreement, errors_left, may_stop, recalibrate
from errata.review.journal import Verdict
from errata.review.queue import Queue


def simulated(seed: int, *, rows: int = 5_000, rate: float = 0.1, suspects: int = 300):
    """Rank rows badly, review the worst and some controls of both strata."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < rate
    suspicion = rng.normal(0, 1, rows) + 1.5 * truth
    flagged = np.zeros(rows, dtype=bool)
    flagged[np.argsort(-suspicion)[: int(1.5 * rate * rows) + suspects]] = True
    worst = np.argsort(-suspicion)[:suspects]
    rest = np.setdiff1d(np.arange(rows), worst)
    pools = [rest[flagged[rest] == stratum] for stratum in (True, False)]
    controls = np.concatenate(
        [rng.choice(pool, min(100, len(pool)), replace=False) for pool in pools]
    )
    reviewed = np.concatenate([worst, controls])
    control = np.arange(len(reviewed)) >= suspects
    left = truth.sum() - truth[reviewed].sum()
    found = errors_left(flagged, reviewed, truth[reviewed], control, suspicion=suspicion)
    return found, int(left), rows


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_the_interval_holds_the_truth_as_often_as_it_says(rate: float):
    held, off = [], []
    for seed in range(200):
        found, left, _ = simulated(seed, rate=rate)
        held.append(found.low <= left <= found.high)
        off.append(found.estimate - left)
    assert 0.91 <= np.mean(held) <= 1.0
    # Three standard errors of the mean.
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(len(off)) + 2


def test_stopping_leaves_few_errors():
    stopped = []
    for seed in range(200):
        found, left, rows = simulated(seed, rate=0.004, suspects=100)
        if may_stop(found, rows, 0.03):
            stopped.append(left / rows)
    assert len(stopped) > 20
    assert np.quantile(stopped, 0.95) <= 0.03


def test_a_row_that_was_reviewed_is_not_left():
    flagged = np.array([True, True, False, False])
    everything = np.arange(4)
    found = errors_left(flagged, everything, np.ones(4, bool), np.zeros(4, bool))
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_without_controls_nothing_is_known():
    found = errors_left(np.zeros(1000, bool), np.arange(10), np.ones(10, bool), np.zeros(10, bool))
    assert found.controls == 0
    assert found.low < 30
    assert found.high > 960


def test_the_same_review_gives_the_same_interval():
    assert simulated(3)[0] == simulated(3)[0]


def verdict(row: int, reviewer: str, word: str, **values: object) -> Verdict:
    return Verdict(f"{row}{reviewer}", row, str(row), word, reviewer=reviewer, **values)


def test_agreement_counts_pairs_of_people():
    current = {
        0: {"a": verdict(0, "a", "keep"), "b": verdict(0, "b", "keep")},
        1: {"a": verdict(1, "a", "drop"), "b": verdict(1, "b", "keep")},
        2: {"a": verdict(2, "a", "keep"), "b": verdict(2, "b", "unsure")},
    }
    told = agreement(current)
    assert told["rows"] == 2
    assert told["share"] == 0.5
    # Three of four answers are keep: chance is 9/16 + 1/16.
    assert told["kappa"] == pytest.approx((0.5 - 0.625) / 0.375)
    assert agreement({})["share"] is None


def test_anchoring_shows_in_blind_cards():
    current = {
        row: {"a": verdict(row, "a", "keep" if row < 6 else "drop", blind=row < 5)}
        for row in range(10)
    }
    told = agreement(current)
    assert told["kept_blind"] == 1.0
    assert told["kept_shown"] == 0.2


def test_verdicts_move_probabilities_and_keep_their_order():
    p = np.linspace(0.01, 0.99, 1000)
    rows = np.arange(900, 1000)
    moved = recalibrate(p, rows, np.zeros(100, bool))
    assert (np.diff(moved) >= 0).all()
    assert moved[950] < 0.5 < p[950]
    assert moved[100] == pytest.approx(p[100], abs=0.02)


def test_few_verdicts_change_little_and_unknown_rows_stay_unknown():
    p = np.array([*np.linspace(0, 1, 500), np.nan])
    moved = recalibrate(p, np.array([499]), np.array([False]))
    assert np.nanmax(np.abs(moved - p)) < 0.35
    assert np.isnan(moved[-1])
    assert recalibrate(p, np.array([], dtype=int), np.array([], dtype=bool))[10] == p[10]


def test_cards_of_the_queue_never_hide_errors_that_are_left():
    above, off = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        truth = rng.random(1_000) < 0.2
        suspicion = truth + 0.4 * rng.normal(size=1_000)
        flagged = suspicion >= np.quantile(suspicion, 0.8)
        given = rng.integers(0, 10, 1_000)
        chosen = Queue(
            *(suspicion, np.clip(suspicion, 0, 1), flagged, given, (given + 1) % 10),
            seed=seed,
            controls=0.3,
            budget=200,
        )
        current: dict[int, dict[str, Verdict]] = {}
        control = []
        while (card := chosen.next(current)) is not None:
            word = "drop" if truth[card.row] else "keep"
            current[card.row] = {"": verdict(card.row, "", word)}
            control.append(card.control)
        rows = np.fromiter(current, dtype=np.int64)
        found = errors_left(flagged, rows, truth[rows], np.array(control), suspicion=suspicion)
        left = truth.sum() - truth[rows].sum()
        above.append(left > found.high)
        off.append(found.estimate - left)
    assert np.mean(above) <= 0.05
    # Of about a hundred that are left.
    assert abs(np.mean(off)) < 25

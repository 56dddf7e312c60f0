"""Errors left, agreement and recalibration, against simulated reviews whose truth is known."""

from __future__ import annotations

import time

import numpy as np
import pytest
from review_coverage import COVERAGE, cover

from errata.review.estimate import agreement, errors_left, may_stop
from errata.review.journal import Verdict
from errata.review.queue import Queue
from errata.review.recalibration import recalibrate


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
    for seed in range(60):
        found, left, _ = simulated(seed, rate=rate)
        held.append(found.low <= left <= found.high)
        off.append(found.estimate - left)
    assert np.mean(held) >= 0.9
    # Three standard errors of the mean.
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(len(off)) + 2


def test_stopping_leaves_few_errors():
    stopped = []
    for seed in range(100):
        found, left, rows = simulated(seed, rate=0.004, suspects=100)
        if may_stop(found, rows, 0.03):
            stopped.append(left / rows)
    assert len(stopped) > 10
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


def test_what_suspects_find_after_a_control_is_not_left():
    # The first control is drawn from 12 rows, of which two wrong ones are found by suspects later;
    # the second from 9. Rows 9 to 11 are left, and what the first saw is known by now.
    flagged = np.zeros(12, bool)
    reviewed = np.arange(9)
    wrong = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    control = np.array([1, 0, 0, 1, 1, 1, 1, 1, 1], dtype=bool)
    found = errors_left(flagged, reviewed, wrong, control)
    # Pools with all controls in them: 12, then six of 10. Expected by suspects: 2/12.
    assert found.estimate == pytest.approx(3 * (1 - 2 / 12) / (10 / 12 + 6 * 10 / 10))
    assert found.controls == 7


def test_drawing_without_replacement_leaves_at_most_the_rows_that_are_left():
    reviewed = np.arange(95)
    found = errors_left(np.zeros(100, bool), reviewed, np.ones(95, bool), np.ones(95, bool))
    assert found.estimate == found.high == 5
    assert found.low >= 4


def test_a_million_rows_are_estimated_in_a_moment():
    flagged = np.zeros(1_000_000, bool)
    reviewed = np.arange(0, 1_000_000, 1_000)
    wrong = np.arange(1_000) < 20
    began = time.process_time()
    found = errors_left(flagged, reviewed, wrong, np.ones(1_000, bool))
    assert time.process_time() - began < 0.2
    assert found.estimate == pytest.approx(19_980)
    # Beta(20.5, 980.5), by its quantiles.
    assert found.low == pytest.approx(12_637, rel=0.01)
    assert found.high == pytest.approx(30_125, rel=0.01)


def test_rows_that_never_come_are_not_left():
    suspicion = np.array([0.9, 0.5, np.nan, np.nan])
    reviewed = np.array([0, 1])
    none = np.zeros(2, bool)
    found = errors_left(np.zeros(4, bool), reviewed, none, ~none, suspicion=suspicion)
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


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


def test_agreement_of_three_people_counts_every_pair_of_them():
    words = [("keep", "keep", "drop"), ("drop", "drop", "drop"), ("keep", "unsure", "keep")]
    current = {
        row: {who: verdict(row, who, word) for who, word in zip("abc", said, strict=True)}
        for row, said in enumerate(words)
    }
    told = agreement(current)
    assert told["rows"] == 3
    # 1 of 3 pairs, 3 of 3, 1 of 1; four of eight answers are keep.
    assert told["share"] == pytest.approx(5 / 7)
    assert told["kappa"] == pytest.approx((5 / 7 - 0.5) / 0.5)


def test_relabelling_as_another_class_is_no_agreement():
    current = {
        row: {
            "a": verdict(row, "a", "relabel", label="cat"),
            "b": verdict(row, "b", "relabel", label="cat" if row else "dog"),
        }
        for row in range(2)
    }
    told = agreement(current)
    assert told["share"] == 0.5
    assert told["kappa"] == pytest.approx((0.5 - (9 / 16 + 1 / 16)) / (6 / 16))


def test_controls_and_unsure_cards_say_nothing_of_anchoring():
    current = {
        0: {"a": verdict(0, "a", "keep", blind=True)},
        1: {"a": verdict(1, "a", "drop", blind=True)},
        2: {"a": verdict(2, "a", "drop", blind=True)},
        3: {"a": verdict(3, "a", "keep", blind=True, control=True)},
        4: {"a": verdict(4, "a", "unsure", blind=True)},
        5: {"a": verdict(5, "a", "keep")},
        6: {"a": verdict(6, "a", "relabel", label="cat")},
    }
    told = agreement(current)
    assert told["kept_blind"] == pytest.approx(1 / 3)
    assert told["kept_shown"] == 0.5


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
    for seed in range(10):
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
    assert np.mean(above) <= 0.1
    # Of about a hundred that are left.
    assert abs(np.mean(off)) < 25


def test_simulated_reviews_find_the_truth_in_their_intervals():
    setting = COVERAGE["20 % wrong, 1,000 rows"]
    trials = [cover(setting, seed) for seed in range(20)]
    assert min(trial["controls"] for trial in trials) >= 100
    assert sum(trial["held"] for trial in trials) >= 18

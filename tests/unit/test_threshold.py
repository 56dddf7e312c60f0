"""Threshold samples and planted flips: rows that are wrong for sure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, InterruptError, one_stage, pictures, tiny_net

from errata.detect import detector_named
from errata.engine import TrainingRun, fit
from errata.engine.threshold import (
    FakeClass,
    ThresholdSearch,
    accumulated_margins,
    choose_threshold_rows,
    flag_below_threshold,
    planted_recall,
    search_by_threshold,
    write_threshold,
)
from errata.errors import LedgerError, SettingsError
from errata.ledger import Ledger
from errata.types import Source

NAN = np.nan


def test_a_run_takes_as_many_rows_as_a_class_has_with_the_fake_one():
    chosen = choose_threshold_rows(np.arange(1100) % 10, classes=10, seed=0)
    assert [len(rows) for rows in chosen] == [100, 100]


@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**32))
def test_no_row_is_a_sample_twice_and_none_is_unlabelled(classes: int, runs: int, seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, classes, 120)
    chosen = choose_threshold_rows(labels, classes=classes, runs=runs, seed=seed)
    together = np.concatenate(chosen)
    assert len(set(together.tolist())) == len(together)
    assert (labels[together] >= 0).all()


def test_too_few_rows_or_too_many_runs_are_refused():
    with pytest.raises(SettingsError, match="`21` labelled rows of 10 classes; allowed: 22 rows"):
        choose_threshold_rows(np.arange(21) % 10, classes=10, seed=0)
    with pytest.raises(SettingsError, match="runs `4` is out of range; allowed: 1 to 3"):
        choose_threshold_rows(np.arange(60) % 2, classes=2, runs=4, seed=0)


def test_the_fake_class_is_one_more_and_changes_nothing_else():
    source = pictures()
    fake = FakeClass(source, np.array([0, 5]))
    assert fake.classes == (*source.classes, "threshold")
    assert fake.given[[0, 5]].tolist() == [3, 3]
    others = np.setdiff1d(np.arange(96), [0, 5])
    assert (fake.given[others] == source.given[others]).all()
    assert (source.given < 3).all(), "the source keeps its labels"
    assert torch.equal(fake.pixels(np.array([5])), source.pixels(np.array([5])))
    assert FakeClass(fake, np.array([1])).classes[-1] == "threshold_"


def test_rows_are_flagged_where_every_run_that_judges_them_says_so():
    # Samples are row 4 in run 0 (limit 0) and row 5 in run 1 (limit 1).
    one = np.array([-1.0, -1.0, 2.0, NAN, 0.0, -3.0])
    two = np.array([0.5, 1.5, 0.0, NAN, 3.0, 1.0])
    flags, limits = flag_below_threshold([one, two], [np.array([4]), np.array([5])])
    assert limits == [0.0, 1.0]
    assert flags.tolist() == [True, False, False, False, False, True]


def test_the_limit_is_a_percentile_of_the_samples():
    margins = np.r_[np.linspace(0, 1, 101), 0.98, 1.0]
    flags, limits = flag_below_threshold([margins], [np.arange(101)])
    assert limits == pytest.approx([0.99])
    assert flags[-2:].tolist() == [True, False]
    assert not flags[:101].any(), "samples of the only run are judged by nobody"


def test_a_ledger_without_margins_is_refused():
    with pytest.raises(LedgerError, match="the ledger lacks `margin_sum`"):
        accumulated_margins(Ledger(["a"], np.zeros(1, np.int64), ["x"]))


class Fits:
    """Trains, remembers on what, and fails where it is told to."""

    def __init__(self, stop: int | None = None, epochs: int = 12) -> None:
        self.trained: list[Source] = []
        self.stop, self.epochs = stop, epochs

    def __call__(self, source: Source, place: Path) -> TrainingRun:
        if len(self.trained) == self.stop:
            raise InterruptError
        self.trained.append(source)
        return fit(one_stage(epochs=self.epochs), source, model=tiny_net(source), engine=EXACT)


def test_threshold_samples_find_planted_errors(tmp_path: Path):
    source = pictures(rows=240, wrong=0.2)
    wrong = source.given != pictures(rows=240).given
    fits = Fits()
    found = search_by_threshold(fits, source, seed=0, work=tmp_path)
    assert [len(part.classes) for part in fits.trained] == [4, 4]
    assert found.flagged[wrong].mean() > 0.8
    assert found.flagged[~wrong].mean() < 0.2
    assert found.margin[wrong].mean() < found.margin[~wrong].mean()
    assert len(found.limits) == 2
    # A sample's margin in the fake class is not counted.
    rows = choose_threshold_rows(source.given, classes=3, seed=0)[0]
    (file,) = tmp_path.glob("threshold-1-*.npy")
    assert found.margin[rows] == pytest.approx(np.load(file)[rows])


def test_an_interrupted_search_goes_on(tmp_path: Path):
    source = pictures(wrong=0.2)
    whole = search_by_threshold(Fits(epochs=2), source, seed=0, work=tmp_path / "whole")
    with pytest.raises(InterruptError):
        search_by_threshold(Fits(1, epochs=2), source, seed=0, work=tmp_path / "stopped")
    rest = Fits(epochs=2)
    again = search_by_threshold(rest, source, seed=0, work=tmp_path / "stopped")
    assert len(rest.trained) == 1
    assert (whole.flagged == again.flagged).all()
    np.testing.assert_array_equal(whole.margin, again.margin)


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.5])
def test_a_percentile_out_of_range_is_refused(percentile: float, tmp_path: Path):
    with pytest.raises(SettingsError, match=r"percentile `.*` is out of range"):
        search_by_threshold(Fits(), pictures(), percentile=percentile, seed=0, work=tmp_path)


# The detector.


def test_flagged_rows_come_first_and_the_lower_margin_before_the_higher():
    ledger = Ledger(list("abcde"), torch.tensor([0, 1, 0, 1, -1]), ["zero", "one"])
    margin = np.array([1.0, -2.0, NAN, -5.0, -9.0])
    flagged = np.array([False, True, False, False, True])
    for _ in range(2):
        write_threshold(ledger, ThresholdSearch(flagged, margin, [0.0]))
    scores = detector_named("threshold").score(ledger)
    expected = [1 / 6, 5 / 6, NAN, 1 / 2, NAN]
    assert scores.suspicion == pytest.approx(expected, nan_ok=True)
    assert scores.words(1) == "margin -2.0 on average, like that of rows made wrong on purpose"
    assert scores.words(0) == "margin 1.0 on average, above that of rows made wrong on purpose"


# Planted flips.


def test_the_recall_of_planted_flips_is_counted(tmp_path: Path):
    source, fits = pictures(), Fits(epochs=1)
    kept: list[np.ndarray] = []

    def flag(ledger: Ledger) -> np.ndarray:
        changed = ledger.given.numpy() != source.given
        kept.append(np.flatnonzero(changed))
        flags = np.zeros(96, bool)
        flags[kept[0][:6]] = True
        return flags

    found = planted_recall(fits, source, flag, share=0.1, seed=0, work=tmp_path)
    assert len(found.rows) == 10
    assert (found.rows == kept[0]).all()
    assert found.recall == pytest.approx(0.6)
    assert found.deviation == pytest.approx((0.6 * 0.4 / 10) ** 0.5)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.5, 0.001])
def test_a_share_out_of_range_is_refused(share: float, tmp_path: Path):
    with pytest.raises(SettingsError, match=r"share `.*` of 96 labelled rows is out of range"):
        planted_recall(
            Fits(), pictures(), lambda _: np.zeros(96), share=share, seed=0, work=tmp_path
        )

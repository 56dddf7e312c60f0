"""Held-out probabilities: even folds, nets that never saw what they predict, exact resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, InterruptError, one_stage, pictures, tiny_net

from errata.data import Arrays
from errata.engine import TrainingRun, fit
from errata.engine.crossfit import crossfit, split_folds
from errata.errors import SettingsError
from errata.types import Source

labels = st.lists(st.integers(-1, 3), min_size=8, max_size=60).map(np.array)


@given(labels, st.integers(2, 5), st.integers(0, 2**32))
def test_folds_share_rows_and_every_class_evenly(given_labels: np.ndarray, folds: int, seed: int):
    sizes = np.unique(given_labels[given_labels >= 0], return_counts=True)[1]
    if not len(sizes) or sizes.min() < folds:
        return
    fold = split_folds(given_labels, folds, seed=seed)
    assert set(fold.tolist()) == set(range(folds))
    for members in (given_labels >= -1, *(given_labels == c for c in range(-1, 4))):
        counts = np.bincount(fold[members], minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_folds_depend_on_the_seed_alone():
    given_labels = np.arange(40) % 4
    one, again, other = (split_folds(given_labels, 4, seed=seed) for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize("folds", [-1, 0, 1, 6])
def test_folds_out_of_range_are_refused(folds: int):
    with pytest.raises(SettingsError, match=rf"folds `{folds}` is out of range; allowed: 2 to 5"):
        split_folds(np.array([0] * 5 + [1] * 9 + [-1]), folds, seed=0)


def test_a_class_of_one_row_cannot_be_held_out():
    with pytest.raises(SettingsError, match="a class has a single row") as caught:
        split_folds(np.array([0, 0, 0, 1]), 2, seed=0)
    assert caught.value.hint


class Fits:
    """Trains a fold, remembers on which rows, and fails where it is told to."""

    def __init__(self, stop: int | None = None) -> None:
        self.trained: list[Source] = []
        self.stop = stop

    def __call__(self, source: Source, place: Path) -> TrainingRun:
        if len(self.trained) == self.stop:
            raise InterruptError
        self.trained.append(source)
        return fit(
            one_stage(), source, model=tiny_net(source), engine=EXACT, checkpoint=place, resume=True
        )


def predict(source: Source, work: Path, fits: Any, *, folds: int = 3) -> np.ndarray:
    return crossfit(fits, source, folds, seed=0, work=work)


def test_every_row_is_predicted_by_a_net_that_never_saw_it(tmp_path: Path):
    source, fits = pictures(wrong=0.2), Fits()
    probs = predict(source, tmp_path, fits)
    assert probs.shape == (96, 3)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    fold = split_folds(source.given, 3, seed=0)
    for k, part in enumerate(fits.trained):
        held = {source.ids[row] for row in np.flatnonzero(fold == k)}
        assert held.isdisjoint(part.ids)
        assert held | set(part.ids) == set(source.ids)


def test_held_out_predictions_find_what_can_be_learned(tmp_path: Path):
    source = pictures(wrong=0.0)
    probs = predict(source, tmp_path, Fits())
    assert (probs.argmax(1) == source.given).mean() > 0.8


def test_a_row_has_no_say_in_the_predictions_of_its_own_fold(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    source = pictures(wrong=0.0)
    probs = predict(source, tmp_path / "a", Fits())
    x = source.x.copy()
    fold = split_folds(source.given, 3, seed=0)
    row = int(np.flatnonzero(fold == 1)[0])
    # The mean of all pixels stays, so that the scale of the pictures does.
    x[row] = x[row].ravel()[::-1].reshape(x[row].shape)
    moved = Arrays(x, source.given, classes=source.classes, ids=source.ids)
    other = predict(moved, tmp_path / "b", Fits())
    same_fold = np.flatnonzero((fold == 1) & (np.arange(96) != row))
    # The nets of fold 1 never saw the row, so they predict all other rows of it as before.
    assert (probs[same_fold] == other[same_fold]).all()
    assert (probs[fold == 0] != other[fold == 0]).any()


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_resuming_goes_on_after_the_last_whole_fold(stop: int, tmp_path: Path):
    source = pictures(wrong=0.2)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = predict(source, tmp_path / "whole", Fits())
    with pytest.raises(InterruptError):
        predict(source, tmp_path / "stopped", Fits(stop))
    rest = Fits()
    again = predict(source, tmp_path / "stopped", rest)
    assert len(rest.trained) == 3 - stop
    assert (whole == again).all()


def test_another_number_of_folds_starts_afresh(tmp_path: Path):
    source, fits = pictures(wrong=0.2), Fits()
    predict(source, tmp_path, Fits())
    predict(source, tmp_path, fits, folds=4)
    assert len(fits.trained) == 4


def test_unlabelled_rows_are_predicted_but_never_trained_on(tmp_path: Path):
    source = pictures(wrong=0.0, unlabelled=6)
    probs = predict(source, tmp_path, Fits())
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    assert (probs[-6:].max(1) > 0.5).any()

"""Bootstrap ensembles: what a bag holds, who predicts whom, uncertainties, and resuming."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, InterruptError, one_stage, pictures, tiny_net

from errata.detect import detector_named
from errata.engine import TrainingRun, fit
from errata.engine.bootstrap import (
    Ensemble,
    Resampled,
    bootstrap,
    draw_bag,
    entropy,
    missing_share,
    out_of_bag_share,
    split_uncertainty,
    write_ensemble,
)
from errata.errors import LedgerError, SettingsError
from errata.ledger import Ledger, standard
from errata.types import Source

# Values by hand.


def test_a_row_is_out_of_a_bag_with_probability_one_over_e():
    assert out_of_bag_share(1_000_000) == pytest.approx(0.3679, abs=5e-5)
    assert out_of_bag_share(2) == 0.25


def test_eight_members_leave_less_than_2_6_percent_without_a_prediction():
    assert missing_share(8) == pytest.approx(0.0255, abs=5e-5)
    assert missing_share(7) > 0.026


def test_bags_leave_out_the_share_they_should():
    given_labels = np.zeros(20_000, np.int64)
    out = [1 - len(np.unique(draw_bag(given_labels, m, seed=0))) / 20_000 for m in range(4)]
    # The standard deviation of one share is about .0022.
    assert out == pytest.approx([out_of_bag_share(20_000)] * 4, abs=0.01)
    assert len(set(out)) == 4


def test_a_bag_has_as_many_rows_as_are_labelled_and_no_other():
    given_labels = np.array([0, -1, 1, 0, -1])
    bag = draw_bag(given_labels, 0, seed=3)
    assert len(bag) == 3
    assert set(bag) <= {0, 2, 3}
    assert (draw_bag(given_labels, 0, seed=3) == bag).all()


def test_members_that_agree_to_be_unsure_are_aleatoric_and_a_quarrel_is_epistemic():
    two = math.log(2)
    even = np.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    found = split_uncertainty(even, np.array([two, 0.0, 0.0]))
    assert found.total == pytest.approx([two, two, 0], abs=1e-9)
    assert found.aleatoric == pytest.approx([two, 0, 0])
    assert found.epistemic == pytest.approx([0, two, 0], abs=1e-9)


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 2**32))
def test_the_parts_of_uncertainty_add_up_and_are_never_negative(members: int, c: int, seed: int):
    probs = np.random.default_rng(seed).dirichlet(np.full(c, 0.3), (members, 7))
    found = split_uncertainty(probs.mean(0), entropy(probs).mean(0))
    assert (found.epistemic >= 0).all()
    assert found.aleatoric + found.epistemic == pytest.approx(found.total, abs=1e-9)
    assert (found.total <= math.log(c) + 1e-9).all()


def test_entropy_agrees_with_torch():
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    theirs = torch.distributions.Categorical(torch.from_numpy(probs)).entropy().numpy()
    assert entropy(probs) == pytest.approx(theirs)


# Members.


class Fits:
    """Trains a member, remembers on what, and fails where it is told to."""

    def __init__(self, stop: int | None = None) -> None:
        self.trained: list[Source] = []
        self.seeds: list[int] = []
        self.stop = stop

    def __call__(self, source: Source, place: Path, seed: int) -> TrainingRun:
        if len(self.trained) == self.stop:
            raise InterruptError
        self.trained.append(source)
        self.seeds.append(seed)
        net = tiny_net(source, seed=seed % 1000)
        return fit(
            one_stage(epochs=3),
            source,
            model=net,
            seed=seed,
            engine=EXACT,
            observers=(),
            checkpoint=place,
            resume=True,
        )


def test_rows_are_predicted_by_the_nets_that_never_saw_them(tmp_path: Path):
    source, fits = pictures(wrong=0.2), Fits()
    ensemble = bootstrap(fits, source, 4, seed=0, work=tmp_path)
    times = np.zeros(96, np.int64)
    for member, part in enumerate(fits.trained):
        seen = {name.split(": ")[1] for name in part.ids}
        bag = draw_bag(source.given, member, seed=0)
        assert seen == {source.ids[row] for row in bag}
        assert len(part.ids) == len(set(part.ids)) == 96
        times += ~np.isin(np.arange(96), bag)
    assert (ensemble.times == times).all()
    assert len(set(fits.seeds)) == 4, "members begin at weights of their own"
    known = times > 0
    assert 0 < known.mean() < 1
    assert ensemble.prob[known].sum(1) == pytest.approx(np.ones(known.sum()), abs=1e-5)
    assert np.isnan(ensemble.prob[~known]).all()
    assert np.isnan(ensemble.uncertainty.total[~known]).all()


def test_sums_over_members_are_means_of_their_predictions(tmp_path: Path):
    source = pictures(wrong=0.2)
    ensemble = bootstrap(Fits(), source, 3, seed=0, work=tmp_path)
    probs = np.full((3, 96, 3), np.nan)
    for member in range(3):
        held = np.setdiff1d(np.arange(96), draw_bag(source.given, member, seed=0))
        (file,) = tmp_path.glob(f"member-{member}-*.npy")
        probs[member, held] = np.load(file)
    row = int(ensemble.times.argmax())
    own = probs[~np.isnan(probs[:, row, 0]), row]
    assert ensemble.prob[row] == pytest.approx(own.mean(0), abs=1e-6)
    assert ensemble.uncertainty.aleatoric[row] == pytest.approx(entropy(own).mean(), abs=1e-6)
    assert ensemble.uncertainty.total[row] == pytest.approx(entropy(own.mean(0)), abs=1e-6)


@pytest.mark.parametrize("stop", [0, 2])
def test_resuming_goes_on_after_the_last_whole_member(stop: int, tmp_path: Path):
    source = pictures(wrong=0.2)
    whole = bootstrap(Fits(), source, 3, seed=0, work=tmp_path / "whole")
    with pytest.raises(InterruptError):
        bootstrap(Fits(stop), source, 3, seed=0, work=tmp_path / "stopped")
    rest = Fits()
    again = bootstrap(rest, source, 3, seed=0, work=tmp_path / "stopped")
    assert len(rest.trained) == 3 - stop
    np.testing.assert_array_equal(whole.prob, again.prob)
    np.testing.assert_array_equal(whole.uncertainty.epistemic, again.uncertainty.epistemic)


def test_members_of_other_labels_seeds_or_counts_are_not_taken_over(tmp_path: Path):
    bootstrap(Fits(), pictures(wrong=0.2), 2, seed=0, work=tmp_path)
    for source, members, seed in (
        (pictures(wrong=0.3), 2, 0),
        (pictures(wrong=0.2), 3, 0),
        (pictures(wrong=0.2), 2, 1),
    ):
        fits = Fits()
        bootstrap(fits, source, members, seed=seed, work=tmp_path)
        assert len(fits.trained) == members


def test_unlabelled_rows_are_in_no_bag_and_predicted_by_all(tmp_path: Path):
    source = pictures(wrong=0.0, unlabelled=6)
    ensemble = bootstrap(Fits(), source, 2, seed=0, work=tmp_path)
    assert (ensemble.times[-6:] == 2).all()


@pytest.mark.parametrize("members", [-1, 0, 1])
def test_too_few_members_are_refused(members: int, tmp_path: Path):
    with pytest.raises(SettingsError, match=rf"members `{members}` is out of range"):
        bootstrap(Fits(), pictures(), members, seed=0, work=tmp_path)


def test_a_source_without_labels_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="`0` labelled rows"):
        bootstrap(Fits(), pictures(rows=6, unlabelled=6), 2, seed=0, work=tmp_path)


def test_a_resample_shows_the_rows_it_holds():
    source = pictures()
    bag = Resampled(source, np.array([4, 4, 9]))
    assert bag.ids == ["0: row 4", "1: row 4", "2: row 9"]
    assert bag.given.tolist() == source.given[[4, 4, 9]].tolist()
    assert torch.equal(bag.pixels(np.array([1, 2])), source.pixels(np.array([4, 9])))
    assert bag.show(2) == source.show(9)
    assert bag.shape == source.shape


# In the ledger.


def ensemble_of(probs: np.ndarray) -> Ensemble:
    return Ensemble(
        probs.astype(np.float32),
        split_uncertainty(probs, entropy(probs)),
        np.ones(len(probs), np.int64),
    )


def test_detectors_read_what_is_written():
    ledger = Ledger(["a", "b"], np.array([0, 1]), ["x", "y"])
    write_ensemble(ledger, ensemble_of(np.array([[0.1, 0.9], [np.nan, np.nan]])))
    assert ledger.read("uncertainty")[0].item() == pytest.approx(0.325083, abs=1e-5)
    assert ledger.read("oof_times").tolist() == [1, 1]
    scores = detector_named("self_confidence").score(ledger)
    assert scores.suspicion == pytest.approx([0.9, np.nan], nan_ok=True)


def test_held_out_predictions_of_folds_are_not_overwritten():
    ledger = Ledger(["a", "b"], np.array([0, 1]), ["x", "y"])
    ledger.add("audit", standard("prob_oof", shape=(2,)))
    with pytest.raises(LedgerError, match="`prob_oof` belongs to `audit`"):
        write_ensemble(ledger, ensemble_of(np.full((2, 2), 0.5)))
    assert not ledger.has("epistemic")

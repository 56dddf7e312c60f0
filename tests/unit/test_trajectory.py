"""The trajectory of every row, by exact values, and the features that are made of it."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import EXACT, all_tensors, one_stage, pictures, tiny_net
from torch import Tensor

from errata.detect import detector_named, detector_names
from errata.detect.cartography import data_map, hard_to_learn
from errata.detect.reading import forgetting_events
from errata.detect.trajectory import (
    modal_share,
    normalise,
    normalise_within,
    trajectory_features,
)
from errata.engine import fit
from errata.errors import LedgerError, SettingsError
from errata.ledger import Ledger
from errata.observe import Observer, Track, Trajectory
from errata.observe.trajectory import trajectory_bytes, view_of
from errata.types import Batch

NAN = math.nan


class Replayed:
    """As much of a run as observers need, fed with logits from a table [epochs, N, C]."""

    def __init__(
        self, table: Tensor, given_labels: Tensor, observers: tuple[Observer, ...]
    ) -> None:
        epochs, rows, classes = table.shape
        self.table, self.given, self.classes, self.num_rows = table, given_labels, classes, rows
        self.device, self.seed, self.tick, self.epoch = torch.device("cpu"), 0, 0, 0
        self.program, self.stage_index, self.epochs = (SimpleNamespace(epochs=epochs),), 0, epochs
        names = [str(r) for r in range(rows)], [str(c) for c in range(classes)]
        self.ledger = Ledger(names[0], given_labels, names[1])
        self.observers = observers
        for observer in observers:
            observer.open(self)  # type: ignore[arg-type]

    def has_unmixed(self, net: int, seen: Any) -> bool:
        return True

    def unmixed(self, net: int, seen: Any) -> Tensor:
        return self.table[self.epoch, seen[0].plain.rows]

    def play(self, orders: list[Tensor], size: int) -> Ledger:
        for self.epoch, order in enumerate(orders):
            for rows in torch.split(order, size):
                self.tick += 1
                one = torch.ones(len(rows))
                target = torch.zeros(len(rows), self.classes)
                batch = Batch(rows, (), self.given[rows], target, one, one)
                seen = {0: SimpleNamespace(plain=batch, batch=batch)}
                for observer in self.observers:
                    observer.step(self, seen)  # type: ignore[arg-type]
            self.ledger.sync()
        return self.ledger


def replay(
    probs: list[list[list[float]]], labels: list[int], *observers: Observer, unit: bool = True
) -> Ledger:
    """Record probabilities [epochs, N, C] given as such, or logits."""
    table = torch.tensor(probs)
    table = table.log() if unit else table
    run = Replayed(table, torch.tensor(labels), observers or (Track(), Trajectory()))
    return run.play([torch.arange(table.shape[1])] * len(table), table.shape[1])


# The observer.


def test_the_curves_are_what_was_predicted():
    ledger = replay([[[0.7, 0.2, 0.1]], [[0.25, 0.5, 0.25]]], [0])
    half = 1e-3  # of float16
    assert ledger.read("label_prob_curve")[0].tolist() == pytest.approx([0.7, 0.25], abs=half)
    assert ledger.read("other_prob_curve")[0].tolist() == pytest.approx([0.2, 0.5], abs=half)
    assert ledger.read("argmax_curve")[0].tolist() == [0, 1]
    assert ledger.read("correct_curve")[0].tolist() == [True, False]
    losses = [-math.log(0.7), -math.log(0.25)]
    assert ledger.read("loss_curve")[0].tolist() == pytest.approx(losses, abs=half)
    assert ledger.owner("loss_curve") == "track"


def test_without_track_the_trajectory_keeps_losses_itself():
    ledger = replay([[[0.5, 0.5]]], [1], Trajectory())
    assert ledger.owner("loss_curve") == "trajectory"
    assert ledger.read("loss_curve").item() == pytest.approx(math.log(2), abs=1e-3)


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 2**32))
def test_a_view_agrees_with_a_slow_loop(rows: int, classes: int, seed: int):
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, classes, generator=rng, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=rng)
    view = view_of(z, labels)
    for row, probs in enumerate(z.softmax(1).tolist()):
        label = int(labels[row])
        others = [p for c, p in enumerate(probs) if c != label]
        assert view.label_prob[row].item() == pytest.approx(probs[label])
        assert view.other_prob[row].item() == pytest.approx(max(others))
        assert view.argmax[row].item() == int(np.argmax(probs))
        assert view.correct[row].item() == (probs[label] > max(others))
        assert view.loss[row].item() == pytest.approx(-math.log(probs[label]))


def test_a_million_rows_and_a_hundred_epochs_take_900_megabytes():
    assert trajectory_bytes(1_000_000, 100) == 900_000_000


def test_the_stated_memory_is_that_of_the_columns():
    ledger = replay([[[0.5, 0.5]] * 3] * 4, [0, 1, 0], Trajectory())
    held = sum(ledger.read(c.name).nbytes for c in ledger.columns)
    assert held == trajectory_bytes(3, 4)


def test_only_the_newest_epochs_are_kept_where_asked():
    ledger = replay([[[0.9, 0.1]], [[0.2, 0.8]], [[0.6, 0.4]]], [0], Trajectory(keep=2))
    assert ledger.read("label_prob_curve")[0].tolist() == pytest.approx([0.2, 0.6], abs=1e-3)


def test_too_long_trajectories_are_refused_before_training():
    source = pictures(rows=600)
    observers = (Track(), Trajectory(most_mb=1))
    with pytest.raises(SettingsError, match=r"600 rows and 4000 epochs take `21` MB") as caught:
        fit(one_stage(epochs=4000), source, model=tiny_net(source), observers=observers)
    assert "keep=194" in str(caught.value.hint)


@pytest.mark.parametrize("values", [{"keep": -1}, {"most_mb": 0}, {"every": 0}])
def test_settings_out_of_range_are_refused(values: dict[str, int]):
    (name,) = values
    with pytest.raises(SettingsError, match=rf"trajectory {name} `{values[name]}` is out of range"):
        Trajectory(**values)


def test_a_track_that_comes_later_is_refused():
    with pytest.raises(SettingsError, match="stands before `Track`"):
        replay([[[0.5, 0.5]]], [0], Trajectory(), Track())
    replay([[[0.5, 0.5]]], [0], Trajectory(), Track(curve=False))


def test_recording_trajectories_changes_no_bit_of_training():
    source = pictures(wrong=0.2)
    plain, watched = (
        fit(one_stage(), source, model=tiny_net(source), engine=EXACT, observers=observers)
        for observers in ((Track(),), (Track(), Trajectory()))
    )
    left, right = all_tensors(plain), all_tensors(watched)
    assert set(left) < set(right)
    for name, values in left.items():
        assert torch.equal(values.nan_to_num(7), right[name].nan_to_num(7)), name


def test_mixed_rows_are_recorded_in_every_fifth_epoch():
    source = pictures(wrong=0.2)
    run = fit(
        one_stage("mixup", epochs=11),
        source,
        model=tiny_net(source),
        engine=EXACT,
        observers=(Track(), Trajectory()),
    )
    assert (run.ledger.filled("argmax_curve") == 2).all()


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_no_statistic_depends_on_the_order_of_the_loader(seed: int, one: int, two: int):
    rng = torch.Generator().manual_seed(seed)
    table = torch.randn(4, 9, 3, generator=rng)
    labels = torch.randint(3, (9,), generator=rng)
    straight = [torch.arange(9)] * 4
    shuffled = [torch.randperm(9, generator=rng) for _ in range(4)]
    ledgers = [
        Replayed(table, labels, (Track(), Trajectory())).play(orders, size)
        for orders, size in ((straight, one), (shuffled, two))
    ]
    left, right = (trajectory_features(ledger) for ledger in ledgers)
    # Half-precision curves may round another way in batches of another size.
    np.testing.assert_allclose(left.values, right.values, atol=2e-3)
    assert np.array_equal(left.of("modal"), right.of("modal"))
    assert np.array_equal(left.of("wrong_events"), right.of("wrong_events"))


# Features.


def test_features_of_the_reference_logits():
    # Margins 1, -3 and 2 average to nought; predicted 0, 1, 0.
    ledger = replay([[[2.0, 1.0, 0.0]], [[0.0, 3.0, 1.0]], [[4.0, 1.0, 2.0]]], [0], unit=False)
    features = trajectory_features(ledger)
    assert features.of("margin").item() == 0
    assert features.of("wrong_events").item() == pytest.approx(1 / 3)
    assert features.of("forgetting").item() == 1
    assert features.of("first_learned").item() == 0
    assert features.of("modal").item() == 0


def test_probability_and_spread_of_the_reference_row():
    ledger = replay([[[0.2, 0.8]], [[0.6, 0.4]], [[0.7, 0.3]]], [0])
    features = trajectory_features(ledger)
    assert features.of("probability").item() == pytest.approx(-0.5, abs=1e-3)
    assert features.of("spread").item() == pytest.approx(0.216025, abs=1e-3)
    assert features.of("average_margin").item() == pytest.approx(0, abs=1e-6)
    assert features.of("entropy").item() == pytest.approx(math.log(2), abs=1e-6)
    assert features.of("loss").item() == pytest.approx(
        -(math.log(0.2) + math.log(0.6) + math.log(0.7)) / 3, abs=1e-6
    )


def test_a_data_map_is_mean_population_deviation_and_share_right():
    found = data_map(np.array([[0.2, 0.6, 0.7]]), np.array([[False, True, True]]))
    assert found.confidence == pytest.approx(0.5)
    assert found.variability == pytest.approx(0.216025, abs=1e-6)
    assert found.correctness == pytest.approx(2 / 3)


def test_a_data_map_may_stop_after_the_first_epochs():
    found = data_map(np.array([[0.2, 0.6, 0.9]]), np.ones((1, 3), bool), burn_out=2)
    assert found.confidence == pytest.approx(0.4)


def test_unknown_epochs_of_a_data_map_do_not_count():
    found = data_map(np.array([[0.2, NAN], [NAN, NAN]]), np.array([[True, True], [True, True]]))
    assert found.confidence == pytest.approx([0.2, NAN], nan_ok=True)
    assert found.variability == pytest.approx([0, NAN], nan_ok=True)
    assert found.correctness == pytest.approx([1, NAN], nan_ok=True)


def test_the_hard_corner_is_low_confidence_with_low_variability():
    probs = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corner = hard_to_learn(data_map(probs, probs > 0.5))
    assert corner == pytest.approx([1, 1 - math.sqrt(0.5), 1 - math.sqrt(1.25 / 2)])


def test_forgetting_of_the_reference_row():
    probs = [[[p, 1 - p]] for p in (0.1, 0.9, 0.9, 0.1, 0.9, 0.1)]
    features = trajectory_features(replay(probs, [0]))
    assert features.of("forgetting").item() == 2
    assert features.of("first_learned").item() == 1


def test_a_row_never_learned_counts_as_forgotten_and_learned_last():
    probs = [[[0.1, 0.9], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]]]
    features = trajectory_features(replay(probs, [0, 0]))
    assert (
        features.of("forgetting").tolist()
        == forgetting_events(np.array([0, 1]), np.array([-1, 0])).tolist()
    )
    assert features.of("first_learned").tolist() == [1, 0]


def test_the_modal_prediction_leads_until_the_label_has_caught_up():
    argmax = np.array([[1, 0, 0, 0], [1, 1, 0, 2], [0, 1, 1, 2]])
    share = modal_share(argmax, np.full(3, 4), np.zeros(3, np.int64), classes=3)
    assert share.tolist() == [0.25, 1.0, 0.5]


@given(st.integers(1, 8), st.integers(1, 6), st.integers(2, 4), st.integers(0, 2**32))
def test_modal_shares_agree_with_a_slow_loop(rows: int, epochs: int, classes: int, seed: int):
    rng = np.random.default_rng(seed)
    argmax = rng.integers(0, classes, (rows, epochs))
    labels = rng.integers(-1, classes, rows)
    filled = rng.integers(0, epochs + 1, rows)
    share = modal_share(argmax, filled, labels, classes=classes)
    for row in range(rows):
        if labels[row] < 0 or not filled[row]:
            assert np.isnan(share[row])
            continue
        led = 0
        for epoch in range(filled[row]):
            counts = np.bincount(argmax[row, : epoch + 1], minlength=classes)
            led += np.delete(counts, labels[row]).max() > counts[labels[row]]
        assert share[row] == pytest.approx(led / filled[row])


def test_normal_scores_have_no_unit_and_unknown_is_the_middle():
    values = np.array([[1.0, 500.0], [2.0, 1.0], [NAN, 30.0], [3.0, 2.0]])
    scores = normalise(values)
    assert scores[:, 0] == pytest.approx([-0.967422, 0, 0, 0.967422], abs=1e-6)
    np.testing.assert_allclose(normalise(np.exp(values)), scores)


def test_scores_within_a_class_do_not_know_the_other_classes():
    values = np.arange(6.0)[:, None]
    group = np.array([0, 0, 0, 1, 1, -1])
    within = normalise_within(values, group)[:, 0]
    assert within == pytest.approx([-0.967422, 0, 0.967422, -0.67449, 0.67449, 0], abs=1e-5)
    values[3:] += 100
    assert (normalise_within(values, group)[:, 0] == within).all()


def test_features_need_the_ledger_of_track():
    ledger = Ledger(["a"], np.zeros(1, np.int64), ["a", "b"])
    with pytest.raises(LedgerError):
        trajectory_features(ledger)


def test_curves_of_the_trajectory_add_one_feature_and_change_no_other():
    probs = [[[0.2, 0.8], [0.6, 0.4]], [[0.7, 0.3], [0.9, 0.1]]]
    track, both = replay(probs, [0, 1], Track()), replay(probs, [0, 1])
    fewer, more = trajectory_features(track), trajectory_features(both)
    assert set(more.names) - set(fewer.names) == {"modal"}
    for name in fewer.names:
        # Probabilities of the curve are rounded on their own, not through the loss.
        assert fewer.of(name) == pytest.approx(more.of(name), abs=1e-3)


def test_every_detector_of_the_curves_reads_a_ledger_of_track_alone():
    source = pictures(wrong=0.2)
    run = fit(one_stage(epochs=6), source, model=tiny_net(source), engine=EXACT)
    for name in ("ctrl", "wrong_event", "cartography", "o2u", "arazo", "noise_model"):
        assert name in detector_names()
        suspicion = detector_named(name).score(run.ledger).suspicion
        assert not np.isnan(suspicion).any()

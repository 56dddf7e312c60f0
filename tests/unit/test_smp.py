"""SMP: its two-term loss by hand, and its corrections within a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, Watcher, all_tensors, assert_same_bits, one_stage, pictures, tiny_net
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from errata.data import Arrays
from errata.engine import TrainingRun, fit
from errata.errors import ErrataError, SettingsError
from errata.losses import ce, expected_loss, loss_named, loss_names, one_hot
from errata.methods import recipe_named
from errata.parts.base import Part, Recipe
from errata.parts.mixing import Mixup
from errata.parts.prototypes import SMP, blend_targets
from errata.types import Group, Lap, Plan

THREE = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()


def test_the_two_term_loss_has_the_value_worked_out_by_hand():
    target = blend_targets(one_hot(torch.tensor([0]), 3).double(), torch.tensor([1]), alpha=0.5)
    loss = expected_loss(ce(THREE), target).item()
    assert loss == pytest.approx(0.983056, abs=5e-7)
    assert loss == pytest.approx(0.5 * 0.356675 + 0.5 * 1.609438, abs=1e-6)


def test_without_the_second_term_it_is_cross_entropy_to_the_last_bit():
    labels = torch.tensor([0])
    target = blend_targets(one_hot(labels, 3).double(), torch.tensor([1]), alpha=0.0)
    assert torch.equal(target, one_hot(labels, 3).double())
    plain = expected_loss(ce(THREE), one_hot(labels, 3).double())
    assert torch.equal(expected_loss(ce(THREE), target), plain)
    assert plain.item() == pytest.approx(cross_entropy(THREE, labels).item(), abs=1e-15)


def rows_of(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    logits, target = (torch.from_numpy(rng.uniform(-3, 3, (6, 4))) for _ in range(2))
    return logits, target.abs(), torch.from_numpy(rng.integers(0, 4, 6))


@given(seed=st.integers(0, 99), alpha=st.floats(0, 1))
def test_blending_keeps_the_mass_of_a_target(seed: int, alpha: float):
    _, target, corrected = rows_of(seed)
    blended = blend_targets(target, corrected, alpha=alpha)
    torch.testing.assert_close(blended.sum(1), target.sum(1))
    assert (blended >= 0).all()


@pytest.mark.parametrize("name", loss_names())
def test_blended_targets_are_blended_losses(name: str):
    logits, target, corrected = rows_of(0)
    matrix = loss_named(name)(logits)
    blended = expected_loss(matrix, blend_targets(target, corrected, alpha=0.3))
    hard = one_hot(corrected, 4).double() * target.sum(1, keepdim=True)
    two = 0.7 * expected_loss(matrix, target) + 0.3 * expected_loss(matrix, hard)
    torch.testing.assert_close(blended, two)


@dataclass
class Look(Part):
    """Calls a function in the plan of every epoch, after the parts before it."""

    told: Any = None

    def plan(self, run: Any, plan: Plan) -> Plan:
        self.told(run)
        return plan

    def __deepcopy__(self, memo: Any) -> Look:
        return self


def run_of(
    *parts: Part, source: Arrays | None = None, epochs: int = 5, loss: str = "ce", **values: Any
) -> TrainingRun:
    source = source or pictures(wrong=0.3)
    recipe = Recipe(loss=loss, parts=parts)
    values = {"engine": EXACT, "model": tiny_net(source), **values}
    return fit(one_stage(recipe, epochs=epochs, batch=24), source, **values)


def test_labels_are_corrected_from_the_start_on_and_the_first_time_is_kept():
    seen: list[tuple[int, Tensor, Tensor]] = []

    def look(run: TrainingRun) -> None:
        seen.append((run.epoch, *(run.ledger.read(n) for n in ("corrected", "first_corrected"))))

    run_of(SMP(start=2, m=8, p=2), Look(look), source=pictures(wrong=0.5), epochs=6)
    for _, corrected, first in seen[:2]:
        assert (corrected == -1).all()
        assert (first == -1).all()
    _, corrected, first = seen[2]
    assert (corrected >= 0).all()
    assert torch.equal(corrected, first)
    assert all(torch.equal(each[2], first) for each in seen[3:])
    assert any((each[1] != first).any() for each in seen[3:])


@pytest.mark.parametrize(
    "values", [{}, {"center": True}, {"scores": "max"}, {"margin": 0.1}, {"p": 1}]
)
def test_corrections_are_those_of_cosines_taken_one_by_one(values: dict[str, Any]):
    checked = []

    def look(run: TrainingRun) -> None:
        if run.epoch < 1:
            return
        features = run.sweep(0)[1].numpy()
        features = features - features.mean(0) * values.get("center", False)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        prototypes = run.memory["smp_prototypes"].numpy()
        labels = run.given.numpy()
        join = np.max if values.get("scores") == "max" else np.mean
        sigma = np.array([[join(unit[p] @ row) for p in prototypes] for row in unit])
        expected = sigma.argmax(1)
        lead = sigma.max(1) - sigma[np.arange(96), labels]
        expected[lead < values.get("margin", 0.0)] = labels[lead < values.get("margin", 0.0)]
        assert run.ledger.read("corrected").tolist() == expected.tolist()
        margin = run.ledger.read("prototype_margin").numpy()
        np.testing.assert_allclose(np.maximum(margin, 0), lead, atol=1e-6)
        checked.append(run.epoch)

    run_of(SMP(start=1, **values), Look(look))
    assert checked == [1, 2, 3, 4]


def test_targets_hold_both_labels_from_the_start_on():
    targets: dict[int, list[Tensor]] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        batch = seen[0].batch
        corrected = run.ledger.read("corrected", batch.rows)
        plain = run.one_hot(batch.given)
        both = plain if run.epoch < 2 else 0.25 * plain + 0.75 * run.one_hot(corrected)
        torch.testing.assert_close(batch.target, both)
        targets.setdefault(run.epoch, []).append(batch.target)

    run_of(SMP(start=2, alpha=0.75), epochs=4, observers=(Watcher(look),))
    assert (torch.cat(targets[1]) == 1).sum() == 96
    assert (torch.cat(targets[3]) == 0.75).any()


def test_no_share_of_the_corrected_label_trains_as_if_it_were_not_there():
    idle = all_tensors(run_of(SMP(alpha=0.0)))
    plain = all_tensors(run_of())
    nets = [name for name in plain if "/nets/" in name]
    assert nets
    assert_same_bits({n: idle[n] for n in nets}, {n: plain[n] for n in nets})


def truth_of(source: Arrays) -> Tensor:
    return torch.from_numpy(pictures(len(source.given), wrong=0.0).given)


@pytest.mark.parametrize(
    ("select", "p"),
    # Each of the centres of k-means stands for an equal part, even the one of wrong rows.
    [("density", 4), ("densest", 4), ("kmeans++", 1), ("density_peak_euclidean", 2)],
)
def test_every_selection_makes_labels_better(select: str, p: int):
    source = pictures(wrong=0.3)
    clean = truth_of(source)
    run = run_of(SMP(select=select, start=2, p=p), source=source, epochs=6)
    before = (run.given == clean).double().mean()
    after = (run.ledger.read("corrected") == clean).double().mean()
    assert before < 0.75
    assert after > before + 0.1


def test_right_labels_lead_by_less_than_wrong_ones():
    source = pictures(wrong=0.3)
    margin = run_of(SMP(start=2, p=4), source=source).ledger.read("prototype_margin")
    wrong = truth_of(source) != torch.from_numpy(source.given)
    assert margin[wrong].mean() > margin[~wrong].mean() + 0.1


def test_a_class_has_prototypes_among_its_own_candidates():
    def look(run: TrainingRun) -> None:
        if run.epoch < 1:
            return
        prototypes, candidates = (run.memory[f"smp_{n}"] for n in ("prototypes", "candidates"))
        assert prototypes.shape == (3, 5)
        assert candidates.shape == (3, 12)
        for label in range(3):
            assert set(prototypes[label].tolist()) <= set(candidates[label].tolist())
            assert (run.given[candidates[label]] == label).all()
            assert len(set(prototypes[label].tolist())) == 5
        assert run.memory["smp_density"].isfinite().all()
        assert run.memory["smp_apart"].abs().max() <= 1 + 1e-6
        drawn.append(candidates.tolist())

    drawn: list[list[list[int]]] = []
    run_of(SMP(start=1, m=12, p=5), Look(look))
    assert len(drawn) == 4
    assert drawn[0] != drawn[1], "candidates are drawn anew"


def test_density_peaks_remember_distances_in_place_of_likenesses():
    memory = run_of(SMP(start=1, select="density_peak_euclidean"), epochs=2).memory
    assert "smp_apart" not in memory
    assert (memory["smp_distance"][memory["smp_candidates"] >= 0] >= 0).all()


def test_a_class_with_fewer_rows_than_asked_for_takes_all_of_them():
    run = run_of(SMP(start=1, p=8), source=pictures(rare=3))
    (rare,) = (run.given == 2).nonzero().T
    assert len(rare) == 3
    assert sorted(run.memory["smp_prototypes"][2].tolist()) == [-1] * 5 + rare.tolist()
    assert any("class `kind 2` has 3 rows, fewer than the 8" in warning for warning in run.warnings)


@pytest.mark.parametrize("values", [{"p": 4}, {"m": 9}])
def test_more_than_the_rows_of_a_class_are_refused_where_somebody_asks_for_them(values):
    ((name, asked),) = values.items()
    words = f"smp {name} `{asked}` is more than the 3 rows of class `kind 2`; allowed: 1 to 3"
    with pytest.raises(SettingsError, match=words):
        run_of(SMP(start=1, **values), source=pictures(rare=3))


def test_a_class_without_rows_is_never_proposed():
    source = pictures(wrong=0.2)
    empty = Arrays(source.x, source.given, classes=[*source.classes, "none"], name="empty")
    run = run_of(SMP(start=1), source=empty)
    assert (run.ledger.read("corrected") < 3).all()
    assert (run.memory["smp_prototypes"][3] == -1).all()
    assert run.ledger.read("prototype_margin").isfinite().all()


def test_rows_without_label_get_none():
    run = run_of(SMP(start=1), source=pictures(wrong=0.2, unlabelled=20))
    for name in ("corrected", "first_corrected"):
        assert (run.ledger.read(name)[76:] == -1).all()
        assert (run.ledger.read(name)[:76] >= 0).all()
    assert run.ledger.read("prototype_margin")[76:].isnan().all()
    assert run.memory["smp_candidates"].max() < 76


def verified_as(source: Arrays, *, right: int, rest: int) -> Tensor:
    """Verify the first `right` rows of each class as right, and give the others `rest`."""
    verified = torch.full((len(source.given),), rest)
    for label in range(3):
        verified[np.flatnonzero(source.given == label)[:right]] = 1
    return verified


def test_prototypes_come_from_rows_verified_as_right():
    source = pictures(wrong=0.3)
    run = run_of(SMP(start=1, p=4), source=source, verified=verified_as(source, right=6, rest=-1))
    drawn = run.memory["smp_candidates"]
    assert drawn.shape[1] > 6
    assert [len(row[row >= 0]) for row in drawn] == [6, 6, 6]
    assert not run.warnings


@pytest.mark.parametrize(("rest", "share"), [(-1, "all"), (0, "right")])
def test_too_few_verified_rows_are_filled_up_with_a_warning(rest: int, share: str):
    source = pictures(wrong=0.3)
    run = run_of(SMP(start=1), source=source, verified=verified_as(source, right=3, rest=rest))
    sizes = torch.bincount(run.given).tolist() if share == "all" else [3, 3, 3]
    drawn = run.memory["smp_candidates"]
    assert [len(row[row >= 0]) for row in drawn] == sizes
    assert sum("has 3 rows verified as right" in warning for warning in run.warnings) == 3


def test_rows_that_were_dropped_are_no_prototypes_but_are_corrected():
    source = pictures(120, wrong=0.3)
    recipe = recipe_named("odd+smp")
    drop, smp = recipe.parts
    drop.at, drop.floor_rows, smp.start = 2, 5, 3
    run = run_of(drop, smp, source=source, epochs=5)
    dropped = run.ledger.read("dropped")
    assert dropped.any()
    drawn = run.memory["smp_candidates"]
    assert not dropped[drawn[drawn >= 0]].any()
    assert (run.ledger.read("corrected")[dropped] >= 0).all()


@pytest.mark.parametrize("name", ["smp+gce", "smp+mixup", "odd+smp", "smp+odd", "odd+smp+mixup"])
def test_it_goes_with_others(name: str):
    recipe = recipe_named(name)
    run = run_of(*recipe.parts, loss=recipe.loss)
    assert all(p.isfinite().all() for p in run.nets[0].parameters())
    assert (run.ledger.read("corrected") >= 0).all()


def test_mixing_before_it_is_refused_at_the_first_step():
    with pytest.raises(SettingsError, match="rows that were mixed before") as caught:
        run_of(Mixup(), SMP(start=4))
    assert "smp+mixup" in caught.value.hint


def test_steps_on_trusted_samples_are_refused():
    @dataclass
    class Trusting(Part):
        kind: str = field(default="trusting", init=False)

        def plan(self, run: Any, plan: Plan) -> Plan:
            lap = Lap((0,), (Group(torch.arange(30)),), pool="trusted")
            return Plan((*plan.laps, lap))

    with pytest.raises(SettingsError, match="steps on trusted samples"):
        run_of(Trusting(), SMP(), clean=pictures(30, seed=1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"m": 0}, "smp m `0` is out of range; allowed: 1 and above"),
        ({"p": 0}, "smp p `0`"),
        ({"alpha": 1.1}, "smp alpha `1.1` is out of range; allowed: 0 to 1"),
        ({"alpha": math.nan}, "smp alpha `nan`"),
        ({"sc_percentile": 101.0}, "smp sc_percentile `101.0`"),
        ({"eta_cap": -1.5}, "smp eta_cap `-1.5`"),
        ({"margin": -0.1}, "smp margin `-0.1`"),
        ({"select": "kmeans"}, "smp select `kmeans` is unknown"),
        ({"ties": "none"}, "smp ties `none` is unknown"),
        ({"scores": "median"}, "smp scores `median` is unknown"),
        ({"start": "soon"}, "`soon` is not a point of training"),
        ({"p": 5, "m": 4}, "smp p `5` is more than its 4 candidates; allowed: 1 to 4"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], words: str):
    with pytest.raises(SettingsError) as caught:
        SMP(**values)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("start", [5, "5ep", "100%", 9, -1])
def test_a_start_that_never_comes_is_refused_before_training(start: int | str):
    steps = []
    with pytest.raises(SettingsError, match="not within a stage of 5 epochs"):
        run_of(SMP(start=start), observers=(Watcher(lambda *_: steps.append(1)),))
    assert not steps


def test_a_share_leaves_an_epoch_to_learn_features_and_a_number_is_taken_at_its_word():
    for start, first in (("0%", 1), ("20%", 1), ("60%", 3), (0, 0)):
        assert run_of(SMP(start=start)).notes["smp"]["first_epoch"] == first
    assert run_of(SMP(), epochs=1).notes["smp"]["first_epoch"] == 0


class Sidestepped(nn.Module):
    """A net that has a linear layer and does not run it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.head.weight.T


def test_a_net_without_features_is_refused_before_training():
    source = pictures()
    with pytest.raises(SettingsError, match="smp needs the features"):
        run_of(SMP(), source=source, model=Sidestepped)
    with pytest.raises(ErrataError, match="no linear layer"):
        run_of(
            SMP(), source=source, model=lambda: nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d())
        )


def test_class_weights_give_every_class_the_same_say():
    sums = torch.zeros(3, dtype=torch.float64)

    def look(run: TrainingRun, seen: Any) -> None:
        sums.add_(seen[0].batch.target.sum(0))

    run_of(SMP(start=4, class_balanced=True), source=pictures(rare=6), observers=(Watcher(look),))
    # Four epochs of 96 rows before the first correction; the fifth moves little of it.
    assert sums.tolist() == pytest.approx([5 * 32] * 3, rel=0.15)


def test_too_many_changes_are_warned_of():
    source = pictures(classes=5)
    labels = np.random.default_rng(0).permutation(source.given)
    shuffled = Arrays(source.x, labels, classes=source.classes)
    run = run_of(SMP(start=0, p=1), source=shuffled, epochs=2)
    assert any("smp changed more than 60 %" in warning for warning in run.warnings)


def test_the_net_predicts_without_prototypes():
    run = run_of(SMP())
    plain = run_of()
    assert run.nets[0].state_dict().keys() == plain.nets[0].state_dict().keys()
    before = run.sweep(0)[0]
    run.memory.clear()
    assert torch.equal(run.sweep(0)[0], before)

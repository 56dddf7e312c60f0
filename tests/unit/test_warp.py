"""WARP: its values by hand, the law of its samplers, and what it does to wrong labels."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    EXACT,
    InterruptError,
    all_tensors,
    assert_same_bits,
    interrupted_fit,
    pictures,
    tiny_net,
)
from torch import Tensor

from errata.engine import Listener, fit
from errata.errors import SettingsError
from errata.losses import loss_named
from errata.losses.warp import (
    WARP,
    expected_estimate,
    rank_costs,
    rank_error,
    warp,
    warp_sampled,
)
from errata.methods.warp import CARD
from errata.parts.base import OptimizerSpec, Recipe, stages_of_phases

FOUR = torch.tensor([[0.5, 2.0, 0.0, -3.0]], dtype=torch.float64)
THIRD = 1 / 3
HARMONIC_3 = 1 + 0.5 + THIRD


def draws_of(count: int, scores: Tensor, label: int, **values: object) -> Tensor:
    """Sample the loss of one row many times."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.full((count,), label)
    return warp_sampled(scores.expand(count, -1), labels, rng, **values)  # type: ignore[arg-type]


def by_definition(scores: Tensor, costs: Tensor) -> Tensor:
    """Compare all pairs of classes."""
    hinges = (1 - scores[:, :, None] + scores[:, None, :]).clamp_min(0)
    hinges = hinges * (1 - torch.eye(scores.shape[1], dtype=scores.dtype))
    rank = (hinges > 0).sum(2)
    return costs[rank] / rank.clamp_min(1) * hinges.sum(2)


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [
        # Two classes violate label 0, by 2.5 and 0.5; three violate labels 2 and 3.
        ("harmonic", [2.25, 0.0, 1.5 / 2 * 4.5, HARMONIC_3 / 3 * (4.5 + 6 + 4)]),
        ("uniform", [1.0, 0.0, 1.5, 14.5 / 3]),
        ("first", [1.5, 0.0, 2.25, 14.5 / 3]),
        ([1.0, 0.5], [2.25, 0.0, 3.375, 1.5 / 3 * 14.5]),
    ],
)
def test_values_by_hand(alphas, expected):
    assert warp(FOUR, alphas)[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_costs_of_ranks():
    assert rank_costs("harmonic", 4).tolist() == pytest.approx([0, 1, 1.5, HARMONIC_3])
    assert rank_costs("uniform", 4).tolist() == pytest.approx([0, THIRD, 2 * THIRD, 1])
    assert rank_costs("first", 4).tolist() == [0, 1, 1, 1]
    assert rank_costs(torch.tensor([0.5, 0.5]), 4).tolist() == [0, 0.5, 1, 1]


@given(
    seed=st.integers(0, 99),
    classes=st.integers(2, 9),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    alphas=st.sampled_from(["harmonic", "uniform", "first"]),
)
def test_sorting_gives_what_all_pairs_give(seed: int, classes: int, scale: float, alphas: str):
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, classes, dtype=torch.float64, generator=rng) * scale
    costs = rank_costs(alphas, classes)
    torch.testing.assert_close(warp(scores, alphas), by_definition(scores, costs))


def test_equal_scores_violate_each_other_with_a_hinge_of_one():
    assert warp(torch.zeros(1, 4))[0].tolist() == pytest.approx([HARMONIC_3] * 4)


def test_a_class_exactly_at_the_margin_does_not_violate():
    scores = torch.tensor([[2.0, 1.0, 1.0]])
    assert warp(scores)[0, 0] == 0
    assert warp(scores)[0, 1] == pytest.approx(1.5 / 2 * (2 + 1))


def test_a_label_without_violators_costs_nothing_and_has_no_gradient():
    scores = torch.tensor([[5.0, 0.0, 0.0]], requires_grad=True)
    loss = warp(scores)[0, 0]
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss == 0
    assert gradient.tolist() == [[0, 0, 0]]


def test_the_weight_of_a_rank_is_a_constant_to_the_gradient():
    scores = FOUR.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(warp(scores)[0, 0], scores)
    # L(2) / 2 for each of two violators, and all of it from the label.
    assert gradient[0].tolist() == pytest.approx([-1.5, 0.75, 0.75, 0.0])


def test_many_classes_need_no_square_of_memory():
    classes = 200_000
    scores = torch.arange(classes, dtype=torch.float64)[None] / 10
    loss = warp(scores, "first")
    # A square would be 320 GB. Nine stand within the margin, by 0.9, 0.8, ... and 0.1.
    assert loss[0, -1].item() == pytest.approx(sum(1 - k / 10 for k in range(1, 10)) / 9, abs=1e-6)


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_scores_far_from_zero_keep_their_precision(shift: float):
    near, far = warp(FOUR.float()), warp(FOUR.float() + shift)
    # In float32, 1e4 is known within 1e-3.
    torch.testing.assert_close(near, far, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_wrong_labels_of_extreme_scores_cost_their_distance(size: float):
    loss = warp(torch.tensor([[size, 0.0, 0.0]]))[0]
    assert loss[0] == 0
    assert loss[1].item() > 0.5 * size


def test_scores_that_are_no_block_of_memory_are_taken_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there = warp(torch.cat([FOUR, FOUR]).T.contiguous().T)
    assert torch.equal(there, warp(torch.cat([FOUR, FOUR])))


@pytest.mark.parametrize("label", range(4))
def test_the_sampler_with_exact_ranks_has_the_exact_mean(label: int):
    drawn = draws_of(100_000, FOUR, label)
    error = float(drawn.std()) / math.sqrt(len(drawn))
    assert abs(float(drawn.mean()) - float(warp(FOUR)[0, label])) <= 4 * error


def test_the_sampler_with_exact_ranks_draws_every_violator_and_nothing_else():
    drawn, counts = draws_of(9000, FOUR, 3).unique(return_counts=True)
    # Hinges 4.5, 6 and 4, each weighed by L(3).
    assert drawn.tolist() == pytest.approx([HARMONIC_3 * h for h in (4.0, 4.5, 6.0)])
    assert counts.tolist() == pytest.approx([3000] * 3, rel=0.1)


def test_the_estimate_where_all_violate_takes_one_draw():
    drawn = draws_of(100, torch.zeros(1, 4), 2, rank="estimate")
    assert drawn.tolist() == pytest.approx([1.833333] * 100, abs=1e-6)


@pytest.mark.parametrize(
    ("classes", "violators", "estimate", "exact"),
    [(4, 1, 0.9815, 1.0), (11, 1, 1.0965, 1.0), (101, 10, 3.331, 2.929), (1001, 10, 3.433, 2.929)],
)
def test_the_estimate_is_biased_as_its_law_says(classes, violators, estimate, exact):
    assert expected_estimate(classes, violators) == pytest.approx(estimate, abs=5e-4)
    assert rank_costs("harmonic", classes)[violators] == pytest.approx(exact, abs=5e-4)


@pytest.mark.parametrize(("classes", "violators"), [(4, 1), (4, 3), (11, 1), (11, 4), (2, 1)])
def test_the_sampler_follows_that_law(classes: int, violators: int):
    scores = torch.full((1, classes), -5.0, dtype=torch.float64)
    scores[0, : violators + 1] = 0
    # Every violator hinges by one, so that the loss is its weight.
    drawn = draws_of(100_000, scores, 0, rank="estimate")
    error = max(float(drawn.std()) / math.sqrt(len(drawn)), 1e-12)
    assert abs(float(drawn.mean()) - expected_estimate(classes, violators)) <= 4 * error


def one_trial_after_another(violators: int, classes: int, rng: torch.Generator) -> int:
    """Draw the rank that the algorithm of the paper guesses, as it is printed."""
    others, trials = classes - 1, 0
    while True:
        drawn = int(torch.randint(others, (1,), generator=rng))
        trials += 1
        if drawn < violators:
            return others // trials
        if trials >= others:
            return 0


def test_drawing_the_number_of_trials_at_once_is_the_same_as_drawing_them():
    rng = torch.Generator().manual_seed(1)
    looped = torch.tensor([one_trial_after_another(1, 4, rng) for _ in range(6000)])
    scores = torch.tensor([[0.0, 0.0, -5.0, -5.0]])
    drawn = draws_of(6000, scores, 0, rank="estimate")
    costs = rank_costs("harmonic", 4)
    for rank in (0, 1, 3):
        share = (drawn - costs[rank].float()).abs().lt(1e-6).double().mean()
        assert float(share) == pytest.approx(float((looped == rank).double().mean()), abs=0.03)


@pytest.mark.parametrize("rank", ["exact-rank", "estimate"])
def test_sampled_labels_without_violators_cost_nothing(rank: str):
    assert (draws_of(50, torch.tensor([[5.0, 0.0, 0.0]]), 0, rank=rank) == 0).all()


def test_rank_errors_have_no_margin_and_count_ties():
    scores = torch.tensor([[0.5, 2.0, 0.0, -3.0], [1.0, 1.0, 0.0, 1.0], [3.0, 2.0, 2.5, 0.0]])
    labels = torch.tensor([0, 0, 0])
    assert rank_error(scores, labels).tolist() == pytest.approx([1.0, 1.5, 0.0])
    assert rank_error(scores, labels, "first").tolist() == [1, 1, 0]


def test_the_loss_uses_its_settings():
    for alphas in ("harmonic", "uniform", "first"):
        assert torch.equal(loss_named("warp", alphas=alphas)(FOUR), warp(FOUR, alphas))
    sampled = loss_named("warp", sampler="estimate")
    assert torch.equal(sampled(FOUR), sampled(FOUR))
    assert (sampled(FOUR) != warp(FOUR)).any()


def test_every_column_of_a_sampled_matrix_draws_for_itself():
    scores = FOUR.expand(100_000, -1)
    drawn = WARP(sampler="exact-rank")(scores)
    assert drawn.mean(0).tolist() == pytest.approx(warp(FOUR)[0].tolist(), rel=0.01)
    # Columns 2 and 3 both choose evenly among their violators; nothing ties them together.
    assert abs(float(torch.corrcoef(drawn[:, 2:].T)[0, 1])) < 0.02


@pytest.mark.parametrize(
    "values", [{"alphas": "top"}, {"sampler": "wsabie"}, {"alphas": 1.0}, {"sampler": True}]
)
def test_unknown_words_are_refused(values):
    (name,) = values
    with pytest.raises(SettingsError, match=f"`{name}` of loss `warp` is") as caught:
        loss_named("warp", **values)
    assert "allowed: `" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "alphas", [[0.5, 1.0], [1.0, -0.1], [1.0] * 4, [], [math.nan], [math.inf], torch.ones(1, 1)]
)
def test_numbers_that_rise_or_do_not_fit_are_refused(alphas):
    with pytest.raises(SettingsError, match="allowed: 1 to 3 numbers"):
        warp(FOUR, alphas)


def test_a_wrong_label_weighs_most():
    scores = torch.tensor([[4.0, 2.0, 0.0, -2.0]], requires_grad=True)
    loss = warp(scores)
    pulls = [torch.autograd.grad(loss[0, y], scores, retain_graph=True)[0].norm() for y in range(4)]
    assert pulls[0] == 0
    assert pulls[1] < pulls[2] < pulls[3]


@pytest.mark.parametrize("sampler", ["exact", "exact-rank", "estimate"])
def test_training_learns_and_a_resumed_run_draws_the_same(sampler: str, tmp_path):
    source = pictures(wrong=0.0)
    (phase,) = CARD.phases()
    assert phase.recipe == Recipe(loss="warp")
    recipe = Recipe(loss="warp", loss_values={"sampler": sampler})
    (stage,) = stages_of_phases(
        (type(phase)(recipe=recipe),), epochs=8, batch=24, optimizer=OptimizerSpec(lr=0.05)
    )

    def run_of(**values):
        return fit((stage,), source, model=tiny_net(source), engine=EXACT, **values)

    whole = run_of()
    assert (whole.sweep(0)[0].argmax(1) == whole.given).float().mean() > 0.9

    def stop(record):
        if record["epoch"] == 3:
            raise InterruptError

    interrupted_fit(run_of, tmp_path / "state", listener=Listener(on_epoch=stop))
    resumed = run_of(checkpoint=tmp_path / "state", resume=True)
    assert_same_bits(all_tensors(resumed), all_tensors(whole))

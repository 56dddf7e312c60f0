"""mixup: its blend by hand, its two forms of the loss, and what weights do in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, Watcher, all_tensors, assert_same_bits, one_stage, pictures, tiny_net
from torch import Tensor
from torch.nn.functional import cross_entropy

from errata.engine import TrainingRun, fit
from errata.losses import ce, expected_loss, loss_named, loss_names, one_hot
from errata.parts.base import Recipe
from errata.parts.mixing import Mixup, draw_mixup, mix_rows
from errata.streams import generator
from errata.types import Batch

SHARE, PARTNERS = torch.tensor([0.3], dtype=torch.float64), torch.tensor([1, 0])


def test_two_rows_are_blended_by_hand():
    x = torch.eye(2, dtype=torch.float64)
    mixed = mix_rows(x, SHARE, PARTNERS)
    torch.testing.assert_close(mixed, torch.tensor([[0.3, 0.7], [0.7, 0.3]], dtype=torch.float64))


def test_both_forms_of_the_loss_give_the_same_value():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1])
    target = mix_rows(one_hot(labels, 2).double(), SHARE, PARTNERS)
    soft = expected_loss(ce(logits), target).mean()
    two = 0.3 * cross_entropy(logits, labels) + 0.7 * cross_entropy(logits, labels[PARTNERS])
    assert soft.item() == pytest.approx(1.2700948493, abs=1e-10)
    assert two.item() == pytest.approx(1.2700948493, abs=1e-10)


@pytest.mark.parametrize("name", loss_names())
def test_both_forms_of_the_loss_have_the_same_gradient(name: str):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (6,), generator=rng)
    own, partners = draw_mixup(6, alpha=1.0, generator=rng)
    target = one_hot(labels, 4).double()
    matrix = loss_named(name)(logits)
    soft = expected_loss(matrix, mix_rows(target, own, partners)).mean()
    (one,) = torch.autograd.grad(soft, logits, retain_graph=True)
    share = own.item()
    two = share * expected_loss(matrix, target) + (1 - share) * expected_loss(
        matrix, target[partners]
    )
    (other,) = torch.autograd.grad(two.mean(), logits)
    torch.testing.assert_close(one, other)


@given(st.integers(1, 8), st.integers(0, 2**32), st.floats(0.05, 50), st.booleans())
def test_draws_are_shares_and_a_permutation(count: int, seed: int, alpha: float, per_row: bool):
    own, partners = draw_mixup(count, alpha=alpha, generator=generator(seed, "x"), per_row=per_row)
    assert own.shape == (count if per_row else 1,)
    assert ((own >= 0) & (own <= 1)).all()
    assert sorted(partners.tolist()) == list(range(count))
    again = draw_mixup(count, alpha=alpha, generator=generator(seed, "x"), per_row=per_row)
    assert torch.equal(own, again[0])
    assert torch.equal(partners, again[1])


@given(st.integers(1, 8), st.integers(0, 2**32), st.booleans())
def test_targets_keep_their_mass_and_blends_stay_within_their_rows(
    count: int, seed: int, per_row: bool
):
    rng = generator(seed, "x")
    own, partners = draw_mixup(count, alpha=1.0, generator=rng, per_row=per_row)
    target = torch.rand(count, 3, generator=rng, dtype=torch.float64).softmax(1)
    mixed = mix_rows(target, own, partners)
    torch.testing.assert_close(mixed.sum(1), torch.ones(count, dtype=torch.float64))
    low, high = torch.minimum(target, target[partners]), torch.maximum(target, target[partners])
    assert (mixed >= low - 1e-12).all()
    assert (mixed <= high + 1e-12).all()


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (8.0, 1 / 68), (32.0, 1 / 260)])
def test_shares_have_the_variance_of_their_beta_distribution(alpha: float, variance: float):
    # 1 / (4 (2 alpha + 1)).
    own, _ = draw_mixup(40_000, alpha=alpha, generator=generator(0, "x"), per_row=True)
    assert own.var().item() == pytest.approx(variance, rel=0.05)
    assert own.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 40_000))


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 1e6, 1e300])
def test_extreme_alphas_give_shares(alpha: float):
    own, _ = draw_mixup(200, alpha=alpha, generator=generator(0, "x"), per_row=True)
    assert own.isfinite().all()
    assert ((own >= 0) & (own <= 1)).all()


@pytest.mark.parametrize("shape", [(5,), (3, 4, 4), (2, 3, 4, 5)])
def test_rows_of_any_shape_are_blended_alike(shape: tuple[int, ...]):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, *shape, generator=rng, dtype=torch.float64)
    own, partners = draw_mixup(4, alpha=1.0, generator=rng, per_row=True)
    mixed = mix_rows(x, own, partners)
    for row in range(4):
        by_hand = own[row] * x[row] + (1 - own[row]) * x[partners[row]]
        torch.testing.assert_close(mixed[row], by_hand)


def batch_of(x: Tensor, labels: Tensor, weight: Tensor) -> Batch:
    rows = torch.arange(len(x))
    return Batch(
        rows=rows,
        views=(x, 2 * x),
        given=labels,
        target=one_hot(labels, 3).double(),
        weight=weight,
        group=torch.zeros_like(rows),
    )


class Streams:
    """As much of a run as mixing asks for."""

    def __init__(self, tick: int = 0) -> None:
        self.tick = tick

    def stream(self, name: str) -> torch.Generator:
        return generator(0, self.tick, name)


def mixed_batch(**values: Any) -> tuple[Batch, Batch, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, generator=rng, dtype=torch.float64)
    labels = torch.randint(3, (6,), generator=rng)
    weight = torch.rand(6, generator=rng, dtype=torch.float64) * 2
    plain = batch_of(x, labels, weight)
    part = Mixup(**values)
    own, partners = draw_mixup(
        6, alpha=part.alpha, generator=Streams().stream("mixup"), per_row=part.per_row
    )
    return plain, part.prepare(Streams(), 0, plain), own, partners  # type: ignore[arg-type]


@pytest.mark.parametrize("per_row", [True, False])
def test_every_view_and_the_target_are_blended_with_the_same_partners(per_row: bool):
    plain, mixed, own, partners = mixed_batch(per_row=per_row)
    for before, after in zip(plain.views, mixed.views, strict=True):
        torch.testing.assert_close(after, mix_rows(before, own, partners))
    weighted = plain.target * plain.weight[:, None]
    torch.testing.assert_close(mixed.target, mix_rows(weighted, own, partners))


@pytest.mark.parametrize("per_row", [True, False])
def test_each_half_of_a_blend_keeps_its_own_weight(per_row: bool):
    plain, mixed, own, partners = mixed_batch(per_row=per_row)
    rng = torch.Generator().manual_seed(1)
    matrix = torch.rand(6, 3, generator=rng, dtype=torch.float64)
    total = mixed.weight * expected_loss(matrix, mixed.target)
    first = plain.weight * expected_loss(matrix, plain.target)
    w, t = plain.weight[partners], plain.target[partners]
    second = w * expected_loss(matrix, t)
    torch.testing.assert_close(total, own * first + (1 - own) * second)


def test_a_mixed_batch_says_so_and_keeps_its_labels():
    plain, mixed, _, _ = mixed_batch()
    assert plain.pure
    assert not mixed.pure
    assert mixed.given is plain.given
    assert mixed.rows is plain.rows
    assert torch.equal(mixed.weight, torch.ones(6, dtype=torch.float64))
    assert torch.equal(plain.target.sum(1), torch.ones(6, dtype=torch.float64))


def test_no_mixing_gives_the_batch_itself():
    plain, mixed, _, _ = mixed_batch(alpha=1.0)
    assert Mixup(alpha=0.0).prepare(Streams(), 0, plain) is plain  # type: ignore[arg-type]
    assert mixed is not plain


def test_alpha_nought_is_plain_training_to_the_bit():
    source = pictures(wrong=0.2)
    runs = [
        fit(one_stage(Recipe(parts=parts)), source, model=tiny_net(source), engine=EXACT)
        for parts in ((), (Mixup(alpha=0.0),))
    ]
    assert_same_bits(all_tensors(runs[0]), all_tensors(runs[1]))


def test_weights_of_one_change_no_bit():
    source = pictures(wrong=0.2)
    runs = [
        fit(one_stage("mixup"), source, model=tiny_net(source), engine=EXACT, weights=weights)
        for weights in (None, torch.ones(96))
    ]
    assert_same_bits(all_tensors(runs[0]), all_tensors(runs[1]))


def test_both_nets_of_a_step_have_the_same_partners():
    source = pictures(wrong=0.2)
    compared = []

    def look(run: TrainingRun, seen: Any) -> None:
        one, two = seen[0].batch, seen[1].batch
        assert torch.equal(one.views[0], two.views[0])
        assert torch.equal(one.target, two.target)
        compared.append(one.target.square().sum().item())

    recipe = Recipe(nets=2, parts=(Mixup(),))
    fit(one_stage(recipe), source, model=tiny_net(source), engine=EXACT, observers=(Watcher(look),))
    assert len(compared) == 12
    assert len(set(np.round(compared, 9))) > 1, "steps have blends of their own"


def test_the_blend_of_a_batch_is_that_of_its_drawn_rows():
    source = pictures(wrong=0.2)
    compared = []

    def look(run: TrainingRun, seen: Any) -> None:
        plain, mixed = seen[0].plain, seen[0].batch
        own, partners = draw_mixup(len(plain.rows), alpha=1.0, generator=run.stream("mixup"))
        torch.testing.assert_close(mixed.views[0], mix_rows(plain.views[0], own, partners))
        expected = (mixed.target * -seen[0].logits.log_softmax(1)).sum(1)
        torch.testing.assert_close(seen[0].losses, expected)
        compared.append(own.item())

    fit(
        one_stage("mixup"),
        source,
        model=tiny_net(source),
        engine=EXACT,
        observers=(Watcher(look),),
    )
    assert len(set(compared)) == 12

"""Laws that every pointwise loss obeys for any logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.losses import expected_loss, loss_named

NAMES = ["ce", "mae", "mse", "gce", "sce", "nce-rce", "nce-mae"]

names = st.sampled_from(NAMES)
seeds = st.integers(0, 2**32)
sizes = st.tuples(st.integers(1, 5), st.integers(2, 6))


def random_logits(size, seed, *, scale=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, dtype=dtype, generator=generator) * scale, generator


@settings(max_examples=30, deadline=None)
@given(names, sizes, seeds)
def test_gradients_agree_with_finite_differences(name, size, seed):
    logits, _ = random_logits(size, seed)
    assert torch.autograd.gradcheck(loss_named(name), logits.requires_grad_())


@settings(max_examples=50, deadline=None)
@given(names, sizes, seeds, st.floats(0, 1))
def test_mixing_targets_equals_mixing_losses(name, size, seed, share):
    logits, generator = random_logits(size, seed)
    first, second = torch.rand(2, *size, dtype=torch.float64, generator=generator)
    matrix = loss_named(name)(logits)
    mixed = expected_loss(matrix, torch.lerp(first, second, share))
    apart = torch.lerp(expected_loss(matrix, first), expected_loss(matrix, second), share)
    torch.testing.assert_close(mixed, apart)


@settings(max_examples=50, deadline=None)
@given(names, sizes, seeds)
def test_permuting_classes_permutes_the_matrix(name, size, seed):
    logits, generator = random_logits(size, seed)
    order = torch.randperm(size[1], generator=generator)
    loss = loss_named(name)
    torch.testing.assert_close(loss(logits[:, order]), loss(logits)[:, order])


@settings(max_examples=50, deadline=None)
@given(names, sizes, seeds, st.floats(-50, 50))
def test_adding_a_constant_to_the_logits_changes_nothing(name, size, seed, constant):
    logits, _ = random_logits(size, seed)
    loss = loss_named(name)
    torch.testing.assert_close(loss(logits + constant), loss(logits))


@settings(max_examples=50, deadline=None)
@given(names, sizes, seeds)
def test_losses_are_never_negative_and_lowest_at_the_likeliest_class(name, size, seed):
    logits, _ = random_logits(size, seed, dtype=torch.float32)
    matrix = loss_named(name)(logits)
    assert (matrix >= 0).all()
    assert (matrix.gather(1, logits.argmax(1)[:, None])[:, 0] <= matrix.min(1).values + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_give_finite_values_and_gradients(name, dtype):
    high = 1e4
    logits = torch.tensor(
        [[high, -high, 0.0], [-high, -high, high], [high, high, high], [0.0, 0.0, -high]],
        dtype=dtype,
        requires_grad=True,
    )
    matrix = loss_named(name)(logits)
    assert matrix.isfinite().all()
    for label in range(3):
        (gradient,) = torch.autograd.grad(matrix[:, label].sum(), logits, retain_graph=True)
        assert gradient.isfinite().all()


@settings(max_examples=50, deadline=None)
@given(names, seeds, st.sampled_from([10.0, 100.0, 1e4]))
def test_random_extreme_logits_stay_finite(name, seed, scale):
    logits, _ = random_logits((4, 5), seed, scale=scale, dtype=torch.float32)
    logits.requires_grad_()
    matrix = loss_named(name)(logits)
    (gradient,) = torch.autograd.grad(matrix.sum(), logits)
    assert matrix.isfinite().all()
    assert gradient.isfinite().all()

"""Losses with a transition matrix: exact values, laws, and what happens at the edges."""

from __future__ import annotations

import math

import pytest
import torch
from samples import EXACT, one_stage, pictures, tiny_net
from torch import Tensor

from errata.engine import TrainingRun, fit
from errata.losses import loss_named
from errata.losses.correction import (
    backward_loss,
    forward_loss,
    reweighted_loss,
    row_loss,
    soft_loss,
)
from errata.losses.pointwise import ce
from errata.losses.transition import Revision, TransitionLoss, dominant_rows, log_volume
from errata.parts.base import Recipe

T = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64)
LOGITS = torch.tensor([[0.9, 0.1]], dtype=torch.float64).log()
FORMS = [forward_loss, backward_loss, row_loss, soft_loss, reweighted_loss]
HELD = ["forward", "backward", "row", "soft", "reweight", "t-revision"]


def some_logits(rows: int = 7, classes: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, classes, generator=generator, dtype=torch.float64) * 3


def some_transition(classes: int = 4, *, symmetric: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(classes)
    off = torch.rand(classes, classes, generator=generator, dtype=torch.float64) * 0.4 / classes
    off = (off + off.T) / 2 if symmetric else off
    off.fill_diagonal_(0)
    return off + (1 - off.sum(1)).diag()


def test_forward_correction_is_that_of_the_worked_example():
    found = forward_loss(LOGITS, T)
    assert found[0].tolist() == pytest.approx([0.274437, 1.427116], abs=1e-6)
    assert found.neg().exp()[0].tolist() == pytest.approx([0.76, 0.24])


def test_backward_correction_is_that_of_the_worked_example():
    found = backward_loss(LOGITS, T)
    assert found[0].tolist() == pytest.approx([-0.993252, 4.499810], abs=1e-6)


def test_backward_correction_has_the_mean_of_cross_entropy():
    found = T @ backward_loss(LOGITS, T)[0]
    assert found.tolist() == pytest.approx([0.105361, 2.302585], abs=1e-6)
    spoiled = some_transition()
    mean = backward_loss(some_logits(), spoiled) @ spoiled.T
    torch.testing.assert_close(mean, ce(some_logits()))


def test_the_transposed_form_expects_labels_that_do_not_sum_to_one():
    expected = row_loss(LOGITS, T).neg().exp()
    assert expected[0].tolist() == pytest.approx([0.74, 0.42])
    assert expected.sum().item() == pytest.approx(1.16)
    assert forward_loss(LOGITS, T).neg().exp().sum().item() == pytest.approx(1.0)


def test_the_soft_form_is_cross_entropy_with_a_row_as_label():
    first, second = -math.log(0.9), -math.log(0.1)
    expected = [0.8 * first + 0.2 * second, 0.4 * first + 0.6 * second]
    assert soft_loss(LOGITS, T)[0].tolist() == pytest.approx(expected)


def test_weights_are_true_over_given():
    expected = [-math.log(0.9) * 0.9 / 0.76, -math.log(0.1) * 0.1 / 0.24]
    assert reweighted_loss(LOGITS, T)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("form", FORMS)
def test_without_noise_every_form_is_cross_entropy(form):
    torch.testing.assert_close(
        form(some_logits(), torch.eye(4, dtype=torch.float64)), ce(some_logits())
    )


def test_rows_are_columns_where_the_matrix_is_symmetric():
    alike, other = some_transition(symmetric=True), some_transition()
    torch.testing.assert_close(row_loss(some_logits(), alike), forward_loss(some_logits(), alike))
    assert not torch.allclose(row_loss(some_logits(), other), forward_loss(some_logits(), other))


def test_forward_correction_is_the_logarithm_of_the_product():
    expected = -(some_logits().softmax(1) @ some_transition()).log()
    torch.testing.assert_close(forward_loss(some_logits(), some_transition()), expected)


def test_forward_correction_is_least_at_the_true_posterior():
    # The expected loss over given labels is smallest where the net predicts the true class.
    logits = torch.tensor([[1.0, -0.5, 0.2, 0.0]], dtype=torch.float64)
    noisy = logits.softmax(1) @ some_transition()
    moved = logits.clone().requires_grad_()
    (forward_loss(moved, some_transition()) * noisy).sum().backward()
    assert moved.grad.abs().max() < 1e-12


@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("form", [forward_loss, row_loss, reweighted_loss])
def test_extreme_logits_and_zeros_stay_finite(form, size: float):
    logits = torch.tensor([[size, 0.0, -size], [-size, size, 0.0]], requires_grad=True)
    one_way = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    matrix = form(logits, one_way)
    assert matrix.isfinite().all()
    (gradient,) = torch.autograd.grad(matrix.sum(), logits)
    assert gradient.isfinite().all()


def test_a_label_nobody_is_given_teaches_nothing():
    logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
    matrix = forward_loss(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert matrix.isfinite().all()
    (gradient,) = torch.autograd.grad(matrix.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(1, 2))


def test_the_weight_is_a_constant_until_the_revision():
    logits = some_logits().requires_grad_()
    fixed = reweighted_loss(logits, some_transition())
    weight = (fixed / ce(logits)).detach()
    (found,) = torch.autograd.grad(fixed.sum(), logits)
    (expected,) = torch.autograd.grad((weight * ce(logits)).sum(), logits)
    torch.testing.assert_close(found, expected)
    free = reweighted_loss(logits, some_transition(), detach=False)
    torch.testing.assert_close(free, fixed)
    (found,) = torch.autograd.grad(free.sum(), logits)
    assert not torch.allclose(found, expected)


def test_a_label_that_cannot_be_has_a_bounded_weight():
    # Class 0 is never labelled 0, and the net is sure of class 0.
    matrix = reweighted_loss(torch.tensor([[40.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    assert matrix.isfinite().all()


def test_dominant_rows_are_those_of_their_formula():
    scores = torch.tensor([[9.0, 0.0], [math.log(1 / 3), 9.0]])
    torch.testing.assert_close(dominant_rows(scores), torch.tensor([[2 / 3, 1 / 3], [0.2, 0.8]]))
    rows = dominant_rows(some_logits(4))
    torch.testing.assert_close(rows.sum(1), torch.ones(4).double())
    assert (rows.argmax(1) == torch.arange(4)).all()


def test_the_volume_is_that_of_the_determinant():
    assert log_volume(T).item() == pytest.approx(math.log(0.8 * 0.6 - 0.4 * 0.2))
    assert log_volume(torch.eye(3)).item() == 0


def run_of(loss: str) -> TrainingRun:
    source = pictures(48)
    return fit(one_stage(Recipe(loss=loss), epochs=1), source, model=tiny_net(source), engine=EXACT)


@pytest.mark.parametrize("name", HELD)
def test_a_loss_uses_the_matrix_it_is_told(name: str):
    loss = run_of(name).losses[0]
    assert isinstance(loss, TransitionLoss)
    if isinstance(loss, Revision):
        torch.nn.init.zeros_(loss.slack)
    torch.testing.assert_close(loss(some_logits(5, 3)), ce(some_logits(5, 3)))
    loss.hold(some_transition(3))
    forms = dict(zip(HELD, [*FORMS, reweighted_loss], strict=True))
    found = loss(some_logits(5, 3))
    torch.testing.assert_close(found, forms[name](some_logits(5, 3), some_transition(3)))
    kept = {key: value.clone() for key, value in loss.state_dict().items()}
    fresh = run_of(name).losses[0]
    assert not torch.equal(fresh(some_logits(5, 3)), found)
    fresh.load_state_dict(kept)
    assert torch.equal(fresh(some_logits(5, 3)), found)


def test_slack_is_one_matrix_for_every_row():
    loss = run_of("t-revision").losses[0]
    assert isinstance(loss, Revision)
    slack = torch.tensor([[-0.1, 0.2, 0.0], [0.0, 0.1, 0.0], [0.05, 0.0, -0.2]])
    loss.hold(some_transition(3))
    with torch.no_grad():
        loss.slack.copy_(slack)
    moved = some_transition(3) + slack.double()
    same = some_logits(1, 3).repeat(4, 1)
    found = loss(same)
    torch.testing.assert_close(found, reweighted_loss(same, moved.clamp_min(1e-12)))
    assert torch.equal(found, found[:1].repeat(4, 1))
    torch.testing.assert_close(loss.transition().sum(1), torch.ones(3).double())


def test_rows_with_slack_can_be_normalised():
    loss = run_of("t-revision").losses[0]
    with torch.no_grad():
        loss.slack.fill_(0.1)
    loss.normalised = True
    rows = (torch.eye(3) + 0.1).double() / 1.3
    torch.testing.assert_close(loss(some_logits(5, 3)), reweighted_loss(some_logits(5, 3), rows))


def test_slack_gets_a_gradient():
    loss = run_of("t-revision").losses[0]
    loss.hold(some_transition(3))
    loss(some_logits(5, 3)).sum().backward()
    assert (loss.slack.grad != 0).any()


@pytest.mark.parametrize("name", ["forward-learned", "vol-min"])
@pytest.mark.parametrize("others", [0.2, 0.5])
def test_a_learned_matrix_starts_with_an_even_spread(name: str, others: float):
    loss = loss_named(name)
    loss.scores = torch.nn.Parameter(torch.zeros(3, 3))
    loss.restart(others)
    expected = torch.full((3, 3), others / 2).fill_diagonal_(1 - others)
    torch.testing.assert_close(loss.transition(), expected)
    logits = some_logits(5, 3)
    torch.testing.assert_close(loss(logits), forward_loss(logits, expected.double()))


def test_vol_min_starts_where_its_paper_does_with_ten_classes():
    scores = loss_named("vol-min").start(10)
    # Their code starts at -2, a row whose diagonal has .483; half is what we spread.
    assert scores[0, 1].item() == pytest.approx(-2.0, abs=0.1)
    assert loss_named("vol-min").start(100)[0, 1].item() == pytest.approx(-4.5, abs=0.1)


def test_a_singular_estimate_is_moved_halfway_to_the_identity():
    run = run_of("backward")
    loss = run.losses[0]
    flat = torch.full((3, 3), 1 / 3)
    torch.testing.assert_close(loss.usable(run, flat), (flat + torch.eye(3)) / 2)
    assert any("singular" in warning for warning in run.warnings)
    torch.testing.assert_close(loss.usable(run, some_transition(3)), some_transition(3))

"""Losses of the margin and blended losses: exact values, and symmetry where it is claimed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from errata.errors import SettingsError
from errata.losses import (
    bootstrap_hard,
    bootstrap_soft,
    bounded,
    ce,
    gce,
    label_smoothing,
    loss_named,
    margins,
    ngce,
    ramp,
    savage,
    sigmoid,
    truncated_gce,
    unhinged,
)

LOGITS = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)


def some_scores(rows: int, classes: int) -> Tensor:
    rng = torch.Generator().manual_seed(classes)
    return torch.randn(rows, classes, generator=rng, dtype=torch.float64) * 3


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (margins, [1, -1, -2]),
        (ramp, [0, 1, 1]),
        (unhinged, [0, 1, 2]),
        (sigmoid, [0.268941, 0.731059, 0.880797]),
        (savage, [0.014209, 0.775803, 0.964351]),
        (bootstrap_soft, [0.428845, 1.378845, 2.328845]),
        (bootstrap_hard, [0.407606, 1.207606, 2.007606]),
        (ngce, [0.146922, 0.370921, 0.482156]),
    ],
)
def test_values_of_the_specification(function, values: list[float]):
    assert function(LOGITS)[0].tolist() == pytest.approx(values, abs=1e-6)


def test_the_ramp_rises_between_margins_of_one_and_zero():
    scores = torch.tensor([[1.5, 0.0], [0.75, 0.0], [0.25, 0.0], [-0.25, 0.0]])
    assert ramp(scores)[:, 0].tolist() == [0.0, 0.25, 0.75, 1.0]


def test_margins_of_equal_scores_are_zero():
    assert margins(torch.tensor([[2.0, 2.0, 1.0]])).tolist() == [[0.0, 0.0, -1.0]]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_unhinged_and_normalised_losses_are_symmetric(classes: int):
    scores = some_scores(20, classes)
    assert torch.allclose(unhinged(scores).sum(1), torch.tensor(float(classes)).double())
    assert torch.allclose(ngce(scores).sum(1), torch.tensor(1.0).double())


def test_sigmoid_is_symmetric_for_two_classes_only():
    assert torch.allclose(sigmoid(some_scores(20, 2)).sum(1), torch.tensor(1.0).double())
    assert sigmoid(some_scores(20, 3)).sum(1).std() > 0.1


@pytest.mark.parametrize("function", [ramp, savage])
@pytest.mark.parametrize("classes", [2, 3])
def test_ramp_and_savage_are_bounded_and_not_symmetric(function, classes: int):
    matrix = function(some_scores(50, classes))
    assert matrix.min() >= 0
    assert matrix.max() <= 1
    assert matrix.sum(1).std() > 0.01


def test_scores_within_the_ball_are_only_centred():
    scores = torch.tensor([[3.0, 1.0, -1.0], [30.0, 0.0, 0.0]])
    held = bounded(scores, radius=5.0)
    assert held[0].tolist() == [2.0, 0.0, -2.0]
    assert float(held[1].norm()) == pytest.approx(5.0)
    assert held[1].argmax() == 0
    huge = bounded(torch.tensor([[1e30, -1e30]]), radius=5.0)
    assert float(huge.norm()) == pytest.approx(5.0)


def test_truncated_gce_is_constant_up_to_k():
    logits = torch.tensor([[0.25, 0.75]], dtype=torch.float64).log().requires_grad_()
    matrix = truncated_gce(logits, q=0.7, k=0.5)
    assert float(matrix[0, 0].detach()) == pytest.approx(0.549183, abs=1e-6)
    assert torch.equal(matrix[0, 1], gce(logits, q=0.7)[0, 1])
    (gradient,) = torch.autograd.grad(matrix[0, 0], logits)
    assert gradient.tolist() == [[0.0, 0.0]]


def test_bootstrapping_is_cross_entropy_to_the_blended_target():
    scores = some_scores(6, 4)
    label, belief = torch.eye(4).double()[2], scores.softmax(1)
    target = 0.95 * label + 0.05 * belief
    expected = -(target * scores.log_softmax(1)).sum(1)
    assert torch.allclose(bootstrap_soft(scores)[:, 2], expected)
    hard = 0.8 * label + 0.2 * torch.eye(4).double()[scores.argmax(1)]
    expected = -(hard * scores.log_softmax(1)).sum(1)
    assert torch.allclose(bootstrap_hard(scores)[:, 2], expected)


def test_a_detached_belief_has_the_same_value_and_the_gradient_of_a_constant_target():
    scores = some_scores(3, 4).requires_grad_()
    live, held = bootstrap_soft(scores), bootstrap_soft(scores, detach=True)
    assert torch.equal(live, held)
    (through,) = torch.autograd.grad(live[:, 0].sum(), scores)
    (constant,) = torch.autograd.grad(held[:, 0].sum(), scores)
    target = 0.95 * torch.eye(4).double()[0] + 0.05 * scores.softmax(1).detach()
    assert torch.allclose(constant, scores.softmax(1).detach() - target)
    assert not torch.allclose(through, constant)


def test_smoothed_labels_give_a_share_to_all_classes():
    scores = some_scores(5, 4)
    target = 0.9 * torch.eye(4).double()[1] + 0.1 / 4
    expected = -(target * scores.log_softmax(1)).sum(1)
    assert torch.allclose(label_smoothing(scores)[:, 1], expected)
    assert torch.equal(label_smoothing(scores, smoothing=0.0), ce(scores))


@pytest.mark.parametrize(
    ("loss", "setting", "value"),
    [
        ("unhinged", "radius", 0.0),
        ("ngce", "q", 1.5),
        ("label-smoothing", "smoothing", 1.0),
        ("bootstrap-soft", "beta", 0.0),
        ("bootstrap-hard", "beta", 1.1),
        ("bootstrap-hard", "beta", -math.inf),
    ],
)
def test_settings_out_of_range_are_refused(loss: str, setting: str, value: float):
    with pytest.raises(SettingsError, match=f"`{setting}` of loss `{loss}`"):
        loss_named(loss, **{setting: value})


def test_a_target_of_another_name_is_refused():
    with pytest.raises(SettingsError, match="detached"):
        loss_named("bootstrap-soft", target="detach")

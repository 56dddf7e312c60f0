"""What every registered loss promises; a new one is tested here by being registered."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import pytest
import torch
from samples import EXACT, one_stage, pictures, tiny_net
from torch import Tensor

from errata.engine import fit
from errata.errors import SettingsError
from errata.losses import Loss, expected_loss, loss_named, loss_names
from errata.losses.base import register_loss
from errata.parts.base import Recipe

NAMES = loss_names()


def settings_of(name: str) -> dict[str, Any]:
    """Give the settings of a loss with their defaults."""
    loss = type(loss_named(name))
    parameters = inspect.signature(loss).parameters
    return {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}


SETTINGS = [(name, setting) for name in NAMES for setting in settings_of(name)]


OTHER = {"alphas": "first", "sampler": "estimate", "target": "detached"}
"""Other values of settings that are words."""


HARD_TO_TRAIN = {"ramp", "ngce"}
"""Rows that are not in the lead have no gradient, or a small one: their cards say so."""


def some_logits(rows: int = 5, classes: int = 4, *, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(rows * 100 + classes)
    return torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (1, 7), (5, 2), (5, 7), (0, 3)])
def test_gives_a_matrix_of_the_shape_of_the_logits(name: str, rows: int, classes: int):
    matrix = loss_named(name)(some_logits(rows, classes))
    assert matrix.shape == (rows, classes)
    assert matrix.dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str):
    logits = some_logits(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(loss_named(name), (logits,))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_under_a_soft_target_are_those_of_finite_differences(name: str):
    logits = some_logits(3, 4).requires_grad_()
    target = some_logits(3, 4, scale=1.0).softmax(1)
    loss = loss_named(name)
    assert torch.autograd.gradcheck(lambda z: expected_loss(loss(z), target), (logits,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_give_finite_losses_and_gradients(name: str, size: float, dtype: Any):
    logits = torch.eye(3, dtype=dtype).repeat(2, 1) * size
    logits[3:] *= -1
    logits.requires_grad_()
    matrix = loss_named(name)(logits)
    assert matrix.isfinite().all()
    for label in range(3):
        (gradient,) = torch.autograd.grad(matrix[:, label].sum(), logits, retain_graph=True)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_each_row_is_judged_alone(name: str):
    logits = some_logits(6, 3)
    loss = loss_named(name)
    whole = loss(logits)
    for row in range(6):
        torch.testing.assert_close(loss(logits[row : row + 1]), whole[row : row + 1])
    assert torch.equal(loss(logits.flip(0)), whole.flip(0))


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_left_alone(name: str):
    logits = some_logits()
    before = logits.clone()
    loss_named(name)(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_costs_less_than_a_wrong_one(name: str):
    logits = torch.tensor([[8.0, 0.0, 0.0]])
    matrix = loss_named(name)(logits)
    assert (matrix[0, 1:] > matrix[0, 0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_training_on_it_learns(name: str):
    source = pictures(wrong=0.0)
    recipe = Recipe(loss=name)
    run = fit(one_stage(recipe, epochs=8), source, model=tiny_net(source), engine=EXACT)
    right = (run.sweep(0)[0].argmax(1) == run.given).float().mean()
    assert right > (0.6 if name in HARD_TO_TRAIN else 0.9)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_gives_the_same_matrix(name: str):
    loss = loss_named(name)
    assert torch.equal(copy.deepcopy(loss)(some_logits()), loss(some_logits()))


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", True])
def test_what_is_no_number_is_refused(name: str, setting: str, value: Any):
    with pytest.raises(SettingsError, match=f"`{setting}` of loss `{name}` is `{value}`") as caught:
        loss_named(name, **{setting: value})
    assert "allowed:" in caught.value.message
    assert caught.value.hint


def judged(loss: Loss) -> tuple[Tensor, Tensor]:
    """Give the matrix of some logits, and the gradient of its first column."""
    logits = some_logits(scale=8.0).requires_grad_()
    matrix = loss(logits)
    return matrix.detach(), torch.autograd.grad(matrix[:, 0].sum(), logits)[0]


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_every_setting_changes_the_loss(name: str, setting: str):
    default = settings_of(name)[setting]
    value = OTHER[setting] if isinstance(default, str) else default / 2
    usual, other = loss_named(name), loss_named(name, **{setting: value})
    assert any((a != b).any() for a, b in zip(*map(judged, (usual, other)), strict=True))
    spelled = loss_named(name, **settings_of(name))
    assert torch.equal(usual(some_logits()), spelled(some_logits()))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_are_refused(name: str):
    with pytest.raises(SettingsError, match=f"setting of loss `{name}` `qq` is unknown"):
        loss_named(name, qq=1.0)


def test_a_name_is_registered_once():
    assert len(NAMES) == len(set(NAMES)) > 3
    with pytest.raises(AssertionError, match="registered twice"):
        register_loss(NAMES[0])(type(loss_named(NAMES[0])))


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(SettingsError, match="did you mean `gce`"):
        loss_named("gcee")

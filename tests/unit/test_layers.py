"""Linear noise layers: their values by hand, where they start, and the simplex they stay on."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, one_stage, pictures, tiny_net
from torch import Tensor, nn

from errata.engine import fit
from errata.errors import ErrataError, SettingsError
from errata.losses import ce, loss_named, one_hot
from errata.losses.layers import (
    bounded,
    confusion_counts,
    linear_layer,
    linear_layers,
    log_rows_of_counts,
    near_identity,
    number_setting,
    project_to_simplex,
)
from errata.losses.layers_sample import LowRank, fit_rows, principal_codes
from errata.parts.base import Recipe

T = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64)
S = torch.tensor([[0.9, 0.1]], dtype=torch.float64)


def some(rows: int, columns: int, *, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=rng, dtype=torch.float64)


def test_the_label_distribution_and_its_loss_are_those_worked_out_by_hand():
    loss = linear_layer(S.log(), T)
    assert loss.neg().exp()[0].tolist() == pytest.approx([0.76, 0.24])
    assert loss[0].tolist() == pytest.approx([0.274437, 1.427116], abs=1e-6)


def test_the_label_distribution_sums_to_one_and_its_transpose_does_not():
    assert linear_layer(S.log(), T).neg().exp().sum().item() == pytest.approx(1)
    turned = linear_layer(S.log(), T.T).neg().exp()
    assert turned[0].tolist() == pytest.approx([0.74, 0.42])


def test_counts_give_back_their_shares():
    counts = torch.tensor([[8.0, 2.0], [4.0, 6.0]], dtype=torch.float64)
    rows = log_rows_of_counts(counts).softmax(1)
    assert (rows - T).abs().max() < 1e-7


def test_the_identity_gives_cross_entropy():
    logits = some(20, 4) * 3
    layered = linear_layer(logits, torch.eye(4).double())
    # Off by 1e-12 over the probability, which is 1e-6 and above here.
    torch.testing.assert_close(layered, ce(logits), atol=1e-5, rtol=0)


def test_one_matrix_a_row_agrees_with_one_matrix_for_all():
    logits, matrix = some(5, 3), some(3, 3).softmax(1)
    each = linear_layers(logits, matrix.expand(5, 3, 3))
    torch.testing.assert_close(each, linear_layer(logits, matrix))
    own = some(5, 9).reshape(5, 3, 3).softmax(2)
    slow = torch.cat([linear_layer(logits[k : k + 1], own[k]) for k in range(5)])
    torch.testing.assert_close(linear_layers(logits, own), slow)


@given(st.integers(0, 1000), st.integers(2, 6))
def test_the_distribution_of_labels_is_one_whatever_the_layer(seed: int, classes: int):
    matrix = some(classes, classes, seed=seed).softmax(1)
    sums = linear_layer(some(4, classes, seed=seed + 1) * 4, matrix).neg().exp().sum(1)
    torch.testing.assert_close(sums, torch.ones(4).double())


def test_near_identity_is_row_stochastic():
    assert near_identity(4, others=0.3).sum(1).tolist() == pytest.approx([1] * 4)
    assert near_identity(4, others=0.3).diagonal().tolist() == pytest.approx([0.7] * 4)


@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0.1, 5))
def test_projected_rows_are_the_nearest_distributions(seed: int, classes: int, scale: float):
    rows = some(3, classes, seed=seed) * scale
    moved = project_to_simplex(rows)
    assert (moved >= 0).all()
    torch.testing.assert_close(moved.sum(1), torch.ones(3).double())
    torch.testing.assert_close(project_to_simplex(moved), moved)
    # The nearest point of a convex set: no distribution lies in the direction of the row.
    others = some(40, classes, seed=seed + 1).mul(3).softmax(1)
    ahead = torch.einsum("kc,nkc->nk", rows - moved, others[:, None] - moved)
    assert ahead.max() < 1e-9


def test_confusion_counts_agree_with_a_slow_loop():
    believed, labels = some(30, 3).softmax(1), torch.arange(30) % 4 - 1
    slow = torch.zeros(3, 3).double()
    for row, label in zip(believed, labels.tolist(), strict=True):
        if label >= 0:
            slow[:, label] += row
    torch.testing.assert_close(confusion_counts(believed, labels), slow)
    hard = confusion_counts(one_hot(torch.tensor([0, 0, 1]), 2), torch.tensor([0, 1, 1]))
    assert hard.tolist() == [[1, 1], [0, 1]]


def test_a_class_that_was_never_predicted_starts_near_the_identity():
    counts = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    rows = log_rows_of_counts(counts, others=0.2).softmax(1)
    expected = torch.tensor([[0.75, 0.25, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(rows, expected, atol=1e-6, rtol=0)


def test_the_gradient_of_a_layer_is_bounded_and_else_left_alone():
    for size, expected in ((3.0, 1.0), (0.5, 0.5)):
        parameter = nn.Parameter(torch.zeros(4))
        (bounded(parameter) * torch.tensor([size, 0.0, 0.0, 0.0])).sum().backward()
        assert parameter.grad is not None
        assert parameter.grad.norm().item() == pytest.approx(expected)
    held = nn.Parameter(torch.zeros(4), requires_grad=False)
    assert bounded(held) is held
    with torch.no_grad():
        assert bounded(nn.Parameter(torch.ones(4))).tolist() == [1.0] * 4


def test_the_matrix_stays_the_identity_where_no_part_lets_it_learn():
    source = pictures(wrong=0.3)
    run = fit(one_stage(Recipe(loss="sukhbaatar")), source, model=tiny_net(source), engine=EXACT)
    assert torch.equal(run.losses[0].transition(), torch.eye(3).double())


def test_the_low_rank_part_is_zero_at_first_and_linear_in_the_features():
    rng = torch.Generator().manual_seed(0)
    layer = LowRank(6, 3, rank=2, generator=rng, detach=False)
    x = torch.randn(4, 6, generator=rng)
    assert layer(x).shape == (4, 3, 3)
    assert not layer(x).any()
    with torch.no_grad():
        layer.expand.copy_(torch.randn(3, 3, 2, generator=rng))
    full = torch.einsum("ijr,rd->ijd", layer.expand, layer.reduce)
    torch.testing.assert_close(layer(x), torch.einsum("ijd,bd->bij", full, x))
    assert torch.linalg.matrix_rank(full.reshape(9, 6)) == 2


@pytest.mark.parametrize("detach", [False, True])
def test_the_gradient_stops_at_the_features_where_it_should(detach: bool):
    layer = LowRank(6, 3, rank=2, generator=torch.Generator().manual_seed(0), detach=detach)
    nn.init.ones_(layer.expand)
    x = torch.ones(2, 6, requires_grad=True)
    layer(x).sum().backward()
    assert (x.grad is None) == detach


def test_codes_are_principal_components_of_a_common_scale():
    features = some(50, 5) * torch.tensor([3.0, 1.0, 0.5, 0.1, 0.0]).double()
    codes = principal_codes(features, rank=2)
    centred = features - features.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T / sizes[0] * math.sqrt(50)
    torch.testing.assert_close(codes.flip(1).abs(), expected.abs())
    assert codes.square().mean(0).max().item() == pytest.approx(1)
    assert principal_codes(features, rank=8).shape == (50, 8)
    assert not principal_codes(features, rank=8)[:, 5:].any()


def test_a_row_fitted_without_codes_gives_the_shares_of_its_labels():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    scores, slope = fit_rows(torch.zeros(10, 2).double(), labels, torch.zeros(3).double())
    assert scores.softmax(0).tolist() == pytest.approx([0.6, 0.3, 0.1], abs=1e-4)
    assert not slope.any()


def test_a_fitted_row_is_the_minimum_of_its_objective():
    codes, labels = some(80, 2), torch.arange(80) % 3
    codes[labels == 1] += 1
    start = torch.zeros(3).double()
    scores, slope = fit_rows(codes, labels, start, ridge=0.1, steps=400)
    scores, slope = scores.requires_grad_(), slope.requires_grad_()
    loss = nn.functional.cross_entropy(scores + codes @ slope.T, labels)
    objective = loss + 0.05 * slope.square().sum()
    for gradient in torch.autograd.grad(objective, (scores, slope)):
        assert gradient.abs().max() < 1e-6
    assert slope[1].sum() > 0.3


def test_a_row_without_members_stays_where_it_starts():
    start = torch.tensor([0.1, 0.2])
    scores, slope = fit_rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), start)
    assert torch.equal(scores, start)
    assert slope.shape == (2, 3)
    assert not slope.any()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "1", True])
def test_settings_that_do_not_fit_are_refused(value: float | str | bool):
    with pytest.raises(SettingsError, match="allowed: above 0") as caught:
        number_setting("some", "size", value, allowed="above 0", fits=lambda x: x > 0)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["sukhbaatar", "goldberger-s", "goldberger-c", "bltm"])
def test_a_layer_that_was_not_set_up_is_near_the_identity(name: str):
    logits = some(6, 4)
    matrix = torch.eye(4) if name == "sukhbaatar" else near_identity(4)
    torch.testing.assert_close(loss_named(name)(logits), linear_layer(logits, matrix.double()))


class Convolutions(nn.Module):
    """No linear layer gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Unused(Convolutions):
    """A linear layer that no sample passes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)


@pytest.mark.parametrize("name", ["goldberger-c", "nnaqc-w"])
@pytest.mark.parametrize(
    ("model", "words"), [(Convolutions, "no linear layer"), (Unused, "needs the features")]
)
def test_layers_of_features_refuse_nets_without_any(name: str, model: type, words: str):
    with pytest.raises(ErrataError, match=words):
        fit(one_stage(Recipe(loss=name)), pictures(), model=model, engine=EXACT)


@pytest.mark.parametrize("name", ["sukhbaatar", "goldberger-s", "nnaqc", "jindal"])
def test_other_layers_take_any_net(name: str):
    run = fit(one_stage(Recipe(loss=name), epochs=1), pictures(), model=Convolutions, engine=EXACT)
    assert math.isfinite(run.history[0]["train_loss"])


def test_sample_layers_of_one_net_train_all_their_numbers():
    source = pictures(wrong=0.3)
    for name in ("goldberger-c", "nnaqc-w"):
        run = fit(one_stage(Recipe(loss=name)), source, model=tiny_net(source), engine=EXACT)
        for parameter in run.losses[0].parameters():
            assert parameter.grad is not None
        assert run.losses[0].sample.expand.any()


ALL = ["sukhbaatar", "jindal", "goldberger-s", "goldberger-c", "nnaqc", "nnaqc-w"]


@pytest.mark.parametrize("name", ALL)
def test_a_transition_is_what_the_layer_makes_of_certain_predictions(name: str):
    source = pictures()
    run = fit(one_stage(Recipe(loss=name), epochs=1), source, model=tiny_net(source), engine=EXACT)
    layer, rng = run.losses[0], torch.Generator().manual_seed(0)
    layer.alpha = 1.0
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=rng))
    certain = torch.eye(3).double() * 1e3
    rows = layer.transition()
    torch.testing.assert_close(layer(certain).neg().exp(), rows)
    if hasattr(layer, "transitions"):
        features = torch.rand(3, layer.sample.reduce.shape[1], generator=rng).double()
        each = layer.transitions(features)[range(3), range(3)]
        torch.testing.assert_close(layer(certain, None, features).neg().exp(), each)
        assert not torch.allclose(each, rows, atol=1e-3)

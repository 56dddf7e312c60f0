"""NNAQC and Jindal's layer: values by hand, the ceiling, gradients in closed form, three claims."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, one_stage, pictures, tiny_net
from torch import Tensor

from errata.engine import fit
from errata.errors import SettingsError
from errata.losses import ce, expected_loss, loss_named, one_hot
from errata.losses.layer_gradients import (
    diffuseness,
    linear_gradient,
    linear_operator,
    nonlinear_gradient,
    nonlinear_operator,
    peaked_logits,
    softmax_jacobian,
    weight_of_transition,
)
from errata.losses.layers import linear_layer, near_identity
from errata.losses.layers_nonlinear import (
    keep_by_id,
    keys_of_ids,
    layer_ceiling,
    nnaqc,
    nonlinear_layer,
    nonlinear_layers,
    quasi_clustering,
    scale_for_ceiling,
    scaled_identity,
)
from errata.types import Batch


def some(rows: int, columns: int, *, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize(("classes", "highest"), [(10, 0.232), (100, 0.0267), (1000, 0.0027)])
def test_the_plain_identity_has_a_low_ceiling(classes: int, highest: float):
    assert layer_ceiling(1.0, classes) == pytest.approx(highest, rel=0.01)
    certain = torch.eye(classes)[:1] * 1e4
    reached = nonlinear_layer(certain, torch.eye(classes)).neg().exp()[0, 0].item()
    assert reached == pytest.approx(layer_ceiling(1.0, classes), rel=1e-4)


def test_the_plain_identity_with_ten_classes_never_costs_less_than_1_461():
    certain = torch.eye(10).double() * 1e4
    floor = nonlinear_layer(certain, torch.eye(10).double()).min().item()
    assert floor == pytest.approx(1.461, abs=5e-4)


@pytest.mark.parametrize(("classes", "scale"), [(10, 4.39), (14, 4.76), (100, 6.79), (1000, 9.10)])
def test_the_scale_that_reaches_nine_tenths(classes: int, scale: float):
    assert scale_for_ceiling(0.9, classes) == pytest.approx(scale, abs=0.006)
    assert scale_for_ceiling(0.9, classes) == pytest.approx(math.log(9 * (classes - 1)))
    assert layer_ceiling(scale_for_ceiling(0.9, classes), classes) == pytest.approx(0.9)


def test_the_default_start_reaches_ninety_nine_percent():
    start = scaled_identity("nnaqc", 0.99, 10)
    torch.testing.assert_close(start, math.log(99 * 9) * torch.eye(10))


def test_a_layer_of_zeros_is_uniform_and_stops_the_gradient():
    logits = some(5, 7).requires_grad_()
    loss = nonlinear_layer(logits, torch.zeros(7, 7).double())
    torch.testing.assert_close(loss, torch.full((5, 7), math.log(7)).double())
    (gradient,) = torch.autograd.grad(loss[:, 2].sum(), logits)
    assert not gradient.any()


def test_the_ends_of_both_shares_are_known_losses():
    logits, weight = some(6, 4), some(4, 4)
    torch.testing.assert_close(nnaqc(logits, weight, alpha=0.0, beta=0.0), ce(logits))
    torch.testing.assert_close(nnaqc(logits, weight, alpha=1.0), nonlinear_layer(logits, weight))
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    clustered = nnaqc(logits, weight, alpha=0.0, beta=1.0)
    torch.testing.assert_close(clustered, entropy[:, None].expand(6, 4))


def test_quasi_clustering_by_hand():
    logits = torch.tensor([[0.75, 0.25]]).double().log()
    # .9 * -ln .75 + .1 * (-.75 ln .75 - .25 ln .25)
    assert quasi_clustering(logits, beta=0.1)[0, 0].item() == pytest.approx(0.3151474, abs=1e-7)
    assert quasi_clustering(logits, beta=0.1)[0, 1].item() == pytest.approx(1.3038984, abs=1e-7)


def test_one_matrix_a_row_agrees_with_one_matrix_for_all():
    logits, weights = some(5, 3), some(5, 9).reshape(5, 3, 3)
    slow = [nonlinear_layer(logits[k : k + 1], weights[k]) for k in range(5)]
    torch.testing.assert_close(nonlinear_layers(logits, weights), torch.cat(slow))


@given(st.integers(0, 1000), st.integers(2, 6))
def test_the_gradient_behind_a_softmax_is_the_closed_form(seed: int, classes: int):
    logits = some(4, classes, seed=seed).mul(2).requires_grad_()
    weight, labels = some(classes, classes, seed=seed + 1), torch.arange(4) % classes
    target = one_hot(labels, classes).double()
    loss = expected_loss(nonlinear_layer(logits, weight), target).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    closed = nonlinear_gradient(logits.detach(), labels, weight)
    torch.testing.assert_close(closed, gradient)
    # Written out: (diag(s) - s s^T) W^T (s' - e_y), and as the operator times the error.
    s = logits.detach().softmax(1)
    behind = (s @ weight.T).softmax(1)
    plain = (softmax_jacobian(s) @ weight.T @ (behind - target)[:, :, None])[:, :, 0]
    torch.testing.assert_close(closed, plain)
    error = -target / behind
    carried = nonlinear_operator(logits.detach(), weight) @ error[:, :, None]
    torch.testing.assert_close(closed, carried[:, :, 0])


@given(st.integers(0, 1000), st.integers(2, 6))
def test_the_gradient_behind_a_linear_layer_is_the_closed_form(seed: int, classes: int):
    logits = some(4, classes, seed=seed).mul(2).requires_grad_()
    matrix, labels = some(classes, classes, seed=seed + 1).softmax(1), torch.arange(4) % classes
    target = one_hot(labels, classes).double()
    loss = linear_layer(logits, matrix)
    (gradient,) = torch.autograd.grad(expected_loss(loss, target).sum(), logits)
    closed = linear_gradient(logits.detach(), labels, matrix)
    torch.testing.assert_close(closed, gradient)
    error = -target / loss.detach().neg().exp()
    carried = linear_operator(logits.detach(), matrix) @ error[:, :, None]
    torch.testing.assert_close(closed, carried[:, :, 0])


@pytest.mark.parametrize("label", [0, 1])
def test_two_classes_and_a_certain_prediction_leave_no_gradient(label: int):
    # Whether the label agrees or not.
    for weight in (5.0 * torch.eye(2).double(), some(2, 2)):
        sizes = [
            nonlinear_gradient(peaked_logits(torch.tensor([c]).double(), 2), given, weight).norm()
            for c in (0.9, 0.999, 1 - 1e-6)
            for given in (torch.tensor([label]),)
        ]
        assert sizes[0] > sizes[1] > sizes[2]
        assert sizes[2] < 1e-4


# The three claims, in numbers: ten classes, 36 % of the labels of every class spread over the
# others. W is either where NNAQC starts or what fits this noise: what it learns.
CONFIDENCE = torch.tensor([0.5, 0.9, 0.99]).double()
LOGITS = peaked_logits(CONFIDENCE, 10)
TRUE = near_identity(10, others=0.36).double()
FITTED = weight_of_transition(TRUE)
START = scaled_identity("nnaqc", 0.99, 10).double()
AGREE, DISAGREE = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)


def pull(gradient: Tensor) -> list[float]:
    return [round(size, 3) for size in gradient.abs().sum(1).tolist()]


def test_a_fitted_weight_and_its_transition_make_the_same_of_a_certain_prediction():
    torch.testing.assert_close(FITTED.T.softmax(1), TRUE)
    certain = torch.eye(10).double() * 1e3
    torch.testing.assert_close(nonlinear_layer(certain, FITTED), linear_layer(certain, TRUE))


def test_the_operator_is_more_diffuse_for_confident_predictions_alone():
    shares = [
        diffuseness(operator)
        for operator in (linear_operator(LOGITS, TRUE), nonlinear_operator(LOGITS, FITTED))
    ]
    assert shares[0].tolist() == pytest.approx([0.205, 0.130, 0.121], abs=1e-3)
    assert shares[1].tolist() == pytest.approx([0.124, 0.129, 0.129], abs=1e-3)
    # The same over predictions of all kinds: the more confident, the more often it holds.
    more = []
    for scale in (1, 2, 4, 8):
        logits = some(500, 10, seed=scale) * scale
        linear = diffuseness(linear_operator(logits, TRUE))
        more.append(
            float((diffuseness(nonlinear_operator(logits, FITTED)) > linear).double().mean())
        )
    assert more == sorted(more)
    assert more[0] < 0.01
    assert more[3] > 0.9


def test_the_operator_is_not_more_diffuse_where_noise_falls_on_one_other_class():
    pairs = 0.6 * near_identity(10, others=0.02) + 0.4 * near_identity(10, others=0.02).roll(1, 1)
    logits = some(500, 10) * 8
    linear = diffuseness(linear_operator(logits, pairs.double()))
    behind = diffuseness(nonlinear_operator(logits, weight_of_transition(pairs.double())))
    assert (behind > linear).double().mean() < 0.3


def test_most_of_the_gradient_is_wiped_out_where_prediction_and_label_disagree():
    plain = ce_gradient(DISAGREE)
    assert pull(plain) == [1.889, 1.978, 1.998]
    assert pull(nonlinear_gradient(LOGITS, DISAGREE, FITTED)) == [0.425, 0.314, 0.039]
    # A linear layer that knows the noise wipes out as much of it once the net is confident ...
    assert pull(linear_gradient(LOGITS, DISAGREE, TRUE)) == [0.859, 0.283, 0.033]
    # ... and the layer as it starts does so for very confident predictions alone.
    assert pull(nonlinear_gradient(LOGITS, DISAGREE, START)) == [2.621, 1.330, 0.148]


def test_agreement_pulls_less_at_the_start_and_more_once_the_layer_fits_the_noise():
    assert pull(ce_gradient(AGREE)) == [1.0, 0.2, 0.02]
    assert pull(nonlinear_gradient(LOGITS, AGREE, START)) == [1.153, 0.029, 0.002]
    assert pull(nonlinear_gradient(LOGITS, AGREE, FITTED)) == [1.115, 0.240, 0.022]
    assert pull(linear_gradient(LOGITS, AGREE, TRUE)) == [0.882, 0.186, 0.019]


def test_a_layer_that_fits_the_noise_lets_the_net_grow_sure_and_the_start_holds_it_back():
    confidence = torch.linspace(0.1, 1 - 1e-6, 9001).double()
    logits = peaked_logits(confidence, 10)

    def settles(matrix: Tensor) -> float:
        return confidence[(matrix @ TRUE[0]).argmin()].item()

    assert settles(ce(logits)) == pytest.approx(0.64, abs=1e-3)
    assert settles(linear_layer(logits, TRUE)) > 0.999
    assert settles(nonlinear_layer(logits, FITTED)) > 0.999
    # Where softmax(W s) gives the shares of T: a lead of ln(.64 / .04) / ln(99 * 9).
    lead = math.log(0.64 / 0.04) / math.log(99 * 9)
    assert settles(nonlinear_layer(logits, START)) == pytest.approx((1 + 9 * lead) / 10, abs=1e-3)


def ce_gradient(labels: Tensor) -> Tensor:
    return LOGITS.softmax(1) - one_hot(labels, 10).double()


@pytest.mark.parametrize(
    ("operator", "share"), [(torch.eye(4), 0.25), (torch.ones(4, 4), 1.0), (torch.zeros(4, 4), 0.0)]
)
def test_diffuseness_by_hand(operator: Tensor, share: float):
    assert diffuseness(operator[None]).item() == pytest.approx(share)
    assert diffuseness(-7 * operator[None]).item() == pytest.approx(share)


@pytest.mark.parametrize("name", ["nnaqc", "nnaqc-w"])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": -0.1}, "`alpha`"),
        ({"alpha": 1.1}, "`alpha`"),
        ({"beta": 2}, "`beta`"),
        ({"ceiling": 1.0}, "`ceiling`"),
        ({"ceiling": 0.0}, "`ceiling`"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, values: dict[str, float], words: str):
    with pytest.raises(SettingsError, match=f"{words} of loss `{name}`"):
        loss_named(name, **values)


def test_a_ceiling_that_is_not_above_chance_is_refused():
    with pytest.raises(SettingsError, match=r"with 4 classes; allowed: above 0.25") as caught:
        loss_named("nnaqc", ceiling=0.25)(some(2, 4))
    assert caught.value.hint


def test_the_scale_of_jindals_start_is_above_nought():
    with pytest.raises(SettingsError, match="`scale` of loss `jindal` is `0`"):
        loss_named("jindal", scale=0)


def test_jindals_dropout_falls_on_the_outputs_of_the_layer():
    source = pictures(40)
    run = fit(one_stage("jindal", epochs=1), source, model=tiny_net(source), engine=EXACT)
    layer, logits = run.losses[0], some(40, 3)
    rows, ones = torch.arange(40), torch.ones(40)
    batch = Batch(rows, (), rows % 3, one_hot(rows % 3, 3), ones, rows)
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    outputs = logits.softmax(1) @ layer.weight.detach().T
    # The logarithms of a softmax tell its inputs up to one number a row.
    found = -layer(logits, batch).detach()
    kept = found - found[:, :1]
    masks = torch.tensor(list(itertools.product((0.0, 1 / 0.9), repeat=3))).double()
    could = masks[:, None] * outputs
    near = (could - could[:, :, :1] - kept).abs().amax(2) < 1e-5
    assert near.any(0).all()
    assert not near[-1].all()
    torch.testing.assert_close(layer(logits), nonlinear_layer(logits, layer.weight))


def test_dropout_follows_the_sample_and_not_its_place():
    keys = keys_of_ids([f"row {k}" for k in range(2000)])
    mask = keep_by_id(keys, share=0.9, classes=10, key=7)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_by_id(keys[order], share=0.9, classes=10, key=7), mask[order])
    assert not torch.equal(keep_by_id(keys, share=0.9, classes=10, key=8), mask)
    assert sorted(mask.unique().tolist()) == pytest.approx([0, 1 / 0.9])


def test_dropout_keeps_the_share_that_it_should_and_draws_independently():
    keys = keys_of_ids([str(k) for k in range(5000)])
    kept = torch.stack([keep_by_id(keys, share=0.7, classes=8, key=k) > 0 for k in (1, 2)])
    kept = kept.double()
    # 80,000 draws: the standard error of the share is 0.0016, of a product of two 0.0027.
    assert kept.mean().item() == pytest.approx(0.7, abs=0.006)
    assert kept.mean((0, 1)).tolist() == pytest.approx([0.7] * 8, abs=0.02)
    for one, two in ((kept[0], kept[1]), (kept[:, :, :-1], kept[:, :, 1:])):
        assert ((one - 0.7) * (two - 0.7)).mean().item() == pytest.approx(0, abs=0.01)

"""Closed forms of the pointwise losses, worked out by hand (p = 0.25, and logits 1, 0, -1)."""

from __future__ import annotations

import math

import pytest
import torch

from errata.errors import SettingsError
from errata.losses import (
    brier,
    ce,
    expected_loss,
    gce,
    loss_named,
    loss_names,
    mae,
    nce,
    nce_mae,
    nce_rce,
    one_hot,
    rce,
    sce,
)

# The hand values carry six decimals.
CLOSE = {"abs": 1e-6}

QUARTER = torch.tensor([[math.log(0.25), math.log(0.75)]], dtype=torch.float64)
STEPS = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)


def at_quarter(loss, **values):
    """The loss of a label whose probability is 0.25."""
    return loss(QUARTER, **values)[0, 0].item()


@pytest.mark.parametrize(
    ("loss", "values", "expected"),
    [
        (ce, {}, 1.386294),
        (mae, {}, 1.5),
        (brier, {}, 1.125),
        (gce, {"q": 0.5}, 1.0),
        (gce, {"q": 0.7}, 0.887244),
        (gce, {"q": 1.0}, 0.75),
        (rce, {}, 6.907755),
        (rce, {"log_zero": -4.0}, 3.0),
        (sce, {}, 7.046385),
        (sce, {"alpha": 6.0, "beta": 0.1}, 9.008542),
        (nce, {}, math.log(0.25) / (math.log(0.25) + math.log(0.75))),
    ],
)
def test_loss_of_a_label_with_probability_one_quarter(loss, values, expected):
    assert at_quarter(loss, **values) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (ce, [0.407606, 1.407606, 2.407606]),
        (mae, [0.669518, 1.510543, 1.819939]),
        (brier, [0.180061, 1.021086, 1.330482]),
        (nce, [0.096525, 0.333333, 0.570142]),
        # With MAE as above, RCE is MAE times ln(1e4) / 2 = 4.605170.
        (nce_rce, [3.179769, 7.289641, 8.951271]),
        # Its MAE is 1 - p: half of the one above.
        (nce_mae, [0.431284, 1.088605, 1.480112]),
    ],
)
def test_matrix_of_logits_one_zero_minus_one(loss, expected):
    # Sums of rounded values, hence the wider tolerance.
    assert loss(STEPS)[0].tolist() == pytest.approx(expected, abs=1e-5)


def some_logits(classes):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(50, classes, dtype=torch.float64, generator=rng) * 5


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(
    ("loss", "once", "per_other"),
    [
        (mae, 0.0, 2.0),
        (nce, 1.0, 0.0),
        (rce, 0.0, -math.log(1e-4)),
        (nce_rce, 1.0, -math.log(1e-4)),
        (nce_mae, 1.0, 1.0),
    ],
)
def test_symmetric_losses_have_a_constant_sum_over_labels(loss, once, per_other, classes):
    total = torch.full((50,), once + per_other * (classes - 1), dtype=torch.float64)
    torch.testing.assert_close(loss(some_logits(classes)).sum(1), total)


@pytest.mark.parametrize("loss", [ce, brier, gce, sce])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_others_have_none(loss, classes):
    assert loss(some_logits(classes)).sum(1).std() > 0.01


def test_gce_goes_to_cross_entropy_as_q_goes_to_zero():
    # The difference is q (ln p)^2 / 2, here at most 3e-8.
    torch.testing.assert_close(gce(STEPS, q=1e-8), ce(STEPS), rtol=0, atol=1e-7)


def test_gce_with_q_one_is_half_of_mae():
    torch.testing.assert_close(gce(STEPS, q=1.0), mae(STEPS) / 2)


def test_truncated_gce_constant_is_the_loss_at_the_cut():
    level = torch.zeros(1, 2, dtype=torch.float64)
    assert gce(level, q=0.7)[0, 0].item() == pytest.approx(0.549183, **CLOSE)


def test_composed_losses_are_the_sums_they_are_named_after():
    torch.testing.assert_close(sce(STEPS, alpha=0.3, beta=2.0), 0.3 * ce(STEPS) + 2 * rce(STEPS))
    torch.testing.assert_close(
        nce_rce(STEPS, alpha=10.0, beta=0.1), 10 * nce(STEPS) + 0.1 * rce(STEPS)
    )
    torch.testing.assert_close(
        nce_mae(STEPS, alpha=10.0, beta=0.5), 10 * nce(STEPS) + 0.25 * mae(STEPS)
    )


def test_brier_is_the_squared_distance_to_the_label():
    logits = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    distance = (logits.softmax(1)[:, None, :] - torch.eye(5)).square().sum(2)
    torch.testing.assert_close(brier(logits), distance)


def test_brier_gradient_under_a_soft_target_is_that_of_the_squared_distance_to_it():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.rand(6, 4, dtype=torch.float64, generator=generator).softmax(1)
    (ours,) = torch.autograd.grad(expected_loss(brier(logits), target).sum(), logits)
    distance = (logits.softmax(1) - target).square().sum()
    (theirs,) = torch.autograd.grad(distance, logits)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["ce", "mae", "mse", "gce", "sce", "nce-rce", "nce-mae"])
def test_every_loss_is_registered_and_equals_its_function(name):
    functions = {"mse": brier, "nce-rce": nce_rce, "nce-mae": nce_mae}
    functions |= {"ce": ce, "mae": mae, "gce": gce, "sce": sce}
    assert name in loss_names()
    torch.testing.assert_close(loss_named(name)(STEPS), functions[name](STEPS))


def test_named_losses_use_their_settings():
    torch.testing.assert_close(loss_named("gce", q=0.3)(STEPS), gce(STEPS, q=0.3))
    torch.testing.assert_close(
        loss_named("sce", alpha=6, beta=0.1, log_zero=-4)(STEPS),
        sce(STEPS, alpha=6.0, beta=0.1, log_zero=-4.0),
    )
    torch.testing.assert_close(
        loss_named("nce-rce", alpha=10.0, beta=0.1)(STEPS), nce_rce(STEPS, alpha=10.0, beta=0.1)
    )
    torch.testing.assert_close(
        loss_named("nce-mae", alpha=10.0, beta=0.5)(STEPS), nce_mae(STEPS, alpha=10.0, beta=0.5)
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gce", {"q": 0.0}),
        ("gce", {"q": 1.5}),
        ("gce", {"q": math.nan}),
        ("gce", {"q": "0.7"}),
        ("gce", {"q": True}),
        ("sce", {"alpha": -1.0}),
        ("sce", {"beta": math.inf}),
        ("sce", {"alpha": 0.0, "beta": 0.0}),
        ("sce", {"log_zero": 4.0}),
        ("nce-rce", {"log_zero": 0.0}),
        ("nce-mae", {"alpha": 0, "beta": 0}),
    ],
)
def test_settings_out_of_range_are_refused(name, values):
    with pytest.raises(SettingsError, match=f"of loss `{name}` is") as caught:
        loss_named(name, **values)
    assert "allowed:" in caught.value.message
    assert caught.value.hint


def test_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match="did you mean `nce-rce`"):
        loss_named("ncerce")


def test_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match="did you mean `alpha`"):
        loss_named("sce", alfa=0.1)
    with pytest.raises(SettingsError, match="`q` is unknown; allowed: none"):
        loss_named("ce", q=0.7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits = STEPS.to(dtype)
    for name in loss_names():
        matrix = loss_named(name)(logits)
        assert matrix.dtype == torch.float32
        torch.testing.assert_close(matrix, loss_named(name)(logits.float()))


def test_one_hot_gives_no_mass_to_unlabelled_rows():
    expected = [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert one_hot(torch.tensor([2, -1, 0]), 3).tolist() == expected

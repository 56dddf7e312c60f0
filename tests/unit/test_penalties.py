"""The prior and the entropy of joint optimisation: values by hand, gradients, and within a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, Watcher, blobs, one_stage, pictures, tiny_net
from torch import Tensor

from errata.data import Arrays
from errata.engine import TrainingRun, fit
from errata.errors import SettingsError
from errata.losses import ce, expected_loss
from errata.methods.joint import Joint
from errata.parts.base import Part, Recipe
from errata.parts.penalties import (
    DIVERGENCES,
    class_shares,
    draw_balanced,
    follow_mean,
    kl_to_prediction,
    mean_prediction,
    prediction_entropy,
    prior_cross_entropy,
    prior_divergence,
)
from errata.types import Group, Lap, Plan

TARGET = torch.tensor([[1, 0, 0], [0.2, 0.5, 0.3]], dtype=torch.float64)
UNIFORM = torch.full((3,), 1 / 3, dtype=torch.float64)


def two_rows() -> Tensor:
    return torch.tensor([[2, 0, 0], [0, 1, 0]], dtype=torch.float64, requires_grad=True)


def terms(logits: Tensor, *, published: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Give the three terms, those with a target as cross-entropies or as divergences."""
    mean = mean_prediction(logits.softmax(1))
    entropy = prediction_entropy(logits).mean()
    if published:
        return expected_loss(ce(logits), TARGET).mean(), prior_cross_entropy(mean, UNIFORM), entropy
    return kl_to_prediction(logits, TARGET).mean(), prior_divergence(mean, UNIFORM), entropy


@pytest.mark.parametrize(
    ("published", "values", "total"),
    [
        (True, (0.645495, 1.202207, 0.820450), 2.744503),
        (False, (0.130668, 0.103594, 0.820450), 0.911342),
    ],
)
def test_the_terms_have_the_values_worked_out_by_hand(
    published: bool, values: tuple[float, ...], total: float
):
    found = terms(two_rows(), published=published)
    assert [term.item() for term in found] == pytest.approx(values, abs=5e-7)
    assert (found[0] + 1.2 * found[1] + 0.8 * found[2]).item() == pytest.approx(total, abs=1e-6)


def test_both_forms_of_the_prior_differ_by_the_entropy_of_the_prior():
    mean = mean_prediction(two_rows().softmax(1))
    difference = prior_cross_entropy(mean, UNIFORM) - prior_divergence(mean, UNIFORM)
    assert difference.item() == pytest.approx(math.log(3), abs=1e-12)


@pytest.mark.parametrize("term", [0, 1, 2])
def test_both_forms_have_the_same_gradient(term: int):
    gradients = []
    for published in (True, False):
        logits = two_rows()
        terms(logits, published=published)[term].backward()
        gradients.append(logits.grad)
    assert gradients[0].abs().max() > 0.01
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-15)


def test_the_gradient_of_the_entropy_is_that_of_the_textbook():
    logits = two_rows()
    entropy = prediction_entropy(logits)
    entropy.sum().backward()
    s = logits.detach().softmax(1)
    torch.testing.assert_close(logits.grad, -s * (s.log() + entropy.detach()[:, None]))


def test_certain_and_uniform_predictions_have_the_least_and_the_most_entropy():
    logits = torch.tensor([[200.0, 0, 0, 0], [5.0, 5, 5, 5]])
    assert prediction_entropy(logits).tolist() == pytest.approx([0, math.log(4)], abs=1e-6)


def test_a_target_of_noughts_and_one_has_a_finite_divergence():
    logits = two_rows()
    divergence = kl_to_prediction(logits, torch.eye(3, dtype=torch.float64)[:2])
    divergence.sum().backward()
    expected = ce(logits.detach()).diagonal()[:2]
    torch.testing.assert_close(divergence.detach(), expected)
    assert logits.grad.isfinite().all()


def test_divergences_are_those_worked_out_by_hand():
    mean, prior = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    forward, reverse = -0.5 * math.log(0.75), math.log(2) + 0.75 * math.log(0.75)
    forward, reverse = forward + 0.5 * math.log(1.0), reverse + 0.25 * math.log(0.25)
    for name, value in (
        ("forward", forward),
        ("reverse", reverse),
        ("symmetric", forward + reverse),
    ):
        found = prior_divergence(mean, prior, divergence=name).item()
        assert found == pytest.approx(value, abs=1e-6), name


shares = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(
    lambda values: torch.tensor(values, dtype=torch.float64) / sum(values)
)


@given(mean=shares, prior=shares)
def test_divergences_are_no_less_than_nought_and_turn_round(mean: Tensor, prior: Tensor):
    found = {name: prior_divergence(mean, prior, divergence=name).item() for name in DIVERGENCES}
    assert min(found.values()) > -1e-12
    turned = prior_divergence(prior, mean, divergence="reverse").item()
    assert found["forward"] == pytest.approx(turned, abs=1e-12)
    assert found["symmetric"] == pytest.approx(found["forward"] + found["reverse"], abs=1e-12)
    assert prior_divergence(mean, mean, divergence="symmetric").item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_class_without_mass_gives_no_infinity(name: str):
    empty, prior = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    for values, wanted in ((empty, prior), (prior, empty)):
        mean = values.clone().requires_grad_()
        found = prior_divergence(mean, wanted, divergence=name)
        found.backward()
        assert found.isfinite()
        assert mean.grad.isfinite().all()
    # The paper's direction is the one that a dying class hurts most: -.5 ln of 1e-8 and of 1.
    if name == "forward":
        value = -math.log(2) - 0.5 * math.log(1e-8)
        assert prior_divergence(empty, prior).item() == pytest.approx(value, rel=1e-6)


def test_rows_count_by_their_weight():
    probs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert mean_prediction(probs).tolist() == pytest.approx([0.5, 0.5])
    weighted = mean_prediction(probs, torch.tensor([3.0, 1.0, 0.0]))
    assert weighted.tolist() == pytest.approx([0.75, 0.25])
    assert mean_prediction(probs, torch.zeros(3)).tolist() == [0, 0]


def test_the_prior_is_the_shares_of_the_given_labels():
    labels = torch.tensor([0, 0, 0, 2, -1, -1])
    assert class_shares(labels, 4).tolist() == [0.75, 0, 0.25, 0]


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9])
def test_the_moving_mean_is_that_of_its_recursion(rate: float):
    rng = np.random.default_rng(0)
    past, expected = torch.full((3,), math.nan, dtype=torch.float64), None
    for batch in torch.from_numpy(rng.dirichlet(np.ones(3), size=5)):
        past = follow_mean(batch, past, rate=rate)
        expected = batch if expected is None else rate * expected + (1 - rate) * batch
        torch.testing.assert_close(past, expected)


def test_the_moving_mean_has_the_gradient_of_the_batch_alone():
    batch = torch.tensor([0.2, 0.8], requires_grad=True)
    past = torch.tensor([0.5, 0.5], requires_grad=True)
    (follow_mean(batch, past, rate=0.9) * torch.tensor([3.0, 5.0])).sum().backward()
    assert batch.grad.tolist() == [3, 5]
    assert past.grad is None


def test_balanced_drawing_leaves_trusted_laps_alone():
    group = Group(torch.arange(4))
    plan = Plan((Lap((0,), (group, group)), Lap((0,), (group,), pool="trusted")))
    drawn = draw_balanced(plan)
    assert [[g.order for g in lap.groups] for lap in drawn.laps] == [
        ["class_balanced", "class_balanced"],
        ["shuffle"],
    ]


def long_tailed(classes: int = 3, most: int = 100, ratio: int = 50) -> Arrays:
    """Give blobs whose class sizes fall from `most` to a fiftieth of it: 100, 14, 2."""
    source, _ = blobs(classes * most, classes)
    rows = [
        np.flatnonzero(source.given == label)[: round(most * ratio ** (-label / (classes - 1)))]
        for label in range(classes)
    ]
    kept = np.concatenate(rows)
    return Arrays(source.x[kept], source.given[kept], classes=source.classes, name="tail")


def run_of(*parts: Part, source: Arrays | None = None, **values: Any) -> TrainingRun:
    source = source or pictures(wrong=0.3)
    values = {"engine": EXACT, "model": tiny_net(source), **values}
    return fit(one_stage(Recipe(parts=parts), epochs=2, batch=24), source, **values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [100 / 116, 14 / 116, 2 / 116]),
        ({"prior": "uniform"}, [1 / 3] * 3),
        ({"balanced": True}, [1 / 3] * 3),
    ],
)
def test_the_prior_follows_what_is_drawn(values: dict[str, Any], expected: list[float]):
    part = run_of(Joint(**values), source=long_tailed()).parts[0]
    assert part.prior_.tolist() == pytest.approx(expected)


def test_a_class_without_rows_has_no_share_of_a_balanced_prior():
    source = pictures(classes=3)
    lacking = Arrays(source.x, source.given % 2, classes=source.classes, name="two of three")
    part = run_of(Joint(balanced=True), source=lacking).parts[0]
    assert part.prior_.tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("balanced", [False, True])
def test_balanced_drawing_of_a_long_tail_shows_every_class_equally_often(balanced: bool):
    shown = torch.zeros(3)

    def look(run: TrainingRun, seen: Any) -> None:
        shown.add_(torch.bincount(seen[0].plain.given, minlength=3))

    run = run_of(Joint(balanced=balanced), source=long_tailed(), observers=(Watcher(look),))
    assert shown.sum() == 2 * 116
    assert torch.bincount(run.given).tolist() == [100, 14, 2]
    if balanced:
        assert shown.max() - shown.min() <= 2
    else:
        assert shown.tolist() == [200, 28, 4]


def test_the_penalty_is_both_terms_with_their_weights():
    checked = []

    def look(run: TrainingRun, seen: Any) -> None:
        part, each = run.parts[0], seen[0]
        mean = each.logits.softmax(1).mean(0)
        prior = (part.prior_ * (part.prior_ / mean).log()).sum()
        entropy = torch.distributions.Categorical(logits=each.logits).entropy().mean()
        found = part.penalty(run, 0, each)
        torch.testing.assert_close(found, 1.2 * prior + 0.8 * entropy, check_dtype=False)
        checked.append(run.tick)

    run_of(Joint(alpha=1.2, beta=0.8), observers=(Watcher(look),))
    assert len(checked) == 8


def test_rows_of_weight_nought_do_not_count_in_either_term():
    source = pictures(wrong=0.3)
    weights = torch.from_numpy((source.given != 2).astype(float))
    seen_some = []

    def look(run: TrainingRun, seen: Any) -> None:
        part, each = run.parts[0], seen[0]
        heavy = each.plain.given != 2
        mean = each.logits[heavy].softmax(1).mean(0)
        prior = (part.prior_ * (part.prior_ / mean).log()).sum()
        entropy = prediction_entropy(each.logits[heavy]).sum() / len(heavy)
        torch.testing.assert_close(part.penalty(run, 0, each), prior + entropy, check_dtype=False)
        seen_some.append(0 < heavy.sum() < len(heavy))

    run_of(Joint(beta=1.0), weights=weights, observers=(Watcher(look),))
    assert all(seen_some)


def test_without_both_terms_there_is_no_penalty():
    def look(run: TrainingRun, seen: Any) -> None:
        assert run.parts[0].penalty(run, 0, seen[0]) is None

    run_of(Joint(alpha=0.0, beta=0.0), observers=(Watcher(look),))


def test_the_moving_mean_of_a_run_is_that_of_its_batches():
    means: list[Tensor] = []

    def look(run: TrainingRun, seen: Any) -> None:
        batch = seen[0].logits.softmax(1).mean(0)
        means.append(0.75 * means[-1] + 0.25 * batch if means else batch)
        found = run.memory["joint_mean"][0]
        torch.testing.assert_close(found, means[-1], check_dtype=False, rtol=0, atol=1e-6)

    run_of(Joint(moving=0.75), observers=(Watcher(look),))
    assert len(means) == 8
    assert "joint_mean" not in run_of(Joint()).memory


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": -0.1}, "joint alpha `-0.1`"),
        ({"alpha": math.nan}, "joint alpha `nan`"),
        ({"beta": math.inf}, "joint beta `inf`"),
        ({"moving": 1.0}, "joint moving `1.0`"),
        ({"moving": -0.5}, "joint moving `-0.5`"),
        ({"divergence": "backward"}, "joint divergence `backward`"),
        ({"prior": "givn"}, "did you mean `given`"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as caught:
        Joint(**values)
    assert caught.value.hint

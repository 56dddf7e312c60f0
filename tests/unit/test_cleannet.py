"""CleanNet: its losses by hand, the laws of its encoders, and its weights within a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from samples import EXACT, one_stage, pictures, tiny_net
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from errata.data import Arrays
from errata.engine import TrainingRun, fit
from errata.errors import SettingsError
from errata.methods import card_named
from errata.methods.cleannet import CleanNet, RowWeights, weigh_by_cosine
from errata.parts.base import Phase, Recipe, stages_of_phases
from errata.parts.verification import (
    VerificationNet,
    attend,
    class_references,
    normalise_features,
    pseudo_verification_loss,
    verification_loss,
)
from errata.parts.verifier import Verifier


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# By hand.


@pytest.mark.parametrize(
    ("right", "cosine", "loss"), [(1, 0.5, 0.5), (0, 0.5, 2.0), (0, 0.05, 0.0), (1, -0.2, 1.2)]
)
def test_the_loss_of_verdicts_is_the_one_worked_out_by_hand(right: int, cosine: float, loss: float):
    found = verification_loss(*torch.tensor([[cosine], [right]], dtype=torch.float64))
    assert found.item() == pytest.approx(loss, abs=1e-12)


def test_rows_that_nobody_looked_at_are_only_ever_pulled_closer():
    cosine = torch.linspace(-1, 1, 41, dtype=torch.float64, requires_grad=True)
    loss = pseudo_verification_loss(cosine)
    assert torch.equal(loss, torch.where(cosine >= 0.1, 1 - cosine, 0.0))
    gradient = torch.autograd.grad(loss.sum(), cosine)[0]
    assert torch.equal(gradient, torch.where(cosine >= 0.1, -1.0, 0.0).double())


def test_attention_weighs_references_by_the_softmax_of_their_scores():
    scores = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    values = torch.eye(2, dtype=torch.float64)[None]
    real = torch.ones(1, 2, dtype=torch.bool)
    assert attend(scores, values, real)[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-15)
    real[0, 1] = False
    assert attend(scores, values, real)[0].tolist() == [1.0, 0.0]


def test_negative_cosines_weigh_nothing():
    cosine = torch.tensor([-0.9, -0.01, 0.0, 0.05, 0.1, 0.8])
    assert torch.equal(weigh_by_cosine(cosine), cosine.clamp_min(0))
    assert weigh_by_cosine(cosine, weights="hard").tolist() == [0, 0, 0, 0, 1, 1]
    assert weigh_by_cosine(cosine, weights="hard", threshold=0.2).tolist() == [0, 0, 0, 0, 0, 1]


def test_verdicts_overrule_cosines():
    cosine = torch.tensor([0.9, -0.5, 0.4])
    found = weigh_by_cosine(cosine, torch.tensor([0, 1, -1]))
    assert found.tolist() == pytest.approx([0.0, 1.0, 0.4])


def test_features_are_scaled_by_the_logarithm_of_one_more():
    features = torch.tensor([0.0, 1.0, math.e - 1, -(math.e - 1)], dtype=torch.float64)
    scaled = normalise_features(features, "log")
    assert scaled.tolist() == pytest.approx([0.0, math.log(2), 1.0, -1.0], abs=1e-15)
    assert normalise_features(torch.tensor([3.0, 4.0]), "l2").tolist() == pytest.approx([0.6, 0.8])
    assert torch.equal(normalise_features(features, "none"), features)


# Laws.


def test_the_order_of_the_references_does_not_matter():
    net = VerificationNet(6, decoder="linear", generator=generator()).double()
    nn.init.normal_(net.context, generator=generator(1))
    references = torch.randn(2, 5, 6, generator=generator(2), dtype=torch.float64)
    real = torch.tensor([[True] * 5, [True, True, False, True, False]])
    order = torch.tensor([3, 0, 4, 2, 1])
    there = net.encode_classes(references[:, order], real[:, order])
    torch.testing.assert_close(net.encode_classes(references, real), there)
    references[~real] = 1e6
    torch.testing.assert_close(net.encode_classes(references, real), there)


def test_a_class_is_told_by_its_centres_or_by_its_rows_where_they_are_few():
    features = torch.randn(40, 3, generator=generator())
    given = torch.tensor([0] * 36 + [2] * 4)
    centres, real = class_references(features, given, classes=3, count=8, generator=generator())
    assert real.sum(1).tolist() == [8, 0, 4]
    assert torch.equal(centres[2, :4], features[36:])
    assert (centres[~real] == 0).all()
    inside = (centres[0] >= features[:36].amin(0)) & (centres[0] <= features[:36].amax(0))
    assert inside.all()


def clouds(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Give features in three clouds, given labels of which a third is wrong, and what is right."""
    rng = generator(seed)
    true = torch.arange(180) % 3
    features = (3 * torch.eye(3, 8)[true] + 0.5 * torch.randn(180, 8, generator=rng)).relu()
    given = torch.where(torch.rand(180, generator=rng) < 0.33, (true + 1) % 3, true)
    return features, given, (given == true).long()


def part_of(right: Tensor, *, only_right: bool = False) -> Tensor:
    """Let people look at a third of the rows."""
    looked = torch.arange(180) % 9 < 3
    if only_right:
        looked &= right == 1
    return torch.where(looked, right, -1)


@pytest.mark.parametrize("only_right", [False, True])
def test_wrong_labels_that_nobody_looked_at_have_smaller_cosines(only_right: bool):
    features, given, right = clouds()
    verified = part_of(right, only_right=only_right)
    cosine = Verifier(passes=60).fit(features, given, verified, classes=3, generator=generator())
    unseen = verified < 0
    good, bad = cosine[unseen & (right == 1)], cosine[unseen & (right == 0)]
    assert (good[:, None] > bad).float().mean() > 0.95
    assert good.mean() > bad.mean() + 0.3


def test_without_contrast_rows_found_right_alone_teach_no_difference():
    features, given, right = clouds()
    verified = part_of(right, only_right=True)
    cosine = Verifier(passes=60, contrast=False).fit(
        features, given, verified, classes=3, generator=generator()
    )
    assert cosine[right == 0].mean() > 0.9


@pytest.mark.parametrize("values", [{"dropout": 0.2}, {"decoder": "tanh"}, {"norm": "l2"}])
def test_variants_learn_something_else_that_is_finite(values: dict[str, Any]):
    features, given, right = clouds()
    plain, other = (
        Verifier(passes=5, **each).fit(
            features, given, part_of(right), classes=3, generator=generator()
        )
        for each in ({}, values)
    )
    assert other.isfinite().all()
    assert (plain != other).any()


# In a run.


def run_of(part: Any = None, *, source: Arrays | None = None, **values: Any) -> TrainingRun:
    source = source or pictures(wrong=0.3)
    phases = (
        Phase(recipe=Recipe(parts=(part or CleanNet(passes=20),)), share=0.5),
        Phase(recipe=Recipe(parts=(RowWeights(),)), share=0.5),
    )
    program = stages_of_phases(phases, epochs=4, batch=24)
    values = {"verified": known_of(source), "model": tiny_net(source), **values}
    return fit(program, source, engine=EXACT, **values)


def known_of(source: Arrays) -> Tensor:
    """Judge every third row by the labels without errors."""
    right = torch.from_numpy((source.given == pictures().given).astype(np.int64))
    return torch.where(torch.arange(len(right)) % 3 == 0, right, -1)


def test_wrong_labels_get_smaller_weights_and_verdicts_are_obeyed():
    source = pictures(wrong=0.3)
    run = run_of(CleanNet(passes=100), source=source)
    weight = run.ledger.read("weight")
    right = torch.from_numpy(source.given == pictures().given)
    verified = known_of(source)
    assert (weight[verified == 1] == 1).all()
    assert (weight[verified == 0] == 0).all()
    unseen = verified < 0
    assert weight[unseen & right].mean() > 2 * weight[unseen & ~right].mean()
    assert run.notes["cleannet"]["mean_weight"] == pytest.approx(float(weight.mean()))


def test_all_weights_of_one_are_plain_training_of_two_stages():
    source = pictures(wrong=0.3)
    part = CleanNet(passes=1, weights="hard", threshold=-1.0, obey=False)
    plain = fit(
        stages_of_phases((Phase(share=0.5), Phase(share=0.5)), epochs=4, batch=24),
        source,
        model=tiny_net(source),
        engine=EXACT,
    )
    for mine, theirs in zip(
        run_of(part, source=source).nets[0].parameters(), plain.nets[0].parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_a_weight_is_a_factor_of_the_loss():
    run = run_of()
    batch = next(iter(run.draw(run.everything().laps[0], 0)))
    changed = run.parts[0].prepare(run, 0, batch)
    weight = run.ledger.read("weight", batch.rows)
    torch.testing.assert_close(changed.target.sum(1), weight.double())
    logits = torch.randn(len(weight), 3, generator=generator()).double()
    mine = -(changed.target * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(mine, weight * cross_entropy(logits, batch.given, reduction="none"))


@pytest.mark.parametrize(
    "verified", [None, torch.full((96,), -1), torch.zeros(96, dtype=torch.int64)]
)
def test_a_run_without_rows_found_right_is_refused(verified: Tensor | None):
    with pytest.raises(SettingsError, match="found right, and there are none") as caught:
        run_of(verified=verified)
    assert "`--verified`" in caught.value.hint


def test_without_contrast_rows_found_wrong_are_needed():
    with pytest.raises(SettingsError, match="without `contrast`"):
        run_of(CleanNet(contrast=False), verified=torch.ones(96, dtype=torch.int64))


def test_a_net_without_a_linear_end_is_refused():
    class Headless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(1, 3, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).flatten(1)

    with pytest.raises(Exception, match="linear"):
        run_of(model=Headless)


def test_weights_that_no_stage_has_written_are_a_warning():
    source = pictures()
    program = one_stage(Recipe(parts=(RowWeights(),)), epochs=1)
    run = fit(program, source, model=tiny_net(source), engine=EXACT)
    assert any("row-weights has no effect" in text for text in run.warnings)


def test_the_card_says_that_it_needs_verdicts():
    assert card_named("cleannet").needs == ("verified",)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"passes": 0}, "cleannet passes `0`"),
        ({"batch": 0}, "cleannet batch `0`"),
        ({"references": 0}, "cleannet references `0`"),
        ({"lr": -1.0}, "cleannet lr `-1.0`"),
        ({"threshold": 2.0}, "cleannet threshold `2.0`"),
        ({"dropout": 1.0}, "cleannet dropout `1.0`"),
        ({"dropout": math.nan}, "cleannet dropout `nan`"),
        ({"weights": "firm"}, "`firm`"),
        ({"norm": "l1"}, "`l1`"),
        ({"decoder": "relu"}, "`relu`"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        CleanNet(**values)
    assert caught.value.hint

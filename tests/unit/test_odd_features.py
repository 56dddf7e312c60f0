from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, TinyNet, Watcher, one_stage, pictures, tiny_net
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from errata.engine import Listener, TrainingRun, fit
from errata.errors import ErrataError, SettingsError
from errata.methods.odd import ODD, loss_variance_of_head, odd_threshold, simulate_losses
from errata.methods.odd_features import (
    FEATURE_MODELS,
    DrawFeatures,
    head_logits,
    logit_scale,
    permuted_columns,
    plain_normals,
    rectified_normals,
    simulate_through,
)
from errata.parts.base import Recipe
from errata.parts.dropping import percentile_of
from errata.streams import generator

DRAWS = 100_000


def draw(model: DrawFeatures, count: int = DRAWS, seed: int = 0) -> Tensor:
    return model(count, generator(seed, "odd"))


def simulate(weight: Any, model: DrawFeatures, *, seed: int = 0) -> Tensor:
    return simulate_losses(
        torch.as_tensor(weight, dtype=torch.float32),
        None,
        draws=DRAWS,
        generator=generator(seed, "odd"),
        draw_features=model,
    )


def models_of_width(width: int) -> list[DrawFeatures]:
    some = torch.from_numpy(np.random.default_rng(0).gamma(2, 1, (500, width)))
    return [rectified_normals(width), plain_normals(width), permuted_columns(some)]


@pytest.mark.parametrize("place", range(3), ids=FEATURE_MODELS)
def test_an_empty_head_gives_the_loss_of_chance_under_every_model(place: int):
    losses = simulate(torch.zeros(7, 3), models_of_width(3)[place])
    assert losses.unique().tolist() == pytest.approx([1.9459101], abs=1e-6)


def test_without_relu_two_classes_have_quantiles_in_closed_form():
    # u = (2 z, 0): both labels cost ln(1 + exp(2 z)) for a standard normal z.
    losses = simulate([[2.0], [0.0]], plain_normals(1))
    normal = NormalDist()
    for percent in (10.0, 20.0, 50.0, 90.0):
        z = normal.inv_cdf(percent / 100)
        slope = 2 / (1 + math.exp(-2 * z))
        spread = math.sqrt(percent / 100 * (1 - percent / 100) / DRAWS)
        error = spread * slope / normal.pdf(z)
        expected = math.log1p(math.exp(2 * z))
        assert percentile_of(losses, percent) == pytest.approx(expected, abs=4 * error)
    # The values themselves, so that the formula above is not its own witness.
    assert math.log1p(math.exp(2 * normal.inv_cdf(0.1))) == pytest.approx(0.0742400, abs=1e-6)
    assert percentile_of(losses, 50.0) == pytest.approx(math.log(2), abs=0.02)


def test_a_feature_that_never_varies_gives_two_losses():
    losses = simulate([[1.0], [0.0]], permuted_columns(torch.full((40, 1), 3.0)))
    support, counts = losses.round(decimals=4).unique(return_counts=True)
    assert support.tolist() == pytest.approx([0.04859, 3.04859], abs=1e-4)
    assert counts[0].item() / DRAWS == pytest.approx(0.5, abs=4 * (0.25 / DRAWS) ** 0.5)


def test_permuting_keeps_each_dimension_and_breaks_what_joins_them():
    rng = np.random.default_rng(0)
    first = torch.from_numpy(rng.choice([0.0, 1.0, 5.0], 300, p=[0.5, 0.3, 0.2]))
    features = torch.stack([first, first, first + 10], dim=1)
    drawn = draw(permuted_columns(features))
    assert drawn.shape == (DRAWS, 3)
    for column, values in enumerate(features.T):
        for value in values.unique():
            share = float((values == value).float().mean())
            error = math.sqrt(share * (1 - share) / DRAWS)
            found = float((drawn[:, column] == value).float().mean())
            assert found == pytest.approx(share, abs=4 * error)
    # Dimensions that were equal are now independent.
    correlation = np.corrcoef(drawn.numpy().T)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 4 / math.sqrt(DRAWS)


def test_permuting_what_is_independent_already_changes_no_quantile():
    weight = torch.from_numpy(np.random.default_rng(1).normal(0, 0.3, (5, 16)))
    features = draw(rectified_normals(16), 20_000, seed=1)
    plain = simulate(weight, rectified_normals(16))
    permuted = simulate(weight, permuted_columns(features))
    for percent in (5.0, 20.0, 50.0):
        # Monte-Carlo errors as for the rectified normals, and that of 20,000 rows.
        assert percentile_of(permuted, percent) == pytest.approx(
            percentile_of(plain, percent), abs=0.04
        )


def test_the_default_model_is_that_of_the_talk():
    weight = torch.from_numpy(np.random.default_rng(1).normal(0, 0.3, (5, 16)))
    rng = generator(0, "odd")
    default = simulate_losses(weight.float(), None, draws=DRAWS, generator=rng)
    assert torch.equal(default, simulate(weight, rectified_normals(16)))


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
def test_models_draw_as_many_as_asked(count: int):
    for model in models_of_width(3):
        assert draw(model, count).shape == (count, 3)
        assert torch.equal(draw(model, count), draw(model, count))


def test_the_variance_formula_holds_for_the_features_it_is_given():
    rng = np.random.default_rng(2)
    weight = torch.from_numpy(rng.normal(0, 0.03, (100, 640)))
    features = torch.from_numpy(rng.gamma(1.5, 0.7, (4000, 640)) - 0.4)
    mean, variance = features.mean(0), features.var(0, correction=0)
    v = loss_variance_of_head(weight, mean=mean, variance=variance)
    losses = simulate(weight, permuted_columns(features))
    assert losses.mean().item() == pytest.approx(math.log(100) + v / 2, abs=0.03)
    assert losses.std().item() == pytest.approx(math.sqrt(v), abs=0.02)
    # The moments of rectified normals give the formula of the talk's model back.
    half = torch.full((640,), 1 / math.sqrt(2 * math.pi)), torch.full((640,), 0.3408451)
    again = loss_variance_of_head(weight, mean=half[0], variance=half[1])
    assert again == pytest.approx(loss_variance_of_head(weight), rel=1e-6)


class CosineHead(nn.Linear):
    """Eight times the cosine of feature and class weight."""

    def forward(self, features: Tensor) -> Tensor:
        return 8 * linear(normalize(features, dim=1), normalize(self.weight, dim=1))


def some_head(kind: type[nn.Linear] = nn.Linear, classes: int = 4, width: int = 6) -> nn.Linear:
    head = kind(width, classes)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(rng.normal(0, 1, (classes, width))))
        head.bias.copy_(torch.from_numpy(rng.normal(0, 1, classes)))
    return head


def test_a_plain_head_is_its_weight_and_bias():
    head = some_head()
    features = draw(plain_normals(6), 20)
    torch.testing.assert_close(head_logits(head)(features), head(features).detach())
    bare = nn.Linear(6, 4, bias=False)
    torch.testing.assert_close(head_logits(bare)(features), bare(features).detach())


def test_a_weight_norm_is_part_of_the_weight():
    head = some_head()
    normed = nn.utils.parametrizations.weight_norm(some_head())
    with torch.no_grad():
        normed.parametrizations.weight.original0.mul_(2)
        head.weight.mul_(2)
    assert odd_threshold(normed) == pytest.approx(odd_threshold(head), abs=1e-5)
    assert odd_threshold(head) != pytest.approx(odd_threshold(some_head()), abs=0.05)


def test_a_head_with_a_forward_of_its_own_is_called():
    head = some_head(CosineHead)
    losses = simulate_through(
        head_logits(head), rectified_normals(6), draws=1000, generator=generator(0, "odd")
    )
    features = rectified_normals(6)(1000, generator(0, "odd"))
    logits = head(features).detach()
    assert logits.abs().max() <= 8 + 1e-5
    expected = logits.logsumexp(1)[:, None] - logits
    # Each simulated loss is that of one of the classes.
    assert (losses[:, None] - expected).abs().min(1).values.max() < 1e-5
    assert odd_threshold(head) != pytest.approx(odd_threshold(some_head()), abs=0.05)


@given(st.floats(0.06, 40), st.integers(0, 5))
def test_a_temperature_is_found_whatever_is_added_to_a_row(scale: float, seed: int):
    rng = np.random.default_rng(seed)
    own = torch.from_numpy(rng.normal(0, 1, (30, 5)))
    logits = scale * own + torch.from_numpy(rng.normal(0, 3, (30, 1)))
    expected = 1.0 if abs(scale - 1) / scale < 0.05 else scale
    assert logit_scale(own, logits) == pytest.approx(expected)


def test_what_is_no_multiple_of_the_head_has_no_factor():
    own = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (30, 5)))
    assert math.isnan(logit_scale(own, own.tanh()))
    assert math.isnan(logit_scale(own, -own))
    assert math.isnan(logit_scale(own, own.flip(1)))
    assert math.isnan(logit_scale(own, own[:, :4]))
    assert logit_scale(own, own.bfloat16()) == 1.0
    assert logit_scale(own, own.log_softmax(1)) == 1.0
    # A head that starts at nought tells nothing yet, and is no reason to refuse.
    assert logit_scale(0 * own, 0 * own) == 1.0


class Changed(nn.Module):
    """A tiny net whose head or logits are changed."""

    def __init__(
        self, body: TinyNet, *, head: nn.Module | None = None, after: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.body = body.body
        self.head = head or body.head
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.head(self.body(x)))


def net(
    *,
    head: Callable[[], nn.Module] | None = None,
    after: Callable[[Tensor], Tensor] = lambda logits: logits,
    relu: bool = True,
) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        body = tiny_net(pictures(120))()
        assert isinstance(body, TinyNet)
        if not relu:
            body.body = nn.Sequential(*body.body[:2], nn.LayerNorm(16, elementwise_affine=False))
        return Changed(body, head=head() if head else None, after=after)

    return build


def run_of(part: ODD, model: Callable[[], nn.Module], **values: Any) -> TrainingRun:
    recipe = Recipe(parts=(part,))
    source = pictures(120, wrong=0.3)
    return fit(one_stage(recipe, epochs=5), source, model=model, engine=EXACT, **values)


@pytest.mark.parametrize("feature_model", FEATURE_MODELS)
def test_every_model_drops_rows(feature_model: str):
    run = run_of(ODD(at=3, percentile=10.0, feature_model=feature_model), net())
    assert run.ledger.read("dropped").any()
    assert run.notes["odd"]["feature_model"] == feature_model
    assert math.isfinite(float(run.notes["odd"]["null"]))


def test_the_models_differ_in_their_threshold():
    nulls = [run_of(ODD(at=3, feature_model=m), net()).notes["odd"]["null"] for m in FEATURE_MODELS]
    assert len(set(nulls)) == 3


def test_permuted_features_are_those_of_the_training_rows_at_the_drop():
    found: dict[str, Tensor] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch == 3 and not found:
            # The first step of epoch 3 has moved the weights; the null is of those before it.
            found["null"] = torch.tensor(run.notes["odd"]["null"])

    source = pictures(120, wrong=0.3)
    nets: list[nn.Module] = []

    def keep(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise StopIteration

    def build() -> nn.Module:
        nets.append(net()())
        return nets[-1]

    part = ODD(at=3, percentile=20.0, feature_model="permuted")
    run_of(part, net(), observers=(Watcher(look),))
    with pytest.raises(StopIteration):
        run_of(part, build, listener=Listener(on_epoch=keep), observers=())
    stopped = nets[0].eval().double()
    mean, std = float(source.x.astype(float).mean()), float(source.x.astype(float).std())
    with torch.no_grad():
        pixels = (torch.from_numpy(source.x).double() - mean) / std
        features = stopped.body(pixels)
    expected = odd_threshold(stopped.head, draw_features=permuted_columns(features))
    # Two simulations of 100,000 draws each, with a density of about 0.3 there.
    assert found["null"].item() == pytest.approx(
        expected, abs=4 * math.sqrt(2 * 0.16 / DRAWS) / 0.3
    )


def test_a_temperature_behind_the_head_reaches_the_threshold():
    run = run_of(ODD(at=3), net(after=lambda logits: 3 * logits))
    assert run.notes["odd"]["logit_scale"] == pytest.approx(3, rel=1e-3)
    assert run_of(ODD(at=3), net()).notes["odd"]["logit_scale"] == 1.0
    # The same net with the factor in its head, which starts and trains differently by nothing.
    variance = float(run.notes["odd"]["variance"])
    assert variance == pytest.approx(9 * loss_variance_before_the_drop(), rel=1e-3)


def loss_variance_before_the_drop() -> float:
    """Give the variance of the bare head, of the run above stopped where it drops."""
    heads: list[Tensor] = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch < 3:
            heads[:] = [run.head(0).weight.detach().clone()]

    run_of(ODD(at=3), net(after=lambda logits: 3 * logits), observers=(Watcher(look),))
    return loss_variance_of_head(heads[0])


def test_cosine_and_weight_normalised_heads_train():
    for head in (
        lambda: CosineHead(16, 3),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(16, 3)),
    ):
        run = run_of(ODD(at=3), net(head=head))
        assert run.notes["odd"]["logit_scale"] == 1.0
        assert math.isfinite(float(run.notes["odd"]["null"]))


def cosine_without_linear() -> nn.Module:
    """A projection is the only linear layer; the logits come from class directions."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(16, 8)
            self.directions = nn.Parameter(torch.eye(3, 8))

        def forward(self, features: Tensor) -> Tensor:
            return 8 * linear(normalize(self.projection(features), dim=1), self.directions)

    return Head()


@pytest.mark.parametrize(
    "model",
    [net(after=torch.tanh), net(after=lambda z: z.flip(1)), net(head=cosine_without_linear)],
    ids=["tanh", "another order", "projection"],
)
@pytest.mark.parametrize("feature_model", FEATURE_MODELS)
def test_a_head_that_is_not_the_end_of_the_net_is_refused_before_it_trains(
    model: Callable[[], nn.Module], feature_model: str
):
    trained = []
    watcher = Watcher(lambda run, seen: trained.append(1))
    with pytest.raises(SettingsError, match="not those of this layer") as caught:
        run_of(ODD(feature_model=feature_model), model, observers=(watcher,))
    assert "odd-phantom" in caught.value.hint
    assert not trained


def test_negative_features_are_warned_of_under_the_talks_model_alone():
    for feature_model in FEATURE_MODELS:
        run = run_of(ODD(at=3, feature_model=feature_model), net(relu=False))
        found = [w for w in run.warnings if "negative" in w]
        assert bool(found) == (feature_model == "gaussian")
        assert not found or 'set `feature_model` to "permuted"' in found[0]
    assert not any("negative" in w for w in run_of(ODD(at=3), net()).warnings)


def test_an_unknown_feature_model_is_refused():
    with pytest.raises(ErrataError, match="feature model `uniform`"):
        ODD(feature_model="uniform")

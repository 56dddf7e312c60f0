"""Drop, on the fly and for good, the samples whose loss looks like that of a wrong label.

**Idea.** While the learning rate is large, the loss of uniformly wrong labels hardly falls and
hardly depends on how many there are. ODD simulates that loss from the last layer alone: it feeds
rectified Gaussian noise to it and charges a random class. At one epoch `at` it drops every row
whose loss, averaged over its last `recent` epochs, lies above the `percentile`-th percentile of
the simulated losses. Training then goes on with the rest, which also takes less time.

**Use it** for long training on labels of unknown quality; it needs no noise rate. It composes:
``odd+mixup``, ``odd+gce``.

**Avoid it** where wrong labels are systematic (pairs of classes, human errors on look-alikes):
their loss is smaller than that of uniform ones, so few are dropped (measured in the docs, "The
claims of ODD"). With few epochs on much data there is little to gain. A network without a linear
head needs `odd-phantom`.

**Variants.** Features that no ReLU has rectified: ``feature_model = "permuted"``, which draws
each dimension from its values on the training rows, or ``"identity"`` after a LayerNorm without a
learned scale. Weight-normalised and cosine heads and a temperature on the logits are taken into
account. `cap_share` limits what one class can lose. ``weight = 0.1`` weighs the chosen rows down
by 10 rather than removing them, which the talk advises against; in a composition, name `odd`
before `mixup` then. The talk's setting "noisy + clean" is ``odd+finetune`` with ``--clean``.

**Cost.** Below 1: one loss per row and epoch in `recent` epochs, one simulation, fewer rows after.

**Source.** Song, Dauphin, Auli, Ma 2020, "Robust and On-the-fly Data Denoising for Image
Classification" (slides of the talk).

**Ours.** `percentile = 20`: the talk draws a band of 2.5 to 10 for 100 classes; with 10 classes
the simulated losses spread wider than the real ones, so a low percentile drops too much
(`docs/decisions/0012`). `at = 40 %` is inside the talk's band of 29 to 50 %. Every class keeps
its cheapest rows (`floor_rows`, `floor_share`), at least 10 and 5 %. A row whose loss is below
ln 2 stays (`least_loss`): its label has more than half of the probability. This matters with two
or three classes, where many simulated labels are right by chance. Losses come from training mode,
as the talk's claim of almost no overhead requires. With mixup the losses are those of un-mixed
inputs. `recent`, `cap_share`, `weight` and the feature models other than ``gaussian`` are ours as
well; ``permuted`` takes features in evaluation mode, from one sweep at `at`.
"""

# Shapes: C classes, D feature width, n simulated draws.

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor, nn

from errata.errors import ErrataError, SettingsError, unknown_name
from errata.methods.card import Card
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
from errata.parts.base import Recipe, register_part
from errata.parts.dropping import DropAboveNull, percentile_of
from errata.streams import generator
from errata.types import Run

__all__ = ["CARD", "ODD", "loss_variance_of_head", "odd_threshold", "simulate_losses"]

# Enough rows to see what a head does, and values of features held for ``permuted``: 128 MiB.
_PROBE = 256
_MOST_VALUES = 2**25


def simulate_losses(
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"] | None,
    *,
    draws: int,
    generator: torch.Generator,
    chunk: int = 16_384,
    draw_features: DrawFeatures | None = None,
) -> Float[Tensor, " n"]:
    """Simulate the cross-entropy [nats] of uniformly wrong labels through a linear head.

    Features are rectified standard normals, labels uniform over the classes:
    ``u = W max(z, 0) + b``, loss ``logsumexp(u) - u_k``. Source: slides of ODD (Song et al. 2020).

    Args:
        weight: [C, D] of the last layer.
        bias: [C], or None.
        draws: How many losses to simulate; 100,000 gives an error of about 0.01 nats.
        generator: CPU generator.
        chunk: Draws held in memory at a time.
        draw_features: Another model of the features (`errata.methods.odd_features`).

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> simulate_losses(torch.zeros(7, 3), None, draws=2, generator=rng)
        tensor([1.9459, 1.9459])
    """
    weight = weight.detach().float().cpu()
    offset = torch.zeros(len(weight)) if bias is None else bias.detach().float().cpu()
    return simulate_through(
        lambda features: torch.addmm(offset, features, weight.T),
        draw_features or rectified_normals(weight.shape[1]),
        draws=draws,
        generator=generator,
        chunk=chunk,
    )


def loss_variance_of_head(
    weight: Float[Tensor, "C D"],
    *,
    mean: Float[Tensor, " D"] | None = None,
    variance: Float[Tensor, " D"] | None = None,
) -> float:
    """Give the variance `v` for which simulated losses are about Normal(ln C + v / 2, v).

    Holds for a centred head with many classes and features; with ten classes and a large `v` the
    losses are skewed and it fails. Source: our derivation.

    Args:
        weight: [C, D] of the last layer.
        mean: Of each feature; None takes that of rectified standard normals.
        variance: Of each feature; None alike.
    """
    weight = weight.detach().double()
    if mean is None or variance is None:
        rectified = 0.5 - 1 / (2 * math.pi)
        own = weight.square().sum(1).mean() * rectified
        between = weight.sum(1).var(correction=0) / (2 * math.pi)
        return float(own + between)
    own = (weight.square() @ variance.to(weight)).mean()
    return float(own + (weight @ mean.to(weight)).var(correction=0))


def odd_threshold(
    head: nn.Linear,
    *,
    percentile: float = 20.0,
    draws: int = 100_000,
    rng: torch.Generator | None = None,
    draw_features: DrawFeatures | None = None,
) -> float:
    """Give the loss [nats] above which ODD takes a label for wrong, from the last layer alone.

    Args:
        head: The last linear layer.
        percentile: 0 to 100, of the simulated losses.
        draws: Simulated losses.
        rng: CPU generator; None takes the one of seed 0.
        draw_features: How to draw its inputs; None draws rectified standard normals.
    """
    rng = generator(0, "odd") if rng is None else rng
    draw_features = draw_features or rectified_normals(head.in_features)
    simulated = simulate_through(head_logits(head), draw_features, draws=draws, generator=rng)
    return percentile_of(simulated, percentile)


@register_part("odd")
@dataclass(kw_only=True)
class ODD(DropAboveNull):
    """Drop rows whose recent mean loss lies above a percentile of losses simulated by the head.

    Attributes:
        draws: Simulated losses.
        feature_model: ``gaussian`` (the talk's), ``permuted`` or ``identity``.
    """

    draws: int = 100_000
    feature_model: str = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_model not in FEATURE_MODELS:
            raise unknown_name("feature model", self.feature_model, FEATURE_MODELS)

    def setup(self, run: Run) -> None:
        """Add the columns, and fail early on a net whose head cannot be simulated."""
        super().setup(run)
        features = self._probe(run)[1]
        below = float((features < 0).float().mean())
        if self.feature_model == "gaussian" and below > 0.01:
            run.warn(
                f"odd simulates rectified features, but {below:.0%} of those that enter the last "
                'layer are negative; set `feature_model` to "permuted"'
            )

    def _probe(self, run: Run) -> tuple[float, Tensor]:
        """Give the factor between head and logits, and features [n, D] of some rows."""
        rows = (run.given >= 0).nonzero()[:_PROBE, 0]
        try:
            head, scale = run.head(0), math.nan
        except ErrataError as error:
            raise SettingsError(
                f"odd simulates the last linear layer, and {error.message}",
                hint="take the recipe `odd-phantom`, which needs no such layer",
            ) from error
        logits, features = run.sweep(0, rows)
        if features is not None and features.shape[1:] == (head.in_features,):
            scale = logit_scale(head_logits(head)(features.float().cpu()), logits)
        if features is None or math.isnan(scale):
            raise SettingsError(
                f"odd simulates the last linear layer `{head}`, but the logits of the net are not "
                "those of this layer; allowed: a net that ends in one linear layer, or in one "
                "that scales its logits",
                hint="take the recipe `odd-phantom`, which needs no such layer",
            )
        return scale, features

    def null_losses(self, run: Run) -> Tensor:
        """Simulate losses of uniform labels through the head."""
        head, (scale, entered) = run.head(0), self._probe(run)
        compute = head_logits(head)
        draw, mean, variance = self._model_features(run, head)
        losses = simulate_through(
            # Multiplying by 1 changes no bit.
            lambda features: scale * compute(features),
            draw,
            draws=self.draws,
            generator=run.stream("odd"),
        )
        v = scale**2 * loss_variance_of_head(head.weight, mean=mean, variance=variance)
        guess = NormalDist(math.log(run.classes) + v / 2, math.sqrt(max(v, 1e-12)))
        run.note(
            "odd",
            feature_model=self.feature_model,
            feature_mean=float(entered.mean()),
            feature_variance=float(entered.float().var(0).mean()),
            logit_scale=scale,
            variance=v,
            predicted_q10=guess.inv_cdf(0.1),
            simulated_q10=percentile_of(losses, 10.0),
        )
        return losses

    def _model_features(
        self, run: Run, head: nn.Linear
    ) -> tuple[DrawFeatures, Tensor | None, Tensor | None]:
        """Give the model of the features, and their mean and variance [D] (None: the talk's)."""
        width = head.in_features
        if self.feature_model == "gaussian":
            return rectified_normals(width), None, None
        if self.feature_model == "identity":
            return plain_normals(width), torch.zeros(width), torch.ones(width)
        features = self._training_features(run, most=max(1000, _MOST_VALUES // width))
        return permuted_columns(features), features.mean(0), features.var(0, correction=0)

    def _training_features(self, run: Run, most: int) -> Tensor:
        """Give features [n, D] of the rows in training, of `most` rows drawn from them if more."""
        rows = (~run.ledger.read(self._column).isnan().all(1)).nonzero()[:, 0].cpu()
        if len(rows) > most:
            order = torch.randperm(len(rows), generator=run.stream("odd-rows"))
            rows = rows[order[:most]]
        features = run.sweep(0, rows)[1]
        assert features is not None, "setup has checked that the net gives features"
        return features.float().cpu()


PIPELINE = (
    "train on all rows while the learning rate is high",
    "average each row's loss over its last epochs",
    "simulate losses of wrong labels: noise through the head, a random class",
    "drop rows above the 20th percentile, once and for good",
    "train on with the rest",
)

CARD = Card(
    name="odd",
    summary="drops rows whose loss looks like that of uniformly wrong labels, once",
    source="Song et al. 2020, Robust and On-the-fly Data Denoising (slides)",
    year=2020,
    way="drop",
    pipeline=PIPELINE,
    text=__doc__ or "",
    build=lambda: Recipe(parts=(ODD(),)),
)

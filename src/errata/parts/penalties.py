"""Penalties on what a batch is predicted to hold: its mean against a prior, and its entropy.

Source of both terms: joint optimisation (Tanaka et al. 2018, CVPR). Pure functions first.

Shapes: B batch, N rows, C classes. In formulas s is the softmax and y the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.parts.base import Part
from errata.types import Plan, Run, Seen

__all__ = [
    "DIVERGENCES",
    "LEAST_MASS",
    "PRIORS",
    "PriorAndEntropy",
    "class_shares",
    "draw_balanced",
    "follow_mean",
    "kl_to_prediction",
    "mean_prediction",
    "prediction_entropy",
    "prior_cross_entropy",
    "prior_divergence",
]

LEAST_MASS = 1e-8
"""What a share of a class is raised to before its logarithm is taken."""


def kl_to_prediction(
    logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """Give ``KL(y || s)`` [nats] of each row, with ``0 ln 0 = 0``.

    It is the cross-entropy less the entropy of the target, which does not depend on the net, so
    both have the same gradient. Training takes the cross-entropy; this one is for reports, as it
    is 0 where the prediction is the target. Source: Tanaka et al. 2018.

    Args:
        logits: [B, C].
        target: [B, C], each row a distribution.
    """
    return (torch.xlogy(target, target) - target * logits.log_softmax(1)).sum(1)


def prediction_entropy(logits: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Give the entropy [nats] of each prediction, 0 to ln C."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def mean_prediction(
    probs: Float[Tensor, "B C"], weight: Float[Tensor, " B"] | None = None
) -> Float[Tensor, " C"]:
    """Give the mean of predictions; rows of weight 0 do not count.

    Args:
        probs: [B, C].
        weight: [B], 0 and above; None weighs all alike.
    """
    if weight is None:
        return probs.mean(0)
    return (weight[:, None] * probs).sum(0) / weight.sum().clamp_min(1e-12)


def class_shares(given: Int[Tensor, " N"], classes: int) -> Float[Tensor, " C"]:
    """Give the share of each class among the labelled rows; -1 is unlabelled.

    Example:
        >>> class_shares(torch.tensor([0, 2, 2, -1, 0]), 3)
        tensor([0.5000, 0.0000, 0.5000])
    """
    counts = torch.bincount(given[given >= 0], minlength=classes)
    return counts / counts.sum().clamp_min(1)


def _kl(left: Tensor, right: Tensor) -> Tensor:
    logs = left.clamp_min(LEAST_MASS).log() - right.clamp_min(LEAST_MASS).log()
    return (left * logs).sum()


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward": lambda mean, prior: _kl(prior, mean),
    "reverse": _kl,
    "symmetric": lambda mean, prior: _kl(prior, mean) + _kl(mean, prior),
}
"""How far a mean prediction is from a prior, by name."""


def prior_divergence(
    mean: Float[Tensor, " C"], prior: Float[Tensor, " C"], *, divergence: str = "forward"
) -> Float[Tensor, ""]:
    """Give the divergence [nats] between a mean prediction and a prior.

    Args:
        mean: [C], sums to 1.
        prior: [C], sums to 1.
        divergence: ``forward`` is the paper's ``KL(prior || mean)``, which grows without bound as
            a class dies out; ``reverse`` is ``KL(mean || prior)``; ``symmetric`` is their sum, as
            Kullback and Leibler first wrote it.

    Example:
        >>> prior = torch.tensor([0.5, 0.5])
        >>> prior_divergence(torch.tensor([0.75, 0.25]), prior)
        tensor(0.1438)
    """
    assert divergence in DIVERGENCES, divergence
    return DIVERGENCES[divergence](mean, prior)


def prior_cross_entropy(mean: Float[Tensor, " C"], prior: Float[Tensor, " C"]) -> Float[Tensor, ""]:
    """Give ``-sum prior ln mean`` [nats], as the published code of joint optimisation has it.

    It is the ``forward`` divergence and the entropy of the prior, so both have one gradient.
    """
    return -(prior * mean.clamp_min(LEAST_MASS).log()).sum()


def follow_mean(
    batch: Float[Tensor, " C"], past: Float[Tensor, " C"], *, rate: float
) -> Float[Tensor, " C"]:
    """Give the moving mean ``rate * past + (1 - rate) * batch``, with the gradient of `batch`.

    The gradient is that of the batch mean at full strength: were the moving mean that of all rows,
    it would be an unbiased estimate of the gradient over all rows. Our choice; for classes that
    are too many, or too rare, for the mean of one batch.

    Args:
        batch: Mean of this batch.
        past: Moving mean so far; NaN before the first batch, which then stands for it.
        rate: 0 (the batch alone) to 1 (never moves).

    Example:
        >>> follow_mean(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), rate=0.9)
        tensor([0.5500, 0.4500])
    """
    moved = torch.where(past.isnan(), batch, rate * past + (1 - rate) * batch).detach()
    return moved + (batch - batch.detach())


def draw_balanced(plan: Plan) -> Plan:
    """Draw every given class equally often in all laps over training rows."""
    return Plan(
        tuple(
            replace(
                lap, groups=tuple(replace(group, order="class_balanced") for group in lap.groups)
            )
            if lap.pool == "train"
            else lap
            for lap in plan.laps
        )
    )


PRIORS: tuple[str, ...] = ("given", "uniform")


@dataclass(kw_only=True)
class PriorAndEntropy(Part):
    """Pull the mean prediction towards a prior, and each prediction towards certainty.

    Adds ``alpha * divergence(mean, prior) + beta * mean entropy`` to the objective. Rows count by
    their weight. With `moving` above 0, each process follows the mean of the rows that it saw;
    after a resume all of them go on from that of the first.

    Attributes:
        alpha: Weight of the prior term; 0 leaves it out.
        beta: Weight of the entropy term; 0 leaves it out.
        divergence: ``forward``, ``reverse`` or ``symmetric``, see `prior_divergence`.
        prior: ``given``, the class shares of the given labels, or ``uniform``.
        moving: Rate of a moving mean of the predictions, 0 to below 1; 0 takes the batch mean.
        balanced: Draws every given class equally often; the ``given`` prior is then the same for
            all classes that have rows.
    """

    alpha: float = 1.0
    beta: float = 0.5
    divergence: str = "forward"
    prior: str = "given"
    moving: float = 0.0
    balanced: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("divergence", (*DIVERGENCES,)), ("prior", PRIORS)):
            if getattr(self, name) not in allowed:
                raise unknown_name(f"{self.kind} {name}", getattr(self, name), allowed)
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(
                    f"{self.kind} {name} `{getattr(self, name)}` is out of range; allowed: 0 (off) "
                    "and above",
                    hint=f"{getattr(PriorAndEntropy, name)} is the default",
                )
        if not 0 <= self.moving < 1:
            raise SettingsError(
                f"{self.kind} moving `{self.moving}` is out of range; allowed: 0 (off) to below 1",
                hint="0.9 is usual for many classes",
            )

    def setup(self, run: Run) -> None:
        """Find the prior, and forget the mean of an earlier stage."""
        shares = class_shares(run.given, run.classes)
        if self.balanced:
            shares = (shares > 0) / (shares > 0).sum()
        uniform = torch.full_like(shares, 1 / run.classes)
        self.prior_ = uniform if self.prior == "uniform" else shares
        if self.moving > 0:
            shape = (len(run.nets), run.classes)
            run.memory[self._memory] = torch.full(shape, math.nan, device=run.device)

    @property
    def _memory(self) -> str:
        return f"{self.kind.replace('-', '_')}_mean"

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Draw the classes equally often where asked."""
        return draw_balanced(plan) if self.balanced else plan

    def penalty(self, run: Run, net: int, seen: Seen) -> Tensor | None:
        """Give both terms."""
        if self.alpha == 0 and self.beta == 0:
            return None
        total = seen.logits.new_zeros(())
        if self.alpha > 0:
            mean = self._mean(run, net, seen)
            prior = self.prior_.to(mean)
            total = total + self.alpha * prior_divergence(mean, prior, divergence=self.divergence)
        if self.beta > 0:
            entropy = prediction_entropy(seen.logits)
            total = total + self.beta * (_weight(seen) * entropy).mean()
        return total

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Move the mean."""
        if self.moving > 0 and self.alpha > 0:
            means = run.memory[self._memory].clone()
            for net, each in seen.items():
                means[net] = self._mean(run, net, each).detach().to(means)
            run.memory[self._memory] = means

    def _mean(self, run: Run, net: int, seen: Seen) -> Tensor:
        batch = mean_prediction(seen.logits.softmax(1), _weight(seen))
        if self.moving == 0:
            return batch
        return follow_mean(batch, run.memory[self._memory][net].to(batch), rate=self.moving)


def _weight(seen: Seen) -> Tensor:
    """Give what a row weighs: mixing moves the weight into the mass of the target."""
    return seen.batch.weight * seen.batch.target.sum(1)

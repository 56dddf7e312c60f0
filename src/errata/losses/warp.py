"""Ranking losses: what stands above the label, weighed by how much does.

A class violates a label y where it comes within a margin of one, ``1 + f_i > f_y``. The rank of y
counts its violators, and a rank k costs ``L(k) = alpha_1 + ... + alpha_k``.

Shapes: B batch, C classes. In formulas f are the scores of a row, which here are its logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError
from errata.losses.base import Loss, register_loss
from errata.losses.pointwise import Value, in_full
from errata.streams import generator as seeded
from errata.types import Batch, Run

__all__ = [
    "WARP",
    "expected_estimate",
    "rank_costs",
    "rank_error",
    "warp",
    "warp_sampled",
]

Alphas = str | Sequence[float] | Tensor
Sampler = Literal["exact-rank", "estimate"]

_ALPHAS = ("harmonic", "uniform", "first")
_SAMPLERS = ("exact", "exact-rank", "estimate")


def rank_costs(alphas: Alphas, classes: int) -> Float[Tensor, " C"]:
    """Give what each rank costs, L(0) to L(C - 1), in float64.

    Args:
        alphas: ``harmonic`` is ``1 / j``, the top of the list first; ``uniform`` is
            ``1 / (C - 1)``, the mean rank; ``first`` counts whether anything stands above the
            label. Or the numbers themselves, falling or level, at most C - 1 of them; the rest
            is 0.
        classes: C.

    Example:
        >>> rank_costs("harmonic", 4)
        tensor([0.0000, 1.0000, 1.5000, 1.8333], dtype=torch.float64)

    Raises:
        SettingsError: No such name, or numbers that rise, are negative or are too many.
    """
    ranks = torch.arange(1, classes, dtype=torch.float64)
    if isinstance(alphas, str):
        _check_word("alphas", alphas, _ALPHAS)
        named = {"harmonic": 1 / ranks, "uniform": torch.ones_like(ranks) / (classes - 1)}
        steps = named.get(alphas, (ranks == 1).double())
    else:
        given = torch.as_tensor(alphas, dtype=torch.float64).cpu()
        _check_falling(given, classes)
        steps = torch.cat([given, torch.zeros(classes - 1 - len(given), dtype=torch.float64)])
    return torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])


def warp(scores: Float[Tensor, "B C"], alphas: Alphas = "harmonic") -> Float[Tensor, "B C"]:
    """Weighted approximate-rank pairwise loss, ``L(r) / r * sum_i max(0, 1 - f_y + f_i)``.

    The sum is over the r violators of y, and a label without violators costs nothing. The weight
    ``L(r) / r`` is a constant to the gradient. Exact: sorts each row instead of comparing all
    pairs, so that memory grows with C, not with its square. Source: Weston, Bengio, Usunier 2011.

    Args:
        scores: [B, C].
        alphas: See `rank_costs`.

    Example:
        >>> warp(torch.tensor([[0.5, 2.0, 0.0, -3.0]]))
        tensor([[2.2500, 0.0000, 3.3750, 8.8611]])
    """
    ordered, order = _falling(scores)
    costs = rank_costs(alphas, scores.shape[1]).to(scores.device)
    ranks = torch.arange(len(costs), device=scores.device)
    weights = (costs / ranks.clamp_min(1)).to(ordered)
    within, own = _within_margin(ordered, ordered)
    sums = torch.nn.functional.pad(ordered.cumsum(1), (1, 0)).gather(1, within)
    # Where a class is within its own margin, its hinge of one is part of the sum.
    hinges = sums - within * (ordered - 1) - own
    return torch.empty_like(ordered).scatter(1, order, weights[within - own] * hinges)


def warp_sampled(
    scores: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    generator: torch.Generator,
    *,
    rank: Sampler = "exact-rank",
    alphas: Alphas = "harmonic",
) -> Float[Tensor, " B"]:
    """WARP with one violator per row, drawn evenly from all, ``w * (1 - f_y + f_v)``.

    With ``exact-rank`` the weight is ``w = L(r)``, and the mean over draws equals `warp`. With
    ``estimate`` it is that of the WSABIE sampler, which draws other classes evenly until one
    violates, N times but at most C - 1: ``w = L(floor((C - 1) / N))``, or 0 where none did. That
    is biased (`expected_estimate`). Its N is drawn at once from the law that it has, without a
    loop. Source: Weston, Bengio, Usunier 2011, algorithm 1.

    Args:
        scores: [B, C].
        labels: Class of each row.
        generator: CPU generator.
        rank: ``exact-rank`` or ``estimate``.
        alphas: See `rank_costs`.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> warp_sampled(torch.zeros(1, 4), torch.tensor([2]), rng, rank="estimate")
        tensor([1.8333])
    """
    return _sampled(scores, labels[:, None], generator, rank=rank, alphas=alphas)[:, 0]


def expected_estimate(classes: int, violators: int, alphas: Alphas = "harmonic") -> float:
    """Give the mean weight of the WSABIE sampler, where the exact one is ``L(violators)``.

    ``sum_N p (1 - p)^(N - 1) L(floor((C - 1) / N))`` for ``p = violators / (C - 1)`` and N from 1
    to C - 1. Source: our derivation.

    Args:
        classes: C.
        violators: Classes that violate the label, 0 to C - 1.
        alphas: See `rank_costs`.

    Example:
        >>> round(expected_estimate(4, 1), 4)
        0.9815
    """
    others = classes - 1
    trials = torch.arange(1, classes, dtype=torch.float64)
    share = violators / others
    found = share * (1 - share) ** (trials - 1)
    return float(found @ rank_costs(alphas, classes)[(others // trials).long()])


def rank_error(
    scores: Float[Tensor, "B C"], labels: Int[Tensor, " B"], alphas: Alphas = "harmonic"
) -> Float[Tensor, " B"]:
    """Measure ``L(#{i != y: f_i >= f_y})``, the rank error without a margin; it has no gradient.

    Args:
        scores: [B, C].
        labels: Class of each row.
        alphas: See `rank_costs`.

    Example:
        >>> rank_error(torch.tensor([[0.5, 2.0, 0.5, -3.0]]), torch.tensor([0]))
        tensor([1.5000])
    """
    above = (scores >= scores.gather(1, labels[:, None])).sum(1) - 1
    return rank_costs(alphas, scores.shape[1]).to(scores.device)[above].float()


@register_loss("warp")
class WARP(Loss):
    """Ranking loss; see `warp` and `warp_sampled`.

    `sampler` is ``exact``, or ``exact-rank`` or ``estimate``, where every column draws a violator
    of its own. `alphas` is ``harmonic``, ``uniform`` or ``first``.
    """

    def __init__(self, *, alphas: Value = "harmonic", sampler: Value = "exact") -> None:
        super().__init__()
        self.alphas = _check_word("alphas", alphas, _ALPHAS)
        self.sampler = _check_word("sampler", sampler, _SAMPLERS)
        self.run_: Run | None = None

    def setup(self, run: Run, net: int) -> None:
        """Remember whose streams to draw from."""
        self.run_, self.net_ = run, net

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        if self.sampler == "exact":
            return warp(logits, self.alphas)
        # Outside a run every call draws the same.
        rng = seeded(0, "warp") if self.run_ is None else self.run_.stream(f"warp{self.net_}")
        labels = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape)
        return _sampled(logits, labels, rng, rank=self.sampler, alphas=self.alphas)


def _falling(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows, less their largest score, which changes no difference and keeps sums small."""
    scores = in_full(scores)
    scores = scores - scores.detach().amax(1, keepdim=True)
    ordered, order = scores.contiguous().sort(dim=1, descending=True)
    return ordered, order


def _within_margin(ordered: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Count the sorted scores [B, C] that violate each score [B, K] of the same row.

    Returns:
        The count, and how much of it is the class itself: 1, but 0 where rounding swallows the
        margin.
    """
    with torch.no_grad():
        margin = 1 - scores
        return torch.searchsorted(ordered.neg(), margin), (scores.neg() < margin).long()


def _sampled(
    scores: Tensor, labels: Tensor, generator: torch.Generator, *, rank: str, alphas: Alphas
) -> Tensor:
    """Sample the loss of labels [B, K] of each row."""
    _check_word("sampler", rank, _SAMPLERS[1:])
    (ordered, order), classes = _falling(scores), scores.shape[1]
    costs = rank_costs(alphas, classes).to(scores.device)
    shape = (2, *labels.shape)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64).to(scores.device)
    everyone = torch.arange(classes, device=scores.device).expand(order.shape)
    place = torch.empty_like(order).scatter(1, order, everyone).gather(1, labels)
    label_scores = ordered.gather(1, place)
    within, own = _within_margin(ordered, label_scores)
    violators = within - own
    nth = (uniform[0] * violators).long()
    # The label itself is no violator: what comes after it moves up by one.
    nth = torch.where(nth >= place, nth + own, nth).clamp_max(classes - 1)
    counted = violators if rank == "exact-rank" else _estimated_rank(violators, classes, uniform[1])
    return costs[counted].to(ordered) * (1 - label_scores + ordered.gather(1, nth))


def _estimated_rank(violators: Tensor, classes: int, uniform: Tensor) -> Tensor:
    """Draw ``floor((C - 1) / N)``, or 0 where C - 1 draws found no violator."""
    others = classes - 1
    hits = violators.double() / others
    # Where all violate, the logarithm is minus infinity and N is one.
    trials = torch.log1p(-uniform) / torch.log1p(-hits)
    most = torch.where(violators > 0, trials.nan_to_num(others), torch.full_like(trials, others))
    count = most.clamp_max(others).floor().long() + 1
    return torch.where(count <= others, others // count, 0)


def _check_word(name: str, value: Value, allowed: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    words = ", ".join(f"`{word}`" for word in allowed)
    raise SettingsError(
        f"`{name}` of loss `warp` is `{value}`; allowed: {words}",
        hint=f"leave `{name}` out for the default",
    )


def _check_falling(alphas: Tensor, classes: int) -> None:
    fits = alphas.dim() == 1 and 1 <= len(alphas) < classes and bool(alphas.isfinite().all())
    if fits and bool((alphas[:-1] >= alphas[1:]).all()) and bool(alphas[-1] >= 0):
        return
    raise SettingsError(
        f"`alphas` of loss `warp` is `{alphas.tolist()}`; allowed: 1 to {classes - 1} numbers "
        "that do not rise and are not below 0",
        hint="take `harmonic`",
    )

"""Learning from verdicts how well rows fit their class (CleanNet): the pairs and the steps.

Shapes: B pairs, n rows, C classes, D feature width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from errata.parts.verification import (
    VerificationNet,
    class_references,
    normalise_features,
    pseudo_verification_loss,
    verification_loss,
)

__all__ = ["Pairs", "Verifier"]

_REBUILT, _UNSEEN, _DECAY = 0.1, 0.1, 1e-4
"""What rebuilding features, and pulling rows that nobody looked at, count; and weight decay."""
_CHUNK = 8192


class Pairs(NamedTuple):
    """Rows beside classes that they may belong to.

    Attributes:
        rows: [B] places among the features.
        labels: [B] classes.
        right: [B] 1 where the row belongs to the class, 0 where not, as far as people looked.
        seen: [B] 1 where they did.
    """

    rows: Tensor
    labels: Tensor
    right: Tensor
    seen: Tensor


@dataclass(kw_only=True)
class Verifier:
    """How the encoders are learned.

    Attributes:
        passes: Over the verified rows.
        batch: Verified rows, and as many others, of each step.
        lr: Learning rate at first.
        contrast: Rows found right are examples of a wrong class as well.
        references: Centres that tell a class.
        norm: Of the features: ``log``, ``l2`` or ``none``.
        decoder: ``linear`` or ``tanh``.
        dropout: Share of the first hidden layer of the references, from 0 to below 1.
    """

    passes: int = 100
    batch: int = 32
    lr: float = 0.01
    contrast: bool = True
    references: int = 32
    norm: str = "log"
    decoder: str = "linear"
    dropout: float = 0.0

    def fit(
        self,
        features: Float[Tensor, "n D"],
        given: Int[Tensor, " n"],
        verified: Int[Tensor, " n"],
        *,
        classes: int,
        generator: torch.Generator,
    ) -> Float[Tensor, " n"]:
        """Learn from the rows that people looked at how well each row fits its class: a cosine.

        Args:
            features: Of all rows.
            given: Class of each.
            verified: 1 where a person found the class right, 0 where wrong, -1 unknown.
            classes: How many there are.
            generator: CPU generator of everything that is drawn.
        """
        centres, real = class_references(
            features, given, classes=classes, count=self.references, generator=generator
        )
        x = normalise_features(features, self.norm)
        told = normalise_features(centres, self.norm), real
        net = VerificationNet(features.shape[1], decoder=self.decoder, generator=generator).to(x)
        steps = math.ceil(self.passes * int((verified >= 0).sum()) / self.batch)
        optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9, weight_decay=_DECAY)
        falls = [steps // 2, steps * 3 // 4]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls)
        draw = _Drawer(given, verified, real.any(1).nonzero()[:, 0], self.contrast, generator)
        for _ in range(steps):
            loss = self._loss(net, x, draw(self.batch), told, generator)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            codes = net.encode_classes(*told)
            parts = torch.arange(len(x), device=x.device).split(_CHUNK)  # type: ignore[no-untyped-call]
            return torch.cat([cosine_similarity(net.rows(x[p]), codes[given[p]]) for p in parts])

    def _loss(
        self,
        net: VerificationNet,
        x: Tensor,
        pairs: Pairs,
        told: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        used, place = torch.unique(pairs.labels, return_inverse=True)
        references, real = (each[used] for each in told)
        keep = None
        if self.dropout > 0:
            drawn = torch.rand(*real.shape, net.wide_units, generator=generator)
            keep = (drawn >= self.dropout).to(x) / (1 - self.dropout)
        entered = x[pairs.rows]
        rows = net.rows(entered)
        cosine = cosine_similarity(rows, net.encode_classes(references, real, keep)[place])
        checked = pairs.seen * verification_loss(cosine, pairs.right)
        pulled = _UNSEEN * (1 - pairs.seen) * pseudo_verification_loss(cosine)
        rebuilt = _REBUILT * (entered - net.back(rows)).square().sum(1)
        return torch.mean(checked + pulled + rebuilt)


class _Drawer:
    """Draws rows beside classes: judged ones, unjudged ones, and others for contrast."""

    def __init__(
        self,
        given: Tensor,
        verified: Tensor,
        classes: Tensor,
        contrast: bool,
        generator: torch.Generator,
    ) -> None:
        self.given, self.verified, self.classes = given, verified, classes
        self.contrast, self.generator = contrast and len(classes) > 1, generator
        self.known = (verified >= 0).nonzero()[:, 0]
        unknown = (verified < 0).nonzero()[:, 0]
        self.unknown = unknown[given[unknown].argsort(stable=True)]
        sizes = torch.bincount(given[unknown], minlength=int(classes.max()) + 1)
        self.starts, self.sizes = (each[sizes > 0] for each in (sizes.cumsum(0) - sizes, sizes))

    def __call__(self, count: int) -> Pairs:
        """Give rows, their classes, whether these are right, and whether a person said so."""
        judged = self.known[self._numbers(len(self.known), count)]
        labels, right = self.given[judged], self.verified[judged].float()
        drawn = [(judged, labels, right, torch.ones_like(right))]
        if len(self.unknown):
            rows = self._unjudged(count)
            nothing = torch.zeros(len(rows), device=rows.device)
            drawn.append((rows, self.given[rows], nothing, nothing))
        if self.contrast and right.any():
            rows, theirs = judged[right > 0], labels[right > 0]
            place = torch.searchsorted(self.classes, theirs)
            shift = 1 + self._numbers(len(self.classes) - 1, len(rows))
            others = self.classes[(place + shift) % len(self.classes)]
            wrong = torch.zeros(len(rows), device=rows.device)
            drawn.append((rows, others, wrong, torch.ones_like(wrong)))
        return Pairs(*(torch.cat(each) for each in zip(*drawn, strict=True)))

    def _unjudged(self, count: int) -> Tensor:
        """Draw classes alike, then a row of each."""
        which = self._numbers(len(self.sizes), count)
        parts = torch.rand(count, generator=self.generator).to(which.device)
        return self.unknown[self.starts[which] + (parts * self.sizes[which]).long()]

    def _numbers(self, below: int, count: int) -> Tensor:
        drawn = torch.randint(below, (count,), generator=self.generator)
        return drawn.to(self.given.device)

"""Labels corrected by prototypes of each class: the part of SMP.

Source: Han, Luo, Wang 2019, "Deep Self-Learning From Noisy Labels" (ICCV, arXiv:1908.02160).

Shapes: B batch, N training rows, n candidates of a class, C classes, P prototypes, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.features.density import TIES
from errata.features.prototypes import (
    Selection,
    best_scores,
    class_scores,
    correct_labels,
    mean_prototypes,
    select_by_density,
    select_by_k_means,
    select_densest,
    select_density_peaks,
)
from errata.ledger import Column, standard
from errata.parts.base import Part, register_part
from errata.types import Batch, Moment, Plan, Run, epoch_of

__all__ = ["SMP", "blend_targets"]


def blend_targets(
    target: Float[Tensor, "B C"], corrected: Int[Tensor, " B"], *, alpha: float = 0.5
) -> Float[Tensor, "B C"]:
    """Move each target part of the way towards its corrected label, and keep its mass.

    Equals ``(1 - alpha) * loss(target) + alpha * loss(corrected)`` for every loss of this package,
    because losses are linear in the target. Source: the two-term objective of SMP.

    Args:
        target: What the loss is asked to believe so far.
        corrected: Class of each row.
        alpha: Share of the corrected label, 0 (ignore it) to 1 (trust it alone).

    Example:
        >>> blend_targets(torch.eye(2), torch.tensor([0, 0]), alpha=0.25)
        tensor([[1.0000, 0.0000],
                [0.2500, 0.7500]])
    """
    mass = target.sum(1, keepdim=True)
    return ((1 - alpha) * target).scatter_add(1, corrected[:, None], alpha * mass)


_SELECTIONS = ("density", "densest", "kmeans++", "density_peak_euclidean")
_SCORES = ("mean", "max")
_LIMITS: dict[str, tuple[float, float]] = {
    "m": (1, math.inf),
    "p": (1, math.inf),
    "alpha": (0, 1),
    "sc_percentile": (0, 100),
    "eta_cap": (-1, 2),
    "margin": (0, 2),
}


@register_part("smp")
@dataclass(kw_only=True)
class SMP(Part):
    """Correct labels by prototypes before every epoch from `start` on, and train on both labels.

    Attributes:
        start: First epoch with corrected labels. A share leaves at least one epoch before it.
        m: Candidates for prototypes, drawn anew each time from the rows given a class.
        p: Prototypes of a class; a class with fewer rows takes all of them.
        alpha: Share of the corrected label in the target.
        sc_percentile: 0 to 100, of the cosines within a class: the cut-off of the density.
        select: ``density`` (the paper's), ``densest`` (without eta), ``kmeans++`` or
            ``density_peak_euclidean``.
        eta_cap: Candidates with an eta of this or more are near-duplicates of a denser one;
            2 turns it off.
        ties: ``index`` or ``strict``, see `likeness_to_denser`.
        center: Subtracts the mean of all features before cosines are taken.
        scores: ``mean`` cosine to the prototypes of a class, or the ``max``.
        margin: Labels stay where the best class leads the given one by less, in cosines.
        class_balanced: Weighs the loss of each class by the inverse of its share of the labels.
    """

    start: Moment = "20%"
    m: int = 1280
    p: int = 8
    alpha: float = 0.5
    sc_percentile: float = 40.0
    select: str = "density"
    eta_cap: float = 0.95
    ties: str = "index"
    center: bool = False
    scores: str = "mean"
    margin: float = 0.0
    class_balanced: bool = False

    def __post_init__(self) -> None:
        epoch_of(self.start, 1)
        for name, allowed in (("select", _SELECTIONS), ("ties", TIES), ("scores", _SCORES)):
            if getattr(self, name) not in allowed:
                raise unknown_name(f"smp {name}", getattr(self, name), allowed)
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                words = f"{least} to {most}" if most < math.inf else f"{least} and above"
                raise SettingsError(
                    f"smp {name} `{value}` is out of range; allowed: {words}",
                    hint=f"{getattr(SMP, name)} is the default",
                )
        if self.p > self.m:
            raise SettingsError(
                f"smp p `{self.p}` is more than its {self.m} candidates; allowed: 1 to {self.m}",
                hint="choose fewer prototypes, or a larger `m`",
            )

    def setup(self, run: Run) -> None:
        """Add the columns; refuse a start that never comes and a net without features."""
        self.epoch_ = epoch_of(self.start, run.epochs)
        if str(self.start).strip().endswith("%") and run.epochs > 1:
            self.epoch_ = max(1, self.epoch_)
        if not 0 <= self.epoch_ < run.epochs:
            raise SettingsError(
                f"smp start `{self.start}` is not within a stage of {run.epochs} epochs; allowed: "
                f"epoch 0 to {run.epochs - 1}",
                hint="start earlier, or train for longer",
            )
        run.head(0)
        if run.sweep(0, (run.given >= 0).nonzero()[:2, 0])[1] is None:
            raise SettingsError(
                "smp needs the features that enter the last linear layer, and the net does not "
                "run it; allowed: a net that ends in one",
                hint="end the model in a linear layer and store it as `self.head`",
            )
        run.ledger.add(
            self.kind,
            standard("corrected"),
            Column("first_corrected", dtype=torch.int64, init=-1),
            Column("prototype_margin"),
        )
        # By name, so that ties and draws do not depend on the order of the rows.
        by_name = sorted(range(run.num_rows), key=run.ledger.ids.__getitem__)
        rows = torch.tensor(by_name, device=run.device)
        self.rows_ = rows[run.given[rows] >= 0]
        sizes = torch.bincount(run.given[self.rows_], minlength=run.classes)
        self.class_weights_ = sizes.sum() / (run.classes * sizes.clamp_min(1))
        self._check_sizes(run, sizes)
        for label in ((sizes > 0) & (sizes < self.p)).nonzero()[:, 0].tolist():
            run.warn(
                f"smp: class `{run.ledger.classes[label]}` has {int(sizes[label])} rows, fewer "
                f"than the {self.p} prototypes asked for; all of them are taken"
            )

    def _check_sizes(self, run: Run, sizes: Tensor) -> None:
        """Refuse numbers that somebody chose and that a class has no rows for."""
        smallest, label = torch.where(sizes > 0, sizes, sizes.max() + 1).min(0)
        for name in ("p", "m"):
            # The defaults are the paper's, and a small class takes all its rows.
            chosen = getattr(self, name)
            if chosen != getattr(SMP, name) and chosen > smallest:
                raise SettingsError(
                    f"smp {name} `{chosen}` is more than the {int(smallest)} rows of class "
                    f"`{run.ledger.classes[int(label)]}`; allowed: 1 to {int(smallest)}",
                    hint=f"choose fewer, or leave `{name}` out: small classes then take all rows",
                )

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Correct the labels of all rows, by prototypes among the rows of this plan."""
        if any(lap.pool == "trusted" for lap in plan.laps):
            raise SettingsError(
                "smp does not go with steps on trusted samples, which have no corrected labels",
                hint="take `smp+finetune`, which trains on them afterwards",
            )
        if run.epoch >= self.epoch_:
            planned = torch.zeros(run.num_rows, dtype=torch.bool)
            for group in (group for lap in plan.laps for group in lap.groups):
                planned[group.rows.cpu()] = True
            self._correct(run, planned.to(run.device))
        return plan

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Move the targets towards the corrected labels."""
        if not batch.pure:
            raise SettingsError(
                "smp cannot tell the labels of rows that were mixed before; allowed: smp first",
                hint="name it first: `smp+mixup`",
            )
        target = batch.target
        if run.epoch >= self.epoch_ and self.alpha > 0:
            corrected = run.ledger.read("corrected", batch.rows)
            target = blend_targets(target, corrected, alpha=self.alpha)
        if self.class_balanced:
            target = target * self.class_weights_.to(target)
        return replace(batch, target=target)

    def _correct(self, run: Run, planned: Tensor) -> None:
        rows, given = self.rows_, run.given[self.rows_]
        features = run.sweep(0, rows)[1]
        assert features is not None, "setup has checked that the net gives features"
        if self.center:
            features = features - features.mean(0)
        prototypes = self._choose(run, rows, features, planned)
        if self.scores == "max":
            scores = best_scores(features, prototypes)
        else:
            scores = class_scores(features, mean_prototypes(features, prototypes))
        corrected, lead = correct_labels(scores, given, margin=self.margin)
        first = bool((run.ledger.read("first_corrected") < 0).all())
        for name in ("corrected", "first_corrected") if first else ("corrected",):
            run.ledger.write(name, rows, corrected, stamp=run.tick)
        run.ledger.write("prototype_margin", rows, lead, stamp=run.tick)
        self._tell(run, given, corrected, first=first)

    def _choose(self, run: Run, rows: Tensor, features: Tensor, planned: Tensor) -> Tensor:
        """Choose prototypes [C, P], as places in `rows`, and remember how."""
        rng = run.stream("smp")
        most = min(self.m, int(torch.bincount(run.given[rows]).max()))
        remembered = {
            "prototypes": torch.full((run.classes, min(self.p, most)), -1, device=run.device),
            "candidates": torch.full((run.classes, most), -1, device=run.device),
            "density": torch.full((run.classes, most), math.nan, device=run.device),
            self._apart: torch.full((run.classes, most), math.nan, device=run.device),
        }
        places = remembered["prototypes"].clone()
        for label in range(run.classes):
            members = self._candidates(run, rows, label, planned)
            if not len(members):
                continue
            drawn = torch.randperm(len(members), generator=rng)[: self.m].sort().values
            members = members[drawn.to(members.device)]
            found = self._select(features[members], rng)
            places[label, : len(found.chosen)] = members[found.chosen]
            remembered["prototypes"][label, : len(found.chosen)] = rows[members[found.chosen]]
            remembered["candidates"][label, : len(members)] = rows[members]
            if found.density is not None and found.apart is not None:
                remembered["density"][label, : len(members)] = found.density.float()
                remembered[self._apart][label, : len(members)] = found.apart.float()
        run.memory.update({f"smp_{name}": tensor for name, tensor in remembered.items()})
        return places

    @property
    def _apart(self) -> str:
        """Name what is remembered beside the density: eta, or the distance of density peaks."""
        return "distance" if self.select == "density_peak_euclidean" else "apart"

    def _select(self, features: Tensor, rng: torch.Generator) -> Selection:
        if self.select == "kmeans++":
            return select_by_k_means(features, count=self.p, generator=rng)
        if self.select == "density_peak_euclidean":
            return select_density_peaks(features, count=self.p)
        percentile, ties = self.sc_percentile, self.ties
        if self.select == "densest":
            return select_densest(features, count=self.p, percentile=percentile, ties=ties)
        cap = self.eta_cap
        return select_by_density(features, count=self.p, percentile=percentile, cap=cap, ties=ties)

    def _candidates(self, run: Run, rows: Tensor, label: int, planned: Tensor) -> Tensor:
        """Give the places of the rows that may stand for a class."""
        members = (run.given[rows] == label).nonzero()[:, 0]
        within = planned[rows[members]]
        if within.any():
            members = members[within]
        if run.verified is None or not len(members):
            return members
        found = run.verified.to(run.device)[rows[members]]
        if int((found == 1).sum()) >= min(self.p, len(members)):
            return members[found == 1]
        run.warn(
            f"smp: class `{run.ledger.classes[label]}` has {int((found == 1).sum())} rows verified "
            f"as right, fewer than the {self.p} prototypes asked for; they are taken from all rows"
        )
        return members[found != 0] if (found != 0).any() else members

    def _tell(self, run: Run, given: Tensor, corrected: Tensor, *, first: bool) -> None:
        share = float((corrected != given).float().mean())
        if first:
            run.note("smp", first_epoch=run.epoch, first_share_changed=share)
        run.note("smp", last_epoch=run.epoch, last_share_changed=share)
        if share > 0.6:
            run.warn(
                "smp changed more than 60 % of the labels; start later, so that features tell the "
                "classes apart, set `center`, or set a `margin`"
            )
        before, after = (torch.bincount(each, minlength=run.classes) for each in (given, corrected))
        for label in ((before > 0) & (after == 0)).nonzero()[:, 0].tolist():
            run.warn(f"smp has moved every row of class `{run.ledger.classes[label]}` elsewhere")

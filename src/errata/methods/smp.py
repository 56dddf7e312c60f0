"""Train half on the given label, half on that of the class whose prototypes look most alike.

**Idea.** A row whose label is wrong lies, in feature space, among the rows of another class. From
epoch `start` on, before every epoch, features of all rows are taken anew, and `p` prototypes are
chosen for each class among `m` rows that were given it: rows in its dense parts (rho) that are no
near-duplicates of a denser one (eta). Each row gets the class whose prototypes it is most alike
to, by mean cosine. The loss is that of the given label, weighted 1 - `alpha`, and that of the
corrected one, weighted `alpha`. The model predicts without prototypes, at the cost of `erm`.

**Use it** on few rows of a pretrained net whose labels were confused by class: there it wins (see
Measured). And to correct labels: the ledger keeps the first and the last corrected class of each
row, and how far it leads the given one (`prototype_margin`), which ranks suspects. ``center =
true`` with ``margin = 0.2`` is where to begin from scratch.

**Avoid it** from scratch where test accuracy is all that counts (see Measured). With the paper's
values and features of a few epochs, cosines are close to one another, corrections may be no better
than the given labels, and whole classes can move elsewhere (errata warns of both). Early
corrections with ``alpha = 1`` are risky for the same reason. A class of several groups needs a
`p` that reaches all of them.

**Variants.** `smp-kmeans` and `smp-density-peak` choose prototypes in other ways, ``select =
"densest"`` leaves eta out. ``--verified`` draws candidates from rows judged right: the paper's
"+25k verify". ``smp+finetune`` with ``--clean`` is its "+50k clean". `scores` may be ``max``.

**Cost.** One more forward pass over all rows per epoch from `start` on, about half an epoch of
training on the small net, and [m, m] cosines per class: 6.6 MB for 1,280 candidates. Relabelling
itself is cheap: averaging cosines over p prototypes equals one product with the mean of their unit
vectors, so N rows cost little more than the bare [N, D] x [D, C] product, for any `p`
(``benchmarks/relabel_cost.py``: 0.8 to 1.4 of it, 1.5 are allowed). The maximum over prototypes is
not the same: one prototype decides, no mean stands for them, and it costs `p` products.

**Measured.** Fashion-MNIST, 10,000 rows, uniform noise of 40 % (63.8 % of the labels right), 30
epochs from scratch, one seed: ``python -m errata.bench next smp --minutes 60 --only 'CELL'``. The
paper's values (``smp/*``) put 55.5 % right at the first correction, fewer than before, and 75.0 %
at the last. Centred features, the 60th percentile, ``margin = 0.2`` and ``alpha = 1`` put 85.9 %
right at the first and 86.6 % at the last (``smp@centred+sc60+margin0.2+alpha1/*``); from 40 % of
the epochs on, 86.1 % and 85.3 % (the same with ``+at40``). So labels gain 11 points with the
paper's values and 21 to 23 with these. Test accuracy loses: 77.5 %, then 83.0 % and 82.0 %, against
85.4 % of `erm`, which has not memorised much after 30 epochs. After 60, where `erm` falls to 82.5
%, the second has 82.5 % as well (labels 85.2 %, then 86.7 %): a draw. None of the settings tried
beats `erm` from scratch, so none has a name of its own. Nor did any from a net that was trained on
other images with true labels and goes on with all 10,000 (``python benchmarks/smp_features.py``, 20
epochs): `erm` 86.8 %, the paper's values 54.2 % with the label accuracy falling from 63.8 % to
27.1 %, centred features and the 60th percentile 77.6 % (labels 73.9 %), with ``margin = 0.2`` and
``alpha = 1`` as well 81.6 % (82.8 %). The features after a ReLU point the same way, so centre them.

It wins where features are good and frozen, rows are few and labels are confused by class: a linear
head on the features of a net trained on other images, 500 rows, asymmetric noise of 40 % (``python
benchmarks/smp_frozen.py``, mean of three seeds): `erm` 60.1 %, `gce` 70.2 %, the paper's values
69.3 %, the centred setting with margin above 74.7 %. With 2,000 rows these are 65.1 %, 76.0 %, 68.2
% and 75.4 %. With uniform noise it loses there too, 500 rows: `erm` 79.5 %, `gce` 81.8 %, SMP 73.3
% and 75.4 %. Our reading: wrong labels of all classes average out in a linear head, those of one
class do not.

**Source.** Han, Luo, Wang 2019, "Deep Self-Learning From Noisy Labels" (ICCV). Theirs, on
Clothing1M: 1,280 candidates, 8 prototypes, alpha 0.5; 61.74 % of the labels right at first,
74.38 % after the first correction and 77.36 % after the last; 74.45 % test accuracy, 76.44 % with
verified labels, 81.16 % with clean ones (preset `smp-clothing1m`).

**Ours.** `start = 20 %`: the paper's is not known. The cut-off of the density is the 40th
percentile of the cosines from below; "ranked 40 %" may also mean the 60th. The cap of .95 on eta,
k-means++ and the Euclidean density peaks are from memory; that verified rows are the candidates is
our reading of the tables. Where densities are equal the first row by name counts as denser; the
printed formula (``ties = "strict"``) lets duplicates pass. `center`, `margin`, `scores`, `densest`
and `class_balanced` are options that the paper does not have. Rows that another part drops are no
candidates but are corrected. Mixing comes after it: ``smp+mixup``.
"""

# Shapes: B batch, N training rows, n candidates of a class, C classes, P prototypes, D features.

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
from errata.methods.card import Card
from errata.parts.base import Part, Recipe, register_part
from errata.types import Batch, Moment, Plan, Run, epoch_of

__all__ = ["CARD", "DENSITY_PEAK", "KMEANS", "SMP", "blend_targets"]


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
        for label in ((sizes > 0) & (sizes < self.p)).nonzero()[:, 0].tolist():
            run.warn(
                f"smp: class `{run.ledger.classes[label]}` has {int(sizes[label])} rows, fewer "
                f"than the {self.p} prototypes asked for; all of them are taken"
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
            "apart": torch.full((run.classes, most), math.nan, device=run.device),
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
                remembered["apart"][label, : len(members)] = found.apart.float()
        run.memory.update({f"smp_{name}": tensor for name, tensor in remembered.items()})
        return places

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


PIPELINE = (
    "train on the given labels",
    "from `start` on, every epoch: features of a sample of each class",
    "density and likeness to denser rows choose a few prototypes",
    "every row gets the class of the prototypes it is most like",
    "the loss blends given and corrected label",
)


def _card(name: str, summary: str, source: str, select: str) -> Card:
    return Card(
        name=name,
        summary=summary,
        source=source,
        year=2019,
        way="relabel",
        pipeline=PIPELINE,
        takes=("verified",),
        text=__doc__ or "",
        build=lambda: Recipe(parts=(SMP(select=select),)),
    )


_PAPER = "Han, Luo, Wang 2019, arXiv:1908.02160"
CARD = _card(
    "smp", "labels corrected by prototypes of each class, beside the given ones", _PAPER, "density"
)
KMEANS = _card("smp-kmeans", "SMP with prototypes found by k-means++", _PAPER, "kmeans++")
DENSITY_PEAK = _card(
    "smp-density-peak",
    "SMP with prototypes found by Euclidean density peaks",
    _PAPER,
    "density_peak_euclidean",
)

"""Correct the loss of each row by a transition of its own, fitted to rows the net is sure of.

**Idea.** After a warm-up, rows whose most likely label has more than ``(1 + rho) / 2`` are taken
to be of that class: with errors of at most `rho` it is the Bayes label. On them a transition
T(x) from Bayes label to given label is fitted as a function of the features. Training goes on with
the loss ``-ln (s T(x))_y`` on all rows.

**Use it** where the errors depend on how a sample looks within its class.

**Avoid it** with so many errors that no label is likelier than half: then no row is sure (a
warning says so, and the confusion matrix of the net takes the place of T). Mixed samples have no
transition of their own.

**Cost.** About 1: one sweep, and C small regressions once.

**Source.** Yang et al. 2022, arXiv:2105.13001, "Estimating Instance-dependent Bayes-label
Transition Matrix using a Deep Neural Network".

**Ours.** The paper trains a second backbone with C^2 outputs; here T(x) is
``softmax_j(b_ij + (U c(x))_ij)`` with `rank` principal components c(x) of the features of the
warmed-up net, one logistic regression a class, and stays fixed for every row. The warm-up takes
30 % of the epochs. The last stage uses the learning rate of the run in place of 5e-7. ``slack``
lets b learn on, which stands in for the paper's slack; it is off. `ridge` is ours. The authors'
code selects epochs on clean test data; nothing of that is taken over.

**Measured.** Suite `layers-digits`, mean of two seeds, last epoch: .836 at uniform 40 % (`erm`
.780) and .848 at asymmetric 30 % (`erm` .747). The transitions are off by .09 and .13 a row. Where
errors depend on the sample (three seeds) .835, `erm` .772. Fashion-MNIST, suite `fashion-10k-30`,
uniform 40 %, one seed: .858 (`erm` .854).
"""

# Shapes: N training rows, n rows of a class, C classes, R rank.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from errata.errors import SettingsError
from errata.ledger import Column, standard
from errata.losses.layers import confusion_counts, log_rows_of_counts
from errata.losses.layers_sample import BLTM, CODES, RANK, feature_width, fit_rows, principal_codes
from errata.losses.pointwise import one_hot
from errata.methods.card import Card
from errata.parts.base import Phase, Recipe, register_part
from errata.parts.noise_layers import LayerPart, check_limits, mean_transition
from errata.types import Plan, Run

__all__ = ["CARD", "BLTMLayer", "distilled_rows"]

# Of one class: enough for a row of the transition, and bounded time with millions of rows.
_MOST_ROWS = 5000


def distilled_rows(probabilities: Float[Tensor, "N C"], *, rho: float = 0.1) -> Bool[Tensor, " N"]:
    """Choose rows whose most likely label is the Bayes label, whatever the noise does there.

    Where no label is wrong with a probability above `rho`, a noisy posterior above
    ``(1 + rho) / 2`` belongs to the class that the clean posterior favours. Source: Yang et al.
    2022.

    Args:
        probabilities: Of the given labels.
        rho: 0 to 1.

    Example:
        >>> distilled_rows(torch.tensor([[0.6, 0.4], [0.55, 0.45], [0.3, 0.7]]))
        tensor([ True, False,  True])
    """
    return probabilities.max(1).values > (1 + rho) / 2


@register_part("bltm")
@dataclass(kw_only=True)
class BLTMLayer(LayerPart):
    """Fit the transition of every row to rows that the net is sure of, before the first step.

    Attributes:
        rho: Highest share of wrong labels of a row, 0 to 1, that the sure rows are chosen by.
        rank: Principal components of the features that a transition depends on.
        ridge: How strongly that dependence is held at zero.
        slack: Lets the part that is the same for all rows learn on.
        lr_scale: Learning rate of the slack over that of the net.
    """

    layer = BLTM
    rho: float = 0.1
    rank: int = RANK
    ridge: float = 0.05
    slack: bool = False
    lr_scale: float = 0.1

    def __post_init__(self) -> None:
        limits = {"rho": (0.0, 1.0), "rank": (1.0, math.inf), "ridge": (0.0, math.inf)}
        check_limits(self, {**limits, "lr_scale": (0.0, math.inf)})

    def setup(self, run: Run) -> None:
        """Add the columns, and make room for the transitions."""
        run.ledger.add(
            self.kind,
            standard("corrected"),
            Column(CODES, shape=(self.rank,), init=0.0),
        )
        for net, layer in self.layers(run).items():
            feature_width(run, net, "bltm")
            layer.lr_scale = self.lr_scale
            layer.learn(self.slack)
            if isinstance(layer, BLTM):
                layer.reshape(run.classes, self.rank)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Fit the transitions once, on the net as it is."""
        if any(lap.pool == "trusted" for lap in plan.laps):
            raise SettingsError(
                "bltm does not go with steps on trusted samples, which have no transition",
                hint="take `bltm+finetune`, which trains on them afterwards",
            )
        if run.epoch == 0 and self.layers(run):
            self._fit(run)
        return plan

    def _fit(self, run: Run) -> None:
        rows = (run.given >= 0).nonzero()[:, 0]
        given = run.given[rows]
        logits, features = run.sweep(0, rows)
        assert features is not None, "setup has checked that the net gives features"
        probabilities = logits.softmax(1)
        sure, bayes = distilled_rows(probabilities, rho=self.rho), probabilities.argmax(1)
        codes = principal_codes(features.to(logits), rank=self.rank)
        believed = one_hot(bayes, run.classes).to(logits)
        scores = log_rows_of_counts(confusion_counts(believed, given))
        expand = torch.zeros(run.classes, run.classes, self.rank).to(logits)
        for label in range(run.classes):
            members = (sure & (bayes == label)).nonzero()[:, 0]
            if len(members) > _MOST_ROWS:
                drawn = torch.randperm(len(members), generator=run.stream(f"bltm{label}"))
                members = members[drawn[:_MOST_ROWS].to(members.device)]
            scores[label], expand[label] = fit_rows(
                codes[members], given[members], scores[label], ridge=self.ridge
            )
        for layer in self.layers(run).values():
            assert isinstance(layer, BLTM)
            layer.start_from(scores, expand)
        corrected = torch.where(sure, bayes, -1)
        run.ledger.write("corrected", rows, corrected, stamp=run.tick)
        run.ledger.write(CODES, rows, codes, stamp=run.tick)
        self._remember_mean(run, probabilities)
        self._tell(run, sure, bayes)

    def after_epoch(self, run: Run) -> None:
        """Remember what the slack has learned, at the end."""
        if self.slack and run.epoch == run.epochs - 1 and self.layers(run):
            rows = (run.given >= 0).nonzero()[:, 0]
            self._remember_mean(run, run.sweep(0, rows)[0].softmax(1))

    def _remember_mean(self, run: Run, probabilities: Tensor) -> None:
        rows, layer = (run.given >= 0).nonzero()[:, 0], self.layers(run)[0]
        assert isinstance(layer, BLTM)
        codes = run.ledger.read(CODES, rows).to(probabilities)
        with torch.no_grad():
            mean = mean_transition(probabilities, codes, layer.transitions)
        run.memory["transition"] = mean.float()

    def _tell(self, run: Run, sure: Tensor, bayes: Tensor) -> None:
        share = float(sure.float().mean())
        run.note(self.kind, share_distilled=share)
        found = torch.bincount(bayes[sure], minlength=run.classes)
        if without := [run.ledger.classes[k] for k in (found == 0).nonzero()[:, 0].tolist()]:
            run.warn(
                f"bltm: no row of class {', '.join(f'`{name}`' for name in without)} has a label "
                f"more likely than {(1 + self.rho) / 2:.2f}; its transition is the confusion of "
                "the net; warm up for longer, or lower `rho`"
            )


CARD = Card(
    name="bltm",
    summary="forward correction by a transition of each sample, fitted to rows the net is sure of",
    source="Yang et al. 2022, arXiv:2105.13001",
    year=2022,
    way="layer",
    text=__doc__ or "",
    refuses={
        **dict.fromkeys(("mixup", "cutmix"), "a blend of two samples has no transition of its own"),
        **dict.fromkeys(
            ("smp", "smp-kmeans", "smp-density-peak"),
            "both correct labels, and a transition speaks of the given ones",
        ),
    },
    build=lambda: (
        Phase(share=0.3),
        Phase(recipe=Recipe(loss="bltm", parts=(BLTMLayer(),)), share=0.7, reset=False),
    ),
)

"""Where a transition matrix comes from: a file, what a warmed-up net predicts, or learning.

The losses are in `errata.losses.transition`, the estimators in `errata.transition`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.losses.transition import (
    Backward,
    ForwardLearned,
    LearnedTransition,
    Revision,
    TransitionLoss,
    VolMin,
    log_volume,
)
from errata.parts.base import Part, register_part
from errata.parts.noise_layers import LayerPart, check_limits, start_within
from errata.transition import (
    check_transition,
    estimate_by_anchors,
    estimate_by_counts,
    estimate_by_trusted,
    estimate_dual,
    read_transition,
)
from errata.transition_fit import clearly_better, estimate_by_votes, neighbour_votes, votes_fit
from errata.types import Moment, Plan, Run, Seen, epoch_of

__all__ = ["ESTIMATORS", "LearnedLayer", "RevisedTransition", "TransitionPart", "VolumeLayer"]

ESTIMATORS = ("anchor", "anchor-plain", "dual", "counts", "surest", "neighbours", "trusted")
SUREST = 0.5
_HELD = "transition_held"
_FIT = "transition_fit"


@register_part("transition-matrix")
@dataclass(kw_only=True)
class TransitionPart(Part):
    """Bring a transition matrix into `run.memory["transition"]`, and to the loss.

    In a stage whose loss takes a matrix it hands over what there is. Otherwise it estimates one
    from what the net predicts when the stage ends, for the stages that follow.

    Attributes:
        estimator: ``anchor`` takes the row that is surest of each class, outliers left out;
            ``anchor-plain`` leaves none out; ``dual`` multiplies that matrix by one of counts;
            ``counts`` is the confusion matrix, ``surest`` that of the surer half of each predicted
            class; ``neighbours`` asks how rows that look alike are labelled, at the epoch whose
            features tell the most of rows that were held out (`errata.transition_fit`);
            ``trusted`` averages over trusted samples.
        percentile: Of the predictions of a class, above which ``anchor`` takes them for outliers.
        file: Of the true matrix; nothing is estimated then.
        invertible: Refuses a file without a usable inverse, whose classes no label tells apart;
            ``false`` lets all but `backward` have it.
        hold: Share of the rows that the stage that estimates is not trained on, for
            ``neighbours`` alone, above 0 up to 0.5.
    """

    estimator: str = "anchor"
    percentile: float = 97.0
    file: str = ""
    invertible: bool = True
    hold: float = 0.1

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown_name("transition estimator", self.estimator, ESTIMATORS)
        check_limits(self, {"percentile": (50.0, 100.0), "hold": (0.001, 0.5)})

    def setup(self, run: Run) -> None:
        """Read the file, and hand over what there is."""
        holders = [loss for loss in run.losses if isinstance(loss, TransitionLoss)]
        known = bool(self.file) or "transition" in run.memory
        self.estimates_ = not self.file and not (holders and known)
        if self.file:
            run.memory["transition"] = T = self._read(run, holders)
            for loss in holders:
                loss.hold(T)
        elif holders and not known:
            run.warn(
                "the loss is cross-entropy: no stage before has estimated a transition matrix, and "
                "no file gives one (--set stage.parts.transition-matrix.file=T.csv)"
            )
        if self.estimates_ and self.estimator == "trusted" and run.trusted is None:
            raise SettingsError(
                "transition estimator `trusted` needs trusted samples; there are none",
                hint="give some with --clean, or take the estimator `anchor`",
            )
        if self.estimates_ and self.estimator == "neighbours":
            self._hold_out(run)

    def _hold_out(self, run: Run) -> None:
        rows = (run.given >= 0).nonzero()[:, 0]
        if run.sweep(0, rows[:2])[1] is None:
            raise SettingsError(
                "transition estimator `neighbours` needs the features that enter the last linear "
                "layer, and the net does not run it; allowed: a net that ends in one",
                hint="end the model in a linear layer, or take the estimator `anchor`",
            )
        order = torch.randperm(len(rows), generator=run.stream("transition")).to(rows.device)
        run.memory[_HELD] = rows[order[: max(2, round(self.hold * len(rows)))]]

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Leave out the rows that are held out."""
        if _HELD not in run.memory:
            return plan
        kept = torch.ones(run.num_rows, dtype=torch.bool)
        kept[run.memory[_HELD].cpu()] = False
        return plan.keep(kept)

    def _read(self, run: Run, holders: list[TransitionLoss]) -> Tensor:
        invertible = self.invertible or any(isinstance(loss, Backward) for loss in holders)
        T = read_transition(Path(self.file), run.classes)
        T = check_transition(T, name=self.file, invertible=invertible)
        return T.to(run.device, torch.float32)

    def after_epoch(self, run: Run) -> None:
        """Estimate at the end of the stage, or at the best epoch of ``neighbours``."""
        if _HELD in run.memory:
            self._ask_neighbours(run)
        elif self.estimates_ and run.epoch == run.epochs - 1:
            self._keep(run, self._estimate(run))

    def _keep(self, run: Run, T: Tensor) -> None:
        run.memory["transition"] = T.to(run.device, torch.float32)
        diagonal = float(T.diagonal().mean())
        run.note(self.kind, estimator=self.estimator, epoch=run.epoch, mean_diagonal=diagonal)

    def _ask_neighbours(self, run: Run) -> None:
        rows = (run.given >= 0).nonzero()[:, 0]
        given, features = run.given[rows].cpu(), run.sweep(0, rows)[1]
        assert features is not None, "setup has checked that the net gives features"
        votes = neighbour_votes(features, given, run.classes)
        held = torch.isin(rows, run.memory[_HELD]).cpu()
        T = estimate_by_votes(votes, given)
        fit = votes_fit(votes[held], given[held], T)
        # The first of epochs that are about as good: learning labels by heart comes later.
        if run.epoch == 0 or clearly_better(fit, run.memory[_FIT].cpu()):
            run.memory[_FIT] = fit.to(run.device)
            self._keep(run, T)
        if run.epoch == run.epochs - 1:
            del run.memory[_HELD], run.memory[_FIT]

    def _estimate(self, run: Run) -> Tensor:
        if self.estimator == "trusted":
            assert run.trusted is not None, "setup has checked that there are trusted samples"
            posterior = run.trusted.sweep(0)[0].softmax(1)
            return estimate_by_trusted(posterior, run.trusted.given)
        rows = (run.given >= 0).nonzero()[:, 0]
        posterior = run.sweep(0, rows)[0].softmax(1)
        if self.estimator == "dual":
            return estimate_dual(posterior, run.given[rows])
        if self.estimator in ("counts", "surest"):
            share = 1.0 if self.estimator == "counts" else SUREST
            return estimate_by_counts(posterior, run.given[rows], surest=share)
        outliers = self.estimator == "anchor"
        return estimate_by_anchors(posterior, filter_outliers=outliers, percentile=self.percentile)


@register_part("t-revision")
@dataclass(kw_only=True)
class RevisedTransition(Part):
    """Say how the slack on a transition matrix is learned.

    Attributes:
        rows: ``free`` leaves the sums of the rows of T plus slack as they become; ``normalised``
            divides by them.
        lr_scale: Learning rate of the slack over that of the net.
    """

    rows: str = "free"
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.rows not in ("free", "normalised"):
            raise unknown_name("t-revision rows", self.rows, ("free", "normalised"))
        check_limits(self, {"lr_scale": (0.0, math.inf)})

    def setup(self, run: Run) -> None:
        """Tell the losses."""
        for loss in run.losses:
            if isinstance(loss, Revision):
                loss.normalised = self.rows == "normalised"
                loss.lr_scale = self.lr_scale


class _LearnedPart(LayerPart):
    """What the parts of both learned matrices have in common."""

    others: float
    start: Moment
    lr_scale: float

    def __post_init__(self) -> None:
        epoch_of(self.start, 1)
        check_limits(self, {"others": (0.001, 0.9), "lr_scale": (0.0, math.inf)})

    def setup(self, run: Run) -> None:
        """Start the layers, and hold them; refuse a start that never comes."""
        self.epoch_ = start_within(self, self.start, run)
        for layer in self.layers(run).values():
            assert isinstance(layer, LearnedTransition)
            layer.lr_scale = self.lr_scale
            layer.restart(self.others)
            layer.learn(self.epoch_ == 0)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Let the layers learn from `start` on."""
        for layer in self.layers(run).values():
            layer.learn(run.epoch >= self.epoch_)
        return plan

    def penalty(self, run: Run, net: int, seen: Seen) -> Tensor | None:
        """Keep the matrix from where it is easiest to be."""
        layer = self.layers(run).get(net)
        if not isinstance(layer, LearnedTransition) or run.epoch < self.epoch_:
            return None
        return self.price(layer.rows())

    def price(self, T: Tensor) -> Tensor:
        """Give what a matrix costs by itself."""
        raise NotImplementedError


@register_part("forward-learned")
@dataclass(kw_only=True)
class LearnedLayer(_LearnedPart):
    """Start a learned transition matrix well off the identity, and keep it there.

    Attributes:
        others: Share of a class that is given another label, at the start, 0.001 to 0.9.
        start: When the matrix begins to learn.
        trace: Weight of the mean of the diagonal, which pulls the matrix off the identity.
        lr_scale: Learning rate of the matrix over that of the net.
    """

    layer = ForwardLearned
    others: float = 0.5
    start: Moment = "10%"
    trace: float = 0.1
    lr_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, {"trace": (0.0, math.inf)})

    def price(self, T: Tensor) -> Tensor:
        """Give the weighed trace, over C."""
        return self.trace * T.diagonal().mean()


@register_part("vol-min")
@dataclass(kw_only=True)
class VolumeLayer(_LearnedPart):
    """Start a learned transition matrix, and make the volume that its rows span small.

    Attributes:
        others: Share of a class that is given another label, at the start, 0.001 to 0.9; the
            entries of a row start at half of the diagonal at most.
        start: When the matrix begins to learn.
        volume: Weight of the logarithm of the determinant.
        lr_scale: Learning rate of the matrix over that of the net.
    """

    layer = VolMin
    others: float = 0.5
    start: Moment = 0
    volume: float = 1e-4
    lr_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, {"volume": (0.0, math.inf)})

    def price(self, T: Tensor) -> Tensor:
        """Give the weighed logarithm of the volume."""
        return self.volume * log_volume(T)

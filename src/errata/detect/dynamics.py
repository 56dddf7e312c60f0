"""Detectors that read what training saw of every row: margins, losses, predictions, verdicts.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.reading import (
    averaged_probs,
    column,
    early_margins,
    forgetting_events,
    given_labels,
    labelled,
    mean_per_view,
    propose,
    proposed_classes,
    rank_suspicion,
)
from errata.ledger import Ledger

__all__: list[str] = []


@register_detector("accumulated_margin")
@final
class AccumulatedMargin(Detector):
    """Logit of the given label minus the best other, averaged over training: low is suspicious.

    Source: AUM (Pleiss et al. 2020, arXiv:2001.10528), here over all epochs and by rank.
    """

    reads = ("margin_sum", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by their averaged margin."""
        self.check(ledger)
        times = column(ledger, "times_seen")
        margin = labelled(ledger, mean_per_view(column(ledger, "margin_sum"), times))
        return Scores(
            rank_suspicion(-margin),
            proposed_classes(ledger),
            lambda row: f"margin {margin[row]:.1f} on average over {_epochs(times[row])}",
            "margin",
            margin,
        )


@register_detector("accumulated_loss")
@final
class AccumulatedLoss(Detector):
    """Loss of the given label averaged over training: high is suspicious."""

    reads = ("loss_sum", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by their averaged loss."""
        self.check(ledger)
        times = column(ledger, "times_seen")
        loss = labelled(ledger, mean_per_view(column(ledger, "loss_sum"), times))
        usual = float(np.nanmedian(loss)) if not np.isnan(loss).all() else np.nan
        return Scores(
            rank_suspicion(loss),
            proposed_classes(ledger),
            lambda row: (
                f"loss {loss[row]:.2f} on average over {_epochs(times[row])}, half of the rows "
                f"are below {usual:.2f}"
            ),
            "loss",
            loss,
        )


@register_detector("disagreement")
@final
class Disagreement(Detector):
    """Share of epochs in which another class was predicted."""

    reads = ("disagree_sum", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by how often training predicted another class."""
        self.check(ledger)
        times, count = column(ledger, "times_seen"), column(ledger, "disagree_sum")
        share = labelled(ledger, mean_per_view(count, times))
        proposed = proposed_classes(ledger)

        def words(row: int) -> str:
            often = f"another class predicted in {int(count[row])} of {_epochs(times[row])}"
            if proposed[row] < 0 or not count[row]:
                return often
            return f"{often}, on average `{ledger.classes[proposed[row]]}`"

        return Scores(rank_suspicion(share), proposed, words, "disagreement", share)


@register_detector("early_margin")
@final
class EarlyMargin(Detector):
    """Margin of the given label before training memorises, from the losses of early epochs."""

    reads = ("loss_curve", "prob_sum")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by their early margin."""
        self.check(ledger)
        probs = averaged_probs(ledger)
        assert probs is not None
        filled = ledger.filled("loss_curve").cpu().numpy()
        margin = early_margins(column(ledger, "loss_curve"), filled, probs, given_labels(ledger))
        proposed = propose(np.nan_to_num(probs), given_labels(ledger))

        def words(row: int) -> str:
            odds = float(np.exp(abs(margin[row])))
            times = "over 1,000 times" if odds > 1000 else f"{odds:.3g} times"
            if margin[row] < 0:
                return f"another class {times} as likely in early epochs"
            return f"given label {times} as likely as any other in early epochs"

        return Scores(rank_suspicion(-margin), proposed, words, "early", margin)


@register_detector("forgetting")
@final
class Forgetting(Detector):
    """How often a row was learned and forgotten again; weak, so not part of the default.

    Hard rows with right labels are forgotten as well, and counts of a few events leave most rows
    tied: on Fashion-MNIST with uniform noise the AUROC is .028 below that of the accumulated
    margin, with errors between look-alikes .16 below.
    """

    reads = ("forgets", "first_learned", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by forgetting events."""
        self.check(ledger)
        forgets, first = column(ledger, "forgets"), column(ledger, "first_learned")
        seen = column(ledger, "times_seen") > 0
        events = labelled(ledger, np.where(seen, forgetting_events(forgets, first), np.nan))
        return Scores(
            rank_suspicion(events),
            proposed_classes(ledger),
            lambda row: (
                "never predicted as given"
                if first[row] < 0
                else f"learned at epoch {int(first[row])} and forgotten {int(forgets[row])} times"
            ),
            "forgetting",
            np.where(first < 0, np.nan, events),
        )


@register_detector("odd")
@final
class Odd(Detector):
    """The verdict of a recipe that removes rows from training, such as ``odd``."""

    reads = ("dropped",)

    def score(self, ledger: Ledger) -> Scores:
        """Rank dropped rows above kept ones."""
        self.check(ledger)
        dropped = column(ledger, "dropped")
        when = column(ledger, "dropped_epoch") if ledger.has("dropped_epoch") else None

        def words(row: int) -> str:
            if not dropped[row]:
                return "never dropped from training"
            at = f" at epoch {int(when[row])}" if when is not None and when[row] >= 0 else ""
            return f"dropped from training{at}"

        epoch = np.full(len(dropped), np.nan) if when is None else np.where(dropped, when, np.nan)
        suspicion = rank_suspicion(labelled(ledger, dropped))
        return Scores(suspicion, proposed_classes(ledger), words, "dropped", epoch)


@register_detector("self_confidence")
@final
class SelfConfidence(Detector):
    """One minus the probability of the given label.

    It comes from held-out models where folds were run, and is averaged over training otherwise.
    """

    reads = ("prob_sum",)

    def fits(self, ledger: Ledger) -> bool:
        """Tell whether there are probabilities of either kind."""
        return ledger.has("prob_oof") or super().fits(ledger)

    def score(self, ledger: Ledger) -> Scores:
        """Score rows by the probability of the given label."""
        self.check(ledger)
        held_out = ledger.has("prob_oof")
        probs = column(ledger, "prob_oof") if held_out else averaged_probs(ledger)
        assert probs is not None
        given = given_labels(ledger)
        own = np.take_along_axis(probs, np.maximum(given, 0)[:, None], axis=1)[:, 0]
        if not held_out:
            # What the final sweep fills in was not seen in training.
            own = np.where(column(ledger, "prob_sum").sum(1) > 0, own, np.nan)
        confidence = labelled(ledger, own)
        which = "held-out" if held_out else "averaged"
        return Scores(
            np.clip(1 - confidence, 0, 1),
            propose(np.nan_to_num(probs), given),
            lambda row: f"{which} probability of the given label {confidence[row]:.2f}",
            "confidence",
            confidence,
        )


def _epochs(times: float) -> str:
    return "1 epoch" if times == 1 else f"{int(times)} epochs"

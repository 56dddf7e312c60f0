"""Detectors that read what training saw of every row: margins, losses, predictions, verdicts.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch

from errata.detect.base import Detector, Scores, register_detector
from errata.ledger import Ledger

__all__ = [
    "averaged_probs",
    "forgetting_events",
    "mean_per_view",
    "normal_scores",
    "propose",
    "rank_suspicion",
]


def rank_suspicion(values: np.ndarray) -> np.ndarray:
    """Turn any values into 0 to 1 by rank; equal values share their average rank.

    Args:
        values: [N], higher = more suspicious; NaN stays NaN and does not count.

    Example:
        >>> rank_suspicion(np.array([3.0, 1.0, np.nan, 3.0])).round(3).tolist()
        [0.667, 0.167, nan, 0.667]
    """
    suspicion = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    if known.any():
        _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - counts / 2
        suspicion[known] = middle[place] / known.sum()
    return suspicion


def normal_scores(suspicion: np.ndarray) -> np.ndarray:
    """Give the normal quantiles [N] of values between 0 and 1; NaN stays NaN."""
    shares = torch.from_numpy(np.asarray(suspicion, dtype=np.float64))
    return np.asarray(torch.special.ndtri(shares).numpy())


def mean_per_view(total: np.ndarray, times_seen: np.ndarray) -> np.ndarray:
    """Divide sums [N] or [N, C] by the number of views [N]; NaN where a row was never seen."""
    times = np.where(times_seen > 0, times_seen, np.nan).astype(np.float64)
    return np.asarray(total / (times if total.ndim == 1 else times[:, None]))


def forgetting_events(forgets: np.ndarray, first_learned: np.ndarray) -> np.ndarray:
    """Count how often each row was forgotten [N]; a row never learned ranks above all others.

    Source: Toneva et al. 2019 (arXiv:1812.05159). Wrong labels are forgotten more often, but so
    are hard ones; weak alone.

    Args:
        forgets: [N] changes from predicted as given to predicted otherwise.
        first_learned: [N] first epoch predicted as given, -1 for never.
    """
    counts = forgets.astype(np.float64)
    return np.where(first_learned < 0, counts.max(initial=0) + 1, counts)


def propose(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give the most probable class [N]; -1 where it is the given one or nothing is known.

    Args:
        probs: [N, C] in any scale; NaN or all-zero rows are unknown.
        given: [N] class numbers; -1 is unlabelled.
    """
    best = probs.argmax(1)
    known = np.take_along_axis(probs, best[:, None], axis=1)[:, 0] > 0
    return np.where(known & (best != given), best, -1)


def averaged_probs(ledger: Ledger) -> np.ndarray | None:
    """Give the averaged prediction of training [N, C] float32, rows summing to one.

    Rows that training never saw, such as unlabelled ones, take the prediction of the final sweep.
    NaN where neither is known; None where the ledger keeps neither.
    """
    final_probs = _read(ledger, "final_prob") if ledger.has("final_prob") else None
    if not ledger.has("prob_sum"):
        return None if final_probs is None else final_probs.astype(np.float32)
    probs = _read(ledger, "prob_sum")
    total = probs.sum(1, keepdims=True)
    seen = total[:, 0] > 0
    np.divide(probs, total, out=probs, where=seen[:, None])
    probs[~seen] = np.nan if final_probs is None else final_probs[~seen]
    return probs


def proposed_classes(ledger: Ledger) -> np.ndarray:
    """Give the class [N] with the highest averaged probability; -1 where it is the given one."""
    probs = averaged_probs(ledger)
    if probs is None:
        return np.full(ledger.num_rows, -1, dtype=np.int64)
    return propose(np.nan_to_num(probs), _given(ledger))


def labelled(ledger: Ledger, values: np.ndarray) -> np.ndarray:
    """Copy values [N] as float64, with NaN where the row has no label."""
    return np.where(_given(ledger) >= 0, values.astype(np.float64), np.nan)


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
        times = _read(ledger, "times_seen")
        margin = labelled(ledger, mean_per_view(_read(ledger, "margin_sum"), times))
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
        times = _read(ledger, "times_seen")
        loss = labelled(ledger, mean_per_view(_read(ledger, "loss_sum"), times))
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
        times, count = _read(ledger, "times_seen"), _read(ledger, "disagree_sum")
        share = labelled(ledger, mean_per_view(count, times))
        proposed = proposed_classes(ledger)

        def words(row: int) -> str:
            often = f"another class predicted in {int(count[row])} of {_epochs(times[row])}"
            if proposed[row] < 0 or not count[row]:
                return often
            return f"{often}, on average `{ledger.classes[proposed[row]]}`"

        return Scores(rank_suspicion(share), proposed, words, "disagreement", share)


@register_detector("forgetting")
@final
class Forgetting(Detector):
    """How often a row was learned and forgotten again; weak, so not part of the default."""

    reads = ("forgets", "first_learned", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by forgetting events."""
        self.check(ledger)
        forgets, first = _read(ledger, "forgets"), _read(ledger, "first_learned")
        seen = _read(ledger, "times_seen") > 0
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
        dropped = _read(ledger, "dropped")
        when = _read(ledger, "dropped_epoch") if ledger.has("dropped_epoch") else None

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
        probs = _read(ledger, "prob_oof") if held_out else averaged_probs(ledger)
        assert probs is not None
        given = _given(ledger)
        own = np.take_along_axis(probs, np.maximum(given, 0)[:, None], axis=1)[:, 0]
        if not held_out:
            # What the final sweep fills in was not seen in training.
            own = np.where(_read(ledger, "prob_sum").sum(1) > 0, own, np.nan)
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


def _read(ledger: Ledger, name: str) -> np.ndarray:
    return ledger.read(name).cpu().numpy()


def _given(ledger: Ledger) -> np.ndarray:
    return ledger.given.cpu().numpy()

"""Measuring against the truth: detection, corrected labels and transition matrices.

The only file of the engine that reads the truth, and nothing in training calls it with one.

Shapes: N rows, C classes, E epochs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from errata import measures
from errata.data import Truth
from errata.data.open_set import OpenTruth
from errata.engine.run import TrainingRun
from errata.ledger import Ledger

__all__ = [
    "label_report",
    "learning_curves",
    "margin_auroc",
    "planted_report",
    "removed_report",
    "row_error",
    "stage_report",
    "suspicion_auroc",
    "take_truth",
    "transition_report",
    "true_transition",
    "verify_rows",
]

Numbers = dict[str, Any]


def removed_report(truth: Truth, given: np.ndarray, dropped: np.ndarray) -> Numbers:
    """Compare the rows that a recipe dropped [N] with the truth."""
    precision, recall, _ = measures.precision_recall_f1(dropped, given != truth.clean)
    rows = int(dropped.sum())
    return {
        "rows": rows,
        "share": rows / len(given),
        "precision": precision if rows else None,
        "recall": recall if (given != truth.clean).any() else None,
    }


def margin_auroc(truth: Truth, ledger: Ledger) -> float | None:
    """Give the AUROC of the accumulated margin alone for finding wrong labels."""
    seen = ledger.read("times_seen").cpu().numpy()
    margin = ledger.read("margin_sum").double().cpu().numpy() / np.maximum(seen, 1)
    wrong = ledger.given.cpu().numpy() != truth.clean
    usable = seen > 0
    if not wrong[usable].any() or wrong[usable].all():
        return None
    return measures.auroc(-margin[usable], wrong[usable])


def planted_report(
    truth: Truth,
    given: np.ndarray,
    *,
    suspicion: np.ndarray,
    flagged: np.ndarray,
    proposed: np.ndarray,
    rate: float,
) -> Numbers:
    """Compare a finished detection with the truth.

    Args:
        truth: True classes; -1 unknown.
        given: [N] labels that were trained on; -1 unlabelled.
        suspicion: [N] 0 to 1; rows without one (NaN) count as the least suspicious.
        flagged: [N] bool.
        proposed: [N] classes, -1 none.
        rate: Estimated share of wrong labels.
    """
    known = _judgeable(truth, given)
    clean, given = truth.clean[known], given[known]
    suspicion = np.nan_to_num(suspicion[known], nan=-1.0)
    flagged, proposed = flagged[known], proposed[known]
    wrong = given != clean
    precision, recall, f1 = measures.precision_recall_f1(flagged, wrong)
    corrected = np.where(flagged & (proposed >= 0), proposed, given)
    caught = flagged & wrong
    both = bool(wrong.any() and not wrong.all())
    return {
        "rate": float(wrong.mean()),
        "auroc": measures.auroc(suspicion, wrong) if both else None,
        "average_precision": measures.average_precision(suspicion, wrong) if both else None,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "oracle_f1": measures.oracle_f1(suspicion, wrong) if both else None,
        "fnr_at_true_rate": measures.fnr_at_rate(suspicion, wrong) if both else None,
        "rate_error": rate - float(wrong.mean()),
        "relabel_accuracy": float((proposed == clean)[caught].mean()) if caught.any() else None,
        "label_accuracy_before": float(1 - wrong.mean()),
        "label_accuracy_after": float((corrected == clean).mean()),
    }


def take_truth(truth: Truth, rows: np.ndarray) -> Truth:
    """Keep the truth of these rows [n]."""
    if isinstance(truth, OpenTruth):
        return OpenTruth(truth.clean[rows], truth.open[rows])
    return Truth(truth.clean[rows])


def _judgeable(truth: Truth, given: np.ndarray) -> np.ndarray:
    """Find the rows [N] whose label is known to be right or wrong; no label is right for none."""
    open_ = truth.open if isinstance(truth, OpenTruth) else np.zeros(len(given), dtype=bool)
    return np.asarray(((truth.clean >= 0) | open_) & (given >= 0))


def verify_rows(
    truth: Truth, given: np.ndarray, *, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Judge the given labels [N] of a random share of the rows, as a careful person would.

    Args:
        truth: True classes; rows of an unknown one are not judged.
        given: [N] class numbers.
        share: 0 to 1, of the rows that could be judged.
        rng: Where the choice comes from.

    Returns:
        [N] int64: 1 right, 0 wrong, -1 not judged.
    """
    known = np.flatnonzero((truth.clean >= 0) & (given >= 0))
    chosen = rng.permutation(known)[: round(share * len(known))]
    judged = np.full(len(given), -1, dtype=np.int64)
    judged[chosen] = truth.clean[chosen] == given[chosen]
    return judged


def suspicion_auroc(truth: Truth, given: np.ndarray, suspicion: np.ndarray) -> float | None:
    """Give the AUROC of a suspicion [N] for finding wrong labels; None without both kinds.

    Rows without a suspicion (NaN) count as the least suspicious ones.
    """
    known = _judgeable(truth, given)
    wrong = given[known] != truth.clean[known]
    if not wrong.any() or wrong.all():
        return None
    return measures.auroc(np.nan_to_num(suspicion[known], nan=-1.0), wrong)


def label_report(truth: Truth, ledger: Ledger) -> Numbers | None:
    """Give the accuracy of the labels as delivered, after a first and after the last correction.

    Reads `corrected` or the largest entry of `soft_label`, `first_corrected` and `stage_label`.
    Rows that were not corrected count with their given label.

    Returns:
        ``before``, ``first`` (None where it was not kept) and ``last``; None where nothing was
        corrected. With nets in turn also ``stages``, ``{"rows", "right"}`` of each.
    """
    given = ledger.given.cpu().numpy()
    last = _corrected(ledger, "corrected")
    if last is None and ledger.has("soft_label"):
        soft = ledger.read("soft_label").cpu().float().numpy()
        held = ~np.isnan(soft).any(1) & (soft.sum(1) > 0)
        last = np.where(held, np.nan_to_num(soft).argmax(1), given)
    if last is None:
        return None
    first = _corrected(ledger, "first_corrected")
    known = (truth.clean >= 0) & (given >= 0)

    def accuracy(labels: np.ndarray) -> float:
        return float((labels == truth.clean)[known].mean())

    report: Numbers = {
        "before": accuracy(given),
        "first": None if first is None else accuracy(first),
        "last": accuracy(last),
    }
    if ledger.has("stage_label"):
        stages = ledger.read("stage_label").cpu().numpy()
        report["stages"] = stage_report(stages, np.where(known, truth.clean, -1))
    return report


def stage_report(labels: np.ndarray, clean: np.ndarray) -> list[Numbers]:
    """Give the rows that each of several nets trained on, and the share of right labels among them.

    Args:
        labels: [N, K] label of each row in each stage; -1 left out.
        clean: [N] true labels; -1 unknown, which does not count.

    Returns:
        ``rows`` and ``right`` by stage; None for the share of no rows.

    Example:
        >>> labels = np.array([[0, 0], [1, -1], [0, 1], [1, 1]])
        >>> stage_report(labels, np.array([0, 0, 1, 1]))
        [{'rows': 4, 'right': 0.5}, {'rows': 3, 'right': 1.0}]
    """
    report: list[Numbers] = []
    for stage in labels.T:
        trained = (clean >= 0) & (stage >= 0)
        right = float((stage == clean)[trained].mean()) if trained.any() else None
        report.append({"rows": int(trained.sum()), "right": right})
    return report


def _corrected(ledger: Ledger, column: str) -> np.ndarray | None:
    if not ledger.has(column):
        return None
    labels = ledger.read(column).cpu().numpy()
    return np.where(labels >= 0, labels, ledger.given.cpu().numpy())


def true_transition(truth: Truth, given: np.ndarray, classes: int) -> np.ndarray:
    """Count the true transition matrix [C, C]: the share of true class i that is given class j.

    A class without rows counts as always right.
    """
    known = (truth.clean >= 0) & (given >= 0)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (truth.clean[known], given[known]), 1)
    empty = counts.sum(1) == 0
    counts[empty, empty] = 1
    return np.asarray(counts / counts.sum(1, keepdims=True))


def row_error(estimated: np.ndarray, true: np.ndarray) -> float:
    """Give the mean error of the rows of a transition matrix [C, C], 0 to 1.

    The error of a row is the probability that it puts on the wrong classes: half the sum of the
    absolute differences (total variation). The papers' relative L1 error is twice as large.

    Example:
        >>> round(row_error(np.array([[0.9, 0.1], [0.0, 1.0]]), np.eye(2)), 6)
        0.05
    """
    return float(np.abs(estimated - true).sum(1).mean() / 2)


def transition_report(run: TrainingRun, true: np.ndarray) -> Numbers | None:
    """Compare the transition matrices of a run with the true one [C, C].

    Returns:
        ``estimated``: the error of what the run remembers under that name; ``learned``: that of
        the `transition` of its loss; None where there is neither.
    """
    found: dict[str, Any] = {
        "estimated": run.memory.get("transition"),
        "learned": getattr(run.losses[0], "transition", None),
    }
    report: Numbers = {}
    for name, kept in found.items():
        with torch.no_grad():
            matrix = kept() if callable(kept) else kept
        fits = isinstance(matrix, torch.Tensor) and tuple(matrix.shape) == true.shape
        value = matrix.detach().double().cpu().numpy() if fits else None
        report[name] = None if value is None else row_error(value, true)
    return report if any(each is not None for each in report.values()) else None


def learning_curves(truth: Truth, ledger: Ledger) -> Numbers | None:
    """Follow right and wrong labels through training, apart from one another.

    Reads `loss_curve` and, where it is there, `correct_curve`. Epochs can be told apart only where
    every labelled row was seen in each of them.

    Returns:
        By epoch [E]: ``loss_right``, ``loss_wrong`` [nats], and ``fit_right``, ``fit_wrong``, the
        share of rows predicted as given while they trained; None where there is no such curve.
    """
    given = ledger.given.cpu().numpy()
    known = (truth.clean >= 0) & (given >= 0)
    wrong = known & (given != truth.clean)
    groups = {"right": known & ~wrong, "wrong": wrong}
    curves: Numbers = {}
    for column, word in (("loss_curve", "loss"), ("correct_curve", "fit")):
        if not ledger.has(column):
            continue
        values = ledger.read(column).cpu().float().numpy()
        if not (ledger.filled(column).cpu().numpy()[given >= 0] == values.shape[1]).all():
            return None
        for group, rows in groups.items():
            mean = values[rows].mean(0).tolist() if rows.any() else None
            curves[f"{word}_{group}"] = mean and [round(each, 4) for each in mean]
    return curves or None

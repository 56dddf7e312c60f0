"""Measuring: test accuracy and confidence, and detection against planted truth.

The only file of the engine that reads the truth, and nothing in training calls it with one.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from errata import measures
from errata.data import Truth
from errata.engine.feed import Feed
from errata.engine.run import TrainingRun
from errata.ledger import Ledger
from errata.types import Source

__all__ = [
    "margin_auroc",
    "mean_probabilities",
    "planted_report",
    "removed_report",
    "test_accuracy",
    "test_feed",
    "test_report",
]

Numbers = dict[str, Any]


def test_feed(run: TrainingRun, source: Source) -> Feed:
    """Serve a test set with the normalisation of the training set."""
    assert run.scale is not None
    return Feed(
        source,
        run.scale,
        run.device,
        dtype=run.dtype,
        channels_last=run.engine.channels_last,
        budget_mb=run.engine.budget_mb,
        workers=run.engine.workers,
    )


def mean_probabilities(run: TrainingRun, feed: Feed) -> np.ndarray:
    """Predict [N, C] by the mean of the nets' softmax, in evaluation mode."""
    rows = torch.arange(len(feed.source.ids))
    probs = torch.stack([run.predict(k, feed, rows)[0].softmax(1) for k in range(len(run.nets))])
    return probs.mean(0).double().cpu().numpy()


def test_accuracy(probs: np.ndarray, labels: np.ndarray) -> float:
    """Give the share of rows predicted right; rows labelled -1 do not count."""
    known = labels >= 0
    return measures.accuracy(probs[known], labels[known])


def test_report(probs: np.ndarray, labels: np.ndarray) -> Numbers:
    """Compare probabilities [N, C] with labels [N]; rows labelled -1 do not count."""
    known = labels >= 0
    probs, labels = probs[known], labels[known]
    recall = measures.per_class_recall(probs, labels)
    return {
        "rows": len(labels),
        "accuracy": measures.accuracy(probs, labels),
        "top5": measures.top_k_accuracy(probs, labels, k=5) if probs.shape[1] > 5 else None,
        "balanced_accuracy": measures.balanced_accuracy(probs, labels),
        "per_class_recall": [None if np.isnan(r) else float(r) for r in recall],
        "nll": measures.nll(probs, labels),
        "brier": measures.brier(probs, labels),
        "ece": measures.ece(probs, labels),
        "aurc": measures.aurc(probs, labels),
        "coverage_90": None,
        "set_size_90": None,
    }


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
        suspicion: [N] 0 to 1.
        flagged: [N] bool.
        proposed: [N] classes, -1 none.
        rate: Estimated share of wrong labels.
    """
    known = (truth.clean >= 0) & (given >= 0)
    clean, given = truth.clean[known], given[known]
    suspicion, flagged, proposed = suspicion[known], flagged[known], proposed[known]
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

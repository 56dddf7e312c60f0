"""Measuring on labelled test sets: accuracy and confidence.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from errata import measures
from errata.engine.feed import Feed
from errata.engine.pool import feed_of
from errata.engine.run import TrainingRun
from errata.types import Source

__all__ = ["mean_probabilities", "test_accuracy", "test_feed", "test_report"]


def test_feed(run: TrainingRun, source: Source) -> Feed:
    """Serve a test set with the normalisation of the training set."""
    return feed_of(run, source)


def mean_probabilities(run: TrainingRun, feed: Feed) -> np.ndarray:
    """Predict [N, C] by the mean of the nets' softmax, in evaluation mode."""
    rows = torch.arange(len(feed.source.ids))
    probs = torch.stack([run.predict(k, feed, rows)[0].softmax(1) for k in range(len(run.nets))])
    return probs.mean(0).double().cpu().numpy()


def test_accuracy(probs: np.ndarray, labels: np.ndarray) -> float:
    """Give the share of rows predicted right; rows labelled -1 do not count."""
    known = labels >= 0
    return measures.accuracy(probs[known], labels[known])


def test_report(probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
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

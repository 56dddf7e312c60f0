"""What features say of every row: neighbours, prototypes and density, and the evidence in words.

Shapes: N rows, D features, k neighbours, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from errata.blocks import blocks_of
from errata.detect.base import Scores
from errata.detect.decide import Findings
from errata.detect.neighbours import K, labelled_neighbours, neighbour_reason
from errata.detect.prototype_votes import prototype_scores
from errata.detect.simifeat import neighbour_scores
from errata.ledger import Column, Ledger
from errata.record import Reason

__all__ = ["FeatureEvidence", "explain_by_neighbours", "read_evidence", "write_neighbours"]

F = TypeVar("F", bound=Findings)


@dataclass(frozen=True)
class FeatureEvidence:
    """What features say.

    Attributes:
        near: [N, k] the nearest labelled rows of each row, nearest first.
        scores: What each detector says: neighbours, then prototypes.
    """

    near: np.ndarray
    scores: tuple[Scores, ...]


def read_evidence(
    features: Float[Tensor, "N D"],
    given: np.ndarray,
    *,
    names: Sequence[str],
    seed: int = 0,
    k: int = K,
) -> FeatureEvidence:
    """Ask every detector that reads features and labels alone.

    Density is left out: under errors between like classes it is far behind, and it draws the
    average down.

    Args:
        features: Of all rows, from `errata.features.module.read_features`.
        given: [N] class numbers, -1 for none.
        names: [C] of the classes.
        seed: Of the draw of candidates for prototypes.
        k: Neighbours.
    """
    near = labelled_neighbours(blocks_of(features, "features"), given, k=k)
    classes = len(names)
    found = [prototype_scores(features, given, classes=classes, seed=seed, names=tuple(names))]
    if near.shape[1]:
        found.insert(0, neighbour_scores(near, given, classes=classes, names=tuple(names)))
    return FeatureEvidence(near, tuple(found))


def explain_by_neighbours(
    findings: F,
    near_of: Callable[[int], np.ndarray],
    given: np.ndarray,
    *,
    name: Callable[[int], str] = str,
    key: Callable[[int], str] = str,
) -> F:
    """Let the reasons of findings end with the nearest rows, their ids and their labels.

    Args:
        findings: From `errata.find_label_errors` or `decide`.
        near_of: Gives the nearest labelled rows [k] of a row, nearest first.
        given: [N] class numbers, -1 for none.
        name: Gives the name of a class.
        key: Gives the id of a row.

    Returns:
        The same findings. Reasons of the kind ``neighbours`` that are there already are replaced.
    """

    def why(row: int) -> tuple[Reason, ...]:
        said = [each for each in findings.why(row) if each.kind != "neighbours"]
        near = near_of(row)
        if not len(near) or given[row] < 0:
            return tuple(said)
        return (*said, neighbour_reason(row, near, given, name=name, key=key))

    return replace(findings, why=why)


def write_neighbours(ledger: Ledger, near: np.ndarray) -> None:
    """Keep the neighbours [N, k] in the ledger, for the record of every row.

    Nothing is kept where there are none.
    """
    if not near.shape[1]:
        return
    column = Column("neighbours", shape=(near.shape[1],), dtype=torch.int64, init=-1)
    ledger.add("detect", column)
    rows = torch.arange(ledger.num_rows, device=ledger.device)
    ledger.write("neighbours", rows, torch.from_numpy(near).to(ledger.device), stamp=0)

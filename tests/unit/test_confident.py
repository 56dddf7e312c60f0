"""Confident learning: small counts by hand, the published masks, and the peer on one input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from errata.blocks import blocks_of
from errata.detect.confident import (
    PRUNINGS,
    calibrated_joint,
    class_thresholds,
    confident_classes,
    confident_joint,
    prune,
)
from errata.detect.probabilities import Probabilities, scan
from errata.errors import SettingsError

PROBS = np.array(
    [
        [0.9, 0.1],
        [0.7, 0.3],
        [0.2, 0.8],
        [0.3, 0.7],
        [0.1, 0.9],
        [0.8, 0.2],
    ]
)
GIVEN = np.array([0, 0, 0, 1, 1, 1])


def everything(
    probs: np.ndarray, given: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, Probabilities]:
    table = blocks_of(probs, "probs")
    found = scan(table, given)
    counts, belongs = confident_joint(table, found)
    flags = {rule: prune(rule, table, found, counts, belongs) for rule in PRUNINGS}
    return flags, counts, found


def test_thresholds_are_the_mean_probability_of_own_rows():
    found = scan(blocks_of(PROBS, "probs"), GIVEN)
    assert class_thresholds(found) == pytest.approx([0.6, 0.6])
    assert found.counts.tolist() == [3, 3]


def test_rows_are_counted_by_given_and_confident_class():
    _, counts, _ = everything(PROBS, GIVEN)
    assert counts.tolist() == [[2, 1], [1, 2]]


def test_of_several_reached_classes_the_best_of_the_row_counts():
    thresholds = np.array([0.5, 0.2, 0.2])
    probs = np.array([[0.4, 0.35, 0.25], [0.1, 0.15, 0.75], [0.45, 0.15, 0.4]])
    assert confident_classes(probs, thresholds).tolist() == [0, 2, 2]
    assert confident_classes(np.array([[0.4, 0.3]]), np.array([0.5, 0.5])).tolist() == [-1]


def test_counts_are_scaled_to_the_rows_of_each_class():
    joint = calibrated_joint(np.array([[3, 1], [0, 0]]), np.array([8, 10]))
    assert joint.tolist() == [[6.0, 2.0], [0.0, 10.0]]


def test_each_rule_flags_what_it_says():
    flags, _, _ = everything(PROBS, GIVEN)
    for rule in PRUNINGS:
        assert np.flatnonzero(flags[rule]).tolist() == [2, 5], rule


def test_rules_differ_where_classes_are_confused_one_way():
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 3, 3000)
    given = np.where((clean == 0) & (rng.random(3000) < 0.4), 1, clean)
    sharp = rng.normal(size=(3000, 3)) + 3 * np.eye(3)[clean]
    probs = np.exp(sharp) / np.exp(sharp).sum(1, keepdims=True)
    flags, counts, found = everything(probs, given)
    joint = calibrated_joint(counts, found.counts)
    assert flags["by-noise-rate"][given == 1].sum() == pytest.approx(joint[1, [0, 2]].sum(), abs=2)
    assert flags["by-class"][given == 1].sum() == pytest.approx(joint[1, [0, 2]].sum(), abs=2)
    assert (flags["both"] == flags["by-class"] & flags["by-noise-rate"]).all()
    assert flags["by-noise-rate"][given != 1].mean() < 0.1
    assert (given != clean)[flags["both"]].mean() > 0.9


def test_unlabelled_and_broken_rows_are_never_flagged():
    probs, given = PROBS.copy(), GIVEN.copy()
    probs[2], given[5] = np.nan, -1
    flags, counts, _ = everything(probs, given)
    assert counts.sum() <= 4
    assert not any(flag[[2, 5]].any() for flag in flags.values())


def test_unknown_rules_are_refused():
    table = blocks_of(PROBS, "probs")
    found = scan(table, GIVEN)
    counts, belongs = confident_joint(table, found)
    with pytest.raises(SettingsError, match="`by-clas`"):
        prune("by-clas", table, found, counts, belongs)


MASKS = {
    "argmax": "keep_argmax",
    "confident-joint": "keep_conf_joint_only",
    "by-class": "keep_cl_pbc",
    "by-noise-rate": "keep_cl_pbnr",
    "both": "keep_cl_both",
}


@pytest.mark.parametrize("name", ["sparsity0_0_noise0_2", "sparsity0_6_noise0_4"])
def test_the_published_masks_are_met_up_to_the_rounding_of_the_probabilities(
    name: str, shared_data: Path
):
    cell = np.load(shared_data / "confident_learning" / f"{name}.npz")
    flags, _, _ = everything(cell["pred_probs"], cell["noisy_labels"])
    for rule, mask in MASKS.items():
        agreement = (flags[rule] == ~cell[mask]).mean()
        assert agreement >= (1.0 if rule == "argmax" else 0.9996), (rule, agreement)


PEER = {
    "argmax": "predicted_neq_given",
    "confident-joint": "confident_learning",
    "by-class": "prune_by_class",
    "by-noise-rate": "prune_by_noise_rate",
    "both": "both",
}


def test_the_peer_flags_the_same_rows(shared_data: Path):
    peer = pytest.importorskip("cleanlab.filter")
    probs = np.load(shared_data / "cifar10n_pred_probs" / "aggre_resnet18.npz")["pred_probs"]
    given = np.load(shared_data / "cifar10n" / "cifar10n.npz")["aggre_label"].astype(int)
    flags, _, _ = everything(probs, given)
    for rule, theirs in PEER.items():
        expected = peer.find_label_issues(given, probs, filter_by=theirs, n_jobs=1)
        own = flags[rule] & (probs.argmax(1) != given)
        assert (own == expected).all(), rule

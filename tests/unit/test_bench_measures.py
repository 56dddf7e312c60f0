"""What evaluation reads of a finished run against the truth: labels, matrices, curves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from errata.data import Truth
from errata.engine.evaluate import (
    label_report,
    learning_curves,
    row_error,
    suspicion_auroc,
    transition_report,
    true_transition,
    verify_rows,
)
from errata.ledger import Column, Ledger, standard

CLEAN = np.array([0, 0, 1, 1, 2])
GIVEN = np.array([0, 1, 1, 2, 2])
TRUTH = Truth(CLEAN)
ROWS = torch.arange(5)


def ledger() -> Ledger:
    return Ledger(list("abcde"), GIVEN, ["x", "y", "z"])


def test_labels_are_as_right_as_counted_by_hand():
    book = ledger()
    assert label_report(TRUTH, book) is None
    book.add("some", standard("corrected"), Column("first_corrected", dtype=torch.int64, init=-1))
    book.write("corrected", ROWS[:4], torch.tensor([0, 0, 1, 1]), stamp=1)
    book.write("first_corrected", ROWS[:2], torch.tensor([1, 0]), stamp=1)
    # Given: 3 of 5 right. First: rows a wrong, b right. Last: all right, e by its given label.
    assert label_report(TRUTH, book) == {"before": 0.6, "first": 0.6, "last": 1.0}


def test_soft_labels_count_by_their_largest_entry():
    book = ledger()
    book.add("some", standard("soft_label", shape=(3,)))
    soft = torch.tensor([[0.6, 0.4, 0], [0.9, 0.1, 0], [0.5, 0.4, 0.1]])
    book.write("soft_label", ROWS[:3], soft, stamp=1)
    assert label_report(TRUTH, book) == {"before": 0.6, "first": None, "last": 0.6}


def test_the_true_matrix_is_counted_from_the_rows():
    expected = [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]]
    assert true_transition(TRUTH, GIVEN, 3).tolist() == expected
    assert true_transition(TRUTH, GIVEN, 4)[3].tolist() == [0, 0, 0, 1]
    unknown = Truth(np.array([0, -1, 1, -1, 2]))
    assert true_transition(unknown, GIVEN, 3).tolist() == np.eye(3).tolist()


def test_the_error_of_a_matrix_is_the_probability_it_misplaces():
    uniform = np.full((3, 3), 1 / 3)
    assert row_error(uniform, np.eye(3)) == pytest.approx(2 / 3)
    assert row_error(np.eye(3)[[1, 2, 0]], np.eye(3)) == 1
    assert row_error(uniform, uniform) == 0


class _Learns(nn.Module):
    def __init__(self, *, fixed: bool) -> None:
        super().__init__()
        self.T = nn.Parameter(torch.eye(3))
        if fixed:
            self.transition: Any = self.T.detach()
        else:
            self.transition = self._made

    def _made(self) -> torch.Tensor:
        return self.T * 1


@pytest.mark.parametrize("fixed", [True, False])
def test_estimated_and_learned_matrices_are_compared_with_the_true_one(fixed: bool):
    true = true_transition(TRUTH, GIVEN, 3)
    run: Any = SimpleNamespace(
        memory={"transition": torch.from_numpy(true).float()}, losses=[_Learns(fixed=fixed)]
    )
    report = transition_report(run, true)
    assert report == {"estimated": 0.0, "learned": pytest.approx(1 / 3)}
    run = SimpleNamespace(memory={}, losses=[nn.Identity()])
    assert transition_report(run, true) is None


def test_judgements_are_right_and_as_many_as_asked_for():
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 3, 400)
    given = np.where(rng.random(400) < 0.5, (clean + 1) % 3, clean)
    given[:40] = -1
    judged = verify_rows(Truth(clean), given, share=0.25, rng=np.random.default_rng(1))
    known = judged >= 0
    assert known.sum() == 90
    assert not known[:40].any()
    assert np.array_equal(judged[known] == 1, (given == clean)[known])
    again = verify_rows(Truth(clean), given, share=0.25, rng=np.random.default_rng(1))
    assert np.array_equal(judged, again)


def test_suspicion_without_a_value_is_the_least_suspicious():
    suspicion = np.array([0.2, 0.9, np.nan, 0.8, 0.1])
    assert suspicion_auroc(TRUTH, GIVEN, suspicion) == 1
    assert suspicion_auroc(TRUTH, CLEAN, suspicion) is None


def test_curves_tell_right_from_wrong_labels():
    book = ledger()
    book.add("some", standard("loss_curve", keep=2), standard("correct_curve", keep=2))
    assert learning_curves(TRUTH, book) is None
    for stamp, wrong in enumerate((4.0, 2.0)):
        losses = torch.where(torch.from_numpy(GIVEN != CLEAN), wrong, 1.0)
        book.write("loss_curve", ROWS, losses, stamp=stamp)
        book.write("correct_curve", ROWS, losses < 3, stamp=stamp)
    assert learning_curves(TRUTH, book) == {
        "loss_right": [1.0, 1.0],
        "loss_wrong": [4.0, 2.0],
        "fit_right": [1.0, 1.0],
        "fit_wrong": [0.0, 1.0],
    }
    # A clean set has no wrong row to follow.
    assert learning_curves(Truth(GIVEN), book)["loss_wrong"] is None


def test_rows_that_were_left_out_of_epochs_leave_no_curve():
    book = ledger()
    book.add("some", standard("loss_curve", keep=2))
    book.write("loss_curve", ROWS, torch.ones(5), stamp=0)
    book.write("loss_curve", ROWS[:3], torch.ones(3), stamp=1)
    assert learning_curves(TRUTH, book) is None

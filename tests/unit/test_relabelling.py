"""Proposals and what is done with them: exact values first, then what holds for all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from errata.correct.relabelling import (
    abstain,
    believe_by_mean,
    believe_by_prototypes,
    believe_through,
    drop,
    expected_accuracy,
    expected_change,
    join_beliefs,
    propose,
    relabel,
    weigh,
)
from errata.errors import SettingsError
from errata.transition import weigh_by_given

T = np.array([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.3, 0.0, 0.7]])


def beliefs(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(3), rows)


def test_predictions_are_averaged_by_weight():
    probs = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert believe_by_mean(probs).tolist() == [[0.5, 0.5]]
    assert believe_by_mean(probs, np.array([3.0, 1.0])).tolist() == [[0.75, 0.25]]


def test_a_prototype_that_is_nearer_by_the_temperature_is_e_times_as_likely():
    belief = believe_by_prototypes(np.array([[0.6, 0.5], [-1.0, 1.0]]), temperature=0.1)
    assert belief[0, 0] / belief[0, 1] == pytest.approx(math.e)
    assert belief.sum(1) == pytest.approx(np.ones(2))


def test_a_label_that_a_class_never_gets_rules_the_class_out():
    found = believe_through(np.array([[0.5, 0.25, 0.25]]), np.array([2]), T)
    # .5 x 0, .25 x .2 and .25 x .7, of .225 in all.
    assert found == pytest.approx(np.array([[0, 0.05 / 0.225, 0.175 / 0.225]]))


def test_a_row_without_a_label_or_an_explanation_keeps_its_prediction():
    probs = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    found = believe_through(probs, np.array([-1, 2]), T)
    assert found.tolist() == probs.tolist()


def test_the_posterior_is_that_of_the_training_rule():
    probs, given = beliefs(50), np.arange(50) % 3
    torch_rule = weigh_by_given(
        torch.from_numpy(probs), torch.from_numpy(given), torch.from_numpy(T), temperature=1.0
    )
    assert believe_through(probs, given, T) == pytest.approx(torch_rule.numpy(), abs=1e-12)


def test_joined_beliefs_are_beliefs_and_no_surer_than_the_surest():
    one, two = beliefs(40), beliefs(40, seed=1)
    joined = join_beliefs(one, two)
    assert joined.sum(1) == pytest.approx(np.ones(40))
    assert (joined.max(1) <= np.maximum(one.max(1), two.max(1))).all()


def test_only_another_class_is_proposed():
    found = propose(
        np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([0, 1, -1])
    )
    assert found.label.tolist() == [-1, 0, 2]
    assert found.p_label[1:].tolist() == [0.7, 0.6]
    assert math.isnan(found.p_label[0])
    assert found.p_given[:2].tolist() == [0.7, 0.2]
    assert math.isnan(found.p_given[2])


def test_only_chosen_rows_with_a_proposal_change():
    given, proposed = np.array([0, 1, 2, 0]), np.array([1, -1, 0, 2])
    chosen = np.array([True, True, False, True])
    assert relabel(given, proposed, chosen).tolist() == [1, 1, 2, 2]
    assert abstain(given, chosen).tolist() == [-1, -1, 2, -1]
    assert drop(np.array([1.0, 2.0, 3.0, 4.0]), chosen).tolist() == [0, 0, 3, 0]
    assert given.tolist() == [0, 1, 2, 0]


def test_dropping_everything_is_refused():
    with pytest.raises(SettingsError, match="`2` dropped rows leave nothing to train on"):
        drop(np.ones(2), np.ones(2, dtype=bool))


def test_weights_follow_the_probability_and_keep_their_mean():
    assert weigh(np.array([0.9, 0.3])).tolist() == pytest.approx([1.5, 0.5])
    assert weigh(np.array([0.9, 0.3]), power=0).tolist() == [1, 1]
    assert weigh(np.array([0.9, np.nan, 0.3])).tolist() == pytest.approx([1.5, 1.0, 0.5])
    assert weigh(np.zeros(3)).tolist() == [1, 1, 1]
    assert weigh(np.full(2, np.nan)).tolist() == [1, 1]


def test_the_interval_holds_luck_and_doubt():
    found = expected_accuracy(np.full(100, 0.8))
    # .16 / 100 by luck, .16 / 21 by doubt.
    reach = 1.959964 * math.sqrt(0.16 / 100 + 0.16 / 21)
    assert found.estimate == pytest.approx(0.8)
    assert found.low == pytest.approx(0.8 - reach)
    assert found.high == pytest.approx(0.8 + reach)


def test_what_is_certain_has_no_interval():
    assert expected_accuracy(np.ones(5)) == (1, 1, 1)
    assert expected_accuracy(np.zeros(5)) == (0, 0, 0)
    both = expected_accuracy(np.array([1.0, 0.0]), groups=np.array([0, 1]))
    assert both == (0.5, 0.5, 0.5)


def test_rows_of_no_weight_do_not_count():
    found = expected_accuracy(np.array([0.9, 0.5, 0.1]), np.array([1.0, 0.0, 0.0]))
    assert found == expected_accuracy(np.array([0.9]))
    assert expected_accuracy(np.array([0.9]), np.zeros(1)) == (0, 0, 0)


def test_groups_that_err_apart_leave_less_doubt_than_one():
    chances = np.random.default_rng(0).uniform(0.6, 0.9, 400)
    one, several = (expected_accuracy(chances, groups=g) for g in (None, np.arange(400) % 4))
    assert several.estimate == one.estimate
    assert several.high - several.low < one.high - one.low


def test_the_interval_covers_what_probabilities_that_are_right_come_to():
    rng = np.random.default_rng(1)
    chances = rng.beta(8, 2, 300)
    found = expected_accuracy(chances)
    draws = (rng.random((500, 300)) < chances).mean(1)
    assert ((draws >= found.low) & (draws <= found.high)).mean() > 0.95


RATE = {"estimate": 0.4, "low": 0.2, "high": 0.5, "method": "made up"}


def change(p_proposed: float, rows: int = 100) -> dict:
    """Ask for the change where two rows in five have a proposal that is this likely right."""
    suspect = np.arange(rows) % 5 < 2
    return expected_change(
        np.zeros(rows, dtype=int),
        np.where(suspect, 1, -1),
        np.where(suspect, p_proposed, 0.0),
        np.where(suspect, p_proposed, np.nan),
        rate=RATE,
        classes=("a", "b"),
    )


def test_sure_proposals_raise_the_expected_accuracy_by_their_share():
    found = change(1.0)
    assert found["relabelled"] == 40
    assert found["held_back"] == []
    assert found["gain"]["estimate"] == pytest.approx(0.4, abs=0.005)
    assert found["before"] == pytest.approx({"estimate": 0.6, "low": 0.5, "high": 0.8})
    assert found["after"]["estimate"] == pytest.approx(1.0, abs=0.005)
    assert found["after"]["low"] <= found["after"]["estimate"] <= found["after"]["high"] <= 1


def test_unsure_proposals_change_nothing():
    found = change(0.8)
    assert found["relabelled"] == 0
    assert found["gain"] == {"estimate": 0, "low": 0, "high": 0}
    assert found["after"] == found["before"]


def test_rows_without_a_label_are_no_part_of_the_accuracy():
    found = expected_change(
        np.array([-1, -1, 0]),
        np.array([1, 1, -1]),
        np.array([np.nan, np.nan, 0.0]),
        np.array([0.99, 0.99, np.nan]),
        rate=RATE,
        classes=("a", "b"),
    )
    assert found["relabelled"] == 0

"""Transition matrices fitted to labels that had no say in the shares of true classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import EXACT, InterruptError, Watcher, blobs, interrupted_fit, one_stage, tiny_net
from torch import Tensor, nn

from errata.engine import Listener, TrainingRun, fit
from errata.errors import SettingsError
from errata.parts.base import Recipe
from errata.parts.transition import TransitionPart
from errata.transition import estimate_by_counts, weigh_by_given
from errata.transition_fit import (
    clearly_better,
    estimate_by_votes,
    likeliest_transition,
    neighbour_votes,
    true_shares,
    votes_fit,
    weigh_by_given_fitted,
)

TWO = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64)


def matrix(classes: int, seed: int) -> Tensor:
    """Give a matrix whose diagonal leads, [C, C]."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.rand(classes, classes, generator=rng, dtype=torch.float64) ** 3
    return 0.55 * torch.eye(classes).double() + 0.45 * noise / noise.sum(1, keepdim=True)


def row_error(found: Tensor, T: Tensor) -> float:
    return float((found - T).abs().sum(1).mean()) / 2


def draw(T: Tensor, *, mixed: float, seed: int, rows: int = 4_000) -> tuple[Tensor, Tensor]:
    """Draw labels, and the votes of 50 neighbours, up to a share `mixed` of the next class."""
    rng = torch.Generator().manual_seed(seed)
    true = torch.randint(len(T), (rows,), generator=rng)
    part = mixed * torch.rand(rows, 1, generator=rng, dtype=torch.float64) ** 2
    around = (1 - part) * T[true] + part * T[(true + 1) % len(T)]
    drawn = torch.multinomial(around, 50, replacement=True, generator=rng)
    votes = nn.functional.one_hot(drawn, len(T)).double().mean(1)
    return votes, torch.multinomial(T[true], 1, generator=rng)[:, 0]


def test_a_row_has_no_vote_about_itself():
    points = torch.tensor([[3.0, 0.0], [2.0, 0.1], [-2.0, 0.1], [-3.0, 0.0]])
    first, second = (
        neighbour_votes(points, torch.tensor(labels), 2) for labels in ([0, 1, 1, 0], [1, 1, 1, 0])
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], torch.tensor([1.0, 0.0]).double())
    assert torch.equal(second[1], torch.tensor([0.0, 1.0]).double())


def test_no_more_than_half_a_class_votes():
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    votes = neighbour_votes(points, torch.arange(12) % 2, 2)
    assert torch.equal((votes * 3).round(), votes * 3)


def test_shares_of_true_classes_undo_the_matrix_and_are_sharpened():
    votes = torch.tensor([[0.8, 0.2], [0.6, 0.4]], dtype=torch.float64)
    plain = true_shares(votes, TWO, sharpening=1.0)
    assert plain[0].tolist() == [pytest.approx(1 / 1.002), pytest.approx(0.002 / 1.002)]
    assert plain[1].tolist() == pytest.approx([0.5, 0.5])
    skewed = true_shares(torch.tensor([[0.7, 0.3]]).double(), TWO)
    assert skewed[0].tolist() == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize("seed", range(4))
def test_votes_find_a_matrix_better_than_counts_where_neighbours_are_mixed(seed: int):
    T = matrix(5, seed)
    votes, given = draw(T, mixed=0.5, seed=seed)
    found = row_error(estimate_by_votes(votes, given), T)
    assert found < 0.06
    assert found < row_error(estimate_by_counts(votes, given), T)


def test_a_class_that_none_votes_for_is_labelled_as_itself():
    votes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] * 20).double()
    found = estimate_by_votes(votes, torch.tensor([0, 1] * 20))
    assert torch.allclose(found, torch.eye(3).double(), atol=0.02)


def test_every_step_makes_the_labels_likelier():
    T = matrix(4, 7)
    votes, given = draw(T, mixed=0.5, seed=7, rows=500)
    first = torch.full((4, 4), 0.25).double()
    fits = [
        float((votes @ likeliest_transition(votes, given, first, steps=steps))[
            torch.arange(500), given
        ].log().mean())
        for steps in (0, 1, 2, 5, 20)
    ]  # fmt: skip
    assert fits == sorted(fits)
    assert fits[0] == pytest.approx(math.log(0.25))


def test_labels_learned_by_heart_fit_unseen_labels_worse():
    votes, given = draw(TWO, mixed=0.0, seed=0, rows=400)
    right, learned = (votes_fit(votes, given, T) for T in (TWO, torch.eye(2).double()))
    assert clearly_better(right, learned)
    assert not clearly_better(learned, right)
    assert not clearly_better(right, right)


def test_predictions_that_are_too_flat_are_sharpened_and_sure_ones_softened():
    rng = torch.Generator().manual_seed(0)
    T = matrix(4, 1)
    logits = 2 * torch.randn(6_000, 4, generator=rng, dtype=torch.float64)
    true = torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]
    given = torch.multinomial(T[true], 1, generator=rng)[:, 0]
    _, flat = weigh_by_given_fitted((logits / 2).softmax(1), given)
    soft, sure = weigh_by_given_fitted((logits * 2).softmax(1), given)
    # Counts hold what the net gets wrong, and lend the temperature a little of it.
    assert flat < 0.7
    assert sure > 1.0
    fixed = weigh_by_given(
        (logits * 2).softmax(1), given, estimate_by_counts(logits.softmax(1), given)
    )
    losses = [-each[torch.arange(6_000), true].log().mean() for each in (soft, fixed)]
    assert losses[0] < losses[1] / 2


def test_rows_without_a_label_are_not_asked():
    prediction = torch.tensor([[0.9, 0.1], [0.2, 0.8]] * 30)
    given = torch.tensor([0, 1] * 29 + [-1, -1])
    soft, temperature = weigh_by_given_fitted(prediction, given)
    expected = (prediction[-2:].double().log() / temperature).softmax(1)
    torch.testing.assert_close(soft[-2:].double(), expected, atol=1e-6, rtol=0)


def test_the_stage_that_asks_neighbours_leaves_rows_out_and_keeps_its_best_matrix():
    source, _ = blobs(300, 3, distance=60.0)
    part = TransitionPart(estimator="neighbours", hold=0.2)
    seen: set[int] = set()
    run = fit(
        one_stage(Recipe(parts=(part,)), epochs=3),
        source,
        model=tiny_net(source, width=8),
        engine=EXACT,
        observers=(Watcher(lambda run, given: seen.update(given[0].batch.rows.tolist())),),
    )
    assert len(seen) == 240
    found = run.memory["transition"].double()
    torch.testing.assert_close(found.sum(1), torch.ones(3).double())
    assert set(run.memory) == {"transition"}
    assert run.notes["transition-matrix"]["estimator"] == "neighbours"


def test_a_run_that_was_cut_off_goes_on_with_the_same_rows_held_out(tmp_path: Path):
    source, _ = blobs(200, 3, distance=4.0, wrong=0.3)

    def run(**values: Any) -> TrainingRun:
        part = TransitionPart(estimator="neighbours", hold=0.2)
        program = one_stage(Recipe(parts=(part,)), epochs=4)
        return fit(program, source, model=tiny_net(source), engine=EXACT, **values)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            raise InterruptError

    interrupted_fit(run, tmp_path / "state", listener=Listener(on_epoch=stop))
    again = run(checkpoint=tmp_path / "state", resume=True)
    assert torch.equal(again.memory["transition"], run().memory["transition"])


class Sidestepped(nn.Module):
    """A net that has a linear layer and does not run it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.head.weight.T


def test_a_net_without_features_is_refused_before_training():
    part = TransitionPart(estimator="neighbours")
    with pytest.raises(SettingsError, match="`neighbours` needs the features"):
        fit(
            one_stage(Recipe(parts=(part,)), epochs=1),
            blobs(60, 3)[0],
            model=Sidestepped,
            engine=EXACT,
        )

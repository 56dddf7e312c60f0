"""Pruning: who is left out, when, and who comes back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from samples import EXACT, Watcher, one_stage, pictures, tiny_net

from errata.engine import Listener, TrainingRun, fit
from errata.errors import SettingsError
from errata.methods import recipe_named
from errata.parts.base import Recipe
from errata.parts.pruning import Prune
from errata.parts.trusted_only import CleanOnly
from errata.types import epoch_of


def run_of(part: Prune, *, epochs: int = 6, **values: Any) -> TrainingRun:
    source = values.pop("source", None) or pictures(wrong=0.3)
    recipe = Recipe(loss="gce", parts=(part,))
    return fit(
        one_stage(recipe, epochs=epochs), source, model=tiny_net(source), engine=EXACT, **values
    )


def test_the_recipe_is_that_of_the_paper():
    recipe = recipe_named("truncated-gce")
    assert recipe.loss == "gce"
    assert recipe.loss_values == {"q": 0.7}
    assert recipe.parts == (Prune(start="33.34%", every="8.34%", k=0.5),)


def test_the_schedule_is_that_of_the_paper_at_its_length():
    part = Prune()
    assert (epoch_of(part.start, 120), epoch_of(part.every, 120)) == (40, 10)


def test_a_stage_begins_with_all_rows():
    source = pictures(wrong=0.3)
    part = Prune(start="2ep", every="1ep", floor_rows=0, floor_share=0.0)
    stages = one_stage(Recipe(loss="gce", parts=(part,)), epochs=4) * 2
    counts: list[tuple[int, int]] = []

    def count(run: TrainingRun, batch: Any) -> None:
        counts.append((run.epoch, int((run.ledger.read("prune_weight") == 0).sum())))

    fit(stages, source, model=tiny_net(source), engine=EXACT, observers=(Watcher(count),))
    assert any(pruned for epoch, pruned in counts if epoch == 3)
    assert not any(pruned for epoch, pruned in counts if epoch < 2)


def test_steps_on_trusted_samples_are_refused():
    source = pictures(wrong=0.3)
    stages = one_stage(Recipe(parts=(CleanOnly(), Prune())), epochs=4)
    with pytest.raises(SettingsError, match="prune does not go with steps on trusted samples"):
        fit(stages, source, model=tiny_net(source), engine=EXACT, clean=pictures(wrong=0.0))


@pytest.mark.parametrize("names", ["truncated-gce+clean-only", "clean-only+truncated-gce"])
def test_the_recipe_refuses_one_without_rows_of_the_source(names: str):
    with pytest.raises(SettingsError, match="makes no sense: it judges rows of the source"):
        recipe_named(names)


def test_labels_that_the_net_disbelieves_weigh_nothing():
    seen = []

    def look(run: TrainingRun, batch: Any) -> None:
        factor = run.ledger.read("prune_weight", batch[0].plain.rows)
        weight = batch[0].batch.weight
        seen.append((run.epoch, torch.equal(weight, factor.to(weight))))

    judged: list[torch.Tensor] = []

    def keep(record: dict[str, Any]) -> None:
        judged.append(run_box[0].ledger.read("prune_weight").clone())

    run_box: list[TrainingRun] = []

    def remember(run: TrainingRun, batch: Any) -> None:
        run_box[:] = [run]

    part = Prune(start="2ep", every="1ep", floor_rows=0, floor_share=0.0)
    run_of(part, observers=(Watcher(look), Watcher(remember)), listener=Listener(keep))
    assert all(right for _, right in seen)
    assert (judged[1] == 1).all()
    assert 0 < int((judged[2] == 0).sum()) < len(judged[2])
    # A row can come back.
    assert any(((a == 0) & (b == 1)).any() for a, b in pairwise(judged))


def test_those_at_or_below_k_are_pruned():
    source = pictures(wrong=0.3)
    shares = []
    for k in (0.2, 0.5, 0.8):
        part = Prune(start="5ep", every="1ep", k=k, floor_rows=0, floor_share=0.0)
        run = run_of(part, source=source, epochs=6)
        weights = run.ledger.read("prune_weight")
        shares.append(float((weights == 0).float().mean()))
        assert run.notes["prune"]["share"] == pytest.approx(shares[-1])
    assert 0 < shares[0] < shares[1] < shares[2]


def test_every_class_keeps_its_cheapest_rows():
    run = run_of(Prune(start="1ep", every="1ep", k=0.999, floor_rows=7, floor_share=0.0))
    weights = run.ledger.read("prune_weight")
    for label in range(3):
        assert int((weights[run.given == label] == 1).sum()) >= 7


@pytest.mark.parametrize("start", ["9ep", "6ep", "100%", -1])
def test_a_start_that_never_comes_is_refused(start: str | int):
    words = f"prune start `{start}` is not within a stage of 6 epochs; allowed: epoch 0 to 5"
    with pytest.raises(SettingsError, match=words):
        run_of(Prune(start=start))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"k": 0.0}, "prune k `0.0`"),
        ({"k": 1.0}, "prune k `1.0`"),
        ({"floor_rows": -1}, "prune floor_rows `-1`"),
        ({"floor_share": 1.5}, "prune floor_share `1.5`"),
        ({"start": "half"}, "half"),
        ({"every": "101%"}, "101%"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words):
        Prune(**values)

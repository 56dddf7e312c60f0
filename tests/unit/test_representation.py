"""The observer that averages the features of every row over an early and a late part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from samples import EXACT, all_tensors, one_stage, pictures, tiny_net
from torch import Tensor, nn

from errata.engine import TrainingRun, fit
from errata.errors import SettingsError
from errata.observe import Observer, Track
from errata.observe.representation import Representation
from errata.parts.base import Program
from errata.types import Seen


class Copied(Observer):
    """Keeps the features of every step, to add them up another way."""

    def open(self, run: TrainingRun) -> None:
        self.seen: list[tuple[int, Tensor, Tensor]] = []

    def step(self, run: TrainingRun, seen: Mapping[int, Seen]) -> None:
        features = seen[0].features
        assert features is not None
        epoch = sum(stage.epochs for stage in run.program[: run.stage_index]) + run.epoch
        self.seen.append((epoch, seen[0].batch.rows.clone(), features.detach().clone()))


def watched(program: Program, *observers: Observer) -> TrainingRun:
    source = pictures(wrong=0.2)
    return fit(program, source, model=tiny_net(source), engine=EXACT, observers=observers)


def test_both_parts_hold_the_mean_of_what_training_saw():
    run = watched(one_stage(epochs=10), Representation(), Copied())
    copied = run.observers[1]
    assert isinstance(copied, Copied)
    total = torch.zeros(run.num_rows, 2, copied.seen[0][2].shape[1], dtype=torch.float64)
    for epoch, rows, features in copied.seen:
        late = int(epoch >= 3)
        total[rows, late] += features / (7 if late else 3)
    assert torch.allclose(run.ledger.read("feature_sum").double(), total, rtol=0.01, atol=0.01)
    assert run.ledger.read("feature_views").tolist() == [[3, 7]] * run.num_rows


@pytest.mark.parametrize(("epochs", "views"), [(1, [1, 0]), (2, [1, 1]), (4, [1, 3])])
def test_short_trainings_still_have_an_early_part(epochs: int, views: list[int]):
    run = watched(one_stage(epochs=epochs), Representation())
    assert run.ledger.read("feature_views")[0].tolist() == views


def test_recording_features_changes_no_bit_of_training():
    left = all_tensors(watched(one_stage(), Track()))
    right = all_tensors(watched(one_stage(), Track(), Representation()))
    assert set(left) < set(right)
    for name, values in left.items():
        assert torch.equal(values.nan_to_num(7), right[name].nan_to_num(7)), name


def test_a_stage_with_a_fresh_net_is_left_out_and_one_that_goes_on_counts():
    (stage,) = one_stage(epochs=4)
    fresh = watched((stage, replace(stage, reset=True)), Representation())
    assert fresh.ledger.read("feature_views")[0].tolist() == [1, 3]
    going_on = watched((stage, replace(stage, reset=False)), Representation())
    assert going_on.ledger.read("feature_views")[0].tolist() == [2, 6]


def test_mixed_rows_count_as_drawn_in_the_steps_in_which_track_looks():
    run = watched(one_stage("mixup", epochs=10), Track(), Representation())
    assert run.ledger.read("feature_views").tolist() == [[0, 2]] * run.num_rows
    assert run.ledger.read("times_seen").tolist() == [2] * run.num_rows
    alone = watched(one_stage("mixup", epochs=10), Representation())
    assert not alone.ledger.read("feature_views").any()


def test_nothing_is_kept_where_it_would_be_too_much_or_there_is_no_head():
    source = pictures(rows=5000)
    wide = fit(
        one_stage(epochs=1),
        source,
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)),
        observers=(Representation(most_mb=1),),
    )
    assert not wide.ledger.has("feature_sum")
    headless = fit(
        one_stage(epochs=1),
        pictures(),
        model=lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()),
        observers=(Representation(),),
    )
    assert not headless.ledger.has("feature_sum")


@pytest.mark.parametrize("values", [{"early": 0.0}, {"early": 1.0}, {"most_mb": 0}])
def test_settings_out_of_range_are_refused(values: dict[str, float]):
    (name,) = values
    with pytest.raises(SettingsError, match=rf"representation {name} `{values[name]}` is out of"):
        Representation(**values)  # type: ignore[arg-type]

"""Moments, batches, plans, and what the engine refuses before it computes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, TinyNet, one_stage, pictures, tiny_net
from torch import nn

from errata.data import Arrays, Relabelled, Subset
from errata.engine import Engine, fit
from errata.engine.checks import check_plan, check_program, check_source
from errata.engine.run import TrainingRun
from errata.errors import SettingsError, SourceError
from errata.observe import Track
from errata.parts.base import Part, Recipe, Stage
from errata.types import Batch, Group, Lap, Plan, Run, Source, epoch_of


@pytest.mark.parametrize(
    ("moment", "epochs", "expected"),
    [
        ("40%", 60, 24),
        ("24ep", 60, 24),
        (24, 60, 24),
        ("24", 60, 24),
        (" 50% ", 3, 1),
        ("0%", 60, 0),
        ("100%", 60, 60),
        # Each of these comes out one too low where the share is computed first.
        ("29%", 100, 29),
        ("57%", 100, 57),
        ("58%", 100, 58),
        ("12.5%", 8, 1),
        (-3, 60, -3),
    ],
)
def test_moments_name_epochs(moment: int | str, epochs: int, expected: int):
    assert epoch_of(moment, epochs) == expected


@given(st.integers(0, 100), st.integers(1, 500))
def test_a_whole_percentage_is_rounded_down_exactly(percent: int, epochs: int):
    assert epoch_of(f"{percent}%", epochs) == percent * epochs // 100


@pytest.mark.parametrize("moment", ["", "half", "40 %%", "1.5", "101%", "-1%", "nan%", "inf%", "%"])
def test_other_texts_are_no_moments(moment: str):
    with pytest.raises(SettingsError, match="is not a point of training") as caught:
        epoch_of(moment, 60)
    assert f"`{moment}`" in caught.value.message
    assert caught.value.hint


def batch(rows: int = 2) -> Batch:
    number = torch.arange(rows)
    one = torch.ones(rows)
    return Batch(number, (one,), number, torch.eye(rows), one, number)


@pytest.mark.parametrize("value", [batch(), Group(torch.arange(2)), Plan(()), Lap((0,), ())])
def test_values_cannot_be_edited(value: Any):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)


def test_keep_leaves_out_rows_with_their_weights():
    groups = (
        Group(torch.tensor([0, 2, 4])),
        Group(torch.tensor([4, 3, 2]), "weighted", torch.tensor([0.4, 0.3, 0.2])),
    )
    plan = Plan((Lap((0,), groups), Lap((1,), groups[:1])))
    kept = plan.keep(torch.tensor([True, True, False, True, True]))
    first, second = kept.laps[0].groups
    assert first.rows.tolist() == [0, 4]
    assert second.rows.tolist() == [4, 3]
    assert second.weights is not None
    assert second.weights.tolist() == pytest.approx([0.4, 0.3])
    assert second.order == "weighted"
    assert kept.laps[1].groups[0].rows.tolist() == [0, 4]
    assert kept.laps[1].nets == (1,)
    assert plan.laps[0].groups[0].rows.tolist() == [0, 2, 4], "the plan itself stays"


def plan_of(rows: list[int], *, nets: tuple[int, ...] = (0,), **values: Any) -> Plan:
    return Plan((Lap(nets, (Group(torch.tensor(rows), **values),)),))


def test_digests_differ_where_plans_differ():
    plans = [
        plan_of([0, 1, 2]),
        plan_of([0, 2, 1]),
        plan_of([0, 1]),
        plan_of([0, 1, 2], nets=(0, 1)),
        plan_of([0, 1, 2], order="class_balanced"),
        plan_of([0, 1, 2], order="weighted", weights=torch.ones(3)),
        plan_of([0, 1, 2], order="weighted", weights=torch.ones(3) / 2),
        Plan(plan_of([0, 1, 2]).laps * 2),
    ]
    digests = [plan.digest() for plan in plans]
    assert len(set(digests)) == len(plans)
    assert digests[0] == plan_of([0, 1, 2]).digest()
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)


def test_plans_list_the_classes_they_leave_out():
    given_labels = torch.tensor([0, 1, 2, 2, -1])
    assert check_plan(plan_of([0, 1, 2]), given_labels, classes=4) == []
    assert check_plan(plan_of([2, 3]), given_labels, classes=4) == [0, 1]


@pytest.mark.parametrize(
    "plan",
    [Plan(()), Plan((Lap((0,), ()),)), plan_of([]), Plan((*plan_of([1]).laps, *plan_of([]).laps))],
)
def test_plans_without_rows_are_refused(plan: Plan):
    with pytest.raises(SettingsError, match="no rows left"):
        check_plan(plan, torch.tensor([0, 1]), classes=2)


def test_a_class_that_leaves_training_is_told_once():
    source = pictures(wrong=0.0)

    @dataclasses.dataclass
    class WithoutTheFirst(Part):
        def plan(self, run: Any, plan: Plan) -> Plan:
            return plan.keep(run.given.cpu() != 0)

    recipe = Recipe(parts=(WithoutTheFirst(),))
    run = fit(one_stage(recipe), source, model=tiny_net(source), engine=EXACT)
    told = [warning for warning in run.warnings if "`kind 0`" in warning]
    assert len(told) == 1
    assert "cannot be learned" in told[0]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((), "no stage"),
        ((Stage(epochs=0),), "`epochs` of stage 0 is `0`"),
        ((Stage(epochs=2), Stage(epochs=-1)), "`epochs` of stage 1 is `-1`"),
        ((Stage(epochs=1, batch=0),), "`batch` of stage 0 is `0`"),
        ((Stage(epochs=1, recipe=Recipe(nets=0)),), "`nets` of stage 0 is `0`"),
        ((Stage(epochs=1, recipe=Recipe(views=0)),), "`views` of stage 0 is `0`"),
        (
            (Stage(epochs=1), Stage(epochs=1, recipe=Recipe(nets=2), reset=False)),
            "stage 1 goes on with the nets",
        ),
    ],
)
def test_programs_that_cannot_run_are_refused(stages: tuple[Stage, ...], words: str):
    with pytest.raises(SettingsError, match=words):
        check_program(stages)
    source = pictures()
    with pytest.raises(SettingsError, match=words):
        fit(stages, source, model=tiny_net(source), engine=EXACT)


def test_stages_may_change_the_number_of_nets_where_they_start_afresh():
    check_program((Stage(epochs=1), Stage(epochs=1, recipe=Recipe(nets=2))))


@pytest.mark.parametrize(
    ("given_labels", "classes", "words"),
    [([0, 0], ["a"], "has 1 class"), ([-1, -1], ["a", "b"], "no row of `arrays` has a label")],
)
def test_sources_that_teach_nothing_are_refused(
    given_labels: list[int], classes: list[str], words: str
):
    source = Arrays(np.zeros((2, 3), np.float32), np.array(given_labels), classes=classes)
    with pytest.raises(SourceError, match=words) as caught:
        check_source(source)
    assert caught.value.hint
    with pytest.raises(SourceError, match=words):
        fit(one_stage(), source, model=tiny_net(source), engine=EXACT)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Engine(device="gpu"), "device `gpu` is unknown"),
        (Engine(device="cuda:99"), "device `cuda:99` is not there"),
        (Engine(precision="float16"), "precision `float16` is unknown"),  # type: ignore[arg-type]
    ],
)
def test_engines_that_are_not_there_are_refused(engine: Engine, words: str):
    source = pictures()
    with pytest.raises(SettingsError, match=words):
        fit(one_stage(), source, model=tiny_net(source), engine=engine)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: Subset(s, np.arange(4)), lambda s: Relabelled(s, s.given)]
)
def test_sources_say_whether_they_are_in_memory(wrap: Any):
    source = wrap(pictures())
    assert isinstance(source, Source)
    assert source.in_memory


def test_the_run_of_a_part_is_a_run():
    # Everything that the protocol names is there, so that parts may rely on it.
    source = pictures()
    run = TrainingRun(one_stage(), source, tiny_net(source), engine=EXACT, observers=(Track(),))
    members = {*Run.__annotations__, *(name for name in vars(Run) if not name.startswith("_"))}
    missing = [name for name in members if not hasattr(run, name)]
    assert {"ledger", "stream", "unmixed"} <= members
    assert not missing


def test_the_mode_of_every_module_survives_a_sweep():
    source = pictures()

    class Frozen(TinyNet):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.body[2].eval()
            return self

    def build() -> nn.Module:
        return Frozen(64, 3, width=8, norm=True, dropout=0.0, seed=0).train()

    run = TrainingRun(one_stage(), source, build, engine=EXACT)
    run.enter_stage(0)
    modes = [module.training for module in run.nets[0].modules()]
    run.sweep(0)
    assert [module.training for module in run.nets[0].modules()] == modes
    assert not all(modes)

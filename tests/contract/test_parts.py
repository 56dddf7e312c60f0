"""What every registered part promises; a new one is tested here by being registered."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from samples import (
    EXACT,
    all_tensors,
    assert_same_bits,
    one_stage,
    pictures,
    tiny_net,
)

from errata.engine import TrainingRun, fit
from errata.errors import ErrataError, SettingsError
from errata.losses import loss_names
from errata.methods import phases_named, recipe_names
from errata.parts.base import OptimizerSpec, Part, Recipe, Stage, part_named, part_names
from errata.parts.base import register_part as register

NAMES = part_names()
LOSSES = [(loss, "odd") for loss in loss_names()]
LOSSES += [(loss, name) for name in NAMES for loss in ("ce", "mae", "goldberger-c")]
"""Every loss with one part, and every part with losses of three kinds."""

TRUSTING = {"clean-only", "l2rw", "mw-net"}


def given_to(*parts: Part) -> dict[str, Any]:
    """Give what a part cannot do without."""
    kinds = {part.kind for part in parts}
    values: dict[str, Any] = {"clean": pictures(30)} if kinds & TRUSTING else {}
    return values | ({"verified": torch.arange(96) % 3 - 1} if "cleannet" in kinds else {})


def run_of(*parts: Part, nets: int = 1, **values: Any) -> TrainingRun:
    source = pictures(wrong=0.3)
    recipe = Recipe(parts=parts, nets=nets)
    values = {**given_to(*parts), **values}
    return fit(one_stage(recipe), source, model=tiny_net(source), engine=EXACT, **values)


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_hyper_parameters_with_plain_defaults(name: str):
    part = part_named(name)()
    assert dataclasses.is_dataclass(part)
    for field in dataclasses.fields(part):
        assert not field.name.endswith("_"), "what `setup` makes is no field"
        assert isinstance(getattr(part, field.name), int | float | str | bool | tuple | None)
    assert part == part_named(name)()
    assert part.kind == name


@pytest.mark.parametrize("name", NAMES)
def test_the_repr_spells_out_every_hyper_parameter(name: str):
    # Whether a checkpoint may be continued is decided by this text.
    part = part_named(name)()
    for field in dataclasses.fields(part):
        assert f"{field.name}={getattr(part, field.name)!r}" in repr(part)


@pytest.mark.parametrize("name", NAMES)
def test_what_setup_makes_ends_in_an_underscore(name: str):
    run = run_of(part_named(name)())
    fields = {field.name for field in dataclasses.fields(part_named(name))}
    made = set(vars(run.parts[0])) - fields
    assert all(attribute.endswith("_") for attribute in made), made


@pytest.mark.parametrize("name", NAMES)
def test_the_part_of_the_caller_is_left_as_it_was(name: str):
    part = part_named(name)()
    before = copy.deepcopy(vars(part))
    run_of(part)
    assert vars(part) == before


@pytest.mark.parametrize("name", NAMES)
def test_two_nets_train_side_by_side(name: str):
    run = run_of(part_named(name)(), nets=2)
    assert len(run.nets) == 2
    for net in run.nets:
        assert all(p.isfinite().all() for p in net.parameters())
    assert_same_bits(all_tensors(run), all_tensors(run_of(part_named(name)(), nets=2)))


@pytest.mark.parametrize("name", NAMES)
def test_a_second_stage_goes_on_from_the_first(name: str):
    source = pictures(wrong=0.3)
    stages = (
        Stage(recipe=Recipe(parts=(part_named(name)(),)), epochs=3, batch=32),
        Stage(recipe=Recipe(parts=(part_named(name)(),)), epochs=3, batch=32, reset=False),
    )
    given = given_to(part_named(name)())
    run = fit(stages, source, model=tiny_net(source), engine=EXACT, **given)
    assert [record["stage"] for record in run.history] == [0, 0, 0, 1, 1, 1]
    assert all(p.isfinite().all() for p in run.nets[0].parameters())


def test_each_part_is_used_by_a_recipe():
    phases = [phase for name in recipe_names() for phase in phases_named(name)]
    assert {part.kind for phase in phases for part in phase.recipe.parts} == set(NAMES)


@pytest.mark.parametrize(("loss", "name"), dict.fromkeys(LOSSES))
def test_works_with_every_loss(loss: str, name: str):
    source, part = pictures(wrong=0.3), part_named(name)()
    recipe = Recipe(loss=loss, parts=(part,))
    run = fit(
        one_stage(recipe, epochs=3),
        source,
        model=tiny_net(source),
        engine=EXACT,
        **given_to(part),
    )
    assert all(p.isfinite().all() for p in run.nets[0].parameters())


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("mixup", {"alpha": -1.0}, "mixup alpha `-1.0`"),
        ("mixup", {"alpha": float("nan")}, "mixup alpha `nan`"),
        ("mixup", {"alpha": float("inf")}, "mixup alpha `inf`"),
        *[
            (odd, values, f"{odd} {words}")
            for odd in ("odd", "odd-phantom")
            for values, words in (
                ({"percentile": -1.0}, "percentile `-1.0`"),
                ({"percentile": 101.0}, "percentile `101.0`"),
                ({"percentile": float("nan")}, "percentile `nan`"),
                ({"recent": 0}, "recent `0`"),
                ({"least_loss": -0.1}, "least_loss `-0.1`"),
                ({"least_loss": float("nan")}, "least_loss `nan`"),
                ({"floor_rows": -1}, "floor_rows `-1`"),
                ({"floor_share": -0.1}, "floor_share `-0.1`"),
                ({"floor_share": 1.5}, "floor_share `1.5` is out of range; allowed: 0 to 1"),
            )
        ],
        ("odd", {"draws": 0}, "odd draws `0`"),
    ],
)
def test_values_out_of_range_are_refused(name: str, values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as caught:
        part_named(name)(**values)
    assert "allowed:" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("at", ["half", "1.5", "101%", "-1%", "nan%", ""])
@pytest.mark.parametrize("name", ["odd", "odd-phantom"])
def test_moments_that_are_none_are_refused(name: str, at: str):
    with pytest.raises(ErrataError, match="is not a point of training"):
        run_of(part_named(name)(at=at))


def test_a_name_is_registered_once():
    assert len(NAMES) == len(set(NAMES)) > 1
    with pytest.raises(AssertionError, match="registered twice"):
        register(NAMES[0])(Part)
    assert Part.kind == ""


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(SettingsError, match="did you mean `mixup`"):
        part_named("mixupp")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "sdg"}, "did you mean `sgd`"),
        ({"schedule": "cosin"}, "did you mean `cosine`"),
        ({"lr": -0.1}, "optimizer lr `-0.1`"),
        ({"lr": float("nan")}, "optimizer lr `nan`"),
        ({"momentum": -1.0}, "optimizer momentum `-1.0`"),
        ({"weight_decay": float("inf")}, "optimizer weight_decay `inf`"),
        ({"clip": -1.0}, "optimizer clip `-1.0`"),
        ({"cycle": 0}, "optimizer cycle `0`"),
    ],
)
def test_optimizers_refuse_what_is_out_of_range(values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words):
        OptimizerSpec(**values)


def test_a_part_that_changes_nothing_changes_no_bit():
    @dataclasses.dataclass
    class Idle(Part):
        pass

    assert_same_bits(all_tensors(run_of(Idle())), all_tensors(run_of()))


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, 1)])
def test_parts_that_leave_no_rows_are_refused(rows: slice):
    @dataclasses.dataclass
    class Greedy(Part):
        def plan(self, run: Any, plan: Any) -> Any:
            mask = torch.zeros(run.num_rows, dtype=torch.bool)
            mask[rows] = True
            return plan.keep(mask)

    with pytest.raises(ErrataError, match=r"no rows left|batch of 1 row"):
        run_of(Greedy())


def test_parts_that_plan_unlabelled_rows_are_a_fault():
    @dataclasses.dataclass
    class Wild(Part):
        def plan(self, run: Any, plan: Any) -> Any:
            group = dataclasses.replace(plan.laps[0].groups[0], rows=torch.arange(run.num_rows))
            lap = dataclasses.replace(plan.laps[0], groups=(group,))
            return dataclasses.replace(plan, laps=(lap,))

    source = pictures(unlabelled=4)
    with pytest.raises(AssertionError, match="rows without label"):
        fit(
            one_stage(Recipe(parts=(Wild(),))),
            source,
            model=tiny_net(source),
            engine=EXACT,
        )

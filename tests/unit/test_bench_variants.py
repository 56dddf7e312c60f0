"""Variants change a recipe as ``--set`` does; suites are made of cells that can be run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import pictures

from errata.bench.costs import missing_hours
from errata.bench.matrices import MATRICES, plant
from errata.bench.opening import long_tail_rows
from errata.bench.suites import Grid, Suite, Variant, suite_named, suite_names
from errata.bench.suites.fashion import PER_CLASS
from errata.bench.variants import change_program, model_of, program_of_variant
from errata.config import Settings, program_of, set_paths, stages_of
from errata.data import plant_noise
from errata.data.noise import parse_noise
from errata.errors import SettingsError
from errata.machine import processor_name
from errata.methods import card_named, phases_named, recipe_names
from errata.parts.base import Phase, Recipe, Stage, stages_of_phases

SUITES = [suite_named(name) for name in suite_names()]
SHARED = ("source", "limit", "validation", "trusted", "verified", "long_tail", "model", "epochs")
SHARED = (*SHARED, "batch", "augment", "evaluate", "optimizer", "trajectories")


def program(names: str = "odd") -> tuple[Stage, ...]:
    return stages_of_phases(phases_named(names), epochs=10, batch=32)


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        ("odd", ["stage.parts.odd.percentile=5"]),
        ("odd+gce", ['stage.parts.odd.at="60%"', "stage.loss.q=0.5"]),
        ("odd", ["stage.0.parts.odd.at=24ep", "stage.epochs=7"]),
        ("mixup", ["stage.parts.mixup.alpha=0.3", "stage.optimizer.weight_decay=0.0"]),
        ("erm", ["stage.optimizer.schedule=constant", "stage.optimizer.milestones=[0.2, 0.9]"]),
        ("erm", ["stage.loss.kind=gce", "stage.loss.q=0.2", "stage.nets=2"]),
    ],
)
def test_changes_do_what_set_does_on_the_command_line(names: str, changes: list[str]):
    pytest.importorskip("pydantic")
    typed = Settings(recipe=names, stage=stages_of(names, rows=1280, epochs=10))
    expected = program_of(set_paths(typed, changes))
    batch = expected[0].batch
    base = stages_of_phases(phases_named(names), epochs=10, batch=batch)
    assert change_program(base, changes) == expected


def test_a_change_reaches_every_stage_that_has_its_place_or_the_one_that_is_named():
    parts = program("odd")[0].recipe.parts
    phases = (Phase(recipe=Recipe(parts=parts), share=0.5), Phase(recipe=Recipe(), share=0.5))
    two = stages_of_phases(phases, epochs=10, batch=32)
    changed = change_program(two, ["stage.parts.odd.recent=1", "stage.1.optimizer.lr=0.01"])
    assert changed[0].recipe.parts[0].recent == 1
    assert [stage.optimizer.lr for stage in changed] == [0.1, 0.01]
    assert two[0].recipe.parts[0].recent == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("percentile=5", "not PATH=VALUE"),
        ("stage.parts.odd", "not PATH=VALUE"),
        ("stage.parts.mixup.alpha=1", "leads nowhere"),
        ("stage.2.epochs=4", "leads nowhere"),
        ("stage.parts.odd.percent=5", "did you mean `percentile`"),
        ("stage.parts.odd.percentile=500", "out of range"),
        ("stage.optimizer.rate=1", "setting of the optimizer `rate`"),
        ("stage.loss.q=1", "`q`"),
        ("stage.length=1", "setting of a stage `length`"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(change: str, words: str):
    with pytest.raises(SettingsError, match=words):
        change_program(program("odd"), [change])


def test_the_true_matrix_stands_where_a_variant_asks_for_it(tmp_path):
    variant = Variant(recipe="odd", changes=('stage.parts.odd.at="{transition}"',))
    with pytest.raises(SettingsError, match=str(tmp_path)):
        program_of_variant(SUITES[0], variant, transition=tmp_path)


def test_dropout_acts_in_training_alone_and_leaves_the_mean():
    build = model_of("mlp", 0.5, (4000,), 3)
    torch.manual_seed(0)
    net = build()
    seen = []
    net.head.register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0]))
    x = torch.rand(64, 4000)
    net.eval()(x)
    net(x)
    assert torch.equal(seen[0], seen[1])
    net.train()(x)
    assert (seen[2] == 0).float().mean() > (seen[0] == 0).float().mean() + 0.1
    assert model_of("mlp", 0.0, (4000,), 3) == "mlp"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_cell_has_a_name_of_its_own_that_can_be_typed(suite: Suite):
    cells = suite.cells()
    assert len(cells) == len({cell.name for cell in cells}) > 0
    for cell in cells:
        assert suite.cell_named(cell.name) == cell
        known = cell.noise == "none" or cell.noise.removeprefix("matrix:") in MATRICES
        assert known or parse_noise(cell.noise)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_variants_of_recipes_that_exist_can_be_built(suite: Suite, tmp_path):
    np.save(tmp_path / "T.npy", np.eye(10))
    for name, variant in suite.variants.items():
        assert name not in recipe_names()
        if set(variant.recipe.split("+")) <= set(recipe_names()):
            assert program_of_variant(suite, variant, transition=tmp_path / "T.npy")


@pytest.mark.parametrize("suite", [s for s in SUITES if s.borrows], ids=lambda s: s.name)
def test_a_suite_borrows_from_one_of_the_same_protocol(suite: Suite):
    lender = suite_named(suite.borrows)
    assert {f: getattr(suite, f) for f in SHARED} == {f: getattr(lender, f) for f in SHARED}
    assert not set(lender.variants) & set(suite.variants)


def test_cells_that_were_first_stay_first():
    suite = suite_named("fashion-10k")
    first = Grid(recipes=suite.recipes, noises=("uniform:0.4", "none")).cells()
    assert suite.cells()[: len(first)] == first
    assert first[0].name == "erm/uniform:0.4/0"
    assert "joint/instance:0.3/2" in {cell.name for cell in suite.cells()}


def test_rates_per_class_are_thirty_per_cent_on_average():
    rates = parse_noise(PER_CLASS).rates
    assert sum(rates) / len(rates) == pytest.approx(0.3)
    assert len(set(rates)) > 3


def test_a_named_matrix_is_planted_alike_every_time():
    clean = plant_noise(pictures(900, classes=4), "uniform:0", seed=0)
    planted = plant(clean, "matrix:neighbours", seed=3)
    shares = planted.matrix / planted.matrix.sum(1, keepdims=True)
    # 225 rows of each class: three standard errors of a share are at most .1.
    assert shares == pytest.approx(MATRICES["neighbours"](4), abs=0.1)
    wrong = (planted.source.given != clean.source.given).mean()
    assert planted.rate == pytest.approx(wrong)
    again = plant(clean, "matrix:neighbours", seed=3).source.given
    assert np.array_equal(planted.source.given, again)
    other = plant(clean, "matrix:neighbours", seed=4).source.given
    assert not np.array_equal(planted.source.given, other)
    assert plant(clean, "none", seed=0) is clean


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_rows_of_a_named_matrix_sum_to_one_and_keep_their_majority(classes: int):
    for make in MATRICES.values():
        T = make(classes)
        assert T.sum(1) == pytest.approx(1)
        assert (T.argmax(1) == np.arange(classes)).all()


def test_class_sizes_fall_geometrically():
    given = np.repeat(np.arange(3), 100)
    kept = long_tail_rows(given, 25.0)
    assert np.bincount(given[kept]).tolist() == [100, 20, 4]
    assert long_tail_rows(given, 1.0).tolist() == list(range(300))


def test_hours_come_from_the_recipe_itself_or_from_plain_training_times_its_cost():
    suite = replace(suite_named("digits"), name="some", limit=1000, epochs=10, seeds=(0,), more=())
    suite = replace(suite, recipes=("erm", "odd", "unheard-of"), noises=("uniform:0.4", "none"))
    row = {"suite": "some", "rows": 1000, "epochs": 10, "hardware": processor_name()}
    plain = {**row, "cell": "erm/none/0", "recipe": "erm", "cpu_seconds": 360.0}
    assert missing_hours(suite, []) is None
    # One of erm, two of odd at the cost on its card, two of an unknown one at 1.5.
    cost = card_named("odd").cost
    assert cost is not None
    assert missing_hours(suite, [plain]) == pytest.approx(0.1 * (1 + 2 * cost + 2 * 1.5))
    odd = {**row, "cell": "odd/none/0", "recipe": "odd", "cpu_seconds": 720.0}
    assert missing_hours(suite, [plain, odd]) == pytest.approx(0.1 * (1 + 2 + 2 * 1.5))
    elsewhere = [{**plain, "hardware": "another machine"}]
    assert missing_hours(suite, elsewhere) is None

"""The cascade: which rows go on under which label, and what each stage leaves behind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    EXACT,
    InterruptError,
    Watcher,
    all_tensors,
    assert_same_bits,
    interrupted_fit,
    one_stage,
    pictures,
    tiny_net,
)
from torch import Tensor

from errata.data import Truth
from errata.engine import Listener, TrainingRun, fit
from errata.engine.evaluate import label_report, stage_report
from errata.errors import ErrataError, SettingsError
from errata.methods import card_named, phases_named
from errata.methods.cascade import Cascade, cascade_phases, judge_rows
from errata.parts.base import OptimizerSpec, Phase, Recipe, stages_of_phases


def judged(probs: list[list[float]], labels: list[int], **values: Any) -> tuple[list, list]:
    values = {"floor_rows": 0, "floor_share": 0.0, **values}
    moved, kept = judge_rows(torch.tensor(probs), torch.tensor(labels), **values)
    return moved.tolist(), kept.tolist()


ROWS = [[0.6, 0.4], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]]


def test_rows_that_a_net_agrees_with_are_kept_and_those_it_is_sure_of_are_moved():
    # Above .8, not at it.
    assert judged(ROWS, [0, 0, 0, 0]) == ([0, 0, 1, 0], [True, False, True, False])


@pytest.mark.parametrize(
    ("sure", "expected"),
    [
        (0.0, ([0, 1, 1, 1], [True] * 4)),
        (0.5, ([0, 1, 1, 1], [True] * 4)),
        (1.0, ([0, 0, 0, 0], [True, False, False, False])),
    ],
)
def test_how_sure_a_net_must_be(sure: float, expected: tuple[list, list]):
    assert judged(ROWS, [0, 0, 0, 0], sure=sure) == expected


def test_a_class_keeps_the_rows_that_look_most_like_it():
    labels = [0, 0, 0, 0]
    assert judged(ROWS, labels, floor_rows=2)[1] == [True, True, True, False]
    assert judged(ROWS, labels, floor_rows=3)[0] == [0, 0, 1, 0]
    # Kept under its own label, though the net is sure of another.
    assert judged(ROWS, labels, floor_rows=4) == ([0, 0, 0, 0], [True] * 4)
    assert judged(ROWS, labels, floor_share=0.75)[1] == [True, True, True, True]
    assert judged(ROWS[2:], [0, 0], floor_rows=99) == ([0, 0], [True, True])


@given(seed=st.integers(0, 99), sure=st.floats(0, 1), floor=st.integers(0, 5))
def test_no_class_is_left_with_fewer_rows_than_its_floor(seed: int, sure: float, floor: int):
    rng = np.random.default_rng(seed)
    probs = torch.from_numpy(rng.dirichlet(np.full(3, 0.4), size=30))
    labels = torch.from_numpy(rng.integers(0, 3, 30))
    moved, kept = judge_rows(probs, labels, sure=sure, floor_rows=floor, floor_share=0.1)
    for label in range(3):
        before = labels == label
        least = min(int(before.sum()), max(floor, math.ceil(0.1 * int(before.sum()))))
        assert (kept & before & (moved == label)).sum() >= least
    assert torch.equal(moved[~kept], labels[~kept])
    assert (probs.max(1).values[kept & (moved != labels)] > sure).all()


def test_the_report_counts_the_rows_of_each_stage_and_those_with_the_right_label():
    labels = np.array([[0, 0, -1], [1, -1, 0], [0, 1, 1], [1, 1, 1]])
    assert stage_report(labels, np.array([0, 0, 1, -1])) == [
        {"rows": 3, "right": pytest.approx(1 / 3)},
        {"rows": 2, "right": 1.0},
        {"rows": 2, "right": 1.0},
    ]
    assert stage_report(np.array([[-1]]), np.array([0])) == [{"rows": 0, "right": None}]


def run_of(
    phases: tuple[Phase, ...] | None = None, *, wrong: float = 0.3, epochs: int = 12, **values: Any
) -> TrainingRun:
    source = values.pop("source", None) or pictures(wrong=wrong)
    program = one_stage("cascade", epochs=epochs, batch=24)
    if phases is not None:
        optimizer = program[0].optimizer
        program = stages_of_phases(phases, epochs=epochs, batch=24, optimizer=optimizer)
    return fit(program, source, model=tiny_net(source), engine=EXACT, **values)


def truth() -> Tensor:
    return torch.from_numpy(pictures().given)


def test_rows_are_left_out_first_and_come_back_with_better_labels():
    run = run_of()
    report = label_report(Truth(truth().numpy()), run.ledger)
    assert report is not None
    first, second, third = report["stages"]
    assert first == {"rows": 96, "right": (run.given == truth()).double().mean().item()}
    assert report["before"] == first["right"] < 0.75
    assert second["rows"] < 80
    assert third["rows"] > 90
    assert min(second["right"], third["right"]) > 0.97


def test_the_notes_tell_the_rows_of_each_stage_and_those_with_another_label():
    run = run_of()
    labels, notes = run.ledger.read("stage_label").long(), run.notes["cascade"]
    for stage in range(3):
        trained = labels[:, stage] >= 0
        assert notes[f"stage_{stage + 1}_rows"] == trained.sum()
        changed = trained & (labels[:, stage] != run.given)
        assert notes[f"stage_{stage + 1}_changed"] == changed.sum()
    assert notes["stage_1_changed"] == 0 < notes["stage_3_changed"]


def test_each_stage_trains_on_what_the_one_before_left():
    shown: dict[int, Tensor] = {k: torch.full((96,), -1) for k in range(3)}

    def look(run: TrainingRun, seen: Any) -> None:
        batch = seen[0].batch
        assert torch.equal(batch.target.sum(1), torch.ones(len(batch.rows)).to(batch.target))
        assert (batch.target.max(1).values == 1).all()
        shown[run.stage_index][batch.rows] = batch.target.argmax(1)

    run = run_of(observers=(Watcher(look),))
    recorded = run.ledger.read("stage_label").long()
    for stage in range(3):
        assert torch.equal(shown[stage], recorded[:, stage])


def test_each_judge_uses_its_mean_prediction_in_training():
    sums: dict[int, Tensor] = {}
    views: dict[int, Tensor] = {}
    checked = []

    def look(run: TrainingRun, seen: Any) -> None:
        stage = run.stage_index
        total = sums.setdefault(stage, torch.zeros(96, 3, dtype=torch.float64))
        times = views.setdefault(stage, torch.zeros(96))
        rows = seen[0].plain.rows
        total[rows] += seen[0].logits.softmax(1).detach()
        times[rows] += 1
        if stage < 2:
            mean = run.ledger.read("cascade_prob", rows).double()
            torch.testing.assert_close(mean, total[rows] / times[rows, None], rtol=0, atol=1e-5)
            assert torch.equal(run.ledger.read("cascade_views", rows), times[rows].int())
            checked.append(run.tick)

    run_of(observers=(Watcher(look),))
    assert checked


def test_the_number_of_stages_is_part_of_the_name():
    assert [phases_named(name) for name in ("cascade:3", "cascade:5")] == [
        phases_named("cascade"),
        cascade_phases(5),
    ]
    parts = [phase.recipe.parts[0] for phase in phases_named("cascade:5")]
    assert [(part.stage, part.stages) for part in parts] == [(k, 5) for k in range(5)]
    stages = stages_of_phases(phases_named("cascade:4"), epochs=60, batch=128)
    assert [stage.epochs for stage in stages] == [15] * 4
    assert all(stage.reset for stage in stages)


def test_a_cascade_of_two_has_two_stages():
    run = run_of(cascade_phases(2), epochs=8)
    assert run.ledger.read("stage_label").shape == (96, 2)
    assert len({record["stage"] for record in run.history}) == 2


@pytest.mark.parametrize("name", ["cascade:0", "cascade:1", "cascade:21"])
def test_too_few_or_too_many_stages_are_refused_where_the_name_is_read(name: str):
    with pytest.raises(SettingsError, match="allowed: 2 to 20") as caught:
        card_named(name)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["cascade:", "cascade:two", "cascade:-3", "erm:3"])
def test_what_is_no_number_of_stages_is_refused(name: str):
    with pytest.raises(SettingsError, match="`cascade:N`"):
        card_named(name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sure": 1.1}, "cascade sure `1.1` is out of range; allowed: 0 to 1"),
        ({"sure": math.nan}, "cascade sure `nan`"),
        ({"floor_rows": -1}, "cascade floor_rows `-1` is out of range; allowed: 0 and above"),
        ({"floor_share": 1.5}, "cascade floor_share `1.5`"),
        ({"stages": 0}, "cascade stages `0`"),
        ({"stages": 21}, "cascade stages `21` is out of range; allowed: 1 to 20"),
        ({"stage": 3}, "cascade stage `3` is out of range; allowed: 0 to 2"),
        ({"stage": -1}, "cascade stage `-1`"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as caught:
        Cascade(**values)
    assert caught.value.hint


@pytest.mark.parametrize("other", ["smp", "nnaqc"])
def test_recipes_that_would_contradict_it_are_refused(other: str):
    with pytest.raises(ErrataError, match="makes no sense"):
        phases_named(f"cascade+{other}")


def test_under_mixing_the_judge_uses_the_batch_as_drawn():
    source = pictures(wrong=0.3)
    program = one_stage("cascade+mixup", epochs=3, batch=24)
    last = torch.full((96, 3), math.nan, dtype=torch.float64)

    def look(run: TrainingRun, seen: Any) -> None:
        if run.stage_index == 0:
            last[seen[0].plain.rows] = run.unmixed(0, seen).softmax(1).detach().double()
            rows = seen[0].plain.rows
            found = run.ledger.read("cascade_prob", rows).double()
            torch.testing.assert_close(found, last[rows], rtol=0, atol=1e-6)

    watcher = Watcher(look)
    fit(program, source, model=tiny_net(source), engine=EXACT, observers=(watcher,))
    assert last.isfinite().all()


def test_mixing_first_is_refused():
    source = pictures(wrong=0.3)
    with pytest.raises(SettingsError, match="cascade cannot replace the labels of rows that were"):
        fit(one_stage("mixup+cascade"), source, model=tiny_net(source), engine=EXACT)


@pytest.mark.parametrize(("sure", "warned"), [(1.0, True), (0.0, False)])
def test_a_net_that_leaves_out_most_rows_is_warned_of(sure: float, warned: bool):
    # A net that does not learn agrees with about a third of the labels.
    parts = (Cascade(stage=k, stages=2, sure=sure, floor_rows=0) for k in range(2))
    idle = OptimizerSpec(lr=0.0)
    phases = tuple(Phase(recipe=Recipe(parts=(p,)), share=0.5, optimizer=idle) for p in parts)
    run = run_of(phases, epochs=2)
    assert (run.notes["cascade"]["stage_2_rows"] < 0.4 * 96) == warned
    assert any("lower `sure`, or train for longer" in each for each in run.warnings) == warned


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_cascade_that_is_stopped_and_resumed_gives_the_same_bits(stage: int, tmp_path: Path):
    def stop(record: dict[str, Any]) -> None:
        if (record["stage"], record["epoch"]) == (stage, 1):
            raise InterruptError

    place = tmp_path / "at"
    interrupted_fit(lambda **v: run_of(epochs=9, **v), place, listener=Listener(on_epoch=stop))
    resumed, whole = run_of(epochs=9, checkpoint=place, resume=True), run_of(epochs=9)
    assert_same_bits(all_tensors(resumed), all_tensors(whole))
    assert resumed.notes == whole.notes


def test_unlabelled_rows_belong_to_no_stage():
    run = run_of(source=pictures(wrong=0.2, unlabelled=20))
    assert (run.ledger.read("stage_label")[76:] == -1).all()
    assert (run.ledger.read("corrected")[76:] == -1).all()
    assert run.notes["cascade"]["stage_1_rows"] == 76

"""Joint optimisation: its two stages, its settings, and what it makes of wrong labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
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

from errata.engine import Listener, TrainingRun, fit
from errata.errors import ErrataError, SettingsError
from errata.methods import phases_named
from errata.methods.joint import Joint, joint_phases
from errata.parts.base import Phase, Recipe, stages_of_phases
from errata.parts.relabel import UseLabels


def run_of(name: str = "joint", *, epochs: int = 20, wrong: float = 0.3, **values: Any) -> Any:
    source = pictures(wrong=wrong)
    program = one_stage(name, epochs=epochs, batch=24)
    return fit(program, source, model=tiny_net(source), engine=EXACT, **values)


def truth() -> Tensor:
    return torch.from_numpy(pictures().given)


def test_the_stages_share_the_epochs_and_start_where_the_paper_does():
    first, second = stages_of_phases(joint_phases(), epochs=60, batch=128)
    assert (first.epochs, second.epochs) == (36, 24)
    assert first.reset
    assert second.reset
    source = pictures()
    stage = stages_of_phases(joint_phases()[:1], epochs=60, batch=96)
    run = fit(stage, source, model=tiny_net(source), engine=EXACT)
    assert run.parts[0].epoch_ == 12


def test_the_rates_are_those_of_the_published_code():
    first, second = (phase.optimizer for phase in joint_phases())
    assert (first.lr, first.schedule, first.weight_decay) == (0.1, "constant", 1e-4)
    assert (second.lr, second.schedule, second.decay) == (0.2, "step", 0.1)
    # Epochs 40 and 80 of 120.
    assert [120 * share for share in second.milestones] == [40, 80]
    assert not first.nesterov
    assert not second.nesterov


def test_the_settings_are_those_of_the_published_code():
    part = Joint()
    assert (part.alpha, part.beta, part.keep, part.start) == (1.0, 0.5, 10, "35%")
    hard = joint_phases(hard=True)[0].recipe.parts[0]
    assert (hard.hard, hard.beta) == (True, 0.0)
    assert [phase.recipe.parts[0].kind for phase in joint_phases()] == ["joint", "use-labels"]
    assert joint_phases(hard=True)[1].recipe.parts == (UseLabels(column="corrected"),)


@pytest.mark.parametrize("name", ["joint", "joint-hard"])
def test_labels_get_better_and_a_fresh_net_learns_them(name: str):
    run = run_of(name)
    before = (run.given == truth()).double().mean()
    after = (run.ledger.read("corrected") == truth()).double().mean()
    assert before < 0.75
    assert after > 0.95
    assert (run.sweep(0)[0].argmax(1) == truth()).double().mean() > 0.95


def test_the_second_stage_starts_afresh_and_has_neither_penalty_nor_ring():
    starts: dict[int, Tensor] = {}
    history: dict[int, Tensor] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        history[run.stage_index] = run.ledger.read("history")
        if run.epoch == 0:
            starts.setdefault(run.stage_index, run.ledger.read("history").clone())
        if run.stage_index == 1:
            assert [part.kind for part in run.parts] == ["use-labels"]
            assert run.parts[0].penalty(run, 0, seen[0]) is None

    run_of(observers=(Watcher(look),))
    torch.testing.assert_close(starts[1], history[1], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["joint", "joint-hard"])
def test_the_second_stage_trains_on_the_final_labels(name: str):
    checked = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.stage_index == 1:
            rows = seen[0].batch.rows
            expected = run.ledger.read("soft_label", rows)
            if name == "joint-hard":
                expected = run.one_hot(run.ledger.read("corrected", rows))
            torch.testing.assert_close(seen[0].batch.target, expected.to(seen[0].batch.target))
            checked.append(run.tick)

    run_of(name, epochs=6, observers=(Watcher(look),))
    assert len(checked) == 8


def test_the_entropy_term_makes_labels_certain():
    shares = {}
    for beta in (0.0, 1.0):
        phases = (Phase(recipe=Recipe(parts=(Joint(start=4, keep=4, beta=beta),))),)
        source = pictures(wrong=0.3)
        program = stages_of_phases(phases, epochs=12, batch=24)
        run = fit(program, source, model=tiny_net(source), engine=EXACT)
        shares[beta] = run.ledger.read("soft_label").max(1).values.mean().item()
    assert shares[1.0] > shares[0.0] + 0.02


@pytest.mark.parametrize("epoch", [2, 4, 6])
def test_both_stages_survive_a_resume_to_the_bit(epoch: int, tmp_path: Path):
    records = []

    def stop(record: dict[str, Any]) -> None:
        records.append(record)
        if len(records) == epoch:
            raise InterruptError

    place = tmp_path / "at"
    interrupted_fit(lambda **v: run_of(epochs=8, **v), place, listener=Listener(on_epoch=stop))
    resumed, whole = run_of(epochs=8, checkpoint=place, resume=True), run_of(epochs=8)
    assert_same_bits(all_tensors(resumed), all_tensors(whole))
    assert resumed.notes == whole.notes


@pytest.mark.parametrize("start", ["7ep", 99])
def test_a_start_after_the_last_epoch_is_refused_before_training(start: int | str):
    steps = []
    source = pictures()
    phases = (Phase(recipe=Recipe(parts=(Joint(start=start),))),)
    program = stages_of_phases(phases, epochs=6, batch=24)
    with pytest.raises(SettingsError, match=f"joint start `{start}` is not within a stage of 6"):
        fit(program, source, model=tiny_net(source), listener=Listener(on_step=steps.append))
    assert not steps


@pytest.mark.parametrize("values", [{"alpha": math.nan}, {"beta": -1.0}, {"keep": 0}])
def test_values_out_of_range_are_refused(values: dict[str, Any]):
    with pytest.raises(SettingsError, match=f"joint {next(iter(values))}") as caught:
        Joint(**values)
    assert "allowed:" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("joint+smp", "both put labels of their own"),
        ("joint+nnaqc-instance", "no longer those whose noise"),
        ("bltm+joint-hard", "no longer those whose noise"),
        ("joint+cascade", "train in several stages"),
    ],
)
def test_recipes_that_would_contradict_it_are_refused(names: str, words: str):
    with pytest.raises(ErrataError, match=words):
        phases_named(names)

"""The state of a run on disk: exact, whole at any moment, and refused where it does not belong."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from torch import nn

from errata.data import Relabelled
from errata.data.augment import Augment
from errata.engine import Listener, TrainingRun, fit
from errata.engine import checkpoint as module
from errata.engine.checkpoint import flatten, load_checkpoint, save_checkpoint, unflatten
from errata.errors import ErrataError, OutputError, SettingsError
from errata.models import build_model
from errata.observe import Track
from errata.parts.base import OptimizerSpec, Part, Program, Recipe, Stage
from errata.parts.mixing import Mixup

plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    plain_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(trees)
def test_plain_values_come_back_as_they_were(tree: Any):
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(flatten(tree, tensors))
    back = unflatten(json.loads(text), tensors)
    # NaN equals nothing, but its text is the same.
    assert repr(back) == repr(tree)
    assert not tensors


TENSORS = [
    torch.tensor(3.5, dtype=torch.float64),
    torch.tensor([True, False]),
    torch.arange(6, dtype=torch.int32).reshape(2, 3).T,
    torch.zeros(0, 3),
    torch.tensor([float("nan"), -0.0]),
    torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(
        memory_format=torch.channels_last
    ),
    torch.ones(3, dtype=torch.float16),
]


def test_tensors_come_back_bit_for_bit_and_keys_keep_their_type(tmp_path: Path):
    state = {"state": {0: {"buffer": TENSORS[0]}, "0": TENSORS}, "nothing": None, "list": [1, 2.5]}
    save_checkpoint(tmp_path / "c", state, settings="s")
    back = load_checkpoint(tmp_path / "c", settings="s")
    assert back is not None
    assert back["nothing"] is None
    assert back["list"] == [1, 2.5]
    assert list(back["state"]) == [0, "0"]
    found = [back["state"][0]["buffer"], *back["state"]["0"]]
    for before, after in zip([TENSORS[0], *TENSORS], found, strict=True):
        assert before.dtype == after.dtype
        assert before.shape == after.shape
        assert before.contiguous().numpy().tobytes() == after.numpy().tobytes()


def test_tensors_that_share_memory_are_saved(tmp_path: Path):
    shared = torch.arange(4.0)
    save_checkpoint(tmp_path / "c", {"a": shared, "b": shared, "c": shared[:2]}, settings="s")
    back = load_checkpoint(tmp_path / "c", settings="s")
    assert back is not None
    assert back["a"].tolist() == back["b"].tolist() == [0, 1, 2, 3]
    assert back["c"].tolist() == [0, 1]


def test_values_that_cannot_be_saved_are_a_fault():
    with pytest.raises(AssertionError, match="state/a"):
        flatten({"a": object()}, {})


def test_there_is_nothing_to_load_before_anything_was_saved(tmp_path: Path):
    assert load_checkpoint(tmp_path / "c", settings="s") is None


def number_in(place: Path) -> int | None:
    state = load_checkpoint(place, settings="s")
    return None if state is None else int(state["number"])


class KilledError(BaseException):
    """Ends the process where it stands; nothing may catch it."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stop before the n-th change of the file system that `save_checkpoint` makes."""
    done: list[str] = []

    def guard(name: str, act: Any) -> Any:
        def call(*args: Any, **values: Any) -> Any:
            if len(done) == step:
                raise KilledError
            done.append(name)
            return act(*args, **values)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", guard("rmtree", module.shutil.rmtree))
        patch.setattr(module, "save_file", guard("save_file", module.save_file))
        for name in ("mkdir", "write_text", "rename"):
            patch.setattr(Path, name, guard(name, getattr(Path, name)))
        yield done


def changes_of_one_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    place = tmp_path / "count"
    save_checkpoint(place, {"number": 0}, settings="s")
    with killed_at(100, monkeypatch) as done:
        save_checkpoint(place, {"number": 1}, settings="s")
    return len(done)


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = changes_of_one_save(tmp_path, monkeypatch)
    assert steps > 6
    for step in range(steps):
        place = tmp_path / f"c{step}"
        save_checkpoint(place, {"number": 1}, settings="s")
        with pytest.raises(KilledError), killed_at(step, monkeypatch):
            save_checkpoint(place, {"number": 2}, settings="s")
        assert number_in(place) in (1, 2)
        save_checkpoint(place, {"number": 3}, settings="s")
        assert number_in(place) == 3


def test_a_second_kill_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = changes_of_one_save(tmp_path, monkeypatch)
    for first in range(steps):
        for second in range(steps):
            place = tmp_path / f"c{first}-{second}"
            save_checkpoint(place, {"number": 1}, settings="s")
            for number, step in ((2, first), (3, second)):
                with suppress(KilledError), killed_at(step, monkeypatch):
                    save_checkpoint(place, {"number": number}, settings="s")
            assert number_in(place) in (1, 2, 3), (first, second)


def test_nothing_is_left_beside_a_finished_checkpoint(tmp_path: Path):
    for number in range(3):
        save_checkpoint(tmp_path / "c", {"number": number}, settings="s")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "state.json",
        "state.safetensors",
    ]


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Let writes fail as they do on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


# The tensors come first, then the text; each may be what fills the disk.
@pytest.mark.parametrize("state", [{"t": torch.zeros(9999)}, {"number": 2, "t": "x" * 9999}])
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, state: dict[str, Any]):
    place = tmp_path / "c"
    save_checkpoint(place, {"number": 1}, settings="s")
    with small_files(1000), pytest.raises(OutputError, match="cannot be written") as caught:
        save_checkpoint(place, state, settings="s")
    assert f"`{place}`" in caught.value.message
    assert "large" in caught.value.message
    assert "--resume" in caught.value.hint
    assert number_in(place) == 1


def test_a_place_that_is_no_directory_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "c", {}, settings="s")


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes):
    place = tmp_path / "c"
    save_checkpoint(place, {"number": 1, "t": torch.ones(3)}, settings="s")
    (place / name).write_bytes(content)
    with pytest.raises(ErrataError, match="cannot be read") as caught:
        load_checkpoint(place, settings="s")
    assert f"`{place}`" in caught.value.message
    assert caught.value.hint


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path):
    save_checkpoint(tmp_path / "c", {"number": 1}, settings="s")
    with pytest.raises(SettingsError, match="other settings or data"):
        load_checkpoint(tmp_path / "c", settings="t")


def stop_after(epoch: int) -> Listener:
    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == epoch:
            raise InterruptError

    return Listener(on_epoch=stop)


def whole_and_resumed(
    tmp_path: Path, program: Program, epoch: int, **values: Any
) -> tuple[TrainingRun, TrainingRun]:
    source = values.pop("source", None) or pictures(wrong=0.3)
    values.setdefault("model", tiny_net(source))
    values.setdefault("engine", EXACT)

    def run(**more: Any) -> TrainingRun:
        return fit(program, source, **values, **more)

    interrupted_fit(run, tmp_path / "c", listener=stop_after(epoch))
    return run(), run(checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize(
    ("label", "program", "values"),
    [
        ("adamw", one_stage(kind="adamw", lr=0.01), {}),
        ("without momentum", one_stage(momentum=0.0), {}),
        ("step", one_stage(schedule="step", clip=0.5), {}),
        ("dropout", one_stage("odd+mixup"), {"model": tiny_net(pictures(), dropout=0.5)}),
        ("two nets", one_stage(Recipe(nets=2, parts=(Mixup(),))), {}),
        ("no observer", one_stage("odd"), {"observers": ()}),
        (
            "float32 and augmentation",
            one_stage("odd+mixup"),
            {"engine": None, "augment": Augment(flip=True, crop=2, cutout=2)},
        ),
        (
            "convolutions, channels last",
            one_stage("odd"),
            {"engine": None, "model": "conv"},
        ),
    ],
)
def test_resuming_is_exact_whatever_trains(
    label: str, program: Program, values: dict[str, Any], tmp_path: Path
):
    whole, resumed = whole_and_resumed(tmp_path, program, 2, **values)
    assert_same_bits(all_tensors(whole), all_tensors(resumed))


# Global epochs: 0 and 1 are the first stage, 2 and 3 the second, 4 and 5 the third.
@pytest.mark.parametrize("kind", ["erm", "odd", "odd-phantom", "mixup"])
@pytest.mark.parametrize("stop", range(6))
def test_resuming_is_exact_across_stages(kind: str, stop: int, tmp_path: Path):
    program = tuple(
        Stage(
            recipe=one_stage(recipe)[0].recipe,
            epochs=2,
            batch=32,
            optimizer=OptimizerSpec(lr=0.05),
            reset=reset,
        )
        for recipe, reset in ((kind, True), (kind, False), (kind, True))
    )
    source = pictures(wrong=0.3)
    epochs = []

    def count(record: dict[str, Any]) -> None:
        epochs.append(record)
        if len(epochs) == stop + 1:
            raise InterruptError

    def run(**values: Any) -> TrainingRun:
        return fit(program, source, model=tiny_net(source, dropout=0.2), engine=EXACT, **values)

    place = tmp_path / "c"
    interrupted_fit(run, place, listener=Listener(on_epoch=count))
    whole, resumed = run(), run(checkpoint=place, resume=True)
    assert_same_bits(all_tensors(whole), all_tensors(resumed))
    assert [(r["stage"], r["epoch"]) for r in resumed.history] == [
        (s, e) for s in range(3) for e in range(2)
    ]


def test_what_setup_draws_is_the_same_after_resuming(tmp_path: Path):
    drawn: list[float] = []

    @dataclass
    class DrawsAtTheStart(Part):
        def setup(self, run: Any) -> None:
            drawn.append(torch.rand(1, generator=run.stream("x")).item())

    recipe = Recipe(parts=(DrawsAtTheStart(),))
    program = (Stage(recipe=Recipe(), epochs=2, batch=32), Stage(recipe=recipe, epochs=2, batch=32))
    source = pictures()

    def run(**values: Any) -> TrainingRun:
        return fit(program, source, model=tiny_net(source), engine=EXACT, **values)

    def stop(record: dict[str, Any]) -> None:
        if (record["stage"], record["epoch"]) == (1, 1):
            raise InterruptError

    interrupted_fit(run, tmp_path / "c", listener=Listener(on_epoch=stop))
    run(checkpoint=tmp_path / "c", resume=True)
    # Before training, when the stage began, and when it went on.
    assert len(drawn) == 3
    assert len(set(drawn)) == 1


def test_resuming_twice_is_resuming_once(tmp_path: Path):
    source = pictures(wrong=0.3)
    program = one_stage("odd")

    def run(**values: Any) -> TrainingRun:
        return fit(program, source, model=tiny_net(source), engine=EXACT, **values)

    for epoch in (1, 2):
        interrupted_fit(run, tmp_path / "c", listener=stop_after(epoch), resume=True)
    resumed = run(checkpoint=tmp_path / "c", resume=True)
    assert_same_bits(all_tensors(run()), all_tensors(resumed))


def test_resuming_a_finished_run_trains_no_more(tmp_path: Path):
    source = pictures(wrong=0.3)
    steps = []

    def look(run: TrainingRun, seen: Any) -> None:
        steps.append(run.tick)

    def run(**values: Any) -> TrainingRun:
        return fit(
            one_stage("odd"),
            source,
            model=tiny_net(source),
            engine=EXACT,
            observers=(Track(), Watcher(look)),
            checkpoint=tmp_path / "c",
            **values,
        )

    whole = run()
    done = len(steps)
    again = run(resume=True)
    assert len(steps) == done
    assert_same_bits(all_tensors(whole), all_tensors(again))
    assert again.history == whole.history
    assert again.notes == whole.notes
    logits = [each.sweep(0)[0] for each in (whole, again)]
    assert torch.equal(*logits)


def test_without_resume_a_run_starts_from_the_beginning(tmp_path: Path):
    source = pictures()

    def run(**values: Any) -> TrainingRun:
        return fit(one_stage(), source, model=tiny_net(source), engine=EXACT, **values)

    interrupted_fit(run, tmp_path / "c", listener=stop_after(2))
    fresh = run(checkpoint=tmp_path / "c")
    assert len(fresh.history) == 4
    assert_same_bits(all_tensors(run()), all_tensors(fresh))


@pytest.mark.parametrize(
    "change",
    [
        {"program": one_stage(lr=0.06)},
        {"program": one_stage(epochs=5)},
        {"program": one_stage("gce")},
        {"program": one_stage(Recipe(parts=(Mixup(alpha=0.5),)))},
        {"source": pictures(seed=1)},
        {"source": Relabelled(pictures(), (pictures().given + 1) % 3)},
        {"seed": 1},
        {"model": "conv"},
        {"augment": Augment(flip=True)},
        {"weights": torch.ones(96) / 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_run_of_other_settings_or_data_is_not_continued(change: dict[str, Any], tmp_path: Path):
    values: dict[str, Any] = {"program": one_stage(), "source": pictures(), "model": "mlp"}

    def run(**more: Any) -> TrainingRun:
        return fit(engine=EXACT, **values, **more)

    interrupted_fit(run, tmp_path / "c", listener=stop_after(1))
    values |= change
    with pytest.raises(SettingsError, match="other settings or data"):
        run(checkpoint=tmp_path / "c", resume=True)


def test_checkpoints_come_after_the_time_asked_for_and_at_the_end(tmp_path: Path):
    source = pictures()
    found = []

    def look(record: dict[str, Any]) -> None:
        found.append((tmp_path / "c").exists())

    for seconds, expected in ((0.0, [True] * 4), (1e9, [False] * 3 + [True])):
        found.clear()
        fit(
            one_stage(),
            source,
            model=tiny_net(source),
            engine=EXACT,
            checkpoint=tmp_path / "c",
            checkpoint_s=seconds,
            listener=Listener(on_epoch=look),
        )
        assert found == expected
        assert (tmp_path / "c").exists()
        for path in (tmp_path / "c").iterdir():
            path.unlink()
        (tmp_path / "c").rmdir()


def test_buffers_of_the_users_own_survive(tmp_path: Path):
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_model("mlp", (1, 8, 8), 3)
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.calls += 1
            out: torch.Tensor = self.inner(x)
            return out

    whole, resumed = whole_and_resumed(tmp_path, one_stage(), 2, model=Counts)
    assert_same_bits(all_tensors(whole), all_tensors(resumed))
    assert resumed.nets[0].body.calls == 12  # type: ignore[union-attr]

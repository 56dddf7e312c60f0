"""What every registered recipe promises; a new one is tested here by being registered."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any
from zlib import crc32

import numpy as np
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

from errata.data import Arrays, Truth
from errata.data.noise import plant_noise
from errata.engine import Listener, TrainingRun, fit
from errata.errors import ErrataError
from errata.ledger import Ledger
from errata.methods import card_named, phases_named, recipe_named, recipe_names
from errata.methods.card import WAYS
from errata.methods.odd import ODD
from errata.methods.odd_phantom import ODDPhantom
from errata.observe import Track
from errata.parts.base import Part, Recipe

EPOCHS = 4
NAMES = recipe_names()
COMPOSED = ["odd+mixup", "gce+mixup", "odd-phantom+mixup"]
LOSS_ALONE = {name for name in NAMES if not any(p.recipe.parts for p in phases_named(name))}
LOSS_ALONE -= {"erm", "gce"}
"""Differ from `gce` by a loss, and losses have a battery of their own: two tests are enough."""
ALL = [*NAMES, *COMPOSED]
EVERY = [name for name in ALL if name not in LOSS_ALONE]
TRAINED = [name for name in EVERY if name != "clean-only"]
"""Those that train on the rows of the source."""
HARD_TO_TRAIN = {"ramp"}
"""Rows that are not in the lead teach it nothing, as its card says."""
FULLY = {"erm", "mixup", "odd", *COMPOSED}
"""Those that are interrupted in every epoch; the others in two of them."""
MOMENTS = [(name, epoch) for name in EVERY for epoch in range(EPOCHS) if name in FULLY]
MOMENTS += [(name, epoch) for name in EVERY for epoch in (1, 2) if name not in FULLY]


@cache
def noisy() -> Arrays:
    return pictures(wrong=0.3)


def needs_of(name: str | Recipe) -> set[str]:
    names = name.split("+") if isinstance(name, str) else []
    return {need for each in names for need in card_named(each).needs}


def given_to(name: str | Recipe, source: Arrays) -> dict[str, Any]:
    """Give what a recipe cannot do without."""
    values: dict[str, Any] = {}
    if "clean" in needs_of(name):
        values["clean"] = pictures(30, len(source.classes))
    if "verified" in needs_of(name):
        # By name, so that rows in another order have the same verdicts.
        known = torch.tensor([crc32(key.encode()) % 3 for key in source.ids])
        values["verified"] = torch.where(known == 2, -1, 1 - known)
    return values


def run_of(
    name: str | Recipe, source: Arrays | None = None, *, norm: bool = True, **values: Any
) -> TrainingRun:
    """Fit a recipe as the tests below do, four epochs of four steps."""
    source = source or noisy()
    stage = {key: values.pop(key) for key in ("epochs", "batch", "lr") if key in values}
    values.setdefault("engine", EXACT)
    program = one_stage(name, **({"epochs": EPOCHS, "batch": 24} | stage))
    values = {**given_to(name, source), **values}
    return fit(program, source, model=tiny_net(source, norm=norm), **values)


@cache
def reference(name: str) -> TrainingRun:
    """A fit that nobody interrupts; read it, do not change it."""
    return run_of(name)


def weights_of(run: TrainingRun) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for net in run.nets for p in net.parameters()])


@pytest.mark.parametrize("name", [*TRAINED, *sorted(LOSS_ALONE)])
def test_trains_two_batches(name: str):
    start = weights_of(run_of(name, epochs=1, lr=0.0))
    run = run_of(name, epochs=1, batch=48)
    stages = len(phases_named(name))
    assert run.tick >= 2 if stages > 1 else run.tick == 2
    assert run.history[0]["rows"] == 96
    assert np.isfinite(run.history[0]["train_loss"])
    assert weights_of(run).isfinite().all()
    assert (weights_of(run) != start).any()


@pytest.mark.parametrize("name", NAMES)
def test_runs_with_nothing_given_exactly_where_it_needs_nothing(name: str):
    source = noisy()
    arguments = {"model": tiny_net(source), "engine": EXACT}
    program = one_stage(name, epochs=1, batch=48)
    if needs := card_named(name).needs:
        with pytest.raises(ErrataError, match=needs[0]) as caught:
            fit(program, source, **arguments)
        assert caught.value.hint
        return
    run = fit(program, source, **arguments)
    assert run.history[-1]["rows"] > 0
    assert weights_of(run).isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_learns_what_can_be_learned(name: str):
    source = pictures(wrong=0.0)
    run = run_of(name, source, epochs=8)
    logits, _ = run.sweep(0)
    right = (logits.argmax(1) == run.given).float().mean()
    assert right > (0.6 if name in HARD_TO_TRAIN else 0.9)


@pytest.mark.parametrize("name", EVERY)
def test_fitted_twice_gives_the_same_bits(name: str):
    program, source = one_stage(name, epochs=EPOCHS), noisy()
    before = repr(program)
    runs = []
    for seed in (1, 2):
        # Whatever others have drawn from the global generators must not matter.
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        model = tiny_net(source, dropout=0.2)
        runs.append(fit(program, source, model=model, engine=EXACT, **given_to(name, source)))
    assert_same_bits(all_tensors(runs[0]), all_tensors(runs[1]))
    assert repr(program) == before


@pytest.mark.parametrize("name", EVERY)
def test_global_generators_are_left_as_they_were(name: str):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    run_of(name, epochs=2)
    torch_next, numpy_next = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    assert torch_next == torch.rand(1)
    assert numpy_next == np.random.rand()  # noqa: NPY002


@pytest.mark.parametrize("name", EVERY)
def test_another_seed_gives_another_result(name: str):
    other = run_of(name, seed=1)
    assert (weights_of(other) != weights_of(reference(name))).any()


# Epoch 1 is the one before the drop (40 % of 4 epochs), epoch 0 has no checkpoint to go back to.
@pytest.mark.parametrize(("name", "epoch"), MOMENTS)
def test_stopped_after_any_epoch_and_resumed_gives_the_same_bits(
    name: str, epoch: int, tmp_path: Path
):
    records = []

    def stop(record: dict[str, Any]) -> None:
        records.append(record)
        if len(records) > epoch:
            raise InterruptError

    place = tmp_path / "checkpoint"
    interrupted_fit(
        lambda **values: run_of(name, **values), place, listener=Listener(on_epoch=stop)
    )
    assert_resumed_equals_reference(name, place)


@pytest.mark.parametrize(("name", "epoch"), MOMENTS)
def test_stopped_within_any_epoch_and_resumed_gives_the_same_bits(
    name: str, epoch: int, tmp_path: Path
):
    steps = []

    def stop(share: float) -> None:
        steps.append(share)
        if share > epoch / EPOCHS:
            raise InterruptError

    place = tmp_path / "checkpoint"
    interrupted_fit(lambda **values: run_of(name, **values), place, listener=Listener(on_step=stop))
    assert len(steps) > epoch
    assert_resumed_equals_reference(name, place)


def assert_resumed_equals_reference(name: str, place: Path) -> None:
    resumed, whole = run_of(name, checkpoint=place, resume=True), reference(name)
    assert_same_bits(all_tensors(resumed), all_tensors(whole))
    assert resumed.tick == whole.tick
    assert resumed.notes == whole.notes
    assert resumed.warnings == whole.warnings
    assert without_times(resumed) == without_times(whole)


def without_times(run: TrainingRun) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.history]


@pytest.mark.parametrize("name", EVERY)
def test_observers_never_change_training(name: str):
    nets = [
        weights_of(run_of(name, observers=observers))
        for observers in ((), (Track(),), (Track(every=1), Track(every=1, curve=False)))
    ]
    assert (nets[0] == nets[1]).all()
    assert (nets[0] == nets[2]).all()


@pytest.mark.parametrize("name", EVERY)
def test_observers_never_change_training_of_nets_that_draw_at_random(name: str):
    source = noisy()
    nets = []
    for observers in ((), (Track(every=1),)):
        model = tiny_net(source, dropout=0.5)
        values = {"engine": EXACT, "observers": observers, **given_to(name, source)}
        nets.append(weights_of(fit(one_stage(name), source, model=model, **values)))
    assert (nets[0] == nets[1]).all()


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_of_a_row_does_not_depend_on_its_place_in_the_batch(name: str):
    differences = []

    def look(run: TrainingRun, seen: Any) -> None:
        plain = seen[0].plain
        order = torch.randperm(len(plain.rows), generator=torch.Generator().manual_seed(run.tick))
        moved = type(plain)(
            rows=plain.rows[order],
            views=tuple(view[order] for view in plain.views),
            given=plain.given[order],
            target=plain.target[order],
            weight=plain.weight[order],
            group=plain.group[order],
        )
        with torch.no_grad():
            here = run.look(0, plain, plain=plain).losses
            there = run.look(0, moved, plain=moved).losses
        differences.append(float((here[order] - there).abs().max()))

    run_of(name, observers=(Watcher(look),), epochs=2)
    # Batch norm adds the rows in another order; in double precision that is all.
    assert max(differences) < 1e-9


# With one batch per epoch the order of the rows changes sums by rounding alone. What is drawn by
# position differs for a row that moved: mixing partners, and the random second labels.
DRAWN_BY_POSITION = {"mixup", "cutmix", "balanced", "odd-phantom"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DRAWN_BY_POSITION])
def test_permuted_rows_of_a_whole_batch_give_the_same_statistics(name: str):
    source = noisy()
    order = np.random.default_rng(0).permutation(len(source.ids))
    moved = Arrays(
        source.x[order],
        source.given[order],
        classes=source.classes,
        ids=[source.ids[row] for row in order],
        name=source.name,
    )
    here, there = (run_of(name, each, batch=96) for each in (source, moved))
    assert (weights_of(here) - weights_of(there)).abs().max() < 1e-9
    for column in here.ledger.columns:
        # These are of the second labels, or arrive in another order within the step.
        if column.name.startswith("phantom"):
            continue
        values = here.ledger.read(column.name)[torch.from_numpy(order)]
        torch.testing.assert_close(values, there.ledger.read(column.name), equal_nan=True)


@pytest.mark.parametrize("name", EVERY)
def test_given_labels_are_left_alone(name: str):
    source = noisy()
    before = source.given.copy()

    def look(run: TrainingRun, seen: Any) -> None:
        for each in seen.values():
            for batch in (each.batch, each.plain):
                assert (batch.given == run.given[batch.rows]).all()
                assert (run.given[batch.rows] >= 0).all()

    run = run_of(name, source, observers=(Watcher(look),))
    assert (source.given == before).all()
    assert (run.ledger.given.numpy() == before).all()


@pytest.mark.parametrize("name", TRAINED)
def test_parts_write_the_columns_that_they_own(name: str, monkeypatch: pytest.MonkeyPatch):
    writer = ["engine"]
    written: set[tuple[str, str]] = set()
    write = Ledger.write

    def remember(ledger: Ledger, column: str, *args: Any, **values: Any) -> None:
        written.add((writer[-1], column))
        assert ledger.owner(column) == writer[-1], f"{writer[-1]} writes `{column}`"
        write(ledger, column, *args, **values)

    def guarded(owner: str, seam: Any) -> Any:
        def call(*args: Any, **values: Any) -> Any:
            writer.append(owner)
            try:
                return seam(*args, **values)
            finally:
                writer.pop()

        return call

    monkeypatch.setattr(Ledger, "write", remember)
    parts = [part for phase in phases_named(name) for part in phase.recipe.parts]
    for part in {type(part): part for part in parts}.values():
        for seam in SEAMS:
            monkeypatch.setattr(type(part), seam, guarded(part.kind, getattr(type(part), seam)))
    for seam in ("open", "step"):
        monkeypatch.setattr(Track, seam, guarded("track", getattr(Track, seam)))
    run = run_of(name)
    owners = {"track", *(part.kind for part in parts)}
    assert {run.ledger.owner(column.name) for column in run.ledger.columns} <= owners
    assert ("track", "loss") in written


SEAMS = ("setup", "plan", "prepare", "weigh", "penalty", "after_step", "after_epoch")


def test_the_seams_are_those_of_a_part():
    assert set(SEAMS) == {name for name in vars(Part) if not name.startswith("_")} - {"kind"}


@pytest.mark.parametrize("name", TRAINED)
def test_survives_batches_that_lack_a_class(name: str):
    source = pictures(wrong=0.2, rare=2)
    lacking = []

    def look(run: TrainingRun, seen: Any) -> None:
        lacking.append(len(seen[0].plain.given.unique()) < 3)

    run = run_of(name, source, batch=8, observers=(Track(), Watcher(look)))
    assert any(lacking)
    assert weights_of(run).isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_survives_two_classes(name: str):
    source = pictures(classes=2, wrong=0.2)
    run = run_of(name, source)
    assert weights_of(run).isfinite().all()
    assert run.ledger.read("margin_sum").isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_survives_batches_of_one_row(name: str):
    source = pictures(12, wrong=0.2)
    run = run_of(name, source, norm=False, batch=1, epochs=3)
    assert weights_of(run).isfinite().all()
    assert run.tick == sum(record["rows"] for record in run.history)


@pytest.mark.parametrize("name", EVERY)
def test_batch_norm_refuses_batches_of_one_row(name: str):
    with pytest.raises(ErrataError, match="batch of 1 row"):
        run_of(name, pictures(12), batch=1)


@pytest.mark.parametrize("name", TRAINED)
def test_unlabelled_rows_are_never_trained_on(name: str):
    source = pictures(wrong=0.2, unlabelled=20)
    rows = []

    def look(run: TrainingRun, seen: Any) -> None:
        rows.append(seen[0].plain.rows)

    run = run_of(name, source, observers=(Track(), Watcher(look)))
    assert torch.cat(rows).max() < 76
    assert run.history[0]["rows"] == 76
    assert run.ledger.read("loss")[76:].isnan().all()
    assert (run.ledger.read("first_learned")[76:] == -1).all()
    if run.ledger.has("dropped"):
        assert not run.ledger.read("dropped")[76:].any()


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in HARD_TO_TRAIN])
def test_weights_of_zero_are_not_learned_from(name: str):
    # Labels of the last class are wrong everywhere, and weigh nothing.
    source = pictures(wrong=0.0)
    given = np.where(source.given == 2, 0, source.given)
    wrong = Arrays(source.x, given, classes=source.classes, name="moved")
    weights = torch.from_numpy(np.where(source.given == 2, 0.0, 1.0))
    epochs = 2 * EPOCHS * len(phases_named(name))
    heavy, light = (run_of(name, wrong, weights=each, epochs=epochs) for each in (None, weights))
    moved = torch.from_numpy(source.given == 2)
    agreement = [(run.sweep(0)[0].argmax(1) == 0)[moved].float().mean() for run in (heavy, light)]
    assert agreement[0] > agreement[1]


def referents(thing: Any) -> Iterator[Any]:
    """List what an object holds; code, classes and modules hold the whole program and do not count.

    Arrays are asked for their memory, functions for what they close over.
    """
    if isinstance(thing, FunctionType):
        yield from thing.__defaults__ or ()
        yield from (thing.__kwdefaults__ or {}).values()
        for cell in thing.__closure__ or ():
            yield cell.cell_contents
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, np.ndarray):
        yield thing.base
    else:
        yield from gc.get_referents(thing)


def reachable_from(root: Any) -> Iterator[Any]:
    found: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in found or isinstance(thing, type | ModuleType | str | bytes | int | float):
            continue
        found[id(thing)] = thing
        yield thing
        waiting.extend(referents(thing))


def clean_labels_in(root: Any, clean: np.ndarray) -> list[Any]:
    """Find whatever holds the true labels: a `Truth`, or the labels themselves as an array."""
    found: list[Any] = []
    for thing in reachable_from(root):
        if isinstance(thing, Truth):
            found.append(thing)
        elif isinstance(thing, np.ndarray | Tensor):
            values = thing.detach().cpu().numpy() if isinstance(thing, Tensor) else thing
            if values.shape == clean.shape and (values == clean).all():
                found.append(thing)
        elif isinstance(thing, list | tuple) and [*thing] == clean.tolist():
            found.append(thing)
    return found


class Holder:
    def __init__(self, thing: Any) -> None:
        self.thing = thing


@pytest.mark.parametrize(
    "hide",
    [
        Holder,
        lambda truth: Holder(Holder({"deep": [truth]})),
        lambda truth: lambda: truth,
        lambda truth: Holder(truth).__init__,
        lambda truth: truth.clean,
        lambda truth: Holder(torch.from_numpy(truth.clean)),
        lambda truth: Holder(truth.clean.tolist()),
        lambda truth: Holder(truth.clean[::-1]).thing[::-1],
    ],
)
def test_the_search_finds_the_truth_where_it_is_hidden(hide: Any):
    truth = Truth(np.array([0, 1, 2, 1, 0]))
    assert clean_labels_in(Holder(hide(truth)), truth.clean)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_a_part_can_reach_holds_the_truth(name: str):
    # Half of the "true" labels are random, so that no method can find them all by itself.
    planted = plant_noise(pictures(wrong=0.5), "uniform:0.4", seed=0)
    met = []

    def look(run: TrainingRun, seen: Any) -> None:
        # A part and an observer are given the same two things.
        met[:] = [(run, seen)]

    run_of(name, planted.source, observers=(Track(), Watcher(look)), epochs=3)
    assert (planted.truth.clean != planted.source.given).any()
    assert not clean_labels_in(met, planted.truth.clean)


@pytest.mark.parametrize("name", EVERY)
def test_training_never_reads_the_truth(name: str, monkeypatch: pytest.MonkeyPatch):
    planted = plant_noise(pictures(wrong=0.0), "uniform:0.4", seed=0)

    def poisoned(truth: Truth, attribute: str) -> Any:
        raise AssertionError(f"somebody has read `{attribute}` of the truth")

    monkeypatch.setattr(Truth, "__getattribute__", poisoned)
    with pytest.raises(AssertionError, match="`clean`"):
        _ = planted.truth.clean
    run_of(name, planted.source)


@pytest.mark.parametrize("name", [name for name in NAMES if "mixup" not in name])
def test_composes_with_mixing_or_says_why_not(name: str):
    if why := card_named(name).refuses.get("mixup"):
        with pytest.raises(ErrataError, match=re.escape(why)):
            recipe_named(f"{name}+mixup")
        return
    assert weights_of(run_of(f"{name}+mixup", batch=32)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name: str):
    card = card_named(name)
    assert card.name == name
    assert 10 < len(card.summary) < 100
    assert not card.summary.endswith(".")
    assert card.source
    assert card.year == 0 or 1990 < card.year < 2100
    assert (card.source == "-") == (card.year == 0)
    for heading in ("Idea", "Use", "Avoid", "Cost", "Source"):
        assert f"**{heading}" in card.text, heading
    assert card.way in WAYS
    assert (card.way == "control") == (name in {"erm", "balanced", "warp"})
    assert set(card.needs) <= {"clean", "verified", "transition", "noise-rate", "features"}


@pytest.mark.parametrize("name", NAMES)
def test_every_build_gives_a_recipe_of_its_own(name: str):
    for one, two in zip(*(card_named(name).phases() for _ in range(2)), strict=True):
        assert one == two
        assert all(a is not b for a, b in zip(one.recipe.parts, two.recipe.parts, strict=True))


def test_names_are_put_together_in_any_order():
    there, back = recipe_named("odd+mixup"), recipe_named(" mixup + odd ")
    assert [part.kind for part in there.parts] == ["odd", "mixup"]
    assert [part.kind for part in back.parts] == ["mixup", "odd"]
    assert_same_bits(all_tensors(run_of("odd+mixup")), all_tensors(run_of("mixup+odd")))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("od", "did you mean `odd`"),
        ("odd+", "recipe `` is unknown"),
        ("odd+odd", "the part `odd` twice"),
        ("gce+gce", "two losses"),
    ],
)
def test_what_cannot_be_put_together_is_refused(names: str, words: str):
    with pytest.raises(ErrataError, match=words):
        recipe_named(names)


def test_two_parts_with_one_column_are_refused():
    with pytest.raises(ErrataError, match="`dropped`"):
        run_of(Recipe(parts=(ODD(), ODDPhantom())))

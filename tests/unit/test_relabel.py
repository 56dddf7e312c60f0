"""Labels from past predictions: the ring, when it is read, and what survives a resume."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
from errata.ledger import Ledger, standard
from errata.methods.joint import Joint
from errata.parts.base import Part, Recipe, Stage
from errata.parts.mixing import Mixup
from errata.parts.relabel import UseLabels, believe, mean_of_ring, moved_share, one_hot_share
from errata.transition import estimate_by_counts, weigh_by_given
from errata.transition_fit import weigh_by_given_fitted
from errata.types import Group, Lap, Plan

NAN = math.nan


def one_row_ledger(keep: int, classes: int) -> Ledger:
    ledger = Ledger(["row"], [0], classes=[f"kind {c}" for c in range(classes)])
    ledger.add("test", standard("history", keep=keep, shape=(classes,)))
    return ledger


def test_the_ring_of_constant_predictions_holds_the_newest_ten():
    # The prediction of epoch k is certain of class k, as in the worked example.
    ledger = one_row_ledger(10, 75)
    for epoch in range(75):
        certain = torch.eye(75)[epoch][None]
        ledger.write("history", torch.tensor([0]), certain, stamp=epoch)
        mean = mean_of_ring(ledger.read("history"))[0]
        held = torch.arange(max(0, epoch - 9), epoch + 1)
        assert mean.nonzero()[:, 0].tolist() == held.tolist()
        assert mean[held].tolist() == pytest.approx([1 / len(held)] * len(held))


def test_a_ring_that_is_not_full_is_averaged_over_what_it_holds():
    ring = torch.tensor([[[NAN, NAN], [0.25, 0.75], [0.75, 0.25]], [[NAN, NAN]] * 3])
    mean = mean_of_ring(ring)
    assert mean[0].tolist() == [0.5, 0.5]
    assert mean[1].isnan().all()


def test_means_of_half_precision_sum_to_one():
    ring = torch.rand(50, 10, 7, generator=torch.Generator().manual_seed(0)).softmax(2).half()
    sums = mean_of_ring(ring).double().sum(1)
    torch.testing.assert_close(sums, torch.ones(50).double(), rtol=0, atol=1e-6)


def test_beliefs_take_over_the_mass_of_a_target():
    target = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    belief = torch.tensor([[0.25, 0.75], [NAN, NAN], [1.0, 0.0]])
    assert believe(target, belief).tolist() == [[0.75, 2.25], [0, 1], [0, 0]]


def test_shares_of_labels_that_moved_and_of_those_that_are_certain():
    assert moved_share(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 1, 1])) == 0.5
    assert one_hot_share(torch.tensor([[1.0, 0.0], [0.995, 0.005], [0.9, 0.1]])) == pytest.approx(
        2 / 3
    )
    nothing = torch.zeros(0, dtype=torch.int64)
    assert moved_share(nothing, nothing) == one_hot_share(torch.zeros(0, 3)) == 0


def run_of(*parts: Part, epochs: int = 6, **values: Any) -> TrainingRun:
    source = values.pop("source", None) or pictures(wrong=0.3)
    values = {"engine": EXACT, "model": tiny_net(source), **values}
    return fit(one_stage(Recipe(parts=parts), epochs=epochs, batch=24), source, **values)


class Diary(Watcher):
    """Keeps what every row was predicted to be and trained on, epoch by epoch."""

    def __init__(self) -> None:
        super().__init__(self.write)
        self.predicted: dict[int, Tensor] = {}
        self.trained_on: dict[int, Tensor] = {}
        self.labels: dict[int, Tensor] = {}

    def write(self, run: TrainingRun, seen: Any) -> None:
        each = seen[0]
        for book, values in (
            (self.predicted, run.unmixed(0, seen).softmax(1)),
            (self.trained_on, each.batch.target),
        ):
            page = book.setdefault(run.epoch, torch.full((96, 3), NAN, dtype=torch.float64))
            page[each.plain.rows] = values.detach().double()
        self.labels[run.epoch] = run.ledger.read("soft_label")


def kept_diary(part: Part, **values: Any) -> tuple[Diary, TrainingRun]:
    diary = Diary()
    return diary, run_of(part, observers=(diary,), **values)


def test_labels_are_the_mean_of_the_newest_training_predictions_after_every_epoch():
    diary, run = kept_diary(Joint(start=3, keep=2))
    given = run.one_hot(run.given)
    for epoch in range(3):
        assert torch.equal(diary.trained_on[epoch], given.double())
    for epoch in range(3, 6):
        newest = torch.stack([diary.predicted[epoch - k] for k in (1, 2)]).mean(0)
        torch.testing.assert_close(diary.trained_on[epoch], newest, rtol=0, atol=1e-3)
    newest = torch.stack([diary.predicted[k] for k in (4, 5)]).mean(0)
    soft = run.ledger.read("soft_label")
    torch.testing.assert_close(soft.double(), newest, rtol=0, atol=1e-3)
    assert torch.equal(run.ledger.read("corrected"), soft.argmax(1))


@pytest.mark.parametrize(
    ("start", "keep", "epochs", "first"),
    [
        (1, 10, 6, 1),
        (0, 10, 6, 1),
        (4, 2, 6, 4),
        ("4ep", 2, 6, 4),
        ("50%", 2, 6, 3),
        # A share waits for a full ring; an epoch does not.
        ("35%", 4, 6, 4),
        (2, 4, 6, 2),
        ("35%", 10, 6, 6),
        (6, 10, 6, 6),
    ],
)
def test_the_first_update_comes_at_the_start(start: int | str, keep: int, epochs: int, first: int):
    diary, run = kept_diary(Joint(start=start, keep=keep), epochs=epochs)
    for epoch in range(epochs):
        assert diary.labels[epoch].isnan().all() == (epoch < first), epoch
    assert run.ledger.read("soft_label").isfinite().all()
    assert run.notes["joint"]["first_epoch"] == first - 1
    assert run.memory["joint_moving"].isfinite().tolist() == [
        epoch + 1 >= first for epoch in range(epochs)
    ]


def test_the_start_of_the_paper_is_the_seventieth_epoch_of_two_hundred():
    part = Joint()

    class Stub:
        epochs, num_rows, classes, given = 200, 1, 2, torch.tensor([0])
        device, memory, nets = torch.device("cpu"), {}, (None,)
        ledger = Ledger(["row"], [0], classes=["cat", "dog"])

    part.setup(Stub())
    assert part.epoch_ == 70


def test_hard_labels_are_the_largest_class_of_the_mean():
    diary, run = kept_diary(Joint(start=2, keep=2, hard=True, beta=0.0))
    for epoch in range(2, 6):
        expected = run.one_hot(diary.labels[epoch].argmax(1)).double()
        assert torch.equal(diary.trained_on[epoch], expected)


def test_the_given_label_is_asked_as_well_where_wanted():
    diary, run = kept_diary(Joint(start=3, keep=2, ask_given=True))
    mean = torch.stack([diary.predicted[k] for k in (1, 2)]).mean(0)
    expected = weigh_by_given(mean, run.given, estimate_by_counts(mean, run.given))
    torch.testing.assert_close(diary.trained_on[3], expected, rtol=0, atol=2e-3)
    assert not torch.allclose(expected, mean, atol=0.05)


def test_what_is_asked_of_the_given_label_may_be_fitted_to_it():
    diary, run = kept_diary(Joint(start=3, keep=2, ask_fitted=True))
    mean = torch.stack([diary.predicted[k] for k in (1, 2)]).mean(0)
    expected, _ = weigh_by_given_fitted(mean, run.given)
    torch.testing.assert_close(diary.trained_on[3], expected, rtol=0, atol=2e-3)
    newest = torch.stack([diary.predicted[k] for k in (4, 5)]).mean(0)
    assert run.notes["joint"]["temperature"] == weigh_by_given_fitted(newest, run.given)[1]


def test_the_shares_of_a_run_are_those_of_its_labels():
    diary, run = kept_diary(Joint(start=2, keep=2))
    given = run.given
    labels = {epoch: diary.labels[epoch + 1].argmax(1) for epoch in range(1, 5)}
    labels[0], labels[5] = given, run.ledger.read("corrected")

    def share(one: Tensor, other: Tensor) -> Any:
        return pytest.approx((one != other).double().mean().item(), abs=1e-6)

    for epoch in range(1, 6):
        assert run.memory["joint_moving"][epoch].item() == share(labels[epoch], labels[epoch - 1])
    assert torch.equal(run.ledger.read("first_corrected"), labels[1])
    notes = run.notes["joint"]
    assert notes["first_share_changed"] == share(labels[1], given)
    assert notes["last_share_changed"] == share(labels[5], given)
    certain = (run.ledger.read("soft_label").max(1).values > 0.99).double().mean().item()
    assert notes["share_onehot"] == pytest.approx(certain)
    assert run.memory["joint_onehot"][5].item() == pytest.approx(certain)


def test_predictions_that_no_label_is_made_of_are_not_kept():
    counts = {}

    def look(run: TrainingRun, seen: Any) -> None:
        counts[run.epoch] = int(run.ledger.filled("history").max())

    run_of(Joint(start=5, keep=2), observers=(Watcher(look),))
    assert counts == {0: 0, 1: 0, 2: 0, 3: 1, 4: 2, 5: 2}


def test_under_mixing_the_predictions_are_those_of_the_batch_as_drawn():
    run = run_of(Joint(start=2, keep=1), epochs=3)
    mixed = Diary()
    blended = run_of(Joint(start=2, keep=1), Mixup(), observers=(mixed,), epochs=3)
    soft = blended.ledger.read("soft_label").double()
    torch.testing.assert_close(soft, mixed.predicted[2], rtol=0, atol=1e-3)
    assert (soft - run.ledger.read("soft_label")).abs().max() > 0.01


def test_under_mixing_both_rows_bring_their_new_label():
    checked = []

    def look(run: TrainingRun, seen: Any) -> None:
        batch, plain = seen[0].batch, seen[0].plain
        assert not batch.pure
        torch.testing.assert_close(batch.target.sum(1), torch.ones(len(batch.rows)).double())
        if run.epoch >= 2:
            soft = run.ledger.read("soft_label", plain.rows).to(batch.target)
            # Blends of rows of the batch lie between the least and the largest of its labels.
            assert (batch.target <= soft.max(0).values + 1e-6).all()
            assert (batch.target >= soft.min(0).values - 1e-6).all()
            checked.append(run.epoch)

    run_of(Joint(start=2, keep=2), Mixup(), observers=(Watcher(look),), epochs=4)
    assert checked


def test_mixing_first_is_refused():
    with pytest.raises(SettingsError, match="joint cannot replace the labels of rows that were"):
        run_of(Mixup(), Joint(start=1))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_labels_and_ring_survive_a_resume_to_the_bit(epoch: int, hard: bool, tmp_path: Path):
    def fitted(**values: Any) -> TrainingRun:
        return run_of(Joint(start=3, keep=2, hard=hard, moving=0.5), **values)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == epoch:
            raise InterruptError

    interrupted_fit(fitted, tmp_path / "at", listener=Listener(on_epoch=stop))
    resumed, whole = fitted(checkpoint=tmp_path / "at", resume=True), fitted()
    assert resumed.tick == whole.tick
    tensors = all_tensors(whole)
    assert {name.split("/")[-1] for name in tensors} >= {"history", "soft_label", "joint_mean"}
    assert_same_bits(all_tensors(resumed), tensors)
    assert resumed.notes == whole.notes


def test_rows_without_predictions_keep_their_label():
    @dataclass
    class Skip(Part):
        """Leaves the first ten rows out."""

        def plan(self, run: Any, plan: Plan) -> Plan:
            return plan.keep(torch.arange(run.num_rows) >= 10)

    run = run_of(Joint(start=1), Skip(), epochs=3)
    assert run.ledger.read("soft_label")[:10].isnan().all()
    assert (run.ledger.read("corrected")[:10] == -1).all()
    assert (run.ledger.read("corrected")[10:] >= 0).all()


def test_a_second_stage_of_its_own_forgets_the_labels_of_the_first():
    left: dict[int, list[bool]] = {0: [], 1: []}

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch == 0:
            found = [run.ledger.read(name).isfinite().any() for name in ("history", "soft_label")]
            found += [(run.ledger.read("corrected") >= 0).any()]
            left[run.stage_index] += [bool(each) for each in found]

    source = pictures(wrong=0.3)
    stage = Stage(recipe=Recipe(parts=(Joint(start=3, keep=2),)), epochs=4, batch=24)
    model = tiny_net(source)
    run = fit((stage, stage), source, model=model, engine=EXACT, observers=(Watcher(look),))
    assert left == {0: [False] * 12, 1: [False] * 12}
    assert run.ledger.read("soft_label").isfinite().all()


def two_stages(first: Part, second: Part) -> tuple[Stage, ...]:
    return tuple(Stage(recipe=Recipe(parts=(p,)), epochs=3, batch=24) for p in (first, second))


@pytest.mark.parametrize("column", ["soft_label", "corrected"])
def test_a_later_stage_trains_on_the_labels_left_to_it(column: str):
    checked = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.stage_index == 1:
            batch = seen[0].batch
            left = run.ledger.read(column, batch.rows)
            expected = left if left.ndim == 2 else run.one_hot(left)
            torch.testing.assert_close(batch.target, expected.to(batch.target))
            checked.append(run.tick)

    source = pictures(wrong=0.3)
    program = two_stages(Joint(start=2), UseLabels(column=column))
    model = tiny_net(source)
    fit(program, source, model=model, engine=EXACT, observers=(Watcher(look),))
    assert len(checked) == 12


def test_labels_that_nobody_has_left_are_warned_of_and_change_nothing():
    idle, plain = run_of(UseLabels(), epochs=2), run_of(epochs=2)
    assert any("no earlier stage has written `soft_label`" in each for each in idle.warnings)
    assert_same_bits(all_tensors(idle), all_tensors(plain))


def test_a_class_that_has_lost_every_row_is_warned_of():
    run = run_of(Joint(start=1, alpha=0.0), source=pictures(wrong=0.2, rare=2), epochs=3)
    left = torch.bincount(run.ledger.read("corrected"), minlength=3)
    assert left[2] == 0
    assert any("has moved every row of class `kind 2` elsewhere" in w for w in run.warnings)


def test_steps_on_trusted_samples_are_refused():
    @dataclass
    class Trusting(Part):
        """Adds a lap over trusted samples."""

        def plan(self, run: Any, plan: Plan) -> Plan:
            return Plan((*plan.laps, Lap((0,), (Group(torch.arange(6)),), pool="trusted")))

    for part in (Joint(start=1), UseLabels()):
        with pytest.raises(SettingsError, match=f"{part.kind} does not go with steps on trusted"):
            run_of(Trusting(), part, clean=pictures(6, seed=1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Joint(keep=0), "joint keep `0`"),
        (lambda: Joint(start="half"), "moment `half` is not a point of training"),
        (lambda: Joint(start="101%"), "moment `101%`"),
        (lambda: UseLabels(column="corected"), "did you mean `corrected`"),
    ],
)
def test_values_out_of_range_are_refused(make: Any, words: str):
    with pytest.raises(ErrataError, match=words):
        make()


@pytest.mark.parametrize("start", [7, "7ep", -1])
def test_a_start_outside_the_stage_is_refused_before_training(start: int | str):
    steps = []
    with pytest.raises(SettingsError, match=f"joint start `{start}` is not within") as caught:
        run_of(Joint(start=start), listener=Listener(on_step=steps.append))
    assert "allowed: 0 to 6" in caught.value.message
    assert caught.value.hint
    assert not steps

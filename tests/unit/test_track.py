"""What training shows of every sample, by exact values and by what must not change it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import EXACT, Watcher, all_tensors, one_stage, pictures, tiny_net
from torch import Tensor

from errata.engine import Listener, TrainingRun, fit
from errata.ledger import Ledger
from errata.observe import Track
from errata.observe.track import statistics_of
from errata.parts.base import OptimizerSpec, Part, Recipe, Stage
from errata.parts.mixing import Mixup
from errata.phantoms import draw_phantoms
from errata.streams import generator
from errata.types import Batch, Lap, Plan


class Replayed:
    """As much of a run as Track needs, fed with logits from a table [epochs, N, C]."""

    def __init__(self, table: Tensor, given: Tensor, *, track: Track | None = None) -> None:
        epochs, rows, classes = table.shape
        self.table, self.given, self.classes, self.num_rows = table, given, classes, rows
        self.device, self.seed, self.tick, self.epoch = torch.device("cpu"), 0, 0, 0
        self.program = (SimpleNamespace(epochs=epochs),)
        self.stage_index, self.epochs = 0, epochs
        self.ledger = Ledger([str(r) for r in range(rows)], given, [str(c) for c in range(classes)])
        self.track = track or Track()
        self.track.open(self)  # type: ignore[arg-type]

    def has_unmixed(self, net: int, seen: Any) -> bool:
        return True

    def unmixed(self, net: int, seen: Any) -> Tensor:
        return self.table[self.epoch, seen[0].plain.rows]

    def play(self, orders: list[Tensor], size: int) -> Ledger:
        for self.epoch, order in enumerate(orders):
            for rows in torch.split(order, size):
                self.tick += 1
                batch = Batch(
                    rows,
                    (),
                    self.given[rows],
                    torch.zeros(len(rows), self.classes),
                    torch.ones(len(rows)),
                    torch.zeros(len(rows)),
                )
                seen = {0: SimpleNamespace(plain=batch, batch=batch)}
                self.track.step(self, seen)  # type: ignore[arg-type]
            self.ledger.sync()
        return self.ledger


def replay(logits: list[list[list[float]]], given_labels: list[int], **values: Any) -> Ledger:
    table = torch.tensor(logits)
    orders = [torch.arange(table.shape[1])] * len(table)
    return Replayed(table, torch.tensor(given_labels), **values).play(orders, table.shape[1])


def test_accumulated_margins_of_one_minus_three_and_two_are_nought():
    ledger = replay([[[2.0, 1.0, 0.0]], [[0.0, 3.0, 1.0]], [[4.0, 1.0, 2.0]]], [0])
    assert ledger.read("margin_sum").item() == 0
    assert ledger.read("times_seen").item() == 3


def test_forgetting_counts_changes_from_right_to_wrong():
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    table = [[row] for row in (wrong, right, right, wrong, right, wrong)]
    ledger = replay(table, [0])
    assert ledger.read("forgets").item() == 2
    assert ledger.read("first_learned").item() == 1
    assert ledger.read("correct_sum").item() == 3
    assert ledger.read("disagree_sum").item() == 3
    assert not ledger.read("last_correct").item()


def test_a_row_that_is_never_learned_is_never_forgotten():
    ledger = replay([[[0.0, 1.0]]] * 4, [0])
    assert ledger.read("forgets").item() == 0
    assert ledger.read("first_learned").item() == -1
    assert ledger.read("disagree_sum").item() == 4


def test_losses_and_probabilities_are_those_of_the_given_label():
    ledger = replay([[[math.log(0.25), math.log(0.75)]], [[0.0, 0.0]]], [0])
    assert ledger.read("loss_sum").item() == pytest.approx(math.log(4) + math.log(2))
    assert ledger.read("loss").item() == pytest.approx(math.log(2))
    assert ledger.read("prob_sum")[0].tolist() == pytest.approx([0.75, 1.25])
    assert ledger.read("loss_curve")[0].tolist() == pytest.approx(
        [math.log(4), math.log(2)], abs=1e-3
    )
    # With two classes the second label is the other one.
    assert ledger.read("phantom").item() == 1
    assert ledger.read("phantom_loss_sum").item() == pytest.approx(-math.log(0.75) + math.log(2))
    assert ledger.read("phantom_margin_sum").item() == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("logits", "label", "margin", "correct"),
    [
        ([2.0, 1.0, 0.0], 0, 1.0, True),
        ([2.0, 1.0, 0.0], 1, -1.0, False),
        ([2.0, 1.0, 0.0], 2, -2.0, False),
        ([1.0, 1.0, 0.0], 2, -1.0, False),
        ([-5.0, -7.0, -6.0], 0, 1.0, True),
    ],
)
def test_margins_are_those_to_the_best_other_class(
    logits: list[float], label: int, margin: float, correct: bool
):
    z = torch.tensor([logits])
    facts = statistics_of(z, torch.tensor([label]), z.log_softmax(1))
    assert facts.margin.item() == margin
    assert facts.correct.item() is correct
    assert facts.loss.item() == pytest.approx(-z.softmax(1)[0, label].log().item())


def test_a_tie_has_no_margin():
    z = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    facts = statistics_of(z, torch.tensor([0, 1]), z.log_softmax(1))
    assert facts.margin.tolist() == [0.0, 0.0]
    assert facts.correct.sum() == 1, "one of two equal classes is the prediction"


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 2**32))
def test_statistics_agree_with_a_slow_loop(rows: int, classes: int, seed: int):
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, classes, generator=rng, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=rng)
    facts = statistics_of(z, labels, z.log_softmax(1))
    for row in range(rows):
        own = z[row, labels[row]].item()
        rivals = [z[row, c].item() for c in range(classes) if c != labels[row]]
        assert facts.margin[row].item() == own - max(rivals)
        assert facts.correct[row].item() == (own > max(rivals))
        assert facts.loss[row].item() == pytest.approx(
            math.log(sum(math.exp(v - own) for v in z[row].tolist()))
        )


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_no_statistic_depends_on_the_order_of_the_rows(seed: int, one: int, two: int):
    rng = torch.Generator().manual_seed(seed)
    table = torch.randn(4, 9, 3, generator=rng)
    labels = torch.randint(3, (9,), generator=rng)
    straight = [torch.arange(9)] * 4
    shuffled = [torch.randperm(9, generator=rng) for _ in range(4)]
    ledgers = [
        Replayed(table, labels).play(orders, size)
        for orders, size in ((straight, one), (shuffled, two))
    ]
    left, right = (ledger.state() for ledger in ledgers)
    assert left.keys() == right.keys()
    for name, values in left.items():
        # In batches of another size, `log_softmax` may round another way in its last bit.
        torch.testing.assert_close(values, right[name], equal_nan=True, msg=name)


def test_second_labels_are_never_the_given_one_and_spread_evenly():
    labels = torch.arange(30_000) % 3
    phantoms = draw_phantoms(labels, 3, generator(0, "x"))
    assert (phantoms != labels).all()
    shift = torch.bincount((phantoms - labels) % 3, minlength=3)
    # Four standard deviations of a share of a half in 30,000 draws.
    assert shift[1] / 30_000 == pytest.approx(0.5, abs=4 * (0.25 / 30_000) ** 0.5)
    assert draw_phantoms(torch.tensor([-1, -1]), 2, generator(0, "x")).min() >= 0


def test_wide_columns_are_left_out_where_they_outgrow_their_budget():
    ledger = replay([[[0.0, 1.0]]], [0], track=Track(dense_mb=0, curve=True))
    assert not ledger.has("prob_sum")
    assert not ledger.has("loss_curve")
    assert replay([[[0.0, 1.0]]], [0], track=Track(curve=False)).has("prob_sum")
    assert not replay([[[0.0, 1.0]]], [0], track=Track(curve=False)).has("loss_curve")


def seen_by_epoch(recipe: str | Recipe, *, epochs: int, track: Track | None = None) -> list[int]:
    """Count, for every epoch, the rows whose statistics were recorded."""
    source = pictures(wrong=0.2)
    counts: list[int] = []

    met: list[TrainingRun] = []

    def meet(run: TrainingRun, seen: Any) -> None:
        met[:] = [run]

    def remember(record: dict[str, Any]) -> None:
        counts.append(int(met[0].ledger.read("times_seen").sum()))

    fit(
        one_stage(recipe, epochs=epochs),
        source,
        model=tiny_net(source),
        engine=EXACT,
        observers=(track or Track(), Watcher(meet)),
        listener=Listener(on_epoch=remember),
    )
    return np.diff([0, *counts]).tolist()


def test_every_row_is_recorded_in_every_epoch():
    assert seen_by_epoch("erm", epochs=4) == [96] * 4


def test_mixed_rows_are_recorded_in_every_fifth_epoch():
    assert seen_by_epoch("mixup", epochs=11) == [0] * 4 + [96] + [0] * 4 + [96] + [0]
    assert seen_by_epoch("mixup", epochs=4, track=Track(every=2)) == [0, 96, 0, 96]


def test_mixed_rows_are_recorded_at_least_once_in_a_short_run():
    assert seen_by_epoch("mixup", epochs=3) == [0, 0, 96]
    assert seen_by_epoch("mixup", epochs=1) == [96]


def test_mixed_rows_are_recorded_where_another_part_paid_for_it():
    # The drop comes at epoch 4 (40 % of 10) and looks at the two epochs before it.
    counts = seen_by_epoch("odd+mixup", epochs=10)
    assert counts[:4] == [0, 0, 96, 96]
    assert counts[4] == counts[9] > 0, "the fifth and the tenth"
    assert counts[5:9] == [0] * 4


def test_statistics_of_mixed_rows_come_from_what_was_drawn():
    source = pictures(wrong=0.2)
    compared = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch != 4:
            return
        plain, mixed = seen[0].plain, seen[0].batch
        assert not mixed.pure
        assert plain.pure
        assert not torch.equal(mixed.views[0], plain.views[0])
        logits = run.unmixed(0, seen)
        loss = torch.nn.functional.cross_entropy(logits, plain.given, reduction="none")
        torch.testing.assert_close(run.ledger.read("loss", plain.rows), loss.float())
        # The same net gives the same logits for the un-mixed rows, with statistics of the batch.
        model = run.nets[0]
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        with torch.no_grad():
            again, _ = model(plain.views[0])
        torch.testing.assert_close(again, logits)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        compared.append(run.tick)

    fit(
        one_stage("mixup", epochs=5),
        source,
        model=tiny_net(source),
        engine=EXACT,
        observers=(Track(), Watcher(look)),
    )
    assert len(compared) == 3


@dataclass
class Asks(Part):
    """Looks at un-mixed logits in every step, early in the step and late."""

    early: bool = True

    def weigh(self, run: Any, net: int, seen: Any) -> Tensor | None:
        if self.early:
            run.unmixed(net, seen)
        return None

    def after_step(self, run: Any, seen: Any) -> None:
        run.unmixed(0, seen)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_looking_at_unmixed_rows_changes_no_bit_of_training(early: bool, dropout: float):
    source = pictures(wrong=0.2)
    model = tiny_net(source, dropout=dropout)
    plain, asked = (
        fit(one_stage(Recipe(parts=parts)), source, model=model, engine=EXACT, observers=())
        for parts in ((Mixup(),), (Mixup(), Asks(early=early)))
    )
    left, right = all_tensors(plain), all_tensors(asked)
    for name, values in left.items():
        assert torch.equal(values, right[name]), name
    assert any("running_mean" in name for name in left)


def test_unmixed_rows_are_looked_at_once_per_step():
    calls: list[int] = []
    source = pictures(wrong=0.2)

    def build() -> Any:
        net = tiny_net(source)()
        net.register_forward_hook(lambda *args: calls.append(1))
        return net

    recipe = Recipe(parts=(Mixup(), Asks(), Asks()))
    fit(one_stage(recipe, epochs=1), source, model=build, engine=EXACT, observers=(Track(every=1),))
    assert len(calls) == 2 * 3, "a step is one mixed pass and one un-mixed pass"


def test_epochs_are_counted_through_all_stages():
    # In the first stage nothing is learned, so rows are first learned in the second.
    source = pictures()
    recipe = Recipe()
    stages = (
        Stage(recipe=recipe, epochs=2, batch=32, optimizer=OptimizerSpec(lr=0.0)),
        Stage(recipe=recipe, epochs=3, batch=32, optimizer=OptimizerSpec(lr=0.05)),
    )
    run = fit(stages, source, model=tiny_net(source), engine=EXACT)
    first = run.ledger.read("first_learned")
    still, learned = (first >= 0) & (first < 2), first >= 2
    assert learned.any()
    assert (first[learned] <= 4).all()
    assert (first[still] == 0).any()
    assert run.ledger.read("loss_curve").shape == (96, 5)
    assert (run.ledger.filled("loss_curve") == 5).all()


def test_a_net_that_did_not_learn_in_a_lap_is_not_recorded():
    @dataclass
    class OnlyTheSecond(Part):
        def plan(self, run: Any, plan: Plan) -> Plan:
            return Plan((Lap((1,), plan.laps[0].groups),))

    source = pictures()
    recipe = Recipe(nets=2, parts=(OnlyTheSecond(),))
    run = fit(one_stage(recipe), source, model=tiny_net(source), engine=EXACT)
    assert run.ledger.read("times_seen").sum() == 0

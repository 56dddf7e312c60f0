"""One step, one epoch, one fit: what the engine does with what parts say."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from samples import (
    EXACT,
    Watcher,
    all_tensors,
    assert_same_bits,
    one_stage,
    pictures,
    tiny_net,
)
from torch import Tensor, nn

from errata.engine import Engine, Listener, TrainingRun, default_batch, default_epochs, fit
from errata.engine.optim import cyclical_rate, learning_rate, make_optimizer
from errata.engine.step import objective, plain_step, register_step, step_named, update
from errata.errors import SettingsError
from errata.losses import base as losses
from errata.losses import ce, loss_named
from errata.losses.base import Loss
from errata.models import build_model
from errata.observe import Track
from errata.parts.base import OptimizerSpec, Part, Program, Recipe, Stage
from errata.types import Batch, Lap, Plan


def started(program: Program, **values: Any) -> TrainingRun:
    """Give a run that stands before its first batch."""
    source = pictures(wrong=0.2)
    values.setdefault("build_model", tiny_net(source))
    run = TrainingRun(program, source, engine=EXACT, **values)
    run.enter_stage(0)
    run.start_epoch(0)
    return run


def first_batch(run: TrainingRun) -> tuple[Lap, Batch]:
    lap = run.everything().laps[0]
    return lap, next(iter(run.draw(lap, 0)))


def weights_of(run: TrainingRun, net: int = 0) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in run.nets[net].parameters()])


@dataclass
class Says(Part):
    """A part that answers every question with a number."""

    factor: float | None = None
    extra: float | None = None
    times: float = 1.0
    plus: float = 0.0

    def prepare(self, run: Any, net: int, batch: Batch) -> Batch:
        return replace(batch, target=batch.target * self.times + self.plus)

    def weigh(self, run: Any, net: int, seen: Any) -> Tensor | None:
        if self.factor is None:
            return None
        return torch.full_like(seen[net].losses, self.factor)

    def penalty(self, run: Any, net: int, seen: Any) -> Tensor | None:
        return None if self.extra is None else torch.tensor(self.extra, dtype=torch.float64)


def total_of(*parts: Part, weights: Tensor | None = None) -> float:
    run = started(one_stage(Recipe(parts=parts)), weights=weights)
    total, _ = objective(run, *first_batch(run))
    return total.item()


def test_the_objective_is_the_mean_loss():
    run = started(one_stage())
    lap, batch = first_batch(run)
    total, seen = objective(run, lap, batch)
    logits = seen[0].logits
    expected = torch.nn.functional.cross_entropy(logits, batch.given)
    torch.testing.assert_close(total, expected)
    assert seen[0].plain is batch
    assert seen[0].matrix.shape == (32, 3)
    assert seen[0].features is not None
    torch.testing.assert_close(run.head(0)(seen[0].features), logits)


def test_weights_multiply_and_penalties_add_up():
    plain = total_of()
    assert total_of(Says(factor=0.5), Says(factor=3.0)) == pytest.approx(1.5 * plain)
    assert total_of(Says(extra=2.0), Says(extra=0.25)) == pytest.approx(plain + 2.25)
    assert total_of(Says(factor=0.0), Says(extra=1.0)) == pytest.approx(1.0)


def test_batches_are_changed_one_part_after_the_other():
    twice, more = Says(times=2.0), Says(plus=1.0)
    for parts, expected in (((twice, more), [1.0, 3.0]), ((more, twice), [2.0, 4.0])):
        run = started(one_stage(Recipe(parts=parts)))
        _, seen = objective(run, *first_batch(run))
        assert seen[0].batch.target.unique().tolist() == expected
        assert seen[0].plain.target.unique().tolist() == [0.0, 1.0]


def test_weights_are_not_brought_back_to_mean_one():
    assert total_of(weights=torch.full((96,), 0.25)) == pytest.approx(0.25 * total_of())


def test_the_weight_of_a_row_reaches_its_loss():
    weights = torch.linspace(0, 2, 96)
    run = started(one_stage(), weights=weights)
    lap, batch = first_batch(run)
    total, seen = objective(run, lap, batch)
    own = weights.double()[batch.rows]
    assert torch.equal(batch.weight, own)
    torch.testing.assert_close(total, (own * seen[0].losses).mean())


class Different:
    """Builds nets that differ from one another, the same ones in every run."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self) -> nn.Module:
        self.built += 1
        return tiny_net(pictures(), seed=self.built)()


def test_one_backward_pass_moves_two_nets_as_two_would():
    program = one_stage(Recipe(nets=2), clip=0.5)
    together = started(program, build_model=Different())
    apart = started(program, build_model=Different())
    for run, laps in ((together, [(0, 1)]), (apart, [(0,), (1,)])):
        whole, batch = first_batch(run)
        for nets in laps:
            plain_step(run, Lap(nets, whole.groups), batch)
    for net in range(2):
        assert torch.equal(weights_of(together, net), weights_of(apart, net))
    assert not torch.equal(weights_of(together, 0), weights_of(together, 1))


def test_nets_that_are_not_in_a_lap_do_not_move():
    @dataclass
    class TakeTurns(Part):
        def plan(self, run: Any, plan: Plan) -> Plan:
            return Plan((Lap((run.epoch % 2,), plan.laps[0].groups),))

    moved = []

    def look(run: TrainingRun, seen: Any) -> None:
        moved.append((run.epoch, tuple(seen), [weights_of(run, k) for k in range(2)]))

    source = pictures()
    fit(
        one_stage(Recipe(nets=2, parts=(TakeTurns(),))),
        source,
        model=Different(),
        engine=EXACT,
        observers=(Watcher(look), Track()),
    )
    for (_, _, before), (epoch, nets, after) in pairwise(moved):
        own = epoch % 2
        assert nets == (own,)
        assert torch.equal(before[1 - own], after[1 - own])
        assert not torch.equal(before[own], after[own])


def test_every_net_of_a_step_draws_the_same_numbers():
    drawn: list[tuple[int, int, float]] = []

    @dataclass
    class Draws(Part):
        def prepare(self, run: Any, net: int, batch: Batch) -> Batch:
            drawn.append((run.tick, net, torch.rand(1, generator=run.stream("x")).item()))
            return batch

    source = pictures()
    recipe = Recipe(nets=2, parts=(Draws(),))
    fit(one_stage(recipe, epochs=2), source, model=tiny_net(source), engine=EXACT)
    by_tick = {tick: {value for t, _, value in drawn if t == tick} for tick, _, _ in drawn}
    assert len(drawn) == 12
    assert all(len(values) == 1 for values in by_tick.values()), "the nets of a step agree"
    assert len({value for _, _, value in drawn}) == 6, "steps differ"


def test_gradients_are_clipped_net_by_net():
    run = started(one_stage(Recipe(nets=2), clip=0.1, lr=1.0), build_model=Different())
    lap, batch = first_batch(run)
    total, _ = objective(run, lap, batch)
    update(run, total, lap.nets)
    for net in run.nets:
        norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()  # type: ignore[union-attr]
        assert norm.item() == pytest.approx(0.1, rel=1e-4)


def test_frozen_weights_stay_frozen():
    source = pictures()

    def build() -> nn.Module:
        net = tiny_net(source)()
        net.body.requires_grad_(False)
        return net

    run = fit(one_stage(), source, model=build, engine=EXACT)
    before, after = tiny_net(source)().body, run.nets[0].body.body
    assert torch.equal(before[1].weight.double(), after[1].weight)
    assert not torch.equal(tiny_net(source)().head.weight.double(), run.nets[0].body.head.weight)


class Learned(Loss):
    """Cross-entropy plus a learned cost for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = nn.Parameter(torch.ones(3))

    def forward(
        self, logits: Tensor, batch: Batch | None = None, features: Tensor | None = None
    ) -> Tensor:
        return ce(logits) + self.cost.square()


def test_losses_that_learn_are_trained_with_the_net(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(losses._LOSSES, "learned", Learned)
    source = pictures()
    run = fit(one_stage(Recipe(loss="learned")), source, model=tiny_net(source), engine=EXACT)
    (cost,) = run.losses[0].parameters()
    assert cost.dtype == torch.float64
    assert (cost.detach().abs() < 1).all()
    assert any("losses" in name for name in all_tensors(run))


@pytest.mark.parametrize(
    ("spec", "shares"),
    [
        (OptimizerSpec(lr=2.0), {0: 2.0, 0.5: 1.0, 1: 0.0, 0.25: 1 + math.sqrt(0.5)}),
        (OptimizerSpec(lr=2.0, schedule="constant"), {0: 2.0, 0.5: 2.0, 1: 2.0}),
        (
            OptimizerSpec(lr=2.0, schedule="step"),
            {0: 2.0, 0.49: 2.0, 0.5: 0.2, 0.74: 0.2, 0.75: 0.02, 1: 0.02},
        ),
    ],
)
def test_learning_rates_follow_their_schedule(spec: OptimizerSpec, shares: dict[float, float]):
    for share, rate in shares.items():
        assert learning_rate(spec, share, epochs=20) == pytest.approx(rate)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.0091), (9, 0.001), (10, 0.0091), (18, 0.0019)])
def test_a_cyclical_rate_is_that_of_the_reference(epoch: int, rate: float):
    assert cyclical_rate(epoch) == pytest.approx(rate, rel=1e-12)
    spec = OptimizerSpec(lr=0.01, schedule="cyclical")
    for step in range(7):
        share = (epoch * 7 + step) / (30 * 7)
        assert learning_rate(spec, share, epochs=30) == pytest.approx(rate), "one rate per epoch"


def test_a_cycle_starts_one_step_below_the_highest_rate():
    assert cyclical_rate(0, highest=1.0, lowest=0.0, cycle=4) == pytest.approx(0.75)
    assert cyclical_rate(7, highest=1.0, lowest=0.0, cycle=4) == pytest.approx(0.0)
    spec = OptimizerSpec(lr=1.0, schedule="cyclical", decay=0.0, cycle=4)
    assert learning_rate(spec, 1.0, epochs=8) == pytest.approx(0.0), "the end is the last epoch's"


def test_the_learning_rate_falls_from_step_to_step():
    rates = []

    def look(run: TrainingRun, seen: Any) -> None:
        rates.append(run.optimizers[0].param_groups[0]["lr"])

    source = pictures()
    fit(
        one_stage(epochs=2),
        source,
        model=tiny_net(source),
        engine=EXACT,
        observers=(Watcher(look),),
    )
    expected = [0.05 * 0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("spec", "kind", "values"),
    [
        (OptimizerSpec(), torch.optim.SGD, {"nesterov": True, "momentum": 0.9}),
        (OptimizerSpec(momentum=0.0), torch.optim.SGD, {"nesterov": False, "momentum": 0.0}),
        (OptimizerSpec(kind="adamw", weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_optimizers_are_those_of_torch(spec: OptimizerSpec, kind: Any, values: dict[str, Any]):
    optimizer = make_optimizer(spec, nn.Linear(1, 1), loss_named("ce"))
    assert type(optimizer) is kind
    for name, value in values.items():
        assert optimizer.param_groups[0][name] == value


def test_an_update_is_that_of_a_hand_written_loop():
    source = pictures(wrong=0.2)
    model = tiny_net(source)().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True)
    batches: list[Batch] = []

    def look(run: TrainingRun, seen: Any) -> None:
        batches.append(seen[0].plain)

    run = fit(
        one_stage(schedule="constant"),
        source,
        model=tiny_net(source),
        engine=EXACT,
        observers=(Watcher(look),),
    )
    x = torch.from_numpy(source.x).double()
    x = (x - x.mean()) / x.std(correction=0)
    for batch in batches:
        torch.testing.assert_close(batch.views[0], x[batch.rows])
        optimizer.zero_grad()
        given = torch.from_numpy(source.given)[batch.rows]
        torch.nn.functional.cross_entropy(model(batch.views[0]), given).backward()
        optimizer.step()
    by_hand = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(weights_of(run), by_hand)


def test_steps_are_found_by_name(monkeypatch: pytest.MonkeyPatch):
    from errata.engine import step

    assert step_named("plain") is plain_step
    with pytest.raises(SettingsError, match="did you mean `plain`"):
        step_named("plan")
    with pytest.raises(AssertionError, match="registered twice"):
        register_step("plain", plain_step)
    monkeypatch.setattr(step, "_STEPS", dict(step._STEPS))
    calls = []

    def counted(run: TrainingRun, lap: Lap, batch: Batch) -> Any:
        calls.append(run.tick)
        return plain_step(run, lap, batch)

    register_step("counted", counted)
    source = pictures()
    fit(one_stage(Recipe(step="counted"), epochs=1), source, model=tiny_net(source), engine=EXACT)
    assert calls == [1, 2, 3]


def test_progress_goes_from_nought_to_one():
    shares: list[float] = []
    source = pictures()
    program = (*one_stage(epochs=2), *one_stage(epochs=1))
    listener = Listener(on_step=shares.append)
    fit(program, source, model=tiny_net(source), engine=EXACT, listener=listener)
    assert shares == pytest.approx(np.arange(9) / 9)


def test_estimating_the_time_changes_nothing():
    source = pictures()
    seconds: list[float] = []
    listener = Listener(on_estimate=seconds.append)
    plain, timed = (
        fit(one_stage(), source, model=tiny_net(source), engine=EXACT, listener=each)
        for each in (None, listener)
    )
    assert len(seconds) == 1
    assert 0 < seconds[0] < 10
    assert_same_bits(all_tensors(plain), all_tensors(timed))


def test_tests_on_the_way_change_nothing_and_are_recorded():
    source, test = pictures(), pictures(seed=1)
    plain = fit(one_stage(epochs=5), source, model=tiny_net(source), engine=EXACT)
    run = fit(
        one_stage(epochs=5),
        source,
        model=tiny_net(source),
        engine=EXACT,
        tests={"test": test},
        test_every=2,
    )
    assert [record["epoch"] for record in run.history if "test" in record] == [1, 3, 4]
    assert all(0 <= record["test"]["test"] <= 1 for record in run.history if "test" in record)
    assert_same_bits(all_tensors(plain), all_tensors(run))


def test_a_diverging_run_says_so():
    source = pictures()
    program = one_stage(lr=1e200, schedule="constant")
    run = fit(program, source, model=tiny_net(source, norm=False), engine=EXACT)
    assert [w for w in run.warnings if "no longer a number" in w] == [
        "the training loss is no longer a number; start again with a lower `lr`"
    ]


def test_stages_start_afresh_or_go_on():
    source = pictures()
    reset, kept = (
        fit(
            (*one_stage(), Stage(epochs=1, batch=32, optimizer=OptimizerSpec(lr=0.0), reset=reset)),
            source,
            model=tiny_net(source),
            engine=EXACT,
        )
        for reset in (True, False)
    )
    alone = fit(one_stage(), source, model=tiny_net(source), engine=EXACT)
    fresh = torch.cat([p.detach().reshape(-1) for p in tiny_net(source)().double().parameters()])
    assert torch.equal(weights_of(reset), fresh)
    assert torch.equal(weights_of(kept), weights_of(alone))


def test_the_result_has_the_precision_asked_for():
    source = pictures()
    for precision, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        engine = Engine(device="cpu", precision=precision)  # type: ignore[arg-type]
        run = fit(one_stage(epochs=1), source, model=tiny_net(source), engine=engine)
        assert weights_of(run).dtype == run.sweep(0)[0].dtype == dtype
    logits, features = run.sweep(0, torch.tensor([3, 1]))
    everything, _ = run.sweep(0)
    assert features is not None
    torch.testing.assert_close(logits, everything[[3, 1]])
    torch.testing.assert_close(run.head(0)(features), logits)


def test_bfloat16_computes_losses_in_float32():
    source = pictures()
    kinds = set()

    def look(run: TrainingRun, seen: Any) -> None:
        kinds.add((seen[0].logits.dtype, seen[0].matrix.dtype, seen[0].losses.dtype))

    engine = Engine(device="cpu", precision="bfloat16")
    run = fit(
        one_stage("odd"),
        source,
        model=tiny_net(source),
        engine=engine,
        observers=(Track(), Watcher(look)),
    )
    assert kinds == {(torch.float32,) * 3}
    assert (run.sweep(0)[0].argmax(1) == run.given).float().mean() > 0.8


# The compiler takes half a minute before the first step, and warns of parts of torch itself.
@pytest.mark.slow
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_compiled_nets_train_as_plain_ones_do():
    source = pictures(wrong=0.3)
    runs = [
        fit(
            one_stage("odd+mixup", epochs=5),
            source,
            model=tiny_net(source),
            engine=replace(EXACT, compile=compiled),
        )
        for compiled in (False, True)
    ]
    assert (weights_of(runs[0]) - weights_of(runs[1])).abs().max() < 1e-9
    assert runs[0].nets[0].state_dict().keys() == runs[1].nets[0].state_dict().keys()
    for run in runs:
        logits, features = run.sweep(0)
        assert features is not None
        torch.testing.assert_close(run.head(0)(features), logits)


@pytest.mark.parametrize("channels_last", [True, False])
def test_pictures_lie_in_memory_as_asked(channels_last: bool):
    source = pictures()
    layouts = set()

    def look(run: TrainingRun, seen: Any) -> None:
        view = seen[0].plain.views[0]
        layouts.add(view.is_contiguous(memory_format=torch.channels_last))

    engine = Engine(device="cpu", precision="float64", channels_last=channels_last)
    run = fit(
        one_stage(epochs=1),
        source,
        model=lambda: build_model("conv", source.shape, 3),
        engine=engine,
        observers=(Watcher(look),),
    )
    if channels_last:
        assert layouts == {True}
    assert run.history[0]["rows"] == 96


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"), [(10, 16, 60), (1_437, 32, 20), (60_000, 128, 12)]
)
def test_defaults_follow_the_number_of_rows(rows: int, batch: int, epochs: int):
    assert default_batch(rows) == batch
    assert default_epochs(rows) == epochs

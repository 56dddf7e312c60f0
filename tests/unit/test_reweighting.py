"""Weights by trusted samples (`l2rw`, `mw-net`): worked out by hand, against oracles, in a run."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from samples import EXACT, Watcher, one_stage, pictures, tiny_net
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.functional import cross_entropy

from errata.data import Arrays
from errata.engine import TrainingRun, fit
from errata.engine.net import Net
from errata.errors import ErrataError, SettingsError
from errata.methods import card_named, phases_named
from errata.methods.l2rw import L2RW
from errata.methods.meta_weight_net import MetaWeightNet, adam_step, start_curve, weight_curve
from errata.observe import Track
from errata.parts.base import Recipe
from errata.parts.mixing import Mixup
from errata.parts.reweighting import WeightedGradient, share_out, trusted_gradient
from errata.types import Batch

X = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
Y = torch.tensor([0, 1, 0, 0])
THIRD = 1 / 3


def batch_of(x: Tensor, labels: Tensor) -> Batch:
    rows = torch.arange(len(labels))
    target = nn.functional.one_hot(labels, 2).to(x)
    return Batch(rows, (x,), labels, target, torch.ones(len(labels)).to(x), torch.zeros_like(rows))


VAL = batch_of(X[:1], Y[:1])


def flat() -> nn.Linear:
    """The classifier of the worked example: two classes, no bias, all weights 0."""
    net = nn.Linear(2, 2, bias=False).double()
    nn.init.zeros_(net.weight)
    return net


def scores_of(net: nn.Module, x: Tensor, labels: Tensor, trusted: Batch) -> Tensor:
    named = dict(net.named_parameters())
    v = trusted_gradient(net, trusted, named)
    losses = cross_entropy(net(x), labels, reduction="none")
    return WeightedGradient(losses, torch.zeros(len(x)), list(named.values())).along(v)


# By hand.


def test_the_scores_and_weights_of_l2rw_are_those_worked_out_by_hand():
    scores = scores_of(flat(), X, Y, VAL)
    assert scores.tolist() == pytest.approx([0.5, -0.5, 0.0, 1.0], abs=1e-12)
    assert share_out(scores).tolist() == pytest.approx([THIRD, 0.0, 0.0, 2 * THIRD], abs=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.1])
def test_a_look_ahead_of_any_length_gives_the_same_weights(alpha: float):
    net = flat()
    eps = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    losses = cross_entropy(X @ net.weight.T, Y, reduction="none")
    gradient = torch.autograd.grad((eps * losses).sum(), net.weight, create_graph=True)[0]
    ahead = net.weight - alpha * gradient
    after = cross_entropy(X[:1] @ ahead.T, Y[:1])
    scores = -torch.autograd.grad(after, eps)[0]
    torch.testing.assert_close(scores, alpha * scores_of(net, X, Y, VAL))
    expected = torch.tensor([THIRD, 0, 0, 2 * THIRD], dtype=torch.float64)
    torch.testing.assert_close(share_out(scores), expected)


def test_where_no_row_agrees_all_weights_are_nought_or_equal():
    scores = torch.tensor([-0.5, 0.0, -2.0])
    assert share_out(scores).tolist() == [0.0, 0.0, 0.0]
    assert share_out(scores, empty="uniform").tolist() == pytest.approx([THIRD] * 3)


def test_rows_without_mass_take_no_part_in_sharing_out():
    found = share_out(torch.tensor([1.0, 1.0, 3.0]), torch.tensor([1.0, 1.0, 0.0]))
    assert found[:2].tolist() == [0.5, 0.5]


def test_the_gradient_of_the_weighing_net_is_the_one_worked_out_by_hand():
    # V(l) = sigmoid(0.5 l - 0.2), look-ahead 0.1, mean of 4 rows.
    curve = torch.tensor([0.5, -0.2], dtype=torch.float64, requires_grad=True)
    net = flat()
    losses = cross_entropy(net(X), Y, reduction="none")
    weights = torch.sigmoid(curve[0] * losses.detach() + curve[1]) / 4
    step = WeightedGradient(losses, weights, [net.weight])
    v = trusted_gradient(net, VAL, {"weight": net.weight - 0.1 * step.values[0]})
    closed = torch.autograd.grad(-0.1 * (step.along(v) * weights).sum(), curve)[0]
    assert closed.tolist() == pytest.approx([-0.00425118586, -0.00613316476], abs=1e-11)


def test_the_weighing_net_is_one_hidden_layer_and_a_sigmoid():
    rng = torch.Generator().manual_seed(0)
    curve = start_curve(100, rng)
    assert len(curve) == 301
    hidden, out = nn.Linear(1, 100).double(), nn.Linear(100, 1).double()
    with torch.no_grad():
        hidden.weight.copy_(curve[:100, None])
        hidden.bias.copy_(curve[100:200])
        out.weight.copy_(curve[None, 200:300])
        out.bias.copy_(curve[300:])
    losses = torch.rand(7, generator=rng, dtype=torch.float64) * 5
    oracle = torch.sigmoid(out(hidden(losses[:, None]).relu()))[:, 0]
    torch.testing.assert_close(weight_curve(losses, curve), oracle)


def test_our_adam_is_that_of_torch():
    rng = torch.Generator().manual_seed(0)
    mine = torch.randn(9, generator=rng, dtype=torch.float64)
    theirs = nn.Parameter(mine.clone())
    optimizer = torch.optim.Adam([theirs], lr=1e-2, weight_decay=1e-3)
    moments = torch.zeros(2, 9, dtype=torch.float64)
    for step in range(1, 6):
        gradient = torch.randn(9, generator=rng, dtype=torch.float64)
        theirs.grad = gradient.clone()
        optimizer.step()
        mine, moments = adam_step(mine, gradient, moments, step, lr=1e-2, decay=1e-3)
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-12, atol=1e-14)


# Against oracles, on nets with batch norm.


def normed() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(36, 2)).double()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_scores_are_those_of_forward_differentiation_and_of_central_differences():
    net = normed()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        x, trusted = torch.randn(6, 1, 8, 8).double(), torch.randn(5, 1, 8, 8).double()
    labels, said = torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([1, 0, 1, 1, 0])
    named = {name: p.detach() for name, p in net.named_parameters()}
    v = trusted_gradient(net, batch_of(trusted, said), named)

    def losses_at(values: dict[str, Tensor]) -> Tensor:
        buffers = {name: b.clone() for name, b in net.named_buffers()}
        return cross_entropy(
            functional_call(net, (values, buffers), (x,)), labels, reduction="none"
        )

    direction = dict(zip(named, v, strict=True))
    _, forward = jvp(losses_at, (named,), (direction,))
    found = scores_of(net, x, labels, batch_of(trusted, said))
    torch.testing.assert_close(found, forward, rtol=1e-10, atol=1e-12)
    sides = [losses_at({n: p + s * 1e-6 * direction[n] for n, p in named.items()}) for s in (1, -1)]
    torch.testing.assert_close(found, (sides[0] - sides[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def test_trusted_samples_leave_parameters_and_running_statistics_alone():
    net = normed()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.linspace(-1, 1, 5 * 64, dtype=torch.float64).reshape(5, 1, 8, 8)
    trusted_gradient(net, batch_of(x, torch.tensor([0, 1, 0, 1, 1])), dict(net.named_parameters()))
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


# In a run.


def run_of(*parts: Any, source: Arrays | None = None, **values: Any) -> TrainingRun:
    source = source or pictures(wrong=0.3)
    values = {"clean": pictures(30), "model": tiny_net(source), "engine": EXACT, **values}
    program = one_stage(Recipe(parts=parts), epochs=values.pop("epochs", 2), batch=24)
    return fit(program, source, **values)


def weights_seen(*parts: Any, **values: Any) -> Tensor:
    """Give the weights [steps, B] that a run multiplied its losses by."""
    found: list[Tensor] = []
    run_of(
        *parts, observers=(Watcher(lambda run, seen: found.append(run.parts[0].weight_)),), **values
    )
    return torch.stack(found)


def test_the_weights_of_a_batch_have_mean_one_and_none_is_negative():
    found = weights_seen(L2RW())
    assert (found >= 0).all()
    torch.testing.assert_close(found.mean(1), torch.ones(len(found)).double())
    assert (found == 0).any()


def test_a_row_with_a_wrong_label_weighs_less_than_the_same_row_with_the_right_one():
    clean = pictures(48)
    # Every row twice: as the trusted samples have it, and with another label.
    x, right = np.concatenate([clean.x, clean.x]), np.concatenate([clean.given, clean.given])
    given = np.where(np.arange(96) < 48, right, (right + 1) % 3)
    source = Arrays(x, given, classes=clean.classes, ids=[f"row {r}" for r in range(96)])
    run = run_of(L2RW(), source=source, clean=clean, epochs=6, observers=(Track(),))
    mean = run.ledger.read("weight_sum") / run.ledger.read("times_seen")
    assert (mean[:48] > mean[48:]).float().mean() > 0.95
    assert mean[:48].mean() > 5 * mean[48:].mean()


def test_the_learned_curve_falls_where_large_losses_are_wrong_labels():
    # Starts from a net that knows the classes, so that wrong labels are the large losses.
    knows = run_of(source=pictures(), epochs=6).nets[0].body
    run = run_of(MetaWeightNet(lr=0.03), model=lambda: deepcopy(knows), epochs=6)
    low, high = weight_curve(torch.tensor([0.1, 4.0]), run.memory["mw_net0"]).tolist()
    assert low > high + 0.2


def test_weights_of_the_weighing_net_lie_between_nought_and_one_or_have_mean_one():
    found = weights_seen(MetaWeightNet())
    assert ((found > 0) & (found < 1)).all()
    found = weights_seen(MetaWeightNet(normalise=True))
    torch.testing.assert_close(found.mean(1), torch.ones(len(found)).double())


@pytest.mark.parametrize("part", [L2RW, MetaWeightNet])
def test_running_statistics_are_those_of_training_rows_alone(part: Any):
    # With a rate of 0 the net stays, so its statistics depend on the rows of training alone.
    source = pictures(wrong=0.3)

    def statistics(*parts: Any) -> list[Tensor]:
        program = one_stage(Recipe(parts=parts), epochs=2, lr=0.0)
        clean = pictures(30, seed=5)
        run = fit(program, source, model=tiny_net(source), engine=EXACT, clean=clean)
        return list(run.nets[0].buffers())

    for mine, plain in zip(statistics(part()), statistics(), strict=True):
        assert torch.equal(mine, plain)


@pytest.mark.parametrize("part", [L2RW, MetaWeightNet])
def test_the_head_alone_gives_other_weights(part: Any):
    assert (weights_seen(part(of="head")) != weights_seen(part())).any()


def test_the_head_alone_gives_the_products_of_its_gradients():
    found: list[tuple[Tensor, Tensor]] = []

    def look(run: TrainingRun, seen: Any) -> None:
        look = seen[0]
        mine = look.logits.detach().softmax(1) - look.batch.target
        found.append((mine, look.features.detach()))

    # Few features, so that ten numbers have to give the scores of more rows.
    few = {"model": tiny_net(pictures(), width=4), "epochs": 1}
    scores = weights_seen(L2RW(of="head"), **few)[0]
    run_of(L2RW(of="head"), observers=(Watcher(look),), **few)
    mine, features = found[0]
    # The trusted gradient is one matrix, so the scores are linear in what enters and leaves.
    design = torch.cat([torch.einsum("bc,bd->bcd", mine, features).flatten(1), mine], 1)
    inside = scores > 0
    assert int(inside.sum()) > torch.linalg.matrix_rank(design)
    solved = torch.linalg.lstsq(design[inside], scores[inside, None], driver="gelsd").solution
    fitted = (design[inside] @ solved)[:, 0]
    torch.testing.assert_close(fitted, scores[inside], rtol=1e-6, atol=1e-8)


def test_random_scores_ignore_the_trusted_samples():
    one = weights_seen(L2RW(scores="random"))
    other = weights_seen(L2RW(scores="random"), clean=pictures(30, seed=7))
    assert torch.equal(one, other)
    assert 0.3 < float((one == 0).double().mean()) < 0.7


def test_weight_decay_moves_the_trusted_gradient():
    assert (weights_seen(L2RW(decay=0.1)) != weights_seen(L2RW())).any()


def test_rows_that_people_found_right_stand_in_for_clean_samples():
    source = pictures(wrong=0.3)
    verified = torch.where(torch.arange(96) < 30, 1, -1)
    verified[90:] = 0
    run = run_of(L2RW(), source=source, clean=None, verified=verified)
    assert run.notes["l2rw"] == {"trusted_rows": 30}
    assert run.trusted is not None
    assert run.trusted.given.tolist() == source.given[:30].tolist()


@pytest.mark.parametrize("part", [L2RW(), MetaWeightNet()])
@pytest.mark.parametrize("verified", [None, torch.full((96,), -1), torch.zeros(96).long()])
def test_missing_trusted_samples_are_refused_before_training(part: Any, verified: Tensor | None):
    with pytest.raises(SettingsError, match="none were given; allowed") as caught:
        run_of(part, clean=None, verified=verified)
    assert "`--clean`" in caught.value.hint
    assert "`--verified`" in caught.value.hint


@pytest.mark.parametrize("name", ["l2rw", "mw-net"])
def test_the_cards_say_that_they_need_clean_samples(name: str):
    assert card_named(name).needs == ("clean",)
    assert card_named(name).way == "trusted"


def test_one_trusted_sample_is_enough_for_batch_norm():
    assert weights_seen(L2RW(), clean=pictures(1)).isfinite().all()


def test_compiled_nets_are_refused(monkeypatch: pytest.MonkeyPatch):
    def compile_nothing(net: Net) -> None:
        net._compiled_call_impl = net._call_impl

    monkeypatch.setattr(Net, "compile", compile_nothing)
    with pytest.raises(SettingsError, match="compiled") as caught:
        run_of(L2RW(), engine=replace(EXACT, compile=True))
    assert "--compile" in caught.value.hint


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: L2RW(of="tail"), "`tail`"),
        (lambda: L2RW(empty="nothing"), "`nothing`"),
        (lambda: L2RW(scores="luck"), "`luck`"),
        (lambda: L2RW(clean_batch=-1), "l2rw clean_batch `-1`"),
        (lambda: L2RW(decay=-1.0), "l2rw decay `-1.0`"),
        (lambda: L2RW(decay=math.nan), "l2rw decay `nan`"),
        (lambda: MetaWeightNet(hidden=0), "mw-net hidden `0`"),
        (lambda: MetaWeightNet(lr=math.inf), "mw-net lr `inf`"),
        (lambda: MetaWeightNet(clean_batch=-1), "mw-net clean_batch `-1`"),
    ],
)
def test_values_out_of_range_are_refused(build: Any, words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        build()
    assert caught.value.hint


def test_a_mix_of_rows_is_weighed_as_it_is_trained_on_and_written_to_no_row():
    run = run_of(Mixup(), L2RW(), observers=(Track(),))
    assert float(run.ledger.read("weight_sum").sum()) == 0
    assert all(p.isfinite().all() for p in run.nets[0].parameters())


def test_two_ways_of_weighing_by_the_same_samples_are_refused():
    for names in ("l2rw+mw-net", "mw-net+l2rw", "l2rw+clean-only"):
        with pytest.raises(ErrataError, match="makes no sense"):
            phases_named(names)

"""ODD: the simulated losses in closed form, the filter, and the drop within a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
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
    blobs,
    interrupted_fit,
    one_stage,
    pictures,
    tiny_net,
)
from torch import Tensor, nn

from errata.data import Arrays
from errata.engine import Listener, TrainingRun, fit
from errata.errors import ErrataError, SettingsError
from errata.measures import auroc
from errata.methods.odd import ODD, loss_variance_of_head, odd_threshold, simulate_losses
from errata.methods.odd_phantom import ODDPhantom
from errata.observe import Track
from errata.parts.base import Part, Recipe, Stage, part_named
from errata.parts.dropping import above_threshold, percentile_of
from errata.parts.mixing import Mixup
from errata.streams import generator
from errata.types import Group, Lap, Plan

DRAWS = 100_000
KINDS = [ODD, ODDPhantom]


def simulate(weight: Any, bias: Any = None, *, seed: int = 0, draws: int = DRAWS) -> Tensor:
    bias = None if bias is None else torch.tensor(bias, dtype=torch.float32)
    return simulate_losses(
        torch.as_tensor(weight, dtype=torch.float32),
        bias,
        draws=draws,
        generator=generator(seed, "odd"),
    )


def test_an_empty_head_gives_the_loss_of_chance():
    losses = simulate(torch.zeros(7, 3), [0.0] * 7)
    assert losses.unique().tolist() == pytest.approx([math.log(7)], abs=1e-6)
    assert percentile_of(losses, 10.0) == pytest.approx(1.9459101, abs=1e-6)


def test_a_head_of_biases_gives_one_loss_per_class():
    losses = simulate(torch.zeros(4, 5), [2.0, 1.0, 0.0, -1.0])
    support, counts = losses.round(decimals=4).unique(return_counts=True)
    assert support.tolist() == pytest.approx([0.44019, 1.44019, 2.44019, 3.44019], abs=1e-4)
    # Four standard deviations of a share of a quarter.
    shares = (counts / DRAWS).tolist()
    assert shares == pytest.approx([0.25] * 4, abs=4 * (0.1875 / DRAWS) ** 0.5)
    assert percentile_of(losses, 10.0) == pytest.approx(0.44019, abs=1e-5)
    assert 1.44018 < percentile_of(losses, 50.0) < 2.44020


def test_two_classes_and_one_feature_have_quantiles_in_closed_form():
    losses = simulate([[2.0], [0.0]])
    assert losses.min() >= 0
    half = (losses == torch.tensor(2.0).log()).float().mean().item()
    assert half == pytest.approx(0.5, abs=4 * (0.25 / DRAWS) ** 0.5)
    normal = NormalDist()
    for percent, value in ((10.0, 0.170393), (20.0, 0.471555), (90.0, 1.853635)):
        p = percent / 100
        low = min(p, 1 - p)
        z = normal.inv_cdf(1 - 2 * low)
        sign = -1 if p < 0.5 else 1
        assert math.log1p(math.exp(sign * 2 * z)) == pytest.approx(value, abs=1e-6)
        # SE of a quantile: sqrt(p (1 - p) / n) / density.
        slope = 2 / (1 + math.exp(-sign * 2 * z))
        density = 0.5 * normal.pdf(z) / slope
        error = math.sqrt(p * (1 - p) / DRAWS) / density
        assert percentile_of(losses, percent) == pytest.approx(value, abs=4 * error)
    for percent in (30.0, 50.0, 70.0):
        assert percentile_of(losses, percent) == pytest.approx(math.log(2), abs=1e-6)


def some_head(classes: int = 5, width: int = 8, *, scale: float = 0.5, seed: int = 0) -> nn.Linear:
    head = nn.Linear(width, classes)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(rng.normal(0, scale, (classes, width))))
        head.bias.copy_(torch.from_numpy(rng.normal(0, scale, classes)))
    return head


@pytest.mark.parametrize("constant", [-3.0, 0.5, 10.0])
def test_a_constant_on_all_biases_changes_nothing(constant: float):
    head = some_head()
    plain = simulate(head.weight, head.bias.tolist())
    moved = simulate(head.weight, (head.bias + constant).tolist())
    torch.testing.assert_close(plain, moved, rtol=0, atol=1e-5)


def test_the_order_of_the_classes_changes_no_quantile():
    head = some_head()
    order = torch.tensor([3, 0, 4, 1, 2])
    plain = simulate(head.weight, head.bias.tolist())
    moved = simulate(head.weight[order], head.bias[order].tolist(), seed=1)
    for percent in (5.0, 10.0, 20.0, 50.0, 80.0):
        # Two Monte-Carlo quantiles of a density above 0.1: each is off by at most 0.005.
        p = percent / 100
        error = math.sqrt(2 * p * (1 - p) / DRAWS) / 0.1
        assert percentile_of(plain, percent) == pytest.approx(
            percentile_of(moved, percent), abs=4 * error
        )


def test_no_bias_is_a_bias_of_nought():
    head = some_head()
    assert torch.equal(simulate(head.weight), simulate(head.weight, [0.0] * 5))


def test_the_number_of_draws_is_exact_and_the_stream_decides():
    head = some_head()
    assert len(simulate(head.weight, draws=16_384 * 2 + 5)) == 16_384 * 2 + 5
    assert torch.equal(simulate(head.weight, draws=9), simulate(head.weight, draws=9))
    assert not torch.equal(simulate(head.weight, draws=9), simulate(head.weight, draws=9, seed=1))


def test_the_threshold_of_a_head_is_a_percentile_of_its_simulation():
    head = some_head()
    simulated = simulate(head.weight, head.bias.tolist())
    assert odd_threshold(head) == pytest.approx(percentile_of(simulated, 20.0), abs=1e-6)
    assert odd_threshold(head, percentile=50.0) > odd_threshold(head, percentile=5.0)
    rng = generator(1, "odd")
    assert odd_threshold(head, rng=rng) == pytest.approx(odd_threshold(head), abs=0.02)


def test_the_variance_of_a_wide_head_predicts_its_losses():
    weight = torch.from_numpy(np.random.default_rng(1).normal(0, 0.06, (100, 640)))
    v = loss_variance_of_head(weight)
    # The values of the methods file are those of one draw of W; v varies by about 0.05 with it.
    assert math.log(100) + v / 2 == pytest.approx(5.204, abs=0.06)
    assert math.sqrt(v) == pytest.approx(1.095, abs=0.06)
    guess = NormalDist(math.log(100) + v / 2, math.sqrt(v))
    assert guess.inv_cdf(0.1) == pytest.approx(3.801, abs=0.06)
    losses = simulate(weight)
    simulated = [losses.mean().item(), losses.std().item(), percentile_of(losses, 10.0)]
    assert simulated == pytest.approx([5.186, 1.097, 3.786], abs=0.06)
    assert losses.mean().item() == pytest.approx(math.log(100) + v / 2, abs=0.03)
    assert losses.std().item() == pytest.approx(math.sqrt(v), abs=0.02)
    assert percentile_of(losses, 10.0) == pytest.approx(guess.inv_cdf(0.1), abs=0.03)


def test_the_variance_of_a_head_has_a_closed_form():
    # Rows of norm 1 and sums 1 and -1: 1 * (1/2 - 1/2pi) + 1 / 2pi = 1/2.
    weight = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    assert loss_variance_of_head(weight) == pytest.approx(0.5)
    assert loss_variance_of_head(torch.zeros(3, 4)) == 0


losses_of_rows = st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40)


@given(losses_of_rows, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(losses: list[float], percent: float):
    expected = np.percentile(np.array(losses, dtype=np.float64), percent)
    assert percentile_of(torch.tensor(losses), percent) == pytest.approx(expected, abs=1e-9)


def test_only_losses_strictly_above_the_threshold_are_chosen():
    losses, labels = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, dtype=torch.int64)
    chosen = above_threshold(losses, labels, 2.0, floor_rows=0, floor_share=0.0)
    assert chosen.tolist() == [False, False, True]


def test_choosing_among_the_kept_chooses_nothing_new():
    losses, labels = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4, dtype=torch.int64)
    once = above_threshold(losses, labels, 2.0, floor_rows=0, floor_share=0.0)
    left = torch.where(once, math.nan, losses)
    assert not above_threshold(left, labels, 2.0, floor_rows=0, floor_share=0.0).any()


def test_rows_that_are_not_in_training_are_never_chosen():
    losses = torch.tensor([math.nan, 9.0, math.nan, 1.0])
    labels = torch.tensor([0, 0, -1, 0])
    chosen = above_threshold(losses, labels, 2.0, floor_rows=1, floor_share=0.0)
    assert chosen.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("rows", "kept"), [(5, 5), (10, 10), (12, 10), (200, 10), (220, 11), (1000, 50)]
)
def test_a_class_keeps_its_cheapest_ten_rows_and_five_percent(rows: int, kept: int):
    losses = torch.arange(rows, dtype=torch.float32).flip(0) + 100
    labels = torch.zeros(rows, dtype=torch.int64)
    chosen = above_threshold(losses, labels, 50.0)
    assert (~chosen).sum() == kept
    assert losses[~chosen].tolist() == losses.sort().values[:kept].flip(0).tolist()


def test_the_floor_holds_for_every_class():
    losses = torch.cat([torch.zeros(50), torch.full((50,), 9.0), torch.full((15,), 9.0)])
    labels = torch.tensor([0] * 50 + [1] * 50 + [2] * 15)
    chosen = above_threshold(losses, labels, 5.0)
    assert [int(chosen[labels == k].sum()) for k in range(3)] == [0, 40, 5]


@given(
    st.lists(st.tuples(st.floats(0, 9, width=32), st.integers(0, 2)), min_size=1, max_size=60),
    st.floats(0, 9, width=32),
    st.integers(0, 12),
    st.floats(0, 1),
)
def test_the_filter_agrees_with_a_slow_loop(
    rows: list[tuple[float, int]], threshold: float, floor_rows: int, floor_share: float
):
    losses = torch.tensor([loss for loss, _ in rows])
    labels = torch.tensor([label for _, label in rows])
    chosen = above_threshold(
        losses, labels, threshold, floor_rows=floor_rows, floor_share=floor_share
    )
    for label in range(3):
        own = [k for k, (_, each) in enumerate(rows) if each == label]
        spared = max(floor_rows, math.ceil(floor_share * len(own)))
        by_loss = sorted(own, key=lambda k: (losses[k].item(), k))
        for place, k in enumerate(by_loss):
            assert chosen[k] == (place >= spared and losses[k].item() > threshold)


def test_a_class_loses_at_most_its_cap_and_its_dearest_rows_first():
    losses = torch.tensor([9.0, 3.0, 7.0, 5.0, 1.0, 8.0])
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    capped = above_threshold(
        losses, labels, 2.0, floor_rows=0, floor_share=0.0, cap_share=0.4
    ).tolist()
    # Two of the five rows of class 0 may go, none of the one of class 1.
    assert capped == [True, False, True, False, False, False]


def test_a_cap_of_whole_rows_is_not_lost_to_rounding():
    losses, labels = torch.full((100,), 9.0), torch.zeros(100, dtype=torch.int64)
    assert 0.29 * 100 < 29
    chosen = above_threshold(losses, labels, 2.0, floor_rows=0, floor_share=0.0, cap_share=0.29)
    assert chosen.sum() == 29


@given(
    st.lists(st.tuples(st.floats(0, 9, width=32), st.integers(0, 2)), min_size=1, max_size=60),
    st.integers(0, 16),
)
def test_a_cap_is_a_floor_seen_from_above(rows: list[tuple[float, int]], sixteenths: int):
    losses = torch.tensor([loss for loss, _ in rows])
    labels = torch.tensor([label for _, label in rows])
    cap = sixteenths / 16
    capped, floored = (
        above_threshold(losses, labels, 3.0, floor_rows=0, floor_share=floor, cap_share=share)
        for floor, share in ((0.0, cap), (1 - cap, 1.0))
    )
    assert torch.equal(capped, floored)
    free = above_threshold(losses, labels, 3.0, floor_rows=0, floor_share=0.0)
    assert not (capped & ~free).any()


def run_of(*parts: Part, epochs: int = 6, wrong: float = 0.3, **values: Any) -> TrainingRun:
    values.setdefault("observers", (Track(),))
    rows = values.pop("rows", 120)
    stage = {key: values.pop(key) for key in ("batch", "lr") if key in values}
    source = values.pop("source", None) or pictures(rows, wrong=wrong)
    values.setdefault("model", tiny_net(source))
    return fit(
        one_stage(Recipe(parts=parts), epochs=epochs, **stage), source, engine=EXACT, **values
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recent", [1, 2, 3])
def test_the_recent_mean_loss_decides(kind: type[Part], recent: int):
    run = run_of(kind(at=3, recent=recent))  # type: ignore[call-arg]
    curve = run.ledger.read("loss_curve").float()
    dropped = run.ledger.read("dropped")
    # Rings are filled from the back: a dropped row has 3 entries, the others all 6.
    filled = run.ledger.filled("loss_curve")
    assert filled[dropped].tolist() == [3] * int(dropped.sum())
    first = 6 - filled
    means = torch.stack(
        [curve[r, f : f + 3][3 - recent :].mean() for r, f in enumerate(first.tolist())]
    )
    own = run.ledger.read(f"{kind.kind.replace('-', '_')}_loss")
    assert own.shape == (120, recent)
    torch.testing.assert_close(own.mean(1), means, rtol=1e-3, atol=1e-3)
    threshold = run.notes["removed"]["threshold"]
    assert isinstance(threshold, float)
    assert torch.equal(dropped, above_threshold(own.mean(1), run.given, threshold))
    assert 0 < dropped.sum() == run.notes["removed"]["rows"]
    assert run.notes["removed"]["epoch"] == 3
    assert (run.ledger.read("dropped_epoch")[dropped] == 3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_dropped_rows_never_return(kind: type[Part]):
    trained: dict[int, set[int]] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        trained.setdefault(run.epoch, set()).update(seen[0].plain.rows.tolist())

    run = run_of(kind(at=2), observers=(Watcher(look),))  # type: ignore[call-arg]
    dropped = set(run.ledger.read("dropped").nonzero()[:, 0].tolist())
    assert dropped
    everyone = set(range(120))
    for epoch in range(6):
        assert trained[epoch] == (everyone if epoch < 2 else everyone - dropped)
    assert run.history[1]["rows"] == 120
    assert run.history[2]["rows"] == 120 - len(dropped)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_dropped_in_one_stage_stay_out_of_the_next(kind: type[Part]):
    trained: dict[tuple[int, int], set[int]] = {}
    states: dict[tuple[int, int], set[int]] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        at = run.stage_index, run.epoch
        trained.setdefault(at, set()).update(seen[0].plain.rows.tolist())
        states[at] = set(run.ledger.read("dropped").nonzero()[:, 0].tolist())

    source = pictures(120, wrong=0.3)
    stage = Stage(recipe=Recipe(parts=(kind(at=2),)), epochs=4, batch=32)  # type: ignore[call-arg]
    run = fit(
        (stage, stage), source, model=tiny_net(source), engine=EXACT, observers=(Watcher(look),)
    )
    assert states[0, 3]
    for at, rows in trained.items():
        assert rows == set(range(120)) - states[at]
    # Losses of the first stage have no say in the second.
    name = f"{kind.kind.replace('-', '_')}_loss"
    first = torch.tensor(sorted(states[0, 3]))
    assert run.ledger.read(name)[first].isnan().all()


def forward_passes(*parts: Part) -> list[int]:
    """Count the forward passes in training mode of every epoch, four steps each."""
    calls: list[int] = []
    per_epoch: list[int] = []
    source = pictures(120, wrong=0.3)

    def build() -> nn.Module:
        net = tiny_net(source)()
        net.register_forward_hook(lambda net, *args: calls.extend([1] * net.training))
        return net

    listener = Listener(on_epoch=lambda record: per_epoch.append(len(calls)))
    run_of(*parts, source=source, model=build, observers=(), listener=listener, batch=30)
    return np.diff([0, *per_epoch]).tolist()


def test_unmixed_rows_are_looked_at_in_the_last_epochs_before_the_drop_alone():
    passes = forward_passes(ODD(at=4, recent=2, percentile=100.0), Mixup())
    assert passes == [4, 4, 8, 8, 4, 4]
    assert forward_passes(ODD(at=4, recent=2, percentile=100.0)) == [4] * 6


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_untouched_until_the_drop(kind: type[Part]):
    states: list[list[Tensor]] = []
    for parts in ((Mixup(),), (kind(at=4), Mixup())):  # type: ignore[call-arg]
        found: list[Tensor] = []

        def look(run: TrainingRun, seen: Any, found: list[Tensor] = found) -> None:
            if run.epoch < 4:
                found.extend(value.clone() for value in run.nets[0].state_dict().values())

        run_of(*parts, observers=(Watcher(look),))
        states.append(found)
    # Weights and running statistics of batch norm, bit for bit, after every step.
    assert len(states[0]) == len(states[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_losses_under_mixing_are_those_of_unmixed_rows():
    source = pictures(120, wrong=0.3)
    differences = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch not in (2, 3):
            return
        plain = seen[0].plain
        logits = run.unmixed(0, seen)
        loss = torch.nn.functional.cross_entropy(logits, plain.given, reduction="none")
        newest = run.ledger.read("odd_loss", plain.rows)[:, -1]
        differences.append(float((loss - newest).abs().max()))

    run_of(ODD(at=4), Mixup(), source=source, observers=(Watcher(look),))
    assert len(differences) == 8
    assert max(differences) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_others_left_out_are_never_judged(kind: type[Part]):
    @dataclass
    class FirstRowsOnly(Part):
        def plan(self, run: Any, plan: Plan) -> Plan:
            return plan.keep(torch.arange(run.num_rows) < 80)

    run = run_of(FirstRowsOnly(), kind(at=2))  # type: ignore[call-arg]
    dropped = run.ledger.read("dropped")
    assert dropped[:80].any()
    assert not dropped[80:].any()
    share = run.notes[kind.kind]["share"]
    assert share == pytest.approx(dropped.sum().item() / 80)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_labels_lose_more_at_the_drop(kind: type[Part]):
    source, is_wrong = blobs(600, 2, distance=2.5, wrong=0.3)
    run = run_of(
        kind(at=6, recent=2, percentile=20.0),  # type: ignore[call-arg]
        source=source,
        model=tiny_net(source, width=32),
        epochs=10,
        batch=64,
        lr=0.05,
    )
    mean = run.ledger.read(f"{kind.kind.replace('-', '_')}_loss").mean(1).numpy()
    assert auroc(mean, is_wrong) > 0.9
    dropped = run.ledger.read("dropped").numpy()
    # With two classes the null is wide, so that right labels go as well (the card says so).
    assert is_wrong[dropped].mean() > is_wrong.mean()


def warned(run: TrainingRun, words: str) -> bool:
    return any(words in warning for warning in run.warnings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_low_threshold_is_warned_of(kind: type[Part]):
    low = run_of(kind(at=3, percentile=1.0, least_loss=0.0))  # type: ignore[call-arg]
    high = run_of(kind(at=3, percentile=90.0))  # type: ignore[call-arg]
    for run, expected in ((low, True), (high, False)):
        threshold = run.notes["removed"]["threshold"]
        assert (threshold < math.log(3) / 3) == expected
        assert warned(run, "less than a third of chance (1.10)") == expected


@pytest.mark.parametrize("kind", KINDS)
def test_rows_whose_label_has_most_of_the_probability_stay(kind: type[Part]):
    runs = [
        run_of(kind(at=3, percentile=1.0, least_loss=least))  # type: ignore[call-arg]
        for least in (0.0, math.log(2), 1.5)
    ]
    thresholds = [run.notes["removed"]["threshold"] for run in runs]
    assert isinstance(thresholds[0], float)
    assert thresholds[0] < math.log(2)
    assert thresholds[1:] == [math.log(2), 1.5]
    for run, least in zip(runs, (0.0, math.log(2), 1.5), strict=True):
        losses = run.ledger.read(f"{kind.kind.replace('-', '_')}_loss").mean(1)
        dropped = run.ledger.read("dropped")
        assert (losses[dropped] > least).all()
        # The warning is about the null, whatever the floor makes of it.
        assert warned(run, f"dropped above {max(thresholds[0], least):.2f}")


@pytest.mark.parametrize("kind", KINDS)
def test_dropping_most_rows_is_warned_of(kind: type[Part]):
    most = run_of(kind(at=1, percentile=0.0, least_loss=0.0), rows=240)  # type: ignore[call-arg]
    few = run_of(kind(at=1, percentile=90.0), rows=240)  # type: ignore[call-arg]
    share = most.notes[kind.kind]["share"]
    assert isinstance(share, float)
    assert share > 0.6
    assert warned(most, f"{kind.kind} dropped {share:.0%} of the rows")
    assert not warned(few, "of the rows")
    # The floor of ten rows in each of three classes.
    kept = ~most.ledger.read("dropped")
    assert min(int(kept[most.given == k].sum()) for k in range(3)) >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_hard_class_is_warned_of(kind: type[Part]):
    # The last kind is one in five of the pictures of the first, so that its loss stays high.
    easy = pictures(400, 2, wrong=0.0)
    first = np.flatnonzero(easy.given == 0)
    labels = easy.given.copy()
    labels[first[:40]] = 2
    source = Arrays(easy.x, labels, classes=("kind 0", "kind 1", "kind 2"))
    run = run_of(kind(at=3, percentile=8.0), source=source)  # type: ignore[call-arg]
    dropped = run.ledger.read("dropped")
    gone = [float(dropped[run.given == k].float().mean()) for k in range(3)]
    share = float(dropped.float().mean())
    for k, each in enumerate(gone):
        assert warned(run, f"of class `kind {k}`") == (each > max(0.6, 2 * share))
    assert gone[2] > max(0.6, 2 * share), gone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [6, 9, -1, "100%"])
def test_a_drop_outside_the_stage_is_refused(kind: type[Part], at: int | str):
    with pytest.raises(SettingsError, match=f"{kind.kind} at `{at}` is not within a stage of 6"):
        run_of(kind(at=at))  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, "0%"])
def test_a_drop_before_the_first_epoch_is_warned_of(kind: type[Part], at: int | str):
    run = run_of(kind(at=at))  # type: ignore[call-arg]
    assert warned(run, f"{kind.kind} has no effect")
    assert not run.ledger.read("dropped").any()
    assert "removed" not in run.notes
    plain = run_of()
    assert torch.equal(run.ledger.read("loss_sum"), plain.ledger.read("loss_sum"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_drop_within_the_stage_is_not(kind: type[Part]):
    for at in (1, 5, "40%"):
        assert not warned(run_of(kind(at=at)), "no effect")  # type: ignore[call-arg]


class Headless(nn.Module):
    """Convolutions alone: no linear layer gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def test_a_net_without_a_linear_head_is_refused_before_it_trains():
    trained = []

    def look(run: TrainingRun, seen: Any) -> None:
        trained.append(1)

    with pytest.raises(ErrataError, match="no linear layer"):
        run_of(ODD(), model=Headless, observers=(Watcher(look),))
    assert not trained


def test_the_variant_needs_no_linear_head():
    run = run_of(ODDPhantom(at=3), model=Headless)
    assert run.ledger.read("dropped").any()
    assert run.sweep(0)[1] is None


def test_the_null_of_the_variant_is_of_labels_never_trained_on():
    run = run_of(ODDPhantom(at=3, recent=2))
    labels = run.ledger.read("odd_phantom_label")
    assert (labels != run.given).all()
    null = run.ledger.read("odd_phantom_null").mean(1)
    threshold = run.notes["removed"]["threshold"]
    assert threshold == pytest.approx(np.percentile(null.double().numpy(), 20), abs=1e-6)


def test_facts_are_noted_for_the_report():
    run = run_of(ODD(at=3))
    assert run.notes["odd"]["log_classes"] == pytest.approx(math.log(3))
    share = run.ledger.read("dropped").float().mean().item()
    assert run.notes["odd"]["share"] == pytest.approx(share)
    variance = run.notes["odd"]["variance"]
    assert isinstance(variance, float)
    assert 0 < variance < 10


def test_lower_percentiles_drop_more():
    dropped = [
        int(run_of(ODD(at=3, percentile=p)).ledger.read("dropped").sum()) for p in (5.0, 30.0, 80.0)
    ]
    assert dropped == sorted(dropped, reverse=True)
    assert dropped[0] > dropped[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_reaches_the_recipe(kind: type[Part]):
    plain = run_of(kind(at=3, percentile=5.0, floor_rows=0))  # type: ignore[call-arg]
    capped = run_of(kind(at=3, percentile=5.0, floor_rows=0, cap_share=0.1))  # type: ignore[call-arg]
    members = [plain.given == k for k in range(3)]
    before = [float(plain.ledger.read("dropped")[m].float().mean()) for m in members]
    after = [float(capped.ledger.read("dropped")[m].float().mean()) for m in members]
    assert max(before) > 0.1 >= max(after) > 0


def column_of(kind: type[Part], what: str) -> str:
    return f"{kind.kind.replace('-', '_')}_{what}"


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_weighed_down_in_place_of_being_removed(kind: type[Part]):
    weights: dict[int, Tensor] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        weight = weights.setdefault(run.epoch, torch.full((run.num_rows,), math.nan))
        weight[seen[0].plain.rows] = seen[0].batch.weight.float()

    run = run_of(kind(at=3, weight=0.1), observers=(Watcher(look),))  # type: ignore[call-arg]
    removed = run_of(kind(at=3)).ledger.read("dropped")  # type: ignore[call-arg]
    expected = torch.where(removed, 0.1, 1.0)
    assert removed.any()
    # The same rows as those that would be removed, and every row is still seen.
    assert torch.equal(run.ledger.read(column_of(kind, "weight")), expected)
    assert not run.ledger.read("dropped").any()
    for epoch in range(6):
        assert torch.equal(weights[epoch], torch.ones(120) if epoch < 3 else expected)
    notes = run.notes[kind.kind]
    assert (notes["weighed_down"], notes["epoch"]) == (int(removed.sum()), 3)
    assert "removed" not in run.notes


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_one_changes_nothing_and_a_small_one_is_nearly_nought(kind: type[Part]):
    def weights_after(*parts: Part) -> Tensor:
        run = run_of(*parts)
        return torch.cat([p.detach().reshape(-1) for p in run.nets[0].parameters()])

    plain = weights_after()
    assert torch.equal(weights_after(kind(at=3, weight=1.0)), plain)  # type: ignore[call-arg]
    small = [weights_after(kind(at=3, weight=w)) for w in (1e-3, 1e-5, 1e-7)]  # type: ignore[call-arg]
    # The weights of the net are a smooth function of the weight of the rows.
    assert (small[1] - small[2]).norm() < 0.02 * (small[0] - small[2]).norm()
    assert (small[2] - plain).norm() > 10 * (small[0] - small[2]).norm()


def test_mixed_rows_carry_the_weights_of_both():
    found = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch >= 3:
            found.append((run.ledger.read("odd_weight", seen[0].plain.rows), seen[0].batch))

    run_of(ODD(at=3, weight=0.1), Mixup(), observers=(Watcher(look),))
    assert len(found) == 12
    light = 0
    for weight, batch in found:
        mass = batch.target.sum(1)
        light += int((mass < 0.99).sum())
        # A blend of masses of 0.1 and 1, with the mass of the batch as drawn on the whole.
        assert mass.min() >= 0.1 - 1e-6
        assert mass.max() <= 1 + 1e-6
        assert mass.sum() == pytest.approx(weight.double().sum().item(), abs=1e-5)
    assert light > 0


def test_weights_of_the_user_stay():
    given = torch.linspace(0.5, 1.5, 120)
    worst = []

    def look(run: TrainingRun, seen: Any) -> None:
        rows = seen[0].plain.rows
        expected = given[rows].double() * run.ledger.read("odd_weight", rows).double()
        worst.append(float((seen[0].batch.weight - expected).abs().max()))

    run = run_of(ODD(at=3, weight=0.5), weights=given, observers=(Watcher(look),))
    assert (run.ledger.read("odd_weight") == 0.5).any()
    assert max(worst) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_weighing_down_survives_a_resume_bit_for_bit(kind: type[Part], tmp_path: Any):
    part = kind(at=2, weight=0.1)  # type: ignore[call-arg]
    place = tmp_path / "checkpoint"
    seen = []

    def stop(record: dict[str, Any]) -> None:
        seen.append(record)
        if len(seen) == 4:
            raise InterruptError

    interrupted_fit(
        lambda **values: run_of(part, **values), place, listener=Listener(on_epoch=stop)
    )
    resumed = run_of(part, checkpoint=place, resume=True)
    assert_same_bits(all_tensors(resumed), all_tensors(run_of(part)))
    assert (resumed.ledger.read(column_of(kind, "weight")) < 1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_stay_in_a_later_stage(kind: type[Part]):
    first: list[Tensor] = []
    found: list[bool] = []
    name = column_of(kind, "weight")

    def look(run: TrainingRun, seen: Any) -> None:
        if run.stage_index == 1 and run.epoch == 0:
            first.append(run.ledger.read(name))
            light = first[0][seen[0].plain.rows] < 1
            found.append(torch.equal(light, seen[0].batch.weight < 1))

    source = pictures(120, wrong=0.3)
    stage = Stage(recipe=Recipe(parts=(kind(at=2, weight=0.1),)), epochs=4, batch=32)  # type: ignore[call-arg]
    fit((stage, stage), source, model=tiny_net(source), engine=EXACT, observers=(Watcher(look),))
    assert (first[0] < 1).any()
    assert all(found)


@pytest.mark.parametrize("kind", KINDS)
def test_weighing_down_does_not_go_with_steps_on_trusted_samples(kind: type[Part]):
    @dataclass
    class Alternates(Part):
        def plan(self, run: Any, plan: Plan) -> Plan:
            return Plan((*plan.laps, Lap((0,), (Group(torch.arange(12)),), pool="trusted")))

    clean = pictures(12, seed=1)
    run_of(Alternates(), kind(at=3), clean=clean)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="does not go with steps on trusted samples"):
        run_of(Alternates(), kind(at=3, weight=0.5), clean=clean)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"weight": -0.1}, "weight `-0.1`"),
        ({"weight": 1.1}, "weight `1.1`"),
        ({"weight": float("nan")}, "weight `nan`"),
        ({"cap_share": 1.5}, "cap_share `1.5`"),
        ({"cap_share": -0.5}, "cap_share `-0.5`"),
    ],
)
def test_shares_and_weights_out_of_range_are_refused(
    kind: type[Part], values: dict[str, Any], words: str
):
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as caught:
        part_named(kind.kind)(**values)
    assert "allowed: 0 to 1" in caught.value.message


def test_the_diagnostic_of_the_simulation_is_noted():
    run = run_of(ODD(at=3))
    notes = run.notes["odd"]
    variance = notes["variance"]
    assert isinstance(variance, float)
    normal = NormalDist(math.log(3) + variance / 2, variance**0.5)
    assert notes["predicted_q10"] == pytest.approx(normal.inv_cdf(0.1))
    assert notes["feature_model"] == "gaussian"
    assert notes["logit_scale"] == 1.0
    ten = run_of(ODD(at=3, percentile=10.0))
    assert ten.notes["odd"]["null"] == notes["simulated_q10"] == ten.notes["odd"]["simulated_q10"]

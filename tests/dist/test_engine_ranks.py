"""Two ranks that share every batch train the net of one process, and drop the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import EXACT, InterruptError, Streamed, one_stage, pictures, tiny_net
from torch import Tensor, nn

from errata.data.augment import Augment
from errata.engine import Engine, Listener, TrainingRun, fit
from errata.engine.dist import average_gradients, rank, same_everywhere, world_size
from errata.errors import ErrataError
from errata.methods.odd import ODD
from errata.parts.base import Part, Recipe, part_named
from errata.types import Group, Lap, Plan

Numbers = dict[str, np.ndarray]


def numbers_of(run: TrainingRun) -> Numbers:
    found = {f"ledger/{name}": t for name, t in run.ledger.state().items()}
    for k, net in enumerate(run.nets):
        found |= {f"net{k}/{name}": t for name, t in net.state_dict().items()}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def train_here(recipe: Any, rows: int, norm: bool, values: dict[str, Any]) -> Numbers:
    """Fit on this process or on this rank; the same call everywhere."""
    source = pictures(rows, 4, wrong=0.3)
    given = dict(values)
    stage = {key: given.pop(key) for key in ("epochs", "batch", "lr", "clip") if key in given}
    given.setdefault("engine", EXACT)
    model = given.pop("model", None) or tiny_net(source, norm=norm)
    run = fit(one_stage(recipe, **({"epochs": 2} | stage)), source, model=model, **given)
    return numbers_of(run)


def assert_close(one: Numbers, two: Numbers) -> None:
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert values.dtype == two[name].dtype, name
        if values.dtype.kind in "iub":
            assert (values == two[name]).all(), name
        elif name.startswith("net"):
            # Gradients are added in another order; everything else is the same arithmetic.
            np.testing.assert_allclose(values, two[name], rtol=0, atol=1e-9, err_msg=name)
        else:
            # The ledger keeps single precision, loss curves half of it.
            digits = 1e-3 if values.dtype == np.float16 else 1e-5
            np.testing.assert_allclose(values, two[name], rtol=digits, atol=digits, err_msg=name)


def assert_same_bits(one: Numbers, two: Numbers) -> None:
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert values.tobytes() == two[name].tobytes(), name


@pytest.mark.parametrize("recipe", ["erm", "gce", "odd", "odd-phantom"])
def test_two_ranks_train_the_net_of_one_process(recipe: str, ranks: Any):
    # 256 rows; the drop, where there is one, comes after the first of two epochs.
    values = {"clip": 1.0} if recipe == "gce" else {}
    part = Recipe(parts=(_dropping(recipe),)) if recipe.startswith("odd") else recipe
    alone = train_here(part, 256, False, values)
    first, second = ranks.run(train_here, part, 256, False, values)
    assert_same_bits(first, second)
    assert_close(alone, first)
    assert ("ledger/dropped" in alone) == recipe.startswith("odd")
    if recipe.startswith("odd"):
        assert 0 < alone["ledger/dropped"].sum() < 200


def _dropping(name: str) -> Part:
    part: Any = part_named(name)
    return part(at=1, recent=1)  # type: ignore[no-any-return]


# 250 rows in batches of 64 make 63, 63, 62 and 62: on two ranks 32 and 31 rows, or 31 each.
@pytest.mark.parametrize("rows", [249, 250])
def test_odd_batches_are_shared_unevenly_and_exactly(rows: int, ranks: Any):
    values = {"batch": 64, "lr": 0.1}
    alone = train_here("erm", rows, False, values)
    first, second = ranks.run(train_here, "erm", rows, False, values)
    assert_same_bits(first, second)
    assert_close(alone, first)


def test_ranks_augment_as_one_process_does(ranks: Any):
    values = {"augment": Augment(flip=True, crop=2, cutout=3)}
    alone = train_here("erm", 100, False, values)
    first, _ = ranks.run(train_here, "erm", 100, False, values)
    assert_close(alone, first)


def test_weights_of_rows_reach_every_rank(ranks: Any):
    values = {"weights": torch.linspace(0, 2, 100)}
    alone = train_here("erm", 100, False, values)
    first, _ = ranks.run(train_here, "erm", 100, False, values)
    assert_close(alone, first)


def dropped_and_margins(numbers: Numbers) -> tuple[set[int], set[int]]:
    dropped = set(np.flatnonzero(numbers["ledger/dropped"]).tolist())
    margins = numbers["ledger/margin_sum"] / numbers["ledger/times_seen"]
    flagged = set(np.argsort(margins, kind="stable")[: round(0.3 * len(margins))].tolist())
    return dropped, flagged


def overlap(one: set[int], two: set[int]) -> float:
    return len(one & two) / len(one | two)


def test_batch_norm_per_rank_drops_and_flags_the_same_rows(ranks: Any):
    # 1,024 rows of four well separated kinds, 30 % of the labels wrong, 64 rows on each rank.
    values = {"epochs": 5, "batch": 128, "lr": 0.05}
    recipe = Recipe(parts=(_at_three(),))
    alone = train_here(recipe, 1024, True, values)
    first, second = ranks.run(train_here, recipe, 1024, True, values)
    for one, two in zip(dropped_and_margins(alone), dropped_and_margins(first), strict=True):
        assert 200 < len(one) < 500
        assert overlap(one, two) >= 0.98
    # The statistics of batch norm are those of the rank; weights and ledger are shared.
    for name, value in first.items():
        if "running" not in name:
            assert value.tobytes() == second[name].tobytes(), name


def _at_three() -> Part:
    return ODD(at=3, recent=2, percentile=20.0)


def facts_of_a_rank() -> tuple[int, int, bool]:
    return rank(), world_size(), same_everywhere("ab" * 8, torch.device("cpu"))


def test_ranks_know_themselves_and_agree_on_equal_digests(ranks: Any):
    assert ranks.run(facts_of_a_rank) == [(0, 2, True), (1, 2, True)]


def differing_on_a_rank(place: int) -> bool:
    digits = ["0"] * 16
    digits[place] = str(rank())
    return same_everywhere("".join(digits), torch.device("cpu"))


@pytest.mark.parametrize("place", [0, 7, 14])
def test_digests_that_differ_are_noticed_on_every_rank(place: int, ranks: Any):
    assert ranks.run(differing_on_a_rank, place) == [False, False]


def averaged_on_a_rank(share: float) -> list[Any]:
    one = torch.zeros(2, requires_grad=True)
    two = torch.zeros(1, 2, requires_grad=True)
    one.grad = torch.full((2,), 1.0 + rank())
    if rank() == 0:
        two.grad = torch.full((1, 2), 4.0)
    average_gradients([one, two], share if rank() == 0 else 1 - share)
    assert one.grad is not None
    assert two.grad is not None
    return [one.grad.tolist(), two.grad.tolist()]


def test_gradients_are_averaged_by_the_share_of_rows(ranks: Any):
    # 0.75 * 1 + 0.25 * 2, and 0.75 * 4 + 0.25 * 0.
    assert ranks.run(averaged_on_a_rank, 0.75) == [[[1.25, 1.25], [[3.0, 3.0]]]] * 2


def frozen_on_a_rank() -> tuple[np.ndarray, np.ndarray]:
    source = pictures(64, 4)

    def build() -> nn.Module:
        net = tiny_net(source, norm=False)()
        net.body.requires_grad_(False)
        return net

    run = fit(one_stage("erm", epochs=2), source, model=build, engine=EXACT)
    body: Any = run.nets[0].body
    return body.body[1].weight.numpy(), body.head.weight.detach().numpy()


def test_frozen_weights_stay_frozen_on_ranks(ranks: Any):
    source = pictures(64, 4)
    fresh: Any = tiny_net(source, norm=False)().double()
    for frozen, trained in ranks.run(frozen_on_a_rank):
        assert (frozen == fresh.body[1].weight.detach().numpy()).all()
        assert (trained != fresh.head.weight.detach().numpy()).any()


@dataclass
class TwoGroups(Part):
    """Two groups in every batch, the second smaller, so that its rows come again."""

    def plan(self, run: Any, plan: Plan) -> Plan:
        groups = (Group(torch.arange(60)), Group(torch.arange(60, 90), "class_balanced"))
        return Plan((Lap((0,), groups),))


def test_ranks_share_every_group_of_a_batch(ranks: Any):
    recipe = Recipe(parts=(TwoGroups(),))
    alone = train_here(recipe, 96, False, {})
    first, second = ranks.run(two_groups_on_a_rank)
    assert_same_bits(first, second)
    # Within an epoch a rank does not know what others saw of a row that comes twice.
    for numbers in (alone, first):
        for name in ("forgets", "first_learned"):
            numbers.pop(f"ledger/{name}")
    assert_close(alone, first)


def two_groups_on_a_rank() -> Numbers:
    return train_here(Recipe(parts=(TwoGroups(),)), 96, False, {})


@dataclass
class Disagrees(Part):
    def plan(self, run: Any, plan: Plan) -> Plan:
        return plan.keep(torch.arange(run.num_rows) != rank())


def disagreeing_on_a_rank() -> str:
    with pytest.raises(RuntimeError) as caught:
        train_here(Recipe(parts=(Disagrees(),)), 64, False, {})
    return str(caught.value)


def test_ranks_that_plan_differently_all_stop(ranks: Any):
    assert all("different plans" in words for words in ranks.run(disagreeing_on_a_rank))


def too_small_on_a_rank() -> str:
    source = pictures(4, 2, unlabelled=3)
    with pytest.raises(ErrataError) as caught:
        fit(one_stage("erm"), source, model=tiny_net(source, norm=False), engine=EXACT)
    return caught.value.message


def test_fewer_rows_than_ranks_are_refused_on_every_rank(ranks: Any):
    assert all("1 rows for 2 processes" in words for words in ranks.run(too_small_on_a_rank))


def resumed_on_a_rank(folder: str, stop: int) -> tuple[Numbers, Numbers]:
    source = pictures(96, 4, wrong=0.3)

    def run(**values: Any) -> TrainingRun:
        program = one_stage(Recipe(parts=(_dropping("odd"),)), epochs=4)
        return fit(program, source, model=tiny_net(source, norm=False), engine=EXACT, **values)

    def interrupt(record: dict[str, Any]) -> None:
        if record["epoch"] == stop:
            raise InterruptError

    place = Path(folder) / "c"
    with pytest.raises(InterruptError):
        run(checkpoint=place, checkpoint_s=0, listener=Listener(on_epoch=interrupt))
    resumed = run(checkpoint=place, resume=True)
    return numbers_of(run()), numbers_of(resumed)


@pytest.mark.parametrize("stop", [1, 2])
def test_ranks_resume_to_the_bit(stop: int, ranks: Any, tmp_path: Path):
    for whole, resumed in ranks.run(resumed_on_a_rank, str(tmp_path), stop):
        assert_same_bits(whole, resumed)


def streamed_on_a_rank() -> Numbers:
    source = pictures(96, 4, wrong=0.3)
    engine = Engine(device="cpu", precision="float64", channels_last=False, workers=0)
    model = tiny_net(source, norm=False)
    return numbers_of(fit(one_stage("erm", epochs=2), Streamed(source), model=model, engine=engine))


def test_ranks_read_files_as_they_read_memory(ranks: Any):
    memory = ranks.run(train_here, "erm", 96, False, {})
    for one, two in zip(memory, ranks.run(streamed_on_a_rank), strict=True):
        assert_same_bits(one, two)


def dropout_of_a_rank() -> Tensor:
    drawn: list[Tensor] = []

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 4)

        def forward(self, x: Tensor) -> Tensor:
            drawn.append(torch.rand(3))
            out: Tensor = self.head(x.flatten(1))
            return out

    source = pictures(64, 4)
    fit(one_stage("erm", epochs=1), source, model=Noisy, engine=EXACT)
    return torch.cat(drawn)


def test_ranks_drop_units_of_their_own(ranks: Any):
    first, second = ranks.run(dropout_of_a_rank)
    assert not torch.equal(first, second)
    again, _ = ranks.run(dropout_of_a_rank)
    assert torch.equal(first, again)

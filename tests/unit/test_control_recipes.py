"""Controls: dropout, CutMix, balanced draws, trusted samples alone, and fine-tuning on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    pictures,
    tiny_net,
)
from torch import Tensor, nn

from errata.data import Arrays
from errata.engine import Listener, TrainingRun, fit
from errata.errors import ErrataError, SettingsError
from errata.losses import one_hot
from errata.methods import balanced, clean_only, cutmix, dropout, finetune, odd, smp
from errata.methods.card import Card, combine
from errata.parts.balance import Balanced
from errata.parts.base import OptimizerSpec, Part, Phase, Recipe, stages_of_phases
from errata.parts.mixing import CutMix, Mixup, draw_box, paste_rows
from errata.parts.thinning import Dropout
from errata.parts.trusted_only import CleanOnly
from errata.streams import generator

SLOW = OptimizerSpec(lr=0.05)


def trained(
    *phases: Phase, source: Arrays | None = None, epochs: int = 5, batch: int = 24, **values: Any
) -> TrainingRun:
    source = source or pictures(wrong=0.3)
    program = stages_of_phases(phases, epochs=epochs, batch=batch, optimizer=SLOW)
    values = {"engine": EXACT, "model": tiny_net(source), **values}
    return fit(program, source, **values)


def run_of(*parts: Part, **values: Any) -> TrainingRun:
    return trained(Phase(recipe=Recipe(parts=parts)), **values)


def together(*cards: Card) -> tuple[Phase, ...]:
    """Compose recipes as ``a+b`` does."""
    return combine("+".join(card.name for card in cards), [card.phases() for card in cards])


def trusted(rows: int = 30) -> Arrays:
    """Give samples of the same kinds that are not those of the source."""
    assert rows != 96
    return pictures(rows, wrong=0.0)


def weights_of(run: TrainingRun) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in run.nets[0].parameters()])


def agreement(run: TrainingRun) -> float:
    """How often the net predicts the label that a sample of the source would have without noise."""
    clean = torch.from_numpy(pictures(run.num_rows, wrong=0.0).given)
    return float((run.sweep(0)[0].argmax(1) == clean).double().mean())


# Dropout.


class Spy(nn.Module):
    """A head that keeps what entered it in training mode."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.head = nn.Linear(width, classes)
        self.told: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x.flatten(1)))


def spied(run_with: Callable[..., TrainingRun], **values: Any) -> tuple[TrainingRun, list[Tensor]]:
    """Train, and give what entered the linear operation of the head in each training step."""
    entered: list[Tensor] = []

    def build() -> nn.Module:
        torch.manual_seed(0)
        net = Spy(32, 3)

        def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if module.training:
                entered.append(inputs[0].detach())

        net.head.register_forward_hook(keep)
        return net

    return run_with(model=build, **values), entered


def test_features_are_zero_at_the_rate_and_scaled_in_training():
    seen: list[Tensor] = []

    def look(run: TrainingRun, step: Any) -> None:
        seen.append(step[0].features.detach())

    _, entered = spied(partial(run_of, Dropout(rate=0.3)), observers=(Watcher(look),), epochs=3)
    dropped, whole = torch.cat(entered), torch.cat(seen)
    assert (whole != 0).all(), "parts and losses see the features as they were"
    assert float((dropped == 0).double().mean()) == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(dropped[dropped != 0], (whole / 0.7)[dropped != 0])


def test_masks_change_from_step_to_step_and_from_row_to_row():
    _, entered = spied(partial(run_of, Dropout()), epochs=2)
    masks = [batch == 0 for batch in entered]
    assert (masks[0][0] != masks[0][1]).any()
    assert (masks[0] != masks[1]).any()


def test_predictions_are_those_of_the_net_without_dropout():
    run = run_of(Dropout(rate=0.9))
    run.nets[0].eval()
    there = run.nets[0].body(next(run.feed.sweep(torch.arange(96))))
    assert torch.equal(run.sweep(0)[0], run.sweep(0)[0])
    torch.testing.assert_close(run.sweep(0)[0], there)


def test_a_rate_of_nought_is_plain_training_to_the_bit():
    assert_same_bits(all_tensors(run_of(Dropout(rate=0.0))), all_tensors(run_of()))
    assert (weights_of(run_of(Dropout())) != weights_of(run_of())).any()


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_a_resumed_run_has_the_same_masks(epoch: int, tmp_path: Path):
    phases = (
        Phase(recipe=Recipe(parts=(Dropout(),)), share=0.6),
        Phase(recipe=Recipe(parts=(Dropout(rate=0.2), Mixup())), share=0.4, reset=False),
        *finetune.CARD.phases(),
    )
    assert_resumes(partial(trained, *phases, clean=trusted()), epoch, tmp_path)


def assert_resumes(run_with: Callable[..., TrainingRun], epoch: int, folder: Path) -> None:
    """Stop after an epoch, counted over all stages, and compare with a run that was not stopped."""
    records = []

    def stop(record: Any) -> None:
        records.append(record)
        if len(records) > epoch:
            raise InterruptError

    interrupted_fit(run_with, folder / "state", listener=Listener(on_epoch=stop))
    resumed = run_with(checkpoint=folder / "state", resume=True)
    assert_same_bits(all_tensors(resumed), all_tensors(run_with()))


def test_a_stage_without_it_does_not_inherit_it():
    first = Phase(recipe=Recipe(parts=(Dropout(),)), share=0.5)
    _, entered = spied(partial(trained, first, Phase(share=0.5, reset=False)), epochs=4)
    assert len(entered) == 4 * 4
    assert all((batch == 0).any() for batch in entered[:8])
    assert not any((batch == 0).any() for batch in entered[8:])


def test_a_second_stage_drops_once_and_at_its_own_rate():
    phases = [
        Phase(recipe=Recipe(parts=(Dropout(rate=rate),)), share=0.5, reset=reset)
        for rate, reset in ((0.8, True), (0.2, False))
    ]
    _, entered = spied(partial(trained, *phases), epochs=4)
    second = torch.cat(entered[8:])
    assert float((second == 0).double().mean()) == pytest.approx(0.2, abs=0.03)


def test_both_nets_have_masks_of_their_own():
    recipe = Recipe(parts=(Dropout(),), nets=2)
    _, entered = spied(partial(trained, Phase(recipe=recipe)), epochs=1)
    assert ((entered[0] == 0) != (entered[1] == 0)).any()


def test_dropout_keeps_wrong_labels_from_being_learned_by_heart():
    source = pictures(wrong=0.4)

    def memorised(*parts: Part) -> float:
        run = run_of(*parts, source=source, epochs=40, model=tiny_net(source, width=64))
        wrong = run.given.numpy() != pictures(wrong=0.0).given
        return float((run.sweep(0)[0].argmax(1) == run.given)[wrong].double().mean())

    assert memorised(Dropout(rate=0.8)) < memorised() - 0.2


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_out_of_range_are_refused(rate: float):
    with pytest.raises(SettingsError, match="dropout rate") as caught:
        Dropout(rate=rate)
    assert "allowed:" in caught.value.message


class Sidestepped(Spy):
    """A net that has a head and does not run it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)) @ self.head.weight.T


def test_nets_without_features_are_refused_before_training():
    with pytest.raises(SettingsError, match="dropout needs the features"):
        run_of(Dropout(), model=lambda: Sidestepped(8, 3))
    with pytest.raises(ErrataError, match="no linear layer"):
        run_of(Dropout(), model=lambda: nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d()))


# CutMix.


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_a_rectangle_is_within_the_picture_and_leaves_the_share_it_says(
    height: int, width: int, own: float, seed: int
):
    (rows, columns), left = draw_box(height, width, own=own, generator=generator(seed, "x"))
    inside = torch.zeros(height, width)
    inside[rows, columns] = 1
    assert left == pytest.approx(1 - float(inside.mean()))
    # What is cut off at an edge is kept, so that more of the picture is left than was drawn.
    assert left >= own - 1e-9


def test_rectangles_reach_every_pixel_and_all_of_the_picture():
    hits = torch.zeros(4, 4)
    for seed in range(200):
        box, left = draw_box(4, 4, own=0.75, generator=generator(seed, "x"))
        hits[box] += 1
        # Half of each side: 2 by 2 pixels, fewer at an edge.
        assert left in (12 / 16, 14 / 16, 15 / 16)
    assert (hits > 10).all()
    assert draw_box(4, 4, own=1.0, generator=generator(0, "x"))[1] == 1


def test_a_rectangle_of_the_partner_is_pasted_and_the_rest_kept():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 5)
    mixed = paste_rows(images, (slice(1, 3), slice(0, 2)), torch.tensor([1, 2, 0]))
    assert (mixed[:, :, 1:3, 0:2] == torch.tensor([1.0, 2, 0])[:, None, None, None]).all()
    assert (mixed[:, :, :, 2:] == images[:, :, :, 2:]).all()
    assert (mixed[:, :, [0, 3]] == images[:, :, [0, 3]]).all()


def mixed_steps(*parts: Part, **values: Any) -> list[Any]:
    """Give what net 0 saw at each step."""
    steps: list[Any] = []
    run_of(*parts, observers=(Watcher(lambda run, seen: steps.append(seen[0])),), **values)
    return steps


def test_targets_are_mixed_by_the_area_that_is_there():
    shares = []
    for step in mixed_steps(CutMix(probability=1.0)):
        own, mixed = step.plain.views[0], step.batch.views[0]
        changed = (own != mixed).any(1)
        target = one_hot(step.plain.given, 3).to(step.batch.target)
        left = (step.batch.target * target).sum(1)
        # At least the share of its own; all of it where the partner has the same label.
        kept = left.min()
        assert ((left - kept).abs() < 1e-9).logical_or((left - 1).abs() < 1e-9).all()
        torch.testing.assert_close(step.batch.target.sum(1), torch.ones_like(left))
        # Pixels that equal those of the partner do not show as changed.
        assert float(changed.flatten(1).double().mean(1).max()) <= 1 - float(kept) + 1e-9
        assert not step.batch.pure
        shares.append(float(kept))
    assert 0.2 < np.mean(shares) < 0.9
    assert np.std(shares) > 0.1


def test_the_share_of_mixed_batches_is_the_probability():
    for probability in (0.0, 0.5, 1.0):
        steps = mixed_steps(CutMix(probability=probability), epochs=20)
        share = np.mean([not step.batch.pure for step in steps])
        assert share == pytest.approx(probability, abs=0.15)


def test_batches_that_are_not_mixed_are_the_batches_as_drawn():
    for part in (CutMix(probability=0.0), CutMix(alpha=0.0)):
        assert_same_bits(all_tensors(run_of(part)), all_tensors(run_of()))


def test_weights_travel_with_the_pasted_part():
    weights = torch.zeros(96, dtype=torch.float64)
    weights[:48] = 1
    for step in mixed_steps(CutMix(probability=1.0), weights=weights):
        mass = step.batch.target.sum(1)
        assert (step.batch.weight == 1).all()
        assert mass.sum() == pytest.approx(float(weights[step.batch.rows].sum()))


def test_all_views_and_nets_get_the_same_rectangle():
    recipe = Recipe(parts=(CutMix(probability=1.0),), nets=2, views=2)
    seen: list[Any] = []
    trained(Phase(recipe=recipe), epochs=2, observers=(Watcher(lambda r, s: seen.append(s)),))
    for step in seen:
        (a, b), (c, d) = step[0].batch.views, step[1].batch.views
        assert torch.equal(a, b)
        assert torch.equal(a, c)
        assert torch.equal(a, d)


def test_rows_of_numbers_are_refused_before_the_first_step():
    flat = pictures()
    numbers = Arrays(
        flat.x.reshape(len(flat.given), -1).astype(np.float32) / 255,
        flat.given,
        classes=flat.classes,
    )
    steps: list[int] = []
    with pytest.raises(SettingsError, match="cutmix cuts pictures") as caught:
        run_of(CutMix(), source=numbers, observers=(Watcher(lambda *_: steps.append(1)),))
    assert "mixup" in caught.value.hint
    assert not steps


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": -1.0}, "cutmix alpha `-1.0`"),
        ({"alpha": float("inf")}, "cutmix alpha `inf`"),
        ({"probability": 1.1}, "cutmix probability `1.1`"),
        ({"probability": float("nan")}, "cutmix probability `nan`"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        CutMix(**values)
    assert "allowed:" in caught.value.message


# Balanced draws.


def labels_drawn(phases: tuple[Phase, ...], source: Arrays, **values: Any) -> Tensor:
    """Count the labels [C] that were trained on."""
    counts = torch.zeros(3, dtype=torch.int64)

    def look(run: TrainingRun, seen: Any) -> None:
        counts.add_(torch.bincount(seen[0].plain.given, minlength=3))

    trained(*phases, source=source, observers=(Watcher(look),), **values)
    return counts


def test_every_given_class_is_drawn_equally_often_in_an_epoch_of_the_usual_length():
    source = pictures(rare=4)
    assert np.bincount(source.given).min() == 4
    counts = labels_drawn(balanced.CARD.phases(), source, epochs=1)
    assert counts.tolist() == [32, 32, 32]


def test_dropped_rows_are_not_drawn_again():
    phases = together(odd.CARD, balanced.CARD)
    phases[0].recipe.parts[0].at = 2
    phases[0].recipe.parts[0].floor_rows = 5
    rows: list[Tensor] = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.epoch >= 2:
            rows.append(seen[0].plain.rows)

    run = trained(*phases, source=pictures(120, wrong=0.4), observers=(Watcher(look),))
    dropped = run.ledger.read("dropped")
    assert dropped.any()
    assert not dropped[torch.cat(rows)].any()


def test_trusted_laps_are_left_as_they_are():
    run = run_of(CleanOnly(), Balanced(), clean=trusted())
    assert_same_bits(all_tensors(run), all_tensors(run_of(CleanOnly(), clean=trusted())))


# Trusted samples alone.


def test_only_trusted_samples_are_trained_on():
    wrong = pictures(wrong=0.0)
    # Nothing right can be learned from these labels.
    source = Arrays(wrong.x, (wrong.given + 1) % 3, classes=wrong.classes)
    phases = clean_only.CARD.phases()
    run = trained(*phases, source=source, clean=trusted(60), epochs=20)
    assert agreement(run) > 0.9
    assert [record["rows"] for record in run.history] == [60] * 20
    assert run.tick == 20 * 3


def test_an_epoch_shows_each_labelled_trusted_sample_once():
    clean = trusted(30)
    labels = np.where(np.arange(30) < 6, -1, clean.given)
    half = Arrays(clean.x, labels, classes=clean.classes)
    drawn: list[Tensor] = []

    class Look(Part):
        def prepare(self, run: Any, net: int, batch: Any) -> Any:
            drawn.append(batch.rows)
            assert (batch.given == run.trusted.given[batch.rows]).all()
            return batch

        def __deepcopy__(self, memo: Any) -> Look:
            return self

    run_of(CleanOnly(), Look(), clean=half, epochs=1)
    assert torch.cat(drawn).sort().values.tolist() == list(range(6, 30))


def test_it_goes_with_mixing():
    run = trained(*together(clean_only.CARD, cutmix.CARD), clean=trusted())
    plain = trained(*clean_only.CARD.phases(), clean=trusted())
    assert (weights_of(run) != weights_of(plain)).any()


@pytest.mark.parametrize("card", [clean_only.CARD, finetune.CARD])
def test_missing_trusted_samples_are_refused(card: Card):
    with pytest.raises(SettingsError, match="needs some, and none were given") as caught:
        trained(*together(card))
    assert "--clean" in caught.value.hint
    assert card.needs == ("clean",)


# Fine-tuning.


def test_fine_tuning_comes_after_all_phases_and_on_top_of_their_epochs():
    phases = together(finetune.CARD, dropout.CARD)
    stages = stages_of_phases(phases, epochs=20, batch=24, optimizer=SLOW)
    assert [stage.epochs for stage in stages] == [20, 6]
    assert [[part.kind for part in stage.recipe.parts] for stage in stages] == [
        ["dropout"],
        ["clean-only"],
    ]
    assert not stages[1].reset
    assert stages[1].optimizer.schedule == "cosine"
    assert stages[1].optimizer.lr < stages[0].optimizer.lr


@pytest.mark.parametrize("card", [None, odd.CARD, smp.CARD])
def test_it_starts_from_what_the_recipe_before_has_learned_and_moves_on(card: Card | None):
    before = trained(*together(card) if card else (Phase(),))
    phases = together(card, finetune.CARD) if card else together(finetune.CARD)
    tuned = trained(*phases, clean=trusted())
    assert [record["stage"] for record in tuned.history] == [0] * 5 + [1] * 2
    assert tuned.history[-1]["rows"] == 30
    moved = (weights_of(tuned) - weights_of(before)).norm() / weights_of(before).norm()
    assert 0 < moved < 0.3
    # What the first stage recorded is left alone.
    for column in ("loss", "times_seen", "prob_sum"):
        assert torch.equal(tuned.ledger.read(column), before.ledger.read(column))


def test_trusted_samples_repair_what_noise_has_taught():
    source = pictures(wrong=0.5)
    noisy = trained(Phase(), source=source, epochs=20)
    tuned = trained(*together(finetune.CARD), source=source, clean=trusted(90), epochs=20)
    assert agreement(tuned) > agreement(noisy) + 0.03


@pytest.mark.parametrize("epoch", [3, 5])
def test_a_run_stopped_around_fine_tuning_goes_on_with_the_same_bits(epoch: int, tmp_path: Path):
    phases = together(smp.CARD, finetune.CARD)
    assert_resumes(partial(trained, *phases, clean=trusted(), epochs=12), epoch * 2 + 1, tmp_path)


def test_recipes_that_contradict_each_other_say_so():
    assert "mixup" in cutmix.CARD.refuses
    assert {"finetune", "odd", "smp", "joint"} <= set(clean_only.CARD.refuses)

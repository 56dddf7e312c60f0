"""From rows to tensors: the same numbers from memory, from workers and in every batch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    EXACT,
    Streamed,
    Watcher,
    all_tensors,
    assert_same_bits,
    blobs,
    one_stage,
    pictures,
    tiny_net,
)
from torch import Tensor

from errata.data import Arrays
from errata.data.augment import Augment, apply, draw
from errata.engine import Engine, TrainingRun, fit
from errata.engine.feed import Feed, Scale, measure_scale
from errata.parts.base import Part, Recipe
from errata.streams import generator
from errata.types import Source

CPU = torch.device("cpu")
AUGMENT = Augment(flip=True, crop=2, cutout=3)
WORKERS = [0, 2]


def feed_of(source: Source, **values: Any) -> Feed:
    return Feed(source, measure_scale(source), CPU, **values)


def test_scales_are_those_of_numpy_per_channel():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (11, 3, 4, 5), dtype=np.uint8)
    scale = measure_scale(Arrays(x, np.zeros(11), classes=("a", "b")), block=4)
    assert scale.mean == pytest.approx(x.mean((0, 2, 3)))
    assert scale.std == pytest.approx(x.std((0, 2, 3)))


def test_scales_are_those_of_numpy_per_feature():
    x = np.random.default_rng(0).normal(5, 3, (11, 4)).astype(np.float32)
    x[:, 2] = 7
    scale = measure_scale(Arrays(x, np.zeros(11), classes=("a", "b")), block=4)
    assert scale.mean == pytest.approx(x.mean(0), rel=1e-6)
    assert scale.std[:2] == pytest.approx(x.std(0)[:2], rel=1e-6)
    assert scale.std[2] == 1.0, "a constant feature is not blown up"


@settings(max_examples=40)
@given(st.integers(1, 40), st.floats(-1e4, 1e4), st.floats(0.1, 100))
def test_served_features_have_mean_nought_and_unit_width(rows: int, mean: float, width: float):
    x = np.random.default_rng(rows).normal(mean, width, (rows + 2, 3)).astype(np.float32)
    source = Arrays(x, np.zeros(rows + 2), classes=("a", "b"))
    served = torch.cat(list(feed_of(source, dtype=torch.float64).sweep(torch.arange(rows + 2))))
    torch.testing.assert_close(
        served.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-4, rtol=0
    )
    expected = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(served.std(0, correction=0), expected, atol=1e-4, rtol=0)


def test_a_test_set_is_scaled_by_the_training_set():
    train, test = pictures(), pictures(seed=1)
    scale = measure_scale(train)
    served = next(Feed(test, scale, CPU, dtype=torch.float64).sweep(torch.arange(4)))
    by_hand = (torch.from_numpy(test.x[:4]).double() - scale.mean[0]) / scale.std[0]
    torch.testing.assert_close(served, by_hand)


def test_sweeps_serve_rows_in_the_order_asked_for():
    source = pictures()
    feed = feed_of(source)
    rows = torch.tensor([5, 3, 90, 3])
    blocks = list(feed.sweep(rows, size=3))
    assert [len(block) for block in blocks] == [3, 1]
    one_by_one = [next(feed.sweep(rows[k : k + 1])) for k in range(4)]
    assert torch.equal(torch.cat(blocks), torch.cat(one_by_one))


def test_serving_leaves_the_source_as_it_was():
    source = pictures()
    before = source.x.copy()
    feed = feed_of(source)
    drawn = draw(AUGMENT, 5, source.shape, generator(0, "x"))
    (raw,) = feed.raw([torch.arange(5)])
    feed.finish(raw, drawn)
    assert (source.x == before).all()


@pytest.mark.parametrize("workers", WORKERS)
def test_workers_serve_what_memory_serves(workers: int):
    source = pictures()
    batches = [torch.tensor([5, 2]), torch.tensor([90]), torch.arange(30), torch.tensor([2, 2])]
    memory = list(feed_of(source).raw(batches))
    feed = feed_of(Streamed(source), workers=workers)
    for _ in range(2):
        # Twice, because workers live on and are given another plan.
        streamed = list(feed.raw(batches))
        assert all(torch.equal(a, b) for a, b in zip(memory, streamed, strict=True))
        batches, memory = batches[::-1], memory[::-1]


class WhoReads(Streamed):
    """Serves the number of the process that reads it."""

    def pixels(self, rows: np.ndarray) -> Tensor:
        return torch.full((len(rows), *self.shape), float(os.getpid()), dtype=torch.float64)


def test_every_pass_is_read_by_workers():
    feed = feed_of(WhoReads(pictures()), workers=2)
    passes = [
        {int(samples.flatten()[0]) for samples in feed.raw([torch.arange(3)] * 8)} for _ in range(3)
    ]
    assert os.getpid() not in passes[0]
    assert len(passes[0]) == 2
    assert passes[0] == passes[1] == passes[2], "workers live on"


@pytest.mark.parametrize("workers", WORKERS)
def test_a_pass_within_a_pass_serves_both(workers: int):
    source = pictures()
    feed = feed_of(Streamed(source), workers=workers)
    batches = [torch.arange(k, k + 3) for k in range(8)]
    for k, outer in enumerate(feed.raw(batches)):
        inner = list(feed.raw([torch.tensor([50]), torch.tensor([60, 61])]))
        assert torch.equal(outer, source.pixels(batches[k].numpy()))
        assert torch.equal(inner[1], source.pixels(np.array([60, 61])))
    assert k == 7


@pytest.mark.parametrize("workers", WORKERS)
def test_a_pass_that_was_given_up_leaves_nothing_behind(workers: int):
    source = pictures()
    feed = feed_of(Streamed(source), workers=workers)
    first = feed.raw([torch.tensor([k]) for k in range(9)])
    assert torch.equal(next(iter(first)), source.pixels(np.array([0])))
    first.close()  # type: ignore[attr-defined]
    for k, samples in enumerate(feed.raw([torch.tensor([k + 40]) for k in range(9)])):
        assert torch.equal(samples, source.pixels(np.array([k + 40])))
    assert k == 8


@pytest.mark.parametrize("workers", WORKERS)
def test_serving_draws_nothing_from_the_global_generator(workers: int):
    feed = feed_of(Streamed(pictures()), workers=workers)
    before = torch.get_rng_state()
    for _ in range(3):
        list(feed.raw([torch.arange(4)]))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", WORKERS)
def test_a_fit_from_files_is_a_fit_from_memory_to_the_bit(workers: int):
    source = pictures(wrong=0.2)
    views: list[list[Tensor]] = []
    runs = []
    for each in (source, Streamed(source)):
        seen_views: list[Tensor] = []

        def look(run: TrainingRun, seen: Any, found: list[Tensor] = seen_views) -> None:
            found.append(seen[0].plain.views[0])

        runs.append(
            fit(
                one_stage("odd+mixup"),
                each,
                model=tiny_net(source, dropout=0.3),
                engine=Engine(device="cpu", precision="float64", workers=workers),
                augment=AUGMENT,
                observers=(Watcher(look),),
            )
        )
        views.append(seen_views)
    assert len(views[0]) == len(views[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*views, strict=True))
    assert_same_bits(all_tensors(runs[0]), all_tensors(runs[1]))


def test_parts_may_sweep_in_the_middle_of_an_epoch():
    source = pictures()

    class Sweeps(Part):
        def after_step(self, run: Any, seen: Any) -> None:
            run.sweep(0, torch.arange(5))

    runs = [
        fit(
            one_stage(Recipe(parts=parts), epochs=2),
            Streamed(source),
            model=tiny_net(source, dropout=0.3),
            engine=Engine(device="cpu", precision="float64", workers=2),
        )
        for parts in ((), (Sweeps(),))
    ]
    assert_same_bits(all_tensors(runs[0]), all_tensors(runs[1]))


def test_augmentation_depends_on_the_place_in_the_batch_and_the_step_alone():
    source = pictures()
    seen_views: list[tuple[Tensor, Tensor]] = []

    def look(run: TrainingRun, seen: Any) -> None:
        plain = seen[0].plain
        drawn = draw(AUGMENT, len(plain.rows), source.shape, run.stream("view0"))
        pixels = source.pixels(plain.rows.numpy())
        seen_views.append((plain.views[0], run.feed.finish(apply(pixels, drawn))))

    fit(
        one_stage(epochs=2),
        source,
        model=tiny_net(source),
        engine=EXACT,
        augment=AUGMENT,
        observers=(Watcher(look),),
    )
    assert len(seen_views) == 6
    for served, by_hand in seen_views:
        assert torch.equal(served, by_hand)


def test_views_of_a_row_are_augmented_apart():
    source = pictures()
    pairs = []

    def look(run: TrainingRun, seen: Any) -> None:
        one, two = seen[0].plain.views
        pairs.append(torch.equal(one, two))

    for augment, same in ((None, True), (AUGMENT, False)):
        pairs.clear()
        fit(
            one_stage(Recipe(views=2), epochs=1),
            source,
            model=tiny_net(source),
            engine=EXACT,
            augment=augment,
            observers=(Watcher(look),),
        )
        assert pairs == [same] * 3


def test_sweeps_are_not_augmented():
    source = pictures()
    run = fit(one_stage(epochs=1), source, model=tiny_net(source), engine=EXACT, augment=AUGMENT)
    served = torch.cat(list(run.feed.sweep(torch.arange(96))))
    expected = (torch.from_numpy(source.x).double() - run.scale.mean[0]) / run.scale.std[0]  # type: ignore[union-attr]
    torch.testing.assert_close(served, expected)


def test_vectors_train_as_pictures_do():
    source, _ = blobs(64)
    run = fit(one_stage(epochs=8), source, model=tiny_net(source), engine=EXACT)
    assert (run.sweep(0)[0].argmax(1) == run.given).float().mean() > 0.9


def test_a_scale_is_plain_numbers():
    # It is written to JSON beside the weights.
    scale = measure_scale(pictures())
    assert isinstance(scale, Scale)
    assert all(type(number) is float for number in (*scale.mean, *scale.std))

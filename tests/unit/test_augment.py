"""Augmentation agrees with a slow loop over images, and its chance is fixed beforehand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.data.augment import Augment, Draws, apply, draw
from errata.errors import SettingsError

specs = st.builds(Augment, flip=st.booleans(), crop=st.integers(0, 3), cutout=st.integers(0, 4))
types = st.sampled_from([torch.uint8, torch.int32, torch.float32, torch.float64])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, shape, dtype=torch.float32, seed=0):
    return torch.randint(1, 256, (count, *shape), generator=rng(seed)).to(dtype)


def slowly(images, draws):
    """The same, pixel by pixel, as one would explain it."""
    out = torch.zeros_like(images)
    count, _, height, width = images.shape
    for image in range(count):
        for row in range(height):
            for column in range(width):
                from_row, from_column = row, column
                if draws.centres is not None:
                    side = draws.spec.cutout
                    top, left = (draws.centres[image] - side // 2).tolist()
                    if top <= row < top + side and left <= column < left + side:
                        continue
                if draws.flips is not None and draws.flips[image]:
                    from_column = width - 1 - column
                if draws.offsets is not None:
                    from_row += int(draws.offsets[image, 0]) - draws.spec.crop
                    from_column += int(draws.offsets[image, 1]) - draws.spec.crop
                if 0 <= from_row < height and 0 <= from_column < width:
                    out[image, :, row, column] = images[image, :, from_row, from_column]
    return out


def test_flip_mirrors_left_and_right():
    images = torch.tensor([[1, 2, 3], [4, 5, 6]])[None, None].repeat(2, 1, 1, 1)
    draws = Draws(Augment(flip=True), torch.tensor([True, False]), None, None)
    assert apply(images, draws)[:, 0].tolist() == [[[3, 2, 1], [6, 5, 4]], [[1, 2, 3], [4, 5, 6]]]


def test_crop_shifts_and_fills_with_zero():
    image = torch.tensor([[1, 2], [3, 4]])[None, None]
    draws = Draws(Augment(crop=1), None, torch.tensor([[0, 2]]), None)
    assert apply(image, draws)[0, 0].tolist() == [[0, 0], [2, 0]]


def test_crop_from_the_middle_changes_nothing():
    images = pictures(3, (2, 6, 5))
    draws = Draws(Augment(crop=2), None, torch.full((3, 2), 2), None)
    assert torch.equal(apply(images, draws), images)


def test_cutout_clears_a_square_that_may_stick_out():
    images = torch.ones(2, 1, 4, 4)
    draws = Draws(Augment(cutout=2), None, None, torch.tensor([[0, 0], [2, 3]]))
    assert (apply(images, draws)[:, 0] == 0).nonzero().tolist() == [
        [0, 0, 0],
        [1, 1, 2],
        [1, 1, 3],
        [1, 2, 2],
        [1, 2, 3],
    ]


@settings(max_examples=40, deadline=None)
@given(specs, st.integers(1, 4), st.integers(8, 10), st.integers(8, 9), types, st.integers(0, 99))
def test_batches_agree_with_the_slow_loop(spec, channels, height, width, dtype, seed):
    shape = (channels, height, width)
    images = pictures(3, shape, dtype, seed)
    draws = draw(spec, 3, shape, rng(seed))
    before = images.clone()
    changed = apply(images, draws)
    assert changed.dtype == dtype
    assert torch.equal(changed, slowly(images, draws))
    assert torch.equal(images, before)


@settings(max_examples=25, deadline=None)
@given(specs, st.integers(0, 99))
def test_taking_rows_of_the_draws_is_taking_rows_of_the_result(spec, seed):
    images = pictures(6, (1, 8, 8))
    draws = draw(spec, 6, (1, 8, 8), rng(seed))
    whole = apply(images, draws)
    assert torch.equal(apply(images[1::2], draws.take(slice(1, None, 2))), whole[1::2])
    rows = torch.tensor([4, 0, 4])
    assert torch.equal(apply(images[rows], draws.take(rows)), whole[rows])


def test_flipping_twice_gives_the_image_back():
    images = pictures(8, (3, 5, 7), torch.uint8)
    draws = draw(Augment(flip=True), 8, (3, 5, 7), rng())
    assert torch.equal(apply(apply(images, draws), draws), images)


def test_draws_depend_on_the_generator_alone():
    spec, shape = Augment(flip=True, crop=2, cutout=3), (1, 9, 9)
    first, again = (draw(spec, 50, shape, rng(5)) for _ in range(2))
    other = draw(spec, 50, shape, rng(6))
    for name in ("flips", "offsets", "centres"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_draws_cover_their_range_evenly():
    draws = draw(Augment(flip=True, crop=2, cutout=3), 6000, (1, 4, 6), rng())
    # Six standard deviations of a count of 3000 are 233, of 1200 are 186, of 1500 are 202.
    assert int(draws.flips.sum()) == pytest.approx(3000, abs=233)
    for axis in range(2):
        assert draws.offsets[:, axis].bincount().tolist() == pytest.approx([1200] * 5, abs=186)
    assert draws.centres[:, 0].bincount().tolist() == pytest.approx([1500] * 4, abs=202)
    assert len(draws.centres[:, 1].bincount()) == 6


def test_nothing_is_drawn_or_changed_without_augmentation():
    generator = rng()
    before = generator.get_state()
    draws = draw(Augment(), 4, (7,), generator)
    vectors = torch.rand(4, 7)
    assert torch.equal(generator.get_state(), before)
    assert apply(vectors, draws.take(slice(None))) is vectors
    assert not Augment().changes


@given(specs)
def test_words_are_read_back(spec):
    assert Augment.parse(spec.words()) == spec


def test_text_may_have_spaces_and_any_order():
    assert Augment.parse(" cutout:8 , flip") == Augment(flip=True, cutout=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "did you mean `flip`"),
        ("crp:4", "did you mean `crop:N`"),
        ("", "is unknown"),
        ("none,flip", "`none` is unknown"),
        ("flip,flip", "twice"),
        ("flip:2", "`flip` alone"),
        ("crop", "whole numbers"),
        ("crop:-1", "whole numbers"),
        ("crop:2.5", "whole numbers"),
        ("cutout:x", "whole numbers"),
    ],
)
def test_malformed_text_is_refused(text, message):
    with pytest.raises(SettingsError, match=message):
        Augment.parse(text)


@pytest.mark.parametrize("value", [-1, True])
def test_pixels_are_whole_numbers(value):
    with pytest.raises(SettingsError, match="whole numbers"):
        Augment(cutout=value)


def test_vectors_accept_no_augmentation():
    Augment().check((64,))
    with pytest.raises(SettingsError, match="needs images"):
        Augment(flip=True).check((64,))


@pytest.mark.parametrize("spec", [Augment(crop=5), Augment(cutout=5)])
def test_augmentation_must_leave_something_to_see(spec):
    spec.check((1, 10, 10))
    with pytest.raises(SettingsError, match="allowed: up to 4"):
        spec.check((1, 20, 9))

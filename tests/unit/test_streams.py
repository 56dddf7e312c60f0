"""Randomness is a function of (seed, key), never of what was drawn before."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from errata.streams import generator, numpy_generator, seed_of

keys = st.lists(
    st.one_of(st.text(), st.integers(), st.lists(st.integers()).map(tuple)), max_size=4
).map(tuple)


@given(st.integers(), keys)
def test_seeds_are_non_negative_and_fit_63_bits(seed: int, key: tuple):
    assert 0 <= seed_of(seed, *key) < 2**63


@given(st.integers(), keys, keys)
def test_seeds_differ_where_seed_or_key_differ(seed: int, one: tuple, two: tuple):
    assert (seed_of(seed, *one) == seed_of(seed, *two)) == (one == two)
    assert seed_of(seed, *one) != seed_of(seed + 1, *one)


def test_texts_and_numbers_are_different_keys():
    assert len({seed_of(0, 1), seed_of(0, "1"), seed_of(0, (1,)), seed_of(0, "1", "")}) == 4


def test_splitting_a_key_elsewhere_gives_another_seed():
    assert seed_of(0, "ab", "c") != seed_of(0, "a", "bc")
    assert seed_of(1, 2) != seed_of(12)


def test_numpy_integers_are_the_same_seed():
    assert seed_of(np.int64(7), "x") == seed_of(7, "x")


def test_seeds_are_the_same_in_every_process():
    # A hash of Python's own would differ, as it is salted in every process.
    code = "from errata.streams import seed_of; print(seed_of(3, 'mixup', 7))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "123"},
    )
    assert int(done.stdout) == seed_of(3, "mixup", 7)


def test_seeds_stay_what_they_are():
    # Changing this changes every result of every user.
    assert seed_of(0, "mixup") == 8728974165953203217


@pytest.mark.parametrize("key", [("a",), (1, "b"), ((1, 2),)])
def test_generators_repeat_whatever_was_drawn_before(key: tuple):
    first = torch.rand(3, generator=generator(5, *key))
    torch.rand(10)
    numpy_first = numpy_generator(5, *key).random(3)
    again = torch.rand(3, generator=generator(5, *key))
    assert torch.equal(first, again)
    assert (numpy_first == numpy_generator(5, *key).random(3)).all()
    assert not torch.equal(first, torch.rand(3, generator=generator(6, *key)))


def test_global_generators_are_not_touched():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.rand(5, generator=generator(0, "x"))
    numpy_generator(0, "x").random(5)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002

"""Simulated tables: their labels follow what a calibrated model of them says."""

from __future__ import annotations

import numpy as np
import pytest
from rate_tables import MODELS, NOISES, by_class, by_row, make_world, scaled, simulated


@pytest.mark.parametrize("kind", ["uniform", "pair", "class", "sparse", "people"])
def test_labels_are_drawn_from_the_posterior_of_who_knows_the_noise(kind: str):
    rng = np.random.default_rng(3)
    world = make_world(rng, 5, 20_000)
    plant = by_row if kind == "people" else by_class
    given, noisy = plant(kind, 0.2, world, rng)
    assert (given != world.true).mean() == pytest.approx(0.2, abs=0.02)
    assert noisy.sum(1) == pytest.approx(1.0)
    assert noisy.mean(0) == pytest.approx(np.bincount(given, minlength=5) / 20_000, abs=0.015)
    # A calibrated model's label has, on average, the probability that its own draws would have.
    said = noisy[np.arange(20_000), given].mean()
    assert said == pytest.approx((noisy**2).sum(1).mean(), abs=0.015)


def test_the_posterior_without_noise_is_that_of_the_true_class():
    world = make_world(np.random.default_rng(0), 4, 20_000)
    sure = world.posterior.max(1)
    right = world.posterior.argmax(1) == world.true
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        rows = (sure >= low) & (sure < high)
        assert right[rows].mean() == pytest.approx(sure[rows].mean(), abs=0.04)


def test_scaled_chances_by_hand():
    chance, often = np.array([1.0, 3.0, 100.0]), np.ones(3)
    # The last is held at .95, so that the others share 3 * .45 - .95 = .4 as 1 to 3.
    found = np.minimum(scaled(chance, often, 0.45), 0.95)
    assert found == pytest.approx([0.1, 0.3, 0.95])


def test_42_tables_hold_every_noise_with_every_model_and_come_again():
    made = [simulated(number) for number in range(0, 42, 7)]
    assert [each.model for each in made] == list(MODELS)
    assert {each.noise for each in made} == {NOISES[0]}
    assert (made[0].given == made[0].true).all()
    again = simulated(7)
    np.testing.assert_array_equal(again.probs, made[1].probs)

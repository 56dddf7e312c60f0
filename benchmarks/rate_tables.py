"""Simulated tables of held-out probabilities whose wrong labels are known.

Classes are points, and a row lies around the point of its class, at a distance of its own: its true
posterior is known, and so is what labels of a given noise make of it. A model then says that noisy
posterior, with one or two of the faults that models have. Each table takes about 50 ms; nothing is
trained. `benchmarks/rate_study.py` measures rules on them.

Kinds of noise: ``uniform``, ``pair`` (class to next class, in some tables of some classes only),
``class`` and ``sparse`` (a transition matrix of random rows, dense or with many zeros), ``hard``
(rows far from their class err more, towards close classes or towards what a person sees who sees
the row better than the model), ``people`` (confused classes, hard rows, carelessness and slips).

Models: ``calibrated``; ``sharp`` and ``flat`` (temperature, smoothed labels); ``memory`` (answers
follow the labels of a few rows close by); ``clean`` (training that resists wrong labels);
``rough`` (the mean of nets each of which errs in its own way).

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["MODELS", "NOISES", "Table", "drawn", "simulated"]

NOISES = ("none", "uniform", "pair", "class", "sparse", "hard", "people")
MODELS = ("calibrated", "sharp", "flat", "memory", "clean", "rough")
CLASSES = (2, 3, 5, 8, 10, 10, 10, 15, 25, 50, 100)
RIGHT, STRONG, KEPT_WEAK = 0.6, 0.88, 0.3
MOST_ERRORS = {"uniform": 0.5, "people": 0.5}


class World(NamedTuple):
    """Rows: their classes, posteriors for model and person, spread, and how far classes lie."""

    true: np.ndarray
    posterior: np.ndarray
    person: np.ndarray
    spread: np.ndarray
    apart: np.ndarray


class Table(NamedTuple):
    """One table: probabilities [N, C], given and true labels [N], and what it is made of."""

    probs: np.ndarray
    given: np.ndarray
    true: np.ndarray
    noise: str
    model: str


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(x / x.sum(1, keepdims=True))


def drawn(probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one class for each row of probabilities."""
    above = rng.random(len(probs))[:, None] > probs.cumsum(1)
    return np.minimum(above.sum(1), probs.shape[1] - 1)


def make_world(rng: np.random.Generator, classes: int, rows: int) -> World:
    dims = int(rng.integers(2, 9)) if classes > 2 else 1
    points = rng.normal(size=(classes, dims))
    apart = ((points[:, None] - points) ** 2).sum(-1)
    unit = np.sqrt((apart + 1e9 * np.eye(classes)).min(1).mean())
    points, apart = points / unit, apart / unit**2
    prior = (rng.dirichlet(np.full(classes, rng.choice([3.0, 1000.0]))) + 0.2 / classes) / 1.2
    true = rng.choice(classes, rows, p=prior)
    scale, varied = np.exp(rng.uniform(np.log(0.12), np.log(0.55))), rng.uniform(0.2, 1.2)
    spread = scale * np.exp(varied * rng.normal(size=rows))
    step = rng.normal(size=(rows, dims))

    def posterior(step: np.ndarray, spread: np.ndarray) -> np.ndarray:
        seen = points[true] + spread[:, None] * step
        far = ((seen[:, None] - points) ** 2).sum(-1)
        return softmax(np.log(prior) - far / (2 * spread[:, None] ** 2))

    sees = rng.uniform(0.2, 0.9)
    second = 0.7 * step + 0.71 * rng.normal(size=(rows, dims))
    return World(true, posterior(step, spread), posterior(second, sees * spread), spread, apart)


def by_class(
    kind: str, rate: float, world: World, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Give labels by a transition matrix, and the noisy posterior."""
    classes = world.posterior.shape[1]
    far = 1 - np.eye(classes)
    often = np.ones(classes)
    if kind == "uniform":
        away = far.copy()
    elif kind == "pair":
        away = np.roll(np.eye(classes), 1, axis=1)
        if rng.random() < 0.4:
            often = (rng.random(classes) < 0.6).astype(float)
            often[0] = 1
    else:
        away = rng.gamma(0.3 if kind == "sparse" else 1.0, size=(classes, classes)) * far
        if kind == "sparse":
            away *= rng.random((classes, classes)) < rng.uniform(0.2, 0.8)
        away += 1e-6 * far
        if rng.random() < 0.7:
            often = rng.uniform(0.1, 1.9, classes)
    away /= away.sum(1, keepdims=True)
    share = np.minimum(often * rate / often[world.true].mean(), 0.9 if kind == "uniform" else 0.65)
    T = np.diag(1 - share) + share[:, None] * away
    return drawn(T[world.true], rng), world.posterior @ T


def by_row(
    kind: str, rate: float, world: World, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Give labels that err by the row, and the posterior of who knows how often each row does."""
    rows, classes = world.posterior.shape
    far = 1 - np.eye(classes)
    often = np.ones(classes)
    hard = world.spread / np.median(world.spread)
    slips = rng.uniform(0, 0.3)
    if kind == "hard":
        away = np.exp(-world.apart / rng.uniform(0.5, 3)) * far + 1e-6 * far
        chance = hard ** rng.uniform(0.5, 3) + slips
    else:
        confused = np.exp(0.7 * rng.normal(size=(classes, classes)))
        away = np.exp(-world.apart / rng.uniform(0.3, 3)) * far * confused + 1e-6 * far
        often = np.exp(rng.uniform(0, 0.8) * rng.normal(size=classes))
        careless = np.exp(rng.uniform(0, 0.8) * rng.normal(size=rows))
        chance = hard ** rng.uniform(0, 1.5) * careless + slips
    away /= away.sum(1, keepdims=True)
    if kind == "people":
        away = 0.9 * away + 0.1 * far / (classes - 1)
    chance = scaled(chance, often[world.true], rate)
    wrong = np.minimum(chance[:, None] * often, 0.95)
    each = np.arange(rows)
    said = away[world.true]
    if kind == "hard" and rng.random() < 0.5:
        said = np.maximum(world.person, 1e-4)
        said[each, world.true] = 0
        said /= said.sum(1, keepdims=True)
    hit = rng.random(rows) < wrong[each, world.true]
    given = np.where(hit, drawn(said, rng), world.true)
    return given, world.posterior * (1 - wrong) + (world.posterior * wrong) @ away


def scaled(chance: np.ndarray, often: np.ndarray, rate: float) -> np.ndarray:
    """Scale chances so that, times `often` and at most .95, their mean is the rate."""
    low, high = 1e-9, 1e6
    for _ in range(80):
        middle = np.sqrt(low * high)
        below = np.minimum(middle * chance * often, 0.95).mean() < rate
        low, high = (middle, high) if below else (low, middle)
    return chance * high


def answered(
    kind: str, clean: np.ndarray, noisy: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Give what a model of this kind says [N, C] where `noisy` would be right."""
    logs = np.log(np.maximum(noisy, 1e-7))
    if kind == "sharp":
        return softmax(logs * rng.uniform(1.2, 4))
    if kind == "flat":
        share = rng.uniform(0, 0.3)
        return (1 - share) * softmax(logs * rng.uniform(0.5, 1)) + share / noisy.shape[1]
    if kind == "memory":
        close = np.exp(rng.uniform(np.log(2), np.log(60)))
        counts = rng.standard_gamma(np.maximum(noisy, 1e-6) * close) + 1e-9
        return np.asarray(counts / counts.sum(1, keepdims=True))
    if kind == "clean":
        share = rng.uniform(0.2, 0.9)
        mixed = np.log(np.maximum((1 - share) * noisy + share * clean, 1e-7))
        return softmax(mixed * rng.uniform(0.8, 1.6))
    if kind == "rough":
        nets, off, power = int(rng.integers(1, 6)), rng.uniform(0.3, 1.5), rng.uniform(0.8, 2.5)
        size = off * np.minimum(1, np.sqrt(np.maximum(-logs, 0.02)))
        each = [softmax(power * logs + size * rng.normal(size=logs.shape)) for _ in range(nets)]
        return np.asarray(np.mean(each, axis=0))
    return noisy


def simulated(number: int) -> Table:
    """Make table `number`: 42 in a row hold every noise with every model."""
    rng = np.random.default_rng([8, number])
    noise = NOISES[number % len(NOISES)]
    model = MODELS[number // len(NOISES) % len(MODELS)]
    classes = int(rng.choice(CLASSES))
    rows = 3000 if classes > 10 else int(rng.choice([1500, 4000]))
    while True:
        world = make_world(rng, classes, rows)
        right = float((world.posterior.argmax(1) == world.true).mean())
        if right >= STRONG or (right >= RIGHT and rng.random() < KEPT_WEAK):
            break
    most = 0.3 if classes == 2 else MOST_ERRORS.get(noise, 0.4)
    low = float(np.exp(rng.uniform(np.log(0.01), np.log(most))))
    rate = low if rng.random() < 0.4 else float(rng.uniform(0.01, most))
    given, noisy = world.true, world.posterior
    if noise != "none":
        plant = by_row if noise in ("hard", "people") else by_class
        given, noisy = plant(noise, rate, world, rng)
    probs = answered(model, world.posterior, noisy, rng)
    if rng.random() < 0.4:
        second = MODELS[int(rng.integers(len(MODELS)))]
        probs = answered(second, world.posterior, probs, rng)
    return Table(probs.astype(np.float32), given, world.true, noise, model)

"""Benchmark suites as code: which cells there are, and the protocol they share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from errata.errors import SettingsError
from errata.methods import card_named, recipe_names
from errata.parts.base import OptimizerSpec

__all__ = ["Cell", "Grid", "Suite", "Variant", "data_folder", "recipes_given"]


@dataclass(frozen=True)
class Cell:
    """One training: a recipe or a variant of one, a noise and a seed."""

    recipe: str
    noise: str
    seed: int

    @property
    def name(self) -> str:
        """As users type it: ``odd/uniform:0.4/0``."""
        return f"{self.recipe}/{self.noise}/{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of some recipes, noises and seeds."""

    recipes: tuple[str, ...]
    noises: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    def cells(self) -> tuple[Cell, ...]:
        """List the cells, all of one seed before the next."""
        grid = product(self.seeds, self.noises, self.recipes)
        return tuple(Cell(recipe, noise, seed) for seed, noise, recipe in grid)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A recipe with settings of its own, under a short name such as ``odd@p5``.

    Attributes:
        recipe: As registered, or several joined by ``+``.
        changes: As after ``--set``, such as ``stage.parts.odd.percentile=5``. The word
            ``{transition}`` stands for an npy file of the true transition matrix.
        gives: What it is given beyond what its recipe needs: ``clean``, ``verified``.
        epochs: None takes those of the suite; so do `model` and `augment`.
        dropout: Share of the features set to zero before the head, in training.
    """

    recipe: str
    changes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    epochs: int | None = None
    model: str | None = None
    augment: str | None = None
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Cells that differ in recipe, noise and seed alone.

    Attributes:
        source: SOURCE, with ``{data}`` for the folder of benchmark data.
        limit: Training rows: the first ones of the source; None takes all.
        validation: Rows after those that validate, with noise of the same kind planted.
        trusted: Rows after those, with true labels, for recipes that need `clean`.
        verified: Share of the training rows whose given label was judged right or wrong, for
            recipes that need `verified`.
        long_tail: Rows of the largest class over those of the smallest; 1 leaves them as they are.
        evaluate: Epochs between two measurements on the way; the last is always measured.
        noises: Noise specs; ``none`` plants nothing, and ``matrix:NAME`` may name a matrix of
            `errata.bench.matrices`.
        more: Further cells, after those of `recipes`, `noises` and `seeds`.
        variants: What the names of cells stand for that are no recipes.
        borrows: Another suite of the same protocol, whose results count for this one.
        trajectories: Record the predictions of every epoch; then every detector and the fit of
            right and of wrong rows are measured too.
    """

    name: str
    summary: str
    source: str
    limit: int | None = None
    validation: int = 0
    trusted: int = 0
    verified: float = 0.0
    long_tail: float = 1.0
    model: str = "conv"
    epochs: int = 60
    batch: int = 128
    augment: str = "none"
    evaluate: int = 5
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    recipes: tuple[str, ...] = ()
    noises: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    more: tuple[Grid, ...] = ()
    variants: Mapping[str, Variant] = field(default_factory=dict)
    borrows: str = ""
    trajectories: bool = False

    def cells(self) -> tuple[Cell, ...]:
        """List the cells, in the order in which they are run."""
        first = Grid(recipes=self.recipes, noises=self.noises, seeds=self.seeds)
        every = (cell for grid in (first, *self.more) for cell in grid.cells())
        return tuple(dict.fromkeys(every))

    def variant(self, recipe: str) -> Variant:
        """Give what the first part of a cell's name stands for."""
        return self.variants.get(recipe) or Variant(recipe=recipe)

    def cell_named(self, name: str) -> Cell:
        """Read a cell's name; any recipe, noise and seed may be named.

        Raises:
            SettingsError: The name does not have three parts, or the seed is no number.
        """
        parts = name.split("/")
        if len(parts) != 3 or not parts[2].isdigit():
            raise SettingsError(
                f"cell `{name}` is not RECIPE/NOISE/SEED",
                hint=f"for example `{self.cells()[0].name}`",
            )
        return Cell(parts[0], parts[1], int(parts[2]))


def recipes_given(*inputs: str) -> tuple[str, ...]:
    """List the registered recipes that need nothing but these inputs.

    Example:
        >>> "erm" in recipes_given()
        True
    """
    return tuple(name for name in recipe_names() if set(card_named(name).needs) <= set(inputs))


def data_folder() -> Path:
    """Find the benchmark data: ``$ERRATA_DATA``, else ``../shared/data`` beside the checkout.

    Raises:
        SettingsError: There is no such folder.
    """
    folder = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    if not folder.is_dir():
        raise SettingsError(
            f"benchmark data are not in `{folder}`; allowed: a folder with fashion_mnist/, ...",
            hint="set ERRATA_DATA to it",
        )
    return folder

"""Benchmark suites as code: which cells there are, and the protocol they share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from errata.errors import SettingsError, unknown_name
from errata.parts.base import OptimizerSpec

__all__ = ["Cell", "Suite", "data_folder", "suite_named", "suite_names"]


@dataclass(frozen=True)
class Cell:
    """One training: a recipe, a noise and a seed."""

    recipe: str
    noise: str
    seed: int

    @property
    def name(self) -> str:
        """As users type it: ``odd/uniform:0.4/0``."""
        return f"{self.recipe}/{self.noise}/{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Cells that differ in recipe, noise and seed alone.

    Attributes:
        source: SOURCE, with ``{data}`` for the folder of benchmark data.
        limit: Training rows: the first ones of the source; None takes all.
        validation: Rows after those that validate, with noise of the same kind planted.
        evaluate: Epochs between two measurements on the way; the last is always measured.
        noises: Noise specs; ``none`` plants nothing.
    """

    name: str
    summary: str
    source: str
    limit: int | None = None
    validation: int = 0
    model: str = "conv"
    epochs: int = 60
    batch: int = 128
    augment: str = "none"
    evaluate: int = 5
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    recipes: tuple[str, ...] = ()
    noises: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)

    def cells(self) -> tuple[Cell, ...]:
        """List the cells, all of one seed before the next."""
        grid = product(self.seeds, self.noises, self.recipes)
        return tuple(Cell(recipe, noise, seed) for seed, noise, recipe in grid)

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


_FASHION = "fashion-mnist:{data}/fashion_mnist"
_FIRST = ("erm", "odd", "odd-phantom", "mixup", "gce", "odd+mixup")

_SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="digits",
            summary="1,438 digits of scikit-learn, 20 epochs: minutes, and no file is needed",
            source="digits",
            epochs=20,
            batch=32,
            evaluate=20,
            recipes=_FIRST,
            noises=("none", "uniform:0.2", "uniform:0.4", "asymmetric:0.3"),
        ),
        Suite(
            name="fashion-10k",
            summary="first 10,000 images of Fashion-MNIST, 60 epochs, flip: erm memorises here",
            source=_FASHION,
            limit=10_000,
            validation=2_000,
            augment="flip",
            recipes=_FIRST,
            noises=("uniform:0.4", "none"),
        ),
        Suite(
            name="fashion-10k-crop",
            summary="the same with pad-crop as well: erm memorises less",
            source=_FASHION,
            limit=10_000,
            validation=2_000,
            augment="flip,crop:2",
            recipes=("erm", "odd"),
            noises=("uniform:0.4",),
        ),
        Suite(
            name="fashion-10k-he",
            summary="fashion-10k with He initialisation: erm memorises less",
            source=_FASHION,
            limit=10_000,
            validation=2_000,
            model="conv-he",
            augment="flip",
            recipes=("erm", "odd"),
            noises=("uniform:0.4",),
        ),
        Suite(
            name="fashion-60k-he",
            summary="fashion-60k with He initialisation",
            source=_FASHION,
            model="conv-he",
            augment="flip",
            epochs=12,
            evaluate=3,
            recipes=("erm", "odd"),
            noises=("uniform:0.4",),
            seeds=(0,),
        ),
        Suite(
            name="fashion-60k",
            summary="all of Fashion-MNIST, 12 epochs: memorisation hardly hurts here",
            source=_FASHION,
            augment="flip",
            epochs=12,
            evaluate=3,
            recipes=("erm", "odd"),
            noises=("uniform:0.4",),
        ),
    )
}


def suite_names() -> tuple[str, ...]:
    """List the suites."""
    return tuple(_SUITES)


def suite_named(name: str) -> Suite:
    """Find a suite.

    Raises:
        SettingsError: No suite has this name.
    """
    if name not in _SUITES:
        raise unknown_name("suite", name, _SUITES)
    return _SUITES[name]


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

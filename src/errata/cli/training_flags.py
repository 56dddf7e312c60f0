"""The flags that only commands share that train or find: computing, training, finding, output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from errata.cli.flags import FlagRule
from errata.cli.options import option

__all__ = ["EngineFlags", "FindFlags", "OutFlags", "TrainFlags"]


@dataclass(frozen=True, kw_only=True)
class EngineFlags:
    """How to compute."""

    precision: Annotated[
        str,
        option(
            "Computing",
            "--precision",
            help="`auto`, `float32`, `bfloat16` or `float64`.",
            metavar="TYPE",
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        option("Computing", "--threads", help="CPU threads of torch.", metavar="N", min=1),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """How to train."""

    recipe: Annotated[
        str | None,
        option(
            "Training",
            "--recipe",
            help="Recipes put together with `+`, such as `odd+mixup`; `errata recipes` lists "
            "them and tells the default.",
            metavar="NAME",
        ),
    ] = None
    preset: Annotated[
        str | None,
        option(
            "Training",
            "--preset",
            help="Settings of a row of a paper, by name or from a TOML file; other flags change "
            "them. `errata recipes --presets` lists them.",
            metavar="NAME",
        ),
    ] = None
    model: Annotated[
        str,
        option(
            "Training",
            "--model",
            help="`auto` chooses by the size of the pictures; `errata train --help` lists all.",
            metavar="NAME",
        ),
    ] = "auto"
    epochs: Annotated[
        int | None,
        option(
            "Training",
            "--epochs",
            help="Passes over the data; chosen by the number of rows unless given.",
            metavar="N",
            min=1,
        ),
    ] = None
    augment: Annotated[
        str,
        option(
            "Training",
            "--augment",
            help="`none`, or a list such as `flip,crop:4,cutout:8`.",
            metavar="LIST",
        ),
    ] = "none"
    set: Annotated[
        list[str] | None,
        option(
            "Training",
            "--set",
            help="Change any setting, such as `stage.optimizer.lr=0.05`; may be given several "
            "times. `settings.toml` of a run shows all paths.",
            metavar="PATH=VALUE",
        ),
    ] = None
    compile: Annotated[
        bool,
        option("Computing", "--compile", help="Let torch.compile build the network."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class FindFlags:
    """How to find errors."""

    folds: Annotated[
        int,
        option(
            "Finding",
            "--folds",
            help="Train K more times, for predictions on held-out rows; 0 is off.",
            metavar="K",
            min=0,
        ),
    ] = 0
    flag: FlagRule = "auto"
    obvious: Annotated[
        float,
        option(
            "Finding",
            "--obvious",
            help="Suspects above this probability of being wrong are called obvious.",
            metavar="P",
            min=0,
            max=1,
        ),
    ] = 0.95
    open_set: Annotated[
        bool,
        option(
            "Finding",
            "--open-set",
            help="Look for samples of no class as well: suspects that seem to be some get no "
            "proposal. Some wrong labels of real samples then lose theirs.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class OutFlags:
    """What to do with the place of the output."""

    resume: Annotated[
        bool,
        option("Output", "--resume", help="Go on with an interrupted run in this place."),
    ] = False
    overwrite: Annotated[
        bool,
        option(
            "Output",
            "--overwrite",
            help="Replace a finished run on the same data that nobody has reviewed.",
        ),
    ] = False

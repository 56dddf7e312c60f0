"""The flags that commands share, declared once, and how a command takes a group of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

__all__ = [
    "Common",
    "EngineFlags",
    "FindFlags",
    "OutFlags",
    "PlainCommon",
    "ReadFlags",
    "SourceArgument",
    "SourceFlags",
    "TrainFlags",
    "option",
    "spread",
]


def option(panel: str, *names: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """Declare a flag that `--help` lists under the title `panel`."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, **more)


_NO_EFFECT = "No effect here; every command takes it."

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="`digits`, a folder with one subfolder per class, a csv, tsv or parquet table "
        "(columns `image`, `label`), an npz file (`x`, `y`), or `KIND:DIR` such as "
        "`fashion-mnist:DIR`.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes."""

    json: Annotated[
        bool,
        option("Everywhere", "--json", help="Print one JSON object and nothing else."),
    ] = False
    quiet: Annotated[
        bool,
        option("Everywhere", "--quiet", help="No progress; only results, warnings and errors."),
    ] = False
    seed: Annotated[
        int,
        option("Everywhere", "--seed", help="Start of every random choice.", metavar="N", min=0),
    ] = 0
    device: Annotated[
        str,
        option(
            "Everywhere", "--device", help="`auto`, `cpu`, `cuda` or `cuda:N`.", metavar="DEVICE"
        ),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class PlainCommon(Common):
    """The same for commands that neither draw nor compute anything."""

    seed: Annotated[int, option("Everywhere", "--seed", help=_NO_EFFECT, metavar="N", min=0)] = 0
    device: Annotated[str, option("Everywhere", "--device", help=_NO_EFFECT, metavar="DEVICE")] = (
        "auto"
    )


@dataclass(frozen=True, kw_only=True)
class ReadFlags:
    """How a source is read."""

    labels: Annotated[
        str | None,
        option(
            "Data",
            "--labels",
            help="Replace labels by id: csv with `id,label`, optional `weight`.",
            metavar="FILE",
        ),
    ] = None
    images: Annotated[
        str | None,
        option("Data", "--images", help="Where the paths of a table start.", metavar="DIR"),
    ] = None
    limit: Annotated[
        int | None,
        option(
            "Data",
            "--limit",
            help="Keep N rows: the first of arrays, a stratified choice of folders and tables.",
            metavar="N",
            min=1,
        ),
    ] = None
    column: Annotated[
        str | None,
        option("Data", "--column", help="Which of several label columns to take.", metavar="NAME"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SourceFlags(ReadFlags):
    """What a training is made from."""

    size: Annotated[
        int | None,
        option(
            "Data",
            "--size",
            help="Side in pixels that pictures are resized to.",
            metavar="PIXELS",
            min=1,
        ),
    ] = None
    noise: Annotated[
        str | None,
        option(
            "Data",
            "--noise",
            help="Plant label errors, such as `uniform:0.2`, to see how many are found; the "
            "truth is kept for the evaluation alone.",
            metavar="SPEC",
        ),
    ] = None
    truth: Annotated[
        str | None,
        option(
            "Data",
            "--truth",
            help="True labels, for the evaluation alone: csv with `id,label`, or npy [N].",
            metavar="FILE",
        ),
    ] = None
    test: Annotated[
        list[str] | None,
        option(
            "Data",
            "--test",
            help="A labelled test set, only measured on; may be given several times.",
            metavar="[NAME=]SOURCE",
        ),
    ] = None
    clean: Annotated[
        str | None,
        option(
            "Data",
            "--clean",
            help="Trusted samples outside the training set, for recipes that need them.",
            metavar="SOURCE",
        ),
    ] = None
    verified: Annotated[
        str | None,
        option(
            "Data",
            "--verified",
            help="Verification labels for recipes that need them: csv with `id,is_correct` or "
            "`id,label`.",
            metavar="FILE",
        ),
    ] = None


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
    flag: Annotated[
        str,
        option(
            "Finding",
            "--flag",
            help="How many rows to call suspects: `auto` (the estimated number of errors), "
            "`fdr:Q` (at most the share Q of false alarms) or `top:N`.",
            metavar="RULE",
        ),
    ] = "auto"
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


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the fields of a command's flag groups as flags of the command.

    A parameter that is annotated with a dataclass stands for all fields of it, so a group of flags
    is declared once and reaches the command as one typed object.
    """
    flat: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        kind = typing.cast("type[Any]", parameter.annotation)
        groups[parameter.name] = kind
        hints = typing.get_type_hints(kind, include_extras=True)
        flat += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(kind)
        ]

    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in dataclasses.fields(kind)})
        command(**values)

    functools.update_wrapper(run, command)
    # Typer follows neither a wrapper nor text annotations; it is told the flat list alone.
    del run.__wrapped__  # type: ignore[attr-defined]
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run

"""The flags that commands share, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from errata.cli.options import option

__all__ = [
    "AuditArgument",
    "Common",
    "FlagRule",
    "PlainCommon",
    "ReadFlags",
    "SourceArgument",
    "SourceFlags",
    "blind_option",
    "controls_option",
]

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

AuditArgument = Annotated[
    str, typer.Argument(metavar="AUDIT", help="The audit directory, as --out named it.")
]


FlagRule = Annotated[
    str,
    option(
        "Finding",
        "--flag",
        help="How many rows to call suspects: `auto` (the estimated number of errors), "
        "`fdr:Q` (at most the share Q of false alarms) or `top:N`.",
        metavar="RULE",
    ),
]


def controls_option(panel: str) -> Any:
    """Declare --controls, which `--help` lists under the title `panel`."""
    help = "Share of cards drawn at random from all rows, to count what is left."
    return option(panel, "--controls", help=help, metavar="SHARE", min=0, max=1)


def blind_option(panel: str) -> Any:
    """Declare --blind, which `--help` lists under the title `panel`."""
    help = "Share of cards without a proposal, to see what proposals do to people."
    return option(panel, "--blind", help=help, metavar="SHARE", min=0, max=1)


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

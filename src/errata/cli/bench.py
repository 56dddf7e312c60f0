"""`errata bench`: what recipes reach, measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from errata.cli.console import Console, table
from errata.cli.flags import Common, PlainCommon
from errata.cli.options import option, spread
from errata.cli.words import count, number, percent

__all__ = ["list_suites", "next_cells", "run_one", "show_table"]

Suite = Annotated[str, typer.Argument(metavar="SUITE", help="As `errata bench list` names it.")]
Results = Annotated[
    Path | None,
    option(
        "Benchmark",
        "--results",
        help="Where results are kept; benchmarks/results.jsonl unless given.",
        metavar="FILE",
    ),
]
Threads = Annotated[
    int | None,
    option("Benchmark", "--threads", help="CPU threads of torch.", metavar="N", min=1),
]


@dataclass(frozen=True, kw_only=True)
class RunCommon(Common):
    """What every command takes, for commands that run cells: a cell names its own seed."""

    seed: Annotated[
        int,
        option(
            "Everywhere", "--seed", help="No effect here: a cell has its own.", metavar="N", min=0
        ),
    ] = 0


@spread
def list_suites(common: PlainCommon, results: Results = None) -> None:
    """List the benchmark suites.

    `hours` are processor hours of the missing cells on this machine, judged by the cells that
    were measured.

    For example:

        errata bench list
    """
    with Console(common) as console:
        from errata.bench import RESULTS, describe

        suites = describe(results or RESULTS)
        numbers = ("cells", "done", "missing", "hours")
        rows = [
            (
                each["suite"],
                *(str(each[key]) for key in numbers[:-1]),
                number(each["hours"], 1),
                each["summary"],
            )
            for each in suites
        ]
        text = table(("suite", *numbers, "summary"), rows, right=numbers)
        console.result({"command": "bench list", "suites": suites}, text)


@spread
def next_cells(
    *,
    suite: Suite,
    common: RunCommon,
    minutes: Annotated[
        float,
        option("Benchmark", "--minutes", help="Stop after so long.", metavar="M", min=0),
    ],
    results: Results = None,
    only: Annotated[
        str | None,
        option(
            "Benchmark", "--only", help="Only cells like this, such as `odd/*`.", metavar="GLOB"
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Run the missing cells of a suite until the minutes are over.

    A cell that is cut off goes on from its checkpoint the next time. Every finished cell is one
    line of the results file. A cell that cannot be run stays missing, and a line says why.

    For example:

        errata bench next fashion-10k --minutes 30
    """
    with Console(common) as console:
        _warn_of_seed(console, common)
        _use_threads(threads)
        from errata.bench import RESULTS, run_next

        done = run_next(
            suite,
            minutes=minutes,
            results=results or RESULTS,
            only=only,
            device=common.device,
            echo=console.note,
        )
        finished = done.get("finished", [])
        text = f"{suite}: {count(len(finished), 'cell')} finished, {done.get('missing', 0)} missing"
        console.result({"command": "bench next", **done}, text)


@spread
def run_one(
    suite: Suite,
    cell: Annotated[
        str,
        typer.Argument(metavar="CELL", help="RECIPE/NOISE/SEED, such as `odd/uniform:0.4/0`."),
    ],
    common: RunCommon,
    threads: Threads = None,
) -> None:
    """Run one cell again and print its result as JSON; no file changes.

    For example:

        errata bench run fashion-10k odd/uniform:0.4/0
    """
    with Console(common) as console:
        _warn_of_seed(console, common)
        _use_threads(threads)
        from errata.bench import run_cell

        display = console.display()
        display.phase(f"running {suite} {cell}")
        result = run_cell(suite, cell, device=common.device)
        # The object of the results file is what people want of this command, JSON or not.
        console.result(result, json.dumps(result, indent=2))


@spread
def show_table(
    suite: Suite,
    common: PlainCommon,
    results: Results = None,
    noise: Annotated[
        str | None,
        option(
            "Benchmark",
            "--noise",
            help="Only noises like this, such as `uniform:*`.",
            metavar="GLOB",
        ),
    ] = None,
    markdown: Annotated[
        bool, option("Benchmark", "--markdown", help="Write the table as Markdown.")
    ] = False,
) -> None:
    """Show what was measured: mean, spread and number of seeds; missing cells as missing.

    For example:

        errata bench table fashion-10k
    """
    with Console(common) as console:
        from errata.bench import RESULTS
        from errata.bench import table as measured

        found = measured(suite, results or RESULTS, noise=noise)
        text = _markdown(*_cells(found)) if markdown else _text(found)
        console.result({"command": "bench table", **found}, text)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _warn_of_seed(console: Console, common: RunCommon) -> None:
    if common.seed:
        console.warn("--seed has no effect on this command")


_SHOWN = (
    ("accuracy", "accuracy %", True),
    ("accuracy_noisy_val", "at best val %", True),
    ("accuracy_clean_ceiling", "clean %", True),
    ("auroc", "AUROC", False),
    ("average_precision", "AP", False),
    ("removed_precision", "removed prec.", False),
    ("removed_recall", "recall", False),
    ("labels_before", "labels %", True),
    ("labels_first", "first %", True),
    ("labels_last", "last %", True),
    ("transition_error_estimated", "T est. error", False),
    ("transition_error_learned", "T learned error", False),
    ("cost", "cost", False),
)
_SIZES = (("clean_rows", "clean rows"), ("verified_rows", "verified rows"))


def _cells(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Give the titles and the rows of a table, without columns that hold nothing."""
    shown = [each for each in _SHOWN if any(row.get(each[0]) for row in found["rows"])]
    sizes = [each for each in _SIZES if any(row.get(each[0]) for row in found["rows"])]
    titles = ["recipe", "noise", "seeds", *(title for _, title, _ in shown)]
    titles += [title for _, title in sizes]
    rows = [
        [
            row["recipe"],
            row["noise"],
            str(row["seeds"]) if row["seeds"] else "missing",
            *(_cell(row.get(key), share=share) for key, _, share in shown),
            *(str(row.get(key) or "-") for key, _ in sizes),
        ]
        for row in found["rows"]
    ]
    return titles, rows


def _text(found: dict[str, Any]) -> str:
    titles, rows = _cells(found)
    text = f"{found['suite']}: {found.get('summary', '')}".rstrip(": ") + "\n\n"
    text += table(titles, rows, right=titles[2:])
    missing = found.get("missing") or []
    if missing:
        text += f"\n\n{count(len(missing), 'cell')} missing, first {missing[0]}"
    return text


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---"] * 2 + ["---:"] * (len(titles) - 2)
    return "\n".join("| " + " | ".join(line) + " |" for line in (titles, marks, *rows))


def _cell(value: dict[str, Any] | None, *, share: bool) -> str:
    if value is None:
        return "-"
    write = percent if share else number
    text = write(value["mean"])
    return text if value["spread"] is None else f"{text} +- {write(value['spread'])}"

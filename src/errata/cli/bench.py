"""`errata bench`: what recipes reach, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from errata.cli.console import Console, table
from errata.cli.flags import PlainCommon, option, spread
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


@spread
def list_suites(common: PlainCommon) -> None:
    """List the benchmark suites.

    For example:

        errata bench list
    """
    with Console(common) as console:
        from errata.bench import describe

        suites = describe()
        rows = [(each["suite"], str(each["cells"]), each["summary"]) for each in suites]
        text = table(("suite", "cells", "summary"), rows, right=("cells",))
        console.result({"command": "bench list", "suites": suites}, text)


@spread
def next_cells(
    *,
    suite: Suite,
    common: PlainCommon,
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
    line of the results file.

    For example:

        errata bench next fashion-10k --minutes 30
    """
    with Console(common) as console:
        _use_threads(threads)
        from errata.bench import RESULTS, run_next

        done = run_next(
            suite, minutes=minutes, results=results or RESULTS, only=only, echo=console.note
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
    common: PlainCommon,
    threads: Threads = None,
) -> None:
    """Run one cell again and print its result as JSON; no file changes.

    For example:

        errata bench run fashion-10k odd/uniform:0.4/0
    """
    with Console(common) as console:
        _use_threads(threads)
        from errata.bench import run_cell

        display = console.display()
        display.phase(f"running {suite} {cell}")
        result = run_cell(suite, cell)
        # The object of the results file is what people want of this command, JSON or not.
        console.result(result, json.dumps(result, indent=2))


@spread
def show_table(suite: Suite, common: PlainCommon, results: Results = None) -> None:
    """Show what was measured: mean, spread and number of seeds; missing cells as missing.

    For example:

        errata bench table fashion-10k
    """
    with Console(common) as console:
        from errata.bench import RESULTS
        from errata.bench import table as measured

        found = measured(suite, results or RESULTS)
        console.result({"command": "bench table", **found}, _text(found))


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


_SHOWN = (
    ("accuracy", "accuracy %", True),
    ("accuracy_noisy_val", "at best val %", True),
    ("accuracy_clean_ceiling", "clean %", True),
    ("auroc", "AUROC", False),
    ("removed_precision", "removed prec.", False),
    ("removed_recall", "recall", False),
    ("cost", "cost", False),
)


def _text(found: dict[str, Any]) -> str:
    shown = [each for each in _SHOWN if any(row.get(each[0]) for row in found["rows"])]
    titles = ["recipe", "noise", "seeds", *(title for _, title, _ in shown)]
    rows = [
        [
            row["recipe"],
            row["noise"],
            str(row["seeds"]) if row["seeds"] else "missing",
            *(_cell(row.get(key), share=share) for key, _, share in shown),
        ]
        for row in found["rows"]
    ]
    text = f"{found['suite']}: {found.get('summary', '')}".rstrip(": ") + "\n\n"
    text += table(titles, rows, right=titles[2:])
    missing = found.get("missing") or []
    if missing:
        text += f"\n\n{count(len(missing), 'cell')} missing, first {missing[0]}"
    return text


def _cell(value: dict[str, Any] | None, *, share: bool) -> str:
    if value is None:
        return "-"
    write = percent if share else number
    text = write(value["mean"])
    return text if value["spread"] is None else f"{text} +- {write(value['spread'])}"

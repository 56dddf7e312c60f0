"""Where the command line starts: commands, help, exit codes.

Exit codes: 0 done; 1 a fault of ours, with a traceback file named; 2 bad usage or bad input;
130 interrupted.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.main

import errata
from errata.cli.apply import apply
from errata.cli.audit import audit
from errata.cli.bench import list_suites, next_cells, run_one, show_table
from errata.cli.console import complain
from errata.cli.exchange import export, import_
from errata.cli.helping import Command, Group, NoCommandError, UsageError, explain_usage
from errata.cli.noise import noise
from errata.cli.predict import predict
from errata.cli.recipes import recipes
from errata.cli.report import report
from errata.cli.review import review
from errata.cli.score import score
from errata.cli.show import show
from errata.cli.train import train, train_notes
from errata.cli.training import Interrupted
from errata.errors import ErrataError

__all__ = ["app", "main"]

OK, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Errors of the system whose cause is the place that was named, not this program.
_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}

app = typer.Typer(cls=Group, add_completion=False, rich_markup_mode=None)
bench = typer.Typer(cls=Group, add_completion=False, rich_markup_mode=None)


class TrainCommand(Command):
    """`errata train`, whose help lists what there is to choose from."""

    def notes(self) -> str:
        """List models and recipes; importing them takes a second, so only when asked for."""
        return train_notes()


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"errata {errata.__version__}\n")
        raise typer.Exit


@app.callback()
def _errata(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train on dirty labels, find the wrong ones, correct the few that matter."""


app.command("audit", cls=Command)(audit)
app.command("score", cls=Command)(score)
app.command("show", cls=Command)(show)
app.command("review", cls=Command)(review)
app.command("export", cls=Command)(export)
app.command("import", cls=Command)(import_)
app.command("apply", cls=Command)(apply)
app.command("report", cls=Command)(report)
app.command("train", cls=TrainCommand)(train)
app.command("predict", cls=Command)(predict)
app.command("noise", cls=Command)(noise)
app.command("recipes", cls=Command)(recipes)
app.add_typer(bench, name="bench", help="Measure recipes: suites of cells, and their results.")
bench.command("list", cls=Command)(list_suites)
bench.command("next", cls=Command)(next_cells)
bench.command("run", cls=Command)(run_one)
bench.command("table", cls=Command)(show_table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    Args:
        argv: What follows the name of the program; None takes it from the system.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A class name must not fail on a terminal that cannot show it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _run(arguments)
        sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code
    except NoCommandError as stop:
        sys.stderr.write(f"{stop}\n")
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough.
        _silence_stdout()
        return OK
    except KeyboardInterrupt as stop:
        _say_interrupted(arguments, stop)
        return INTERRUPTED
    except Exception as error:
        return _explain(error, arguments)
    return OK


def _run(arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    # Typer's own ways with errors and Ctrl-C are left out: they end the process.
    with command.make_context("errata", list(arguments)) as context:
        command.invoke(context)


def _explain(error: Exception, arguments: list[str]) -> int:
    if isinstance(error, ErrataError):
        complain(error.message, error.hint)
        return BAD_INPUT
    if isinstance(error, UsageError):
        complain(*explain_usage(error, arguments))
        return BAD_INPUT
    if _is_out_of_memory(error):
        complain(
            "there is not enough memory for this",
            "make pictures smaller with --size, take fewer rows with --limit, or take smaller "
            "batches with --set stage.batch=32",
        )
        return BAD_INPUT
    if isinstance(error, OSError) and error.errno in _PLACE:
        place = f"`{error.filename}`" if error.filename else "an output"
        complain(
            f"cannot read or write {place}: {(error.strerror or str(error)).lower()}",
            "make room or change the permissions, then run the command again",
        )
        return BAD_INPUT
    _report_fault(error, arguments)
    return FAULT


def _is_out_of_memory(error: Exception) -> bool:
    # The names spare an import of torch; its CPU allocator raises a plain RuntimeError.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _report_fault(error: Exception, arguments: list[str]) -> None:
    lines = [
        f"errata {errata.__version__}, Python {platform.python_version()}, {platform.platform()}",
        shlex.join(["errata", *arguments]),
        "",
        *traceback.format_exception(error),
    ]
    text = "\n".join(lines)
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="errata-traceback-",
            suffix=".txt",
            encoding="utf-8",
            errors="backslashreplace",
            delete=False,
        ) as file:
            file.write(text)
        where = f"the traceback is in {file.name}"
    except OSError:
        sys.stderr.write(text)
        where = "the traceback is above"
    complain(f"this is a fault of errata; {where}; please report it")


def _say_interrupted(arguments: list[str], stop: KeyboardInterrupt) -> None:
    command = shlex.join(["errata", *arguments])
    if isinstance(stop, Interrupted) and stop.resumable:
        again = command if "--resume" in arguments else f"{command} --resume"
        kept = "all up to the last checkpoint is kept"
        complain(kept, f"go on with: {again}", kind="interrupted")
    else:
        complain("nothing is left half-written", f"run it again: {command}", kind="interrupted")


def _silence_stdout() -> None:
    # Python flushes standard output at its end, which would fail a second time.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

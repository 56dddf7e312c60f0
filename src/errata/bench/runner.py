"""Running cells: the missing ones of a suite within some minutes, or one without a record."""

from __future__ import annotations

import fcntl
import fnmatch
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from errata.bench.measuring import Result, measured, with_past
from errata.bench.opening import Opened, open_cell
from errata.bench.suites import Cell, Suite, Variant, data_folder, suite_named
from errata.bench.variants import model_of, program_of_variant
from errata.data import Augment
from errata.engine import Engine, Listener, TrainingRun, fit
from errata.engine.dist import pick_device
from errata.engine.fit import run_digest
from errata.errors import ErrataError, OutputError
from errata.observe import Observer, Track
from errata.observe.trajectory import Trajectory
from errata.parts.base import Program

__all__ = ["RESULTS", "cells_missing", "measure", "read_results", "run_cell", "run_next"]

RESULTS = Path("benchmarks/results.jsonl")
CHECKPOINT_S = 30.0


def read_results(path: Path) -> list[Result]:
    """Read the results so far; a missing file holds none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def run_next(
    suite: str,
    *,
    minutes: float,
    results: Path = RESULTS,
    only: str | None = None,
    device: str = "auto",
    echo: Callable[[str], None] = lambda line: None,
) -> Result:
    """Run missing cells of a suite until the minutes are over, and append what they measured.

    A cell that the time cuts off goes on from its checkpoint the next time. Several processes may
    work on one suite: each takes cells that no other holds. A cell that cannot be run, because
    errata does not have its recipe or the recipe refuses a setting, stays missing; a line says why.

    Args:
        suite: Name of the suite.
        minutes: No cell is started after them, and the running one is cut off.
        results: File of one JSON object per finished cell.
        only: Pattern of cell names, such as ``odd/*``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``.
        echo: Told one line per cell.

    Returns:
        ``{"suite", "finished": [cell names], "missing": how many are left}``.

    Raises:
        SettingsError: No suite or device has this name, or the benchmark data are missing.
    """
    chosen = suite_named(suite)
    pick_device(device)
    if "{data}" in chosen.source:
        data_folder()
    until = time.monotonic() + 60 * minutes
    finished: list[str] = []
    results.parent.mkdir(parents=True, exist_ok=True)
    for cell in cells_missing(chosen, read_results(results), only):
        if time.monotonic() >= until:
            break
        work = results.parent / ".cells" / suite / cell.name.replace("/", "_")
        with _claim(work) as mine:
            if not mine or cell not in cells_missing(chosen, read_results(results), only):
                continue
            echo(f"{suite} {cell.name} ...")
            try:
                result = measure(
                    chosen,
                    cell,
                    device=device,
                    work=work,
                    until=until,
                    past=read_results(results),
                )
            except _OutOfTime:
                echo(f"{suite} {cell.name}: cut off, goes on next time")
                break
            except OutputError:
                raise
            except ErrataError as error:
                echo(f"{suite} {cell.name}: skipped, {error.message}")
                continue
            _append(results, result)
            shutil.rmtree(work, ignore_errors=True)
            finished.append(cell.name)
            echo(f"{suite} {cell.name}: {_words(result)}")
    left = cells_missing(chosen, read_results(results))
    return {"suite": suite, "finished": finished, "missing": len(left)}


def run_cell(suite: str, cell: str, *, device: str = "auto") -> Result:
    """Run one cell from start to end and give what it measured; no file changes."""
    chosen = suite_named(suite)
    return measure(chosen, chosen.cell_named(cell), device=device)


class _OutOfTime(Exception):  # noqa: N818  (it ends a fit; it is no error)
    pass


def cells_missing(suite: Suite, past: list[Result], only: str | None = None) -> list[Cell]:
    """List the cells of a suite that have no result yet, not even one that it may borrow."""
    done = {r["cell"] for r in past if r["suite"] == suite.name}
    if suite.borrows:
        lent = {r["cell"] for r in past if r["suite"] == suite.borrows}
        done |= {name for name in lent if name.split("/")[0] not in suite.variants}
    pattern = only or "*"
    cells = (c for c in suite.cells() if fnmatch.fnmatchcase(c.name, pattern))
    return [cell for cell in cells if cell.name not in done]


@contextmanager
def _claim(work: Path) -> Iterator[bool]:
    """Hold a cell while it runs; gives False where another process holds it."""
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_name(work.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _append(results: Path, result: Result) -> None:
    line = json.dumps(result) + "\n"
    with results.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line)


def measure(
    suite: Suite,
    cell: Cell,
    *,
    device: str = "auto",
    work: Path | None = None,
    until: float | None = None,
    past: list[Result] | None = None,
) -> Result:
    """Train a cell by the protocol of its suite and measure it.

    Raises:
        ErrataError: The recipe is unknown or needs what is not there, or refuses a setting.
    """
    # First of all, so that a recipe that errata does not have costs nothing.
    opened = open_cell(suite, cell)
    with _transition_file(suite.variant(cell.recipe), opened, work) as transition:
        program = program_of_variant(suite, suite.variant(cell.recipe), transition=transition)
        run = _train(suite, cell, program, opened, device=device, work=work, until=until)
    return with_past(measured(suite, cell, run, opened), past or [])


@contextmanager
def _transition_file(variant: Variant, opened: Opened, work: Path | None) -> Iterator[Path | None]:
    if "{transition}" not in " ".join(variant.changes):
        yield None
        return
    with TemporaryDirectory() as scratch:
        # Beside the checkpoint where there is one: the settings of the run hold its name.
        folder = Path(scratch) if work is None else work
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "transition.npy", opened.transition)
        yield folder / "transition.npy"


def _train(
    suite: Suite,
    cell: Cell,
    program: Program,
    opened: Opened,
    *,
    device: str,
    work: Path | None,
    until: float | None,
) -> TrainingRun:
    variant = suite.variant(cell.recipe)
    model, augment = variant.model or suite.model, variant.augment or suite.augment
    source = opened.planted.source
    last = (len(program) - 1, program[-1].epochs - 1)

    def on_epoch(record: Result) -> None:
        over = until is not None and time.monotonic() >= until
        if over and (record["stage"], record["epoch"]) != last:
            raise _OutOfTime

    # Named by its settings, so that a checkpoint of other code or data is never gone on with.
    more: Result = {"dropout": variant.dropout} if variant.dropout else {}
    more |= {"clean": len(opened.clean.ids)} if opened.clean is not None else {}
    more |= {"verified": suite.verified} if opened.verified is not None else {}
    digest = run_digest(source, program, model=model, augment=augment, **more)
    observers: tuple[Observer, ...] = (Track(), Trajectory()) if suite.trajectories else (Track(),)
    verified = opened.verified
    return fit(
        program,
        source,
        model=model_of(model, variant.dropout, source.shape, len(source.classes)),
        seed=cell.seed,
        augment=Augment.parse(augment),
        engine=Engine(device=device),
        observers=observers,
        clean=opened.clean,
        verified=None if verified is None else verified.to(pick_device(device)),
        tests=opened.tests,
        test_every=suite.evaluate,
        checkpoint=None if work is None else work / digest,
        checkpoint_s=CHECKPOINT_S,
        resume=work is not None,
        listener=Listener(on_epoch),
    )


def _words(result: Result) -> str:
    auroc = result["auroc"]
    found = "no wrong labels" if auroc is None else f"AUROC {auroc:.4f}"
    return f"accuracy {result['accuracy']:.4f}, {found}, {result['seconds']:.0f} s"

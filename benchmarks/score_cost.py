"""What `find_label_errors` costs, against one lean pass of numpy over the same table.

    python benchmarks/score_cost.py [--rows 200000] [--classes 1000] [--dtype float32]
        [--rounds 5] [--file FOLDER] [--peer] [--threads 1]

Prints one JSON object. The unit is the CPU time of `lean_pass`: blocks of 1 MB of single precision,
the best class and the probability of the given one, nothing checked; float16 is converted first.
Contestants run in turns in one process, each after one run that does not count, and the least of
the rounds counts. Peak memory is measured in processes of their own, above what lies there once the
table is made and the library imported. With --peer, cleanlab is timed on the same arrays where it
is installed. With --file, the table is an npy file that is read from FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from errata.machine import processor_name

BLOCK = 2**18
WRONG = 0.1


def make_table(rows: int, classes: int, dtype: str, folder: str | None) -> tuple[Any, np.ndarray]:
    """Make probabilities [N, C] of a fair model and labels [N], a tenth of them wrong."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < WRONG, rng.integers(0, classes, rows), true)
    probs: Any = np.empty((rows, classes), dtype=dtype)
    path = None
    if folder is not None:
        path = Path(folder) / f"probs-{rows}-{classes}-{dtype}.npy"
        probs = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(rows, classes))
    size = max(1, 2**22 // classes)
    for start in range(0, rows, size):
        own = true[start : start + size]
        block = rng.random((len(own), classes), dtype=np.float32)
        block[np.arange(len(own)), own] += classes * rng.random(len(own), dtype=np.float32)
        probs[start : start + size] = block / block.sum(1, keepdims=True)
    return (probs if path is None else str(path)), given


def lean_pass(probs: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take the best class and the probability of the given one, and check nothing."""
    rows, classes = probs.shape
    best = np.empty(rows, dtype=np.int64)
    own = np.empty(rows, dtype=np.float32)
    size = max(1, BLOCK // classes)
    for start in range(0, rows, size):
        block = np.asarray(probs[start : start + size])
        if block.dtype == np.float16:
            block = block.astype(np.float32)
        best[start : start + size] = block.argmax(1)
        own[start : start + size] = block[np.arange(len(block)), given[start : start + size]]
    return best, own


def contestants(probs: Any, given: np.ndarray, *, peer: bool) -> dict[str, Callable[[], object]]:
    """Give what is timed."""
    from errata import find_label_errors

    mapped = np.load(probs, mmap_mode="r") if isinstance(probs, str) else probs
    timed: dict[str, Callable[[], object]] = {
        "unit": lambda: lean_pass(mapped, given),
        "errata": lambda: find_label_errors(given, probs),
    }
    if peer:
        from cleanlab.filter import find_label_issues

        timed["cleanlab"] = lambda: find_label_issues(given, np.asarray(mapped), n_jobs=1)
    return timed


def cpu_seconds(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time all contestants in every round, and give the least of each."""
    least = dict.fromkeys(timed, float("inf"))
    for turn in range(rounds + 1):
        for name, each in timed.items():
            if turn > 1 and name == "cleanlab":
                # Half a minute each: one counted round is enough to compare with.
                continue
            start = time.process_time()
            each()
            spent = time.process_time() - start
            if turn or rounds == 0:
                least[name] = min(least[name], spent)
    return least


def extra_memory_mb(name: str, options: dict[str, Any]) -> float:
    """Give what one contestant adds to the memory of a process that holds the table already."""
    probs, given = make_table(**options)
    timed = contestants(probs, given, peer=name == "cleanlab")
    few = make_table(200, 10, "float32", None)
    contestants(*few, peer=name == "cleanlab")[name]()
    # Linux alone: the peak starts again from what is held now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_mb()
    timed[name]()
    return round(_peak_mb() - before, 1)


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--dtype", choices=("float16", "float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file", metavar="FOLDER")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    table = {
        "rows": given.rows,
        "classes": given.classes,
        "dtype": given.dtype,
        "folder": given.file,
    }
    # Before torch and BLAS start their threads, here and in the processes that measure memory.
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    timed = contestants(*make_table(**table), peer=given.peer)
    names = [name for name in timed if name != "unit"]
    seconds = cpu_seconds(timed, given.rounds)
    timed.clear()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        memory = {name: pool.submit(extra_memory_mb, name, table).result() for name in names}
    result = {
        **table,
        "threads": given.threads,
        "rounds": given.rounds,
        "unit_cpu_seconds": seconds["unit"],
        "cpu_seconds": {name: seconds[name] for name in names},
        "units": {name: round(seconds[name] / seconds["unit"], 2) for name in names},
        "extra_memory_mb": memory,
        "processor": processor_name(),
        "numpy": np.__version__,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

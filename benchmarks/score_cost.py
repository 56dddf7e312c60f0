"""What `find_label_errors` costs, against one lean pass of numpy over the same table.

    PYTHONPATH=WHERE_CLEANLAB_IS python benchmarks/score_cost.py [--sizes NAME ...] [--rounds 5]
        [--folder FOLDER]

Five sizes, unless some are named; each goes to `benchmarks/score_cost.json` as soon as it is done,
and others that stand there stay. The unit is the CPU time of `lean_pass`: blocks of 1 MB of single
precision, the best class and the probability of the given one, nothing checked; float16 is
converted first. Contestants run in turns in one process, each after one run that does not count,
and the least of the rounds counts. Peak memory is measured in processes of their own, above what
lies there once the table is made and the library imported. cleanlab is timed on the same arrays
where it is installed, except at the largest size, whose table it would have to hold as a whole.
That size is an npy file of 2.5 GB in FOLDER, a temporary one unless given, and is removed after.

Bars, stated before measuring: 5 units at 200,000 x 1,000 (aim 3.5), at every size 200 MB beyond the
input, and the same bits for two sizes of blocks and, in processes of their own, for one thread and
three.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from provenance import today, versions

from errata.machine import processor_name

BLOCK = 2**18
WRONG = 0.1
# Rows, classes, type of the numbers, and whether the table is a file.
SIZES = {
    "50,000 x 10": (50_000, 10, "float32", False),
    "50,000 x 100": (50_000, 100, "float32", False),
    "1,000,000 x 10": (1_000_000, 10, "float32", False),
    "200,000 x 1,000": (200_000, 1000, "float32", False),
    "1,281,167 x 1,000 float16 file": (1_281_167, 1000, "float16", True),
}
JUDGED, UNITS_BAR, MEMORY_BAR = "200,000 x 1,000", 5.0, 200.0
MOST_DIGESTED = 20_000_000


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


def digest(options: dict[str, Any], threads: int, values: int) -> str:
    """Digest everything that one call answers, for so many threads and numbers in a block."""
    import torch

    from errata import find_label_errors
    from errata.detect import one_pass, score

    torch.set_num_threads(threads)
    probs, given = make_table(**options)
    score.one_pass = lambda table, labels: one_pass.one_pass(table, labels, values=values)  # type: ignore[attr-defined]
    found = find_label_errors(given, probs)
    parts = (found.suspicion, found.p_wrong, found.p_proposed, found.flagged, found.proposed)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def apart(function: Callable[..., Any], *values: Any) -> Any:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return pool.submit(function, *values).result()


def measure(name: str, rounds: int, folder: str) -> dict[str, Any]:
    """Measure one size."""
    rows, classes, dtype, is_file = SIZES[name]
    table = {
        "rows": rows,
        "classes": classes,
        "dtype": dtype,
        "folder": folder if is_file else None,
    }
    has_peer = not is_file and find_spec("cleanlab") is not None
    timed = contestants(*make_table(**table), peer=has_peer)
    names = [each for each in timed if each != "unit"]
    seconds = cpu_seconds(timed, rounds)
    timed.clear()
    memory = {each: apart(extra_memory_mb, each, table) for each in names}
    told: dict[str, Any] = {
        "unit_cpu_seconds": round(seconds["unit"], 4),
        "cpu_seconds": {each: round(seconds[each], 4) for each in names},
        "units": {each: round(seconds[each] / seconds["unit"], 2) for each in names},
        "extra_memory_mb": memory,
        "memory_within_200_mb": memory["errata"] <= MEMORY_BAR,
    }
    if rows * classes <= MOST_DIGESTED:
        digests = set()
        for threads, values in ((1, 2**19), (3, 2**19), (1, 2**15)):
            os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
            digests.add(apart(digest, table, threads, values))
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
        told["same_bits"] = len(digests) == 1
    if name == JUDGED:
        told["within_5_units"] = told["units"]["errata"] <= UNITS_BAR
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/score_cost.json"))
    given = parser.parse_args()
    # Before BLAS starts its threads, here and in the processes that measure memory.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in given.sizes:
        with TemporaryDirectory(dir=given.folder) as folder:
            told = measure(name, given.rounds, folder)
        found = json.loads(given.json.read_text("utf-8")) if given.json.exists() else {"sizes": {}}
        found["sizes"][name] = told | {"rounds": given.rounds}
        found |= {
            "date": today(),
            **versions("numpy"),
            "processor": processor_name(),
            "seed": 0,
        }
        given.json.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
        sys.stdout.write(f"{name} {json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

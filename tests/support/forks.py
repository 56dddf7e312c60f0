"""Runs commands and scripts as processes of their own that need not import torch again.

A program imports what takes seconds and then waits. For every job it forks: the fork runs the
command or the script to its end, as a fresh process would, and the next one finds nothing of it.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

LIMIT_S = 180
LOADED = (
    "errata.cli.app",
    "errata.api",
    "errata.auditing",
    "errata.functional",
    "sklearn.datasets",
)


class Forks:
    """A waiting program that runs one job at a time; a context manager.

    Args:
        env: Environment of the jobs.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self._program = subprocess.Popen(
            [sys.executable, __file__],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *error: object) -> None:
        # The program keeps nothing, and a job that still runs is nobody's any more.
        os.killpg(self._program.pid, signal.SIGKILL)
        self._program.communicate()

    def errata(self, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run ``errata ARGUMENTS`` in a folder."""
        return self._run({"argv": ["errata", *arguments], "script": None}, folder)

    def script(self, path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a piece of Python in a folder."""
        return self._run({"argv": [str(path)], "script": str(path)}, folder)

    def _run(self, job: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        # A text of its own for each stream; a pipe could fill up.
        out, err = folder / ".stdout", folder / ".stderr"
        line = json.dumps({**job, "folder": str(folder), "out": str(out), "err": str(err)})
        self._program.stdin.write(line + "\n")
        self._program.stdin.flush()
        code = int(self._program.stdout.readline())
        told = (out.read_text("utf-8"), err.read_text("utf-8"))
        out.unlink()
        err.unlink()
        return subprocess.CompletedProcess(job["argv"], code, *told)


def serve() -> None:
    """Fork for every line of the input, and tell the exit status of the fork."""
    for name in LOADED:
        import_module(name)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            sys.exit(do(json.loads(line)))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def do(job: dict[str, Any]) -> int:
    """Do a job in this process, and give the exit status."""
    signal.alarm(LIMIT_S)
    os.chdir(job["folder"])
    for stream, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, stream)
        os.close(opened)
    sys.argv = job["argv"]
    if job["script"] is None:
        sys.path[0] = str(Path(sys.executable).parent)
        return int(import_module("errata.cli.app").main())
    sys.path[0] = job["folder"]
    runpy.run_path(job["script"], run_name="__main__")
    return 0


if __name__ == "__main__":
    serve()

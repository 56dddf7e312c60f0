"""Two gloo ranks that live as long as the test session and run functions sent to them.

Starting a rank costs seconds (it imports torch), so all tests share one pool. A function is sent
by name: the rank loads the file that defines it, so it must stand at the top level of a module.
Arguments and results are plain values, numpy arrays or tensors.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["RankError", "RankPool"]


class RankError(Exception):
    """A function failed on some rank; the text holds the traceback of every failed rank."""


class RankPool:
    """A fixed number of ranks in one gloo process group on 127.0.0.1.

    The ranks start at the first `run`. After a failure that may have left them out of step (an
    error on one rank only, or a timeout) they are ended, and the next `run` starts new ones.
    """

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self._ranks: list[tuple[subprocess.Popen[bytes], Connection]] = []

    def run(self, function: Callable[..., Any], *args: Any, timeout_s: float = 60) -> list[Any]:
        """Call ``function(*args)`` on every rank; give the results in the order of ranks.

        The function finds its rank through ``torch.distributed``.

        Raises:
            RankError: It failed on some rank, or did not end in time.
        """
        self.start()
        file = inspect.getsourcefile(function)
        assert file is not None
        call = (function.__module__, str(Path(file).resolve()), function.__qualname__, args)
        for _, line in self._ranks:
            line.send_bytes(pickle.dumps(call))
        answers = self._answers(timeout_s)
        faults = [f"rank {rank}: {text}" for rank, (ok, text) in enumerate(answers) if not ok]
        if faults:
            if len(faults) < self.size:
                self._end()
            raise RankError("\n".join(faults))
        return [result for _, result in answers]

    def start(self) -> None:
        """Start the ranks, unless they run."""
        if self._ranks:
            return
        for rank in range(self.size):
            ours, theirs = Pipe()
            # Nothing outside this machine may be asked for an address.
            loopback = "lo0" if sys.platform == "darwin" else "lo"
            env = os.environ | {"GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), str(rank), str(self.size)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=env,
            )
            theirs.close()
            ours.send_bytes(pickle.dumps(sys.path))
            self._ranks.append((process, ours))
        # Rank 0 lets the system choose a free port and tells it.
        port = self._answers(60, ranks=[0])[0]
        for _, line in self._ranks[1:]:
            line.send_bytes(pickle.dumps(port))
        self._answers(60)

    def close(self) -> None:
        """Let the ranks leave by themselves."""
        for _, line in self._ranks:
            line.close()
        for process, _ in self._ranks:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ranks = []

    def _answers(self, timeout_s: float, ranks: list[int] | None = None) -> list[Any]:
        ends = time.monotonic() + timeout_s
        answers = []
        for rank in range(self.size) if ranks is None else ranks:
            line = self._ranks[rank][1]
            try:
                if not line.poll(max(0.0, ends - time.monotonic())):
                    raise EOFError(f"no answer within {timeout_s} s")
                answers.append(pickle.loads(line.recv_bytes()))
            except (EOFError, OSError) as error:
                self._end()
                raise RankError(f"rank {rank} is gone: {error or 'it ended'}") from error
        return answers

    def _end(self) -> None:
        for process, _ in self._ranks:
            process.kill()
        self.close()


def _load(name: str, file: str) -> ModuleType:
    """Find a module of the package by name, and a test module by its file."""
    if name.partition(".")[0] == "errata":
        return importlib.import_module(name)
    private = f"_rank_{Path(file).stem}_{abs(hash(file))}"
    if private not in sys.modules:
        spec = importlib.util.spec_from_file_location(private, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[private] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[private])
    return sys.modules[private]


def _call(name: str, file: str, qualname: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, getattr(_load(name, file), qualname)(*args)
    except Exception:
        return False, traceback.format_exc()


def _serve(line: Connection, rank: int, size: int) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    sys.path[:] = pickle.loads(line.recv_bytes())
    port = 0 if rank == 0 else pickle.loads(line.recv_bytes())
    store = dist.TCPStore("127.0.0.1", port, size, rank == 0, wait_for_workers=False)
    if rank == 0:
        line.send_bytes(pickle.dumps(store.port))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    line.send_bytes(pickle.dumps("ready"))
    while True:
        try:
            call = pickle.loads(line.recv_bytes())
        except EOFError:
            break
        line.send_bytes(pickle.dumps(_call(*call)))
    dist.destroy_process_group()
    # Taking torch apart takes a second and frees nothing that the system would not.
    os._exit(0)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))

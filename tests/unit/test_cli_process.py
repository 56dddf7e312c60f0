"""The program as the system sees it: exit codes, streams, signals, and how fast it answers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from errata.cli import app

from .cli_runner import run_cli

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
PROGRAM = [sys.executable, "-m", "errata.cli.app"]


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(app, "_run", run)


def test_a_fault_of_ours_names_a_file_with_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fail_with(ZeroDivisionError("by zero"), monkeypatch)
    done = run_cli("audit", "a b")
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    assert done.code == 1
    assert done.out == ""
    assert done.err == (
        f"error: this is a fault of errata; the traceback is in {file}; please report it\n"
    )
    assert "errata audit 'a b'" in text
    assert "ZeroDivisionError: by zero" in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["python", "accelerator", "processor"],
)
def test_too_little_memory_is_bad_input_with_advice(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    fail_with(error, monkeypatch)
    done = run_cli("audit", "digits")
    assert done.code == 2
    assert "--size" in done.err
    assert "--limit" in done.err


@pytest.mark.parametrize("number", [28, 30, 13])
def test_a_place_that_cannot_be_written_is_bad_input(number: int, monkeypatch: pytest.MonkeyPatch):
    fail_with(OSError(number, os.strerror(number), "/there"), monkeypatch)
    done = run_cli("audit", "digits")
    assert done.code == 2
    assert f"`/there`: {os.strerror(number).lower()}" in done.err


def test_interrupted_without_a_checkpoint_says_so(monkeypatch: pytest.MonkeyPatch):
    fail_with(KeyboardInterrupt(), monkeypatch)
    done = run_cli("audit", "my data")
    assert done.code == 130
    assert "nothing is left half-written" in done.err
    assert "errata audit 'my data'" in done.err


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch):
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    silenced: list[bool] = []
    monkeypatch.setattr(app, "_silence_stdout", lambda: silenced.append(True))
    monkeypatch.setattr(sys, "stdout", Closed())
    assert app.main(["--version"]) == 0
    assert silenced == [True]


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys, errata; before = set(sys.modules)\n"
        "from errata.cli.app import main\n"
        "main(['--help']); main(['--version']); main(['audit', '--help']); main(['audti'])\n"
        "heavy = ('torch', 'numpy', 'PIL', 'sklearn', 'matplotlib', 'jinja2')\n"
        "sys.exit(','.join(n for n in heavy if n in set(sys.modules) - before) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_standard_output_holds_one_json_object(tmp_path: Path):
    argv = ["noise", "digits", "--noise", "uniform:0.2", "--limit", "50", "--json"]
    done = subprocess.run(
        [*PROGRAM, *argv], env=ENV, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 50
    assert done.stdout.count("\n") == 1


def start_training(place: Path, *more: str) -> subprocess.Popen[str]:
    """Start an audit that takes long, and wait until it trains."""
    argv = ["audit", "digits", "--epochs", "400", "--model", "conv", "--threads", "1", *more]
    process = subprocess.Popen(
        [*PROGRAM, *argv, "--out", "my audit"],
        env=ENV,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("that takes"):
            return process
    raise AssertionError("it ended before it trained")


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path):
    process: Any = start_training(tmp_path)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        "hint: go on with: errata audit digits --epochs 400 --model conv --threads 1 "
        "--out 'my audit' --resume"
    )
    # Nothing stands under the final name until it is whole.
    assert [path.name for path in tmp_path.iterdir()] == [".my audit.partial"]

"""An audit that is killed and resumed ends with the files of one that was never killed.

Run as a script, this file does the audits: one whole, and for every moment one that kills itself
there and one that resumes it. Each is a process of its own, forked from one that has imported
everything, because importing takes longer than auditing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

EPOCHS = 6
MOMENTS = {
    "after epoch 1": "checkpoint of epoch 1",
    "within epoch 2, after the drop": "checkpoint of epoch 1",
    "while a checkpoint is written": "checkpoint of epoch 3",
    "while the results are written": "checkpoint of epoch 5",
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def audit_here(out: Path, moment: str, *, resume: bool) -> None:
    """Audit 300 digits, and die at the moment asked for."""
    from errata import auditing, job
    from errata.config import Settings, SourceSettings
    from errata.engine import checkpoint, fit

    finished: list[int] = []

    def epoch(record: dict[str, Any]) -> None:
        finished.append(record["epoch"])
        if moment == "after epoch 1" and record["epoch"] == 1:
            die()

    def share(done: float) -> None:
        if moment.startswith("within epoch 2") and done > 2.1 / EPOCHS:
            die()

    def half_a_file(tensors: Any, place: Path) -> None:
        save(tensors, place)
        if moment == "while a checkpoint is written" and finished == [0, 1, 2, 3]:
            place.write_bytes(place.read_bytes()[:1000])
            die()

    def half_a_model(run: Any, folder: Path, **values: Any) -> None:
        if moment == "while the results are written":
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"half")
            die()
        save_model(run, folder, **values)

    save, checkpoint.save_file = checkpoint.save_file, half_a_file
    save_model, auditing.save_model = auditing.save_model, half_a_model
    # Every epoch leaves a checkpoint, as a long training does.
    job.fit = partial(fit, checkpoint_s=0)  # type: ignore[assignment]
    source = SourceSettings(spec="digits", limit=300, noise="uniform:0.3")
    auditing.audit(
        Settings(recipe="odd", source=source),
        out=out,
        epochs=EPOCHS,
        resume=resume,
        progress=job.Progress(epoch=epoch, share=share),
    )


def in_a_process(act: Callable[[], None]) -> int:
    """Do something in a fork and give its exit status; -9 where it was killed."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def drive(folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    audit_here(folder / "whole", "never", resume=False)
    found: dict[str, Any] = {}
    for moment in MOMENTS:
        out = folder / moment.replace(" ", "-").replace(",", "")
        killed = in_a_process(partial(audit_here, out, moment, resume=False))
        seen = {"killed": killed, "published": out.exists(), "standing": standing_of(out)}
        seen["resumed"] = in_a_process(partial(audit_here, out, "never", resume=True))
        seen["out"] = str(out)
        found[moment] = seen
    (folder / "found.json").write_text(json.dumps(found))


def standing_of(out: Path) -> str:
    """Say which epoch the unfinished audit can go on from."""
    place = out.with_name(f".{out.name}.partial") / "work" / "checkpoint" / "state.json"
    if not place.exists():
        return "nothing"
    pairs = dict(json.loads(place.read_text())["state"]["$items"])
    return f"checkpoint of epoch {pairs['epoch']}"


@pytest.fixture(scope="module")
def audits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Do all the audits, and give their folder and what became of each."""
    folder = tmp_path_factory.mktemp("audits")
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_audit_leaves_no_results_but_a_checkpoint(moment: str, audits: Any):
    found = audits[1][moment]
    assert found["killed"] == -signal.SIGKILL
    assert not found["published"]
    assert found["standing"] == MOMENTS[moment]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_resumed_audit_is_that_of_one_never_killed(moment: str, audits: Any):
    folder, found = audits
    assert found[moment]["resumed"] == 0
    whole, resumed = folder / "whole", Path(found[moment]["out"])
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    assert files == [p.relative_to(resumed) for p in sorted(resumed.rglob("*")) if p.is_file()]
    assert Path("issues.csv") in files
    # These hold times, dates and the name of the directory.
    differ = {"summary.json", "log.jsonl", "report.html"}
    for name in files:
        if name.name not in differ:
            assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    assert not resumed.with_name(f".{resumed.name}.partial").exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_resumed_audit_tells_the_same_story(moment: str, audits: Any):
    folder, found = audits
    stories = []
    for out in (folder / "whole", Path(found[moment]["out"])):
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        summary = json.loads((out / "summary.json").read_text())
        stories.append(
            (
                [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
                {
                    key: summary[key]
                    for key in ("suspects", "planted", "noise_rate", "tiers", "test", "removed")
                },
                summary["notes"],
                summary["warnings"],
            )
        )
    assert stories[0] == stories[1]
    assert len(stories[0][0]) == EPOCHS
    assert stories[0][1]["removed"]["rows"] > 0


if __name__ == "__main__":
    drive(Path(sys.argv[1]))

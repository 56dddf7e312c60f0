"""Progress: plain lines for files, a bar after two seconds for people, and nothing when quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole

from errata.cli import progress
from errata.cli.progress import Display
from errata.cli.words import about, took


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def display(
    lines: list[str], *, moving: bool = False, quiet: bool = False
) -> tuple[Display, io.StringIO]:
    file = io.StringIO()
    console = RichConsole(file=file, force_terminal=moving, width=80)
    return Display(console, note=lines.append, moving=moving, quiet=quiet), file


def test_plain_lines_name_the_phases_and_the_time(clock: Clock):
    lines: list[str] = []
    shown, _ = display(lines)
    shown.phase("reading samples")
    shown.phase("training")
    shown.estimate(184)
    shown.stop()
    assert lines == ["reading samples", "training", "that takes about 3 min"]
    assert clock.now == 100.0


def test_plain_lines_about_training_are_few(clock: Clock):
    lines: list[str] = []
    shown, _ = display(lines)
    shown.phase("training")
    for epoch in range(600):
        shown.share(epoch / 600)
        clock.now += 1
        shown.epoch({"epoch": epoch})
    told = lines[1:]
    assert told[0] == "training: epoch 15, 2 %, about 10 min left (after 15 s)"
    assert 10 < len(told) < 35


def test_a_terminal_sees_a_bar_only_when_work_is_long(clock: Clock):
    lines: list[str] = []
    shown, file = display(lines, moving=True)
    shown.phase("training")
    shown.share(0.5)
    shown.stop()
    assert (lines, file.getvalue()) == ([], "")
    shown, file = display(lines, moving=True)
    shown.phase("training")
    shown._timer.cancel()
    shown._show()
    clock.now += 1
    shown.share(0.5)
    shown.phase("writing")
    shown.stop()
    text = file.getvalue()
    assert "training" in text
    assert "writing" in text
    # The bar is taken away at the end, so that results stand alone.
    assert text.endswith("\x1b[1A\x1b[2K")


def test_a_bar_that_comes_too_late_stays_away():
    shown, file = display([], moving=True)
    shown.phase("training")
    shown.stop()
    shown._show()
    assert file.getvalue() == ""


def test_quiet_shows_no_bar():
    shown, file = display([], moving=True, quiet=True)
    shown.phase("training")
    shown.share(0.5)
    shown.epoch({"epoch": 0})
    shown.stop()
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "measured", "estimated"),
    [
        (0.04, "0.0 s", "about 1 s"),
        (59.4, "59 s", "about 59 s"),
        (60, "1 min 0 s", "about 60 s"),
        (89, "1 min 29 s", "about 89 s"),
        (3599.6, "1 h 0 min", "about 60 min"),
        (7260, "2 h 1 min", "about 2 h 1 min"),
    ],
)
def test_times_read_well_at_their_edges(seconds: float, measured: str, estimated: str):
    assert took(seconds) == measured
    assert about(seconds) == estimated

"""How far the work is: a bar where a person watches, plain lines where a file does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from errata.cli.words import about, took

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as Bar

    from errata.auditing import Progress

__all__ = ["Display"]

BAR_AFTER_S = 2.0
"""Shorter work shows no bar."""
LINE_EVERY_S = 15.0
"""Seconds between two plain lines about training; more in long ones."""
REDRAW_S = 0.1


class Display:
    """Tells how far the work is, on standard error.

    Args:
        console: Of standard error.
        note: Writes one line.
        moving: Whether the stream is a terminal that can redraw a line.
        quiet: Show nothing.
    """

    def __init__(
        self, console: RichConsole, *, note: Callable[[str], None], moving: bool, quiet: bool
    ) -> None:
        self._console = console
        self._note = note
        self._moving = moving and not quiet
        self._quiet = quiet
        self._words = ""
        self._bar: Bar | None = None
        self._stopped = False
        self._lock = threading.RLock()
        self._began = self._told = self._drawn = time.perf_counter()
        self._share = 0.0
        self._first: tuple[float, float] | None = None
        self.phases: list[str] = []
        if self._moving:
            self._timer = threading.Timer(BAR_AFTER_S, self._show)
            self._timer.daemon = True
            self._timer.start()

    def listener(self) -> Progress:
        """Give what the audit calls."""
        from errata.auditing import Progress

        return Progress(
            phase=self.phase, share=self.share, estimate=self.estimate, epoch=self.epoch
        )

    def phase(self, words: str) -> None:
        """Another phase starts."""
        with self._lock:
            self.phases.append(words)
            self._words, self._share, self._first = words, 0.0, None
            self._began = self._told = time.perf_counter()
            if self._bar is not None:
                self._bar.remove_task(self._bar.task_ids[0])
                self._bar.add_task(words, total=None)
        if not self._moving:
            self._note(words)

    def estimate(self, seconds: float) -> None:
        """Training is about to start and will take this long."""
        # Plain lines have just named the phase.
        self._note(f"{self._words if self._moving else 'that'} takes {about(seconds)}")

    def share(self, done: float) -> None:
        """So much of training is done, 0 to 1."""
        if self._quiet:
            return
        now = time.perf_counter()
        self._share = done
        if self._first is None:
            self._first = (now, done)
        if self._bar is not None and now - self._drawn >= REDRAW_S:
            self._drawn = now
            with self._lock:
                self._bar.update(self._bar.task_ids[0], completed=done, total=1.0)

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is over; a plain line now and then says so."""
        now = time.perf_counter()
        pause = max(LINE_EVERY_S, (now - self._began) / 10)
        if self._moving or self._quiet or now - self._told < pause:
            return
        self._told = now
        line = f"{self._words}: epoch {record['epoch'] + 1}, {100 * self._share:.0f} %"
        if self._first is not None and self._share > self._first[1]:
            began, start = self._first
            left = (now - began) * (1 - self._share) / (self._share - start)
            line += f", {about(left)} left"
        self._note(f"{line} (after {took(now - self._began)})")

    def stop(self) -> None:
        """Take the bar away."""
        with self._lock:
            self._stopped = True
            if self._moving:
                self._timer.cancel()
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def _show(self) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        with self._lock:
            if self._stopped:
                return
            bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn("{task.percentage:>3.0f} %", "", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=self._console,
                transient=True,
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            bar.add_task(self._words, total=1.0 if self._share else None)
            bar.start()
            self._bar = bar

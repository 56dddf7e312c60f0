"""What reaches the user: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from errata.cli.flags import Common, PlainCommon
from errata.cli.progress import Display
from errata.cli.words import finite, plain

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

__all__ = ["Console", "complain", "is_terminal", "table"]

_UNLIMITED = 100_000


def is_terminal(stream: Any) -> bool:
    """Tell whether a person is likely to read a stream as it comes."""
    return bool(getattr(stream, "isatty", lambda: False)())


def complain(message: str, hint: str = "", *, kind: str = "error") -> None:
    """Write an error or a warning, and what to do about it, to standard error."""
    _say(_stderr(), message, kind=kind)
    if hint:
        _say(_stderr(), hint, kind="hint")


class Console:
    """The two streams of one command.

    As a context it also shows the warnings of the package, each once.

    Args:
        common: The flags that every command takes.
    """

    def __init__(self, common: Common) -> None:
        self.common = common
        self._err = _stderr()
        self._warned: set[str] = set()
        self._display: Display | None = None
        self._handler = _Warnings(self)
        self._showwarning = warnings.showwarning

    def __enter__(self) -> Console:
        log = logging.getLogger("errata")
        log.addHandler(self._handler)
        log.propagate = False
        warnings.showwarning = lambda message, *_, **__: self.warn(str(message))
        if isinstance(self.common, PlainCommon):
            self._warn_of_no_effect(self.common)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.stop()
        log = logging.getLogger("errata")
        log.removeHandler(self._handler)
        log.propagate = True
        warnings.showwarning = self._showwarning

    def note(self, text: str) -> None:
        """Say on standard error what goes on, unless that is not wanted."""
        if not self.common.quiet:
            _say(self._err, text)

    def warn(self, text: str) -> None:
        """Warn on standard error, of the same thing once."""
        if text not in self._warned:
            self._warned.add(text)
            _say(self._err, text, kind="warning")

    def display(self) -> Display:
        """Start to show progress; it ends with the command."""
        self._display = Display(
            self._err,
            note=self.note,
            moving=is_terminal(sys.stderr) and not self._err.is_dumb_terminal,
            quiet=self.common.quiet,
        )
        return self._display

    def result(self, document: Mapping[str, Any], text: str) -> None:
        """Print the result: the document where JSON is wanted, else the text."""
        if self._display is not None:
            self._display.stop()
        if self.common.json:
            text = json.dumps(finite(dict(document)), allow_nan=False)
        else:
            text = plain(text)
        sys.stdout.write(text.rstrip("\n") + "\n")

    def _warn_of_no_effect(self, common: Common) -> None:
        if common.device != "auto":
            self.warn("--device has no effect on this command")
        if common.seed:
            self.warn("--seed has no effect on this command")


class _Warnings(logging.Handler):
    """Hands the warnings of the package's log to the console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.warn(record.getMessage())


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> str:
    """Lay out a table as text: without lines or colours, folded where the terminal is narrow.

    Args:
        columns: Titles.
        rows: Cells.
        right: Titles of the columns of numbers.
    """
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    laid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for title in columns:
        # The last column takes what room is left; the others never break their title.
        laid.add_column(
            Text(title),
            justify="right" if title in right else "left",
            overflow="fold",
            min_width=len(title) if title != columns[-1] else None,
        )
    for row in rows:
        laid.add_row(*(Text(plain(cell)) for cell in row))
    shown = is_terminal(sys.stdout)
    console = RichConsole(
        file=sys.stdout, width=None if shown else _UNLIMITED, color_system=None, no_color=True
    )
    with console.capture() as capture:
        console.print(laid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _stderr() -> RichConsole:
    from rich.console import Console as RichConsole

    return RichConsole(
        file=sys.stderr, stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def _say(console: RichConsole, text: str, *, kind: str = "") -> None:
    from rich.text import Text

    styles = {"error": "bold red", "warning": "bold yellow"}
    parts: list[Any] = [(f"{kind}: ", styles.get(kind, "bold"))] if kind else []
    console.print(Text.assemble(*parts, plain(text)), soft_wrap=True)

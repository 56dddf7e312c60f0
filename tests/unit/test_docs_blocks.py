"""Every command and every piece of Python in the documentation runs.

The blocks of a page run in order in one empty folder, so a page may tell a story. Python blocks run
as scripts of their own. Of console blocks the lines that start with ``$ errata`` run; what a block
shows below them is not compared, since numbers and times differ between machines. All are processes
of their own, forked from one that has imported torch: to import it 80 times takes longer than what
the pages do.

Comments directly above a block: ``<!-- not run: reason -->`` skips it, ``<!-- exit: 2 -->`` expects
that exit status. ``<!-- slow page -->`` anywhere marks the page slow.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest
from forks import Forks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAY_BE_SKIPPED = 6

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>python|console)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    code: str
    line: int
    skipped: bool
    exit_status: int


def blocks_of(text: str) -> list[Block]:
    """Find the blocks of a page that say what they are: python or console."""
    found = []
    for match in _FENCE.finditer(text):
        mark = match["mark"] or ""
        line = text[: match.start("kind")].count("\n") + 1
        status = int(mark.removeprefix("exit: ")) if mark.startswith("exit: ") else 0
        skipped = mark.startswith("not run: ")
        found.append(Block(match["kind"], match["code"], line, skipped, status))
    return found


def commands_of(code: str) -> list[str]:
    """Give the commands of a console block; a backslash at the end joins the next line."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ errata ")]


def start_forks() -> Forks:
    """Start what the blocks are forked from; `errata` is on its path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return Forks({**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"})


def run_block(block: Block, folder: Path, forks: Forks) -> None:
    """Run one block and say where it stands if it fails."""
    if block.kind == "python":
        script = folder / ".block.py"
        script.write_text(block.code)
        calls = [(block.code, partial(forks.script, script, folder))]
    else:
        calls = [
            (command, partial(forks.errata, shlex.split(command)[1:], folder))
            for command in commands_of(block.code)
        ]
    for shown, call in calls:
        done = call()
        named = re.search(r"traceback is in (\S+);", done.stderr)
        fault = Path(named[1]).read_text() if named else ""
        told = "\n".join([shown, done.stdout, done.stderr, fault])
        assert done.returncode == block.exit_status, (
            f"line {block.line}: exit {done.returncode}\n{told}"
        )
        assert "Traceback" not in done.stderr, done.stderr


def run_page(page: Path, folder: Path, idle: SimpleQueue[Forks]) -> None:
    """Run the blocks of a page in order, in one folder."""
    forks = idle.get()
    try:
        for block in blocks_of(page.read_text()):
            if not block.skipped:
                run_block(block, folder, forks)
    finally:
        idle.put(forks)


def _page_params() -> Sequence[object]:
    params = []
    for page in PAGES:
        text = page.read_text()
        if any(not block.skipped for block in blocks_of(text)):
            marks = [pytest.mark.slow] if "<!-- slow page -->" in text else []
            params.append(pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=marks))
    return params


@pytest.fixture(scope="module")
def idle() -> Iterator[SimpleQueue[Forks]]:
    """Two of what blocks are forked from; who takes one puts it back."""
    waiting: SimpleQueue[Forks] = SimpleQueue()
    with start_forks() as one, start_forks() as other:
        waiting.put(one)
        waiting.put(other)
        yield waiting


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    idle: SimpleQueue[Forks],
) -> Iterator[dict[Path, Future[None]]]:
    """Start all chosen pages, two at a time: each runs on one thread, and most of it is waiting."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    pages = [params["page"] for params in chosen if params.get("page") in PAGES]
    with ThreadPoolExecutor(2) as pool:
        yield {
            page: pool.submit(run_page, page, tmp_path_factory.mktemp("page"), idle)
            for page in pages
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", _page_params())
def test_the_blocks_of_a_page_run(page: Path, runs: dict[Path, Future[None]]):
    runs[page].result()


def test_few_blocks_are_left_out():
    skipped = [
        (page.name, block.line)
        for page in PAGES
        for block in blocks_of(page.read_text())
        if block.skipped
    ]
    assert len(skipped) <= MAY_BE_SKIPPED, skipped


def test_no_block_hides_in_an_indent():
    hidden = [
        page.name
        for page in PAGES
        if re.search(r"^[ >]+```(python|console)", page.read_text(), re.M)
    ]
    assert not hidden


def test_blocks_are_found_with_their_marks():
    text = (
        "a\n\n<!-- exit: 2 -->\n```console\n$ errata x \\\n    --y\nout\n```\n\n```text\nz\n```\n"
    )
    (block,) = blocks_of(text)
    assert (block.kind, block.line, block.skipped, block.exit_status) == ("console", 4, False, 2)
    assert commands_of(block.code) == ["errata x      --y"]
    assert blocks_of("<!-- not run: needs a GPU -->\n```python\n1\n```\n")[0].skipped


@pytest.mark.timeout(600)
def test_a_failing_block_is_noticed_and_the_next_finds_nothing_of_it(
    tmp_path: Path, idle: SimpleQueue[Forks]
):
    def block(kind: str, code: str, status: int = 0) -> Block:
        return Block(kind, code, 1, skipped=False, exit_status=status)

    forks = idle.get()
    with pytest.raises(AssertionError, match="line 1: exit 1"):
        run_block(block("python", "import os\nkept = os.kept = 1\n1 / 0\n"), tmp_path, forks)
    fresh = "import os\nassert not hasattr(os, 'kept')\nassert 'kept' not in globals()\n"
    run_block(block("python", fresh), tmp_path, forks)
    with pytest.raises(AssertionError, match="line 1: exit 2"):
        run_block(block("console", "$ errata show nowhere\n"), tmp_path, forks)
    run_block(block("console", "$ errata show nowhere\n", 2), tmp_path, forks)
    ended = block("python", "import os, signal\nos.kill(os.getpid(), signal.SIGALRM)\n")
    with pytest.raises(AssertionError, match="line 1: exit -14"):
        run_block(ended, tmp_path, forks)
    idle.put(forks)

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


@dataclass
class Server:
    """`errata review` in a process of its own."""

    audit: Path
    process: subprocess.Popen[str] = field(init=False)
    address: str = field(init=False)

    def start(self, *flags: str) -> Server:
        command = [
            sys.executable,
            "-m",
            "errata.cli.app",
            "review",
            str(self.audit),
            "--json",
            *flags,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"review at (http://\S+)", line)
            if found:
                self.address = found[1]
                return self
        raise AssertionError(f"the server ended with {self.process.wait()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> dict[str, Any]:
        import json

        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        document: dict[str, Any] = json.loads(out)
        return document


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("review") / "audit"
    command = [sys.executable, "-m", "errata.cli.app", "audit", "digits", "--noise", "uniform:0.2"]
    command += ["--epochs", "2", "--limit", "400", "--threads", "1", "--out", str(out), "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def server(audited: Path, tmp_path: Path) -> Iterator[Server]:
    copy = tmp_path / "audit"
    shutil.copytree(audited, copy)
    made = Server(copy).start("--budget", "40", "--blind", "0")
    yield made
    if made.process.poll() is None:
        made.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    context = browser.new_context()
    opened = context.new_page()
    troubles: list[str] = []
    origin = server.address.split("/?")[0]
    opened.on("request", lambda r: r.url.startswith(origin) or troubles.append(r.url))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.goto(server.address)
    yield opened
    context.close()
    assert troubles == []


def row_of(page: Any) -> str:
    return str(page.get_attribute(".card", "data-row"))


def press(page: Any, *keys: str) -> str:
    """Press keys that decide, wait for the next card, and give the row that was decided."""
    row = row_of(page)
    for key in keys:
        page.keyboard.press(key)
    sync_api.expect(page.locator(".card")).not_to_have_attribute("data-row", row)
    return row


def verdicts(server: Server) -> dict[int, tuple[str, str | None]]:
    from errata.directory import AuditDirectory
    from errata.review.journal import Journal

    audit = str(AuditDirectory.open(server.audit).settings["fingerprint"])
    with Journal(server.audit / "verdicts.sqlite", audit=audit) as journal:
        current = journal.current()
    return {row: (by[""].verdict, by[""].label) for row, by in current.items()}


def test_a_review_by_keyboard_loses_and_doubles_nothing(page: Any, server: Server) -> None:
    assert "token" not in page.url
    expected: dict[str, tuple[str, str | None]] = {}
    expected[press(page, "k")] = ("keep", None)
    expected[press(page, "d")] = ("drop", None)
    expected[press(page, "u")] = ("unsure", None)
    digit = "3" if page.get_attribute(".card", "data-given") != "3" else "4"
    expected[press(page, digit)] = ("relabel", digit)
    typed = "7" if page.get_attribute(".card", "data-given") != "7" else "8"
    page.keyboard.press("/")
    page.keyboard.type(typed)
    expected[press(page, "Enter")] = ("relabel", typed)

    taken = press(page, "k")
    page.keyboard.press("z")
    sync_api.expect(page.locator(".card")).to_have_attribute("data-row", taken)
    page.reload()
    expected[press(page, "d")] = ("drop", None)

    found = {str(row): verdict for row, verdict in verdicts(server).items()}
    assert {row: found.get(row) for row in expected} == expected
    sync_api.expect(page.locator(".progress")).to_contain_text(f"{len(found)} of 40")
    document = server.end()
    assert document["verdicts"] == len(found)
    assert set(document) >= {"shown", "verdicts", "changed", "errors_left", "agreement"}


def test_a_killed_server_comes_back_as_the_same_one(page: Any, server: Server) -> None:
    first = press(page, "k")
    second = row_of(page)
    server.kill()
    page.keyboard.press("d")
    sync_api.expect(page.locator("#status")).to_contain_text("Not saved yet")
    server.start("--budget", "40", "--blind", "0")
    sync_api.expect(page.locator(".card")).not_to_have_attribute("data-row", second, timeout=15_000)
    found = verdicts(server)
    assert found == {int(first): ("keep", None), int(second): ("drop", None)}


def test_a_review_by_touch_fits_a_phone(browser: Any, server: Server) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 700}, has_touch=True)
    page = context.new_page()
    page.goto(server.address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    row = row_of(page)
    page.get_by_role("button", name="Drop").tap()
    sync_api.expect(page.locator(".card")).not_to_have_attribute("data-row", row)
    context.close()
    assert verdicts(server) == {int(row): ("drop", None)}


def test_one_verdict_needs_no_script(browser: Any, server: Server) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.address)
    row = row_of(page)
    page.get_by_role("button", name="Unsure").click()
    sync_api.expect(page.locator(".card")).not_to_have_attribute("data-row", row)
    page.get_by_role("button", name="Undo").click()
    sync_api.expect(page.locator(".card")).to_have_attribute("data-row", row)
    context.close()
    assert verdicts(server) == {}

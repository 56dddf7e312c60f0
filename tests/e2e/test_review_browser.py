from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from review_server import ReviewServer, journal_of

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.slow

FLAGS = ("--budget", "12", "--blind", "0")


@pytest.fixture
def server(audited: Path, tmp_path: Path) -> Iterator[ReviewServer]:
    made = ReviewServer(Path(shutil.copytree(audited, tmp_path / "audit")), *FLAGS).start()
    yield made
    made.kill()


@pytest.fixture
def page(browser: Any, server: ReviewServer) -> Iterator[Any]:
    context = browser.new_context()
    opened = context.new_page()
    troubles: list[str] = []
    origin = server.origin
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


def verdicts(server: ReviewServer) -> dict[int, tuple[str, str | None]]:
    """Give the verdicts that stand, of a review where none came twice."""
    lines = journal_of(server.audit)
    assert len({line.uid for line in lines}) == len(lines)
    found: dict[int, list[tuple[str, str | None]]] = {}
    for line in lines:
        if line.verdict == "undo":
            found[line.row].pop()
        else:
            found.setdefault(line.row, []).append((line.verdict, line.label))
    return {row: stack[-1] for row, stack in found.items() if stack}


def decide(page: Any, act: Callable[[], None]) -> str:
    """Decide the card on the page, wait for the next one or the end, and give its row."""
    row = row_of(page)
    act()
    page.wait_for_selector(f".done, .card:not([data-row='{row}'])")
    return row


def test_a_review_by_keyboard_loses_and_doubles_nothing(page: Any, server: ReviewServer) -> None:
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
    sync_api.expect(page.locator(".progress")).to_contain_text(f"{len(found)} of 12")
    document = server.end()
    assert document["verdicts"] == len(found)
    assert set(document) >= {"shown", "verdicts", "changed", "errors_left", "agreement"}


def test_a_killed_server_comes_back_as_the_same_one(page: Any, server: ReviewServer) -> None:
    first = press(page, "k")
    second = row_of(page)
    server.kill()
    page.keyboard.press("d")
    sync_api.expect(page.locator("#status")).to_contain_text("Not saved yet")
    server.start()
    sync_api.expect(page.locator(".card")).not_to_have_attribute("data-row", second, timeout=15_000)
    found = verdicts(server)
    assert found == {int(first): ("keep", None), int(second): ("drop", None)}


def test_a_whole_review_by_mouse_ends_with_what_was_clicked(
    page: Any, server: ReviewServer
) -> None:
    def typed(name: str) -> None:
        page.get_by_label("Part of a class name").fill(name)
        page.get_by_role("button", name="Relabel", exact=True).click()

    expected: dict[int, tuple[str, str | None]] = {}
    for turn in range(12):
        given = page.get_attribute(".card", "data-given")
        other = "3" if given != "3" else "4"
        act, meant = {
            0: (page.locator(".keep").click, ("keep", None)),
            1: (page.locator(f".choices button[value='{other}']").click, ("relabel", other)),
            2: (page.get_by_role("button", name="Drop").click, ("drop", None)),
            3: (page.get_by_role("button", name="Unsure").click, ("unsure", None)),
            4: (lambda name=other: typed(name), ("relabel", other)),
        }[turn % 5]
        expected[int(decide(page, act))] = meant
    sync_api.expect(page.locator("h1")).to_have_text("Done")
    assert verdicts(server) == expected
    assert len(journal_of(server.audit)) == 12

    # The last one is taken back from the page at the end, and given again.
    last = list(expected)[-1]
    page.get_by_role("button", name="Undo").click()
    sync_api.expect(page.locator(".card")).to_have_attribute("data-row", str(last))
    assert last not in verdicts(server)
    decide(page, page.locator(".keep").click)
    assert verdicts(server) == expected | {last: ("keep", None)}
    assert server.end()["verdicts"] == 12


def test_a_whole_review_by_touch_fits_a_phone(browser: Any, server: ReviewServer) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server.address)
    expected: dict[int, tuple[str, str | None]] = {}
    for turn in range(12):
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        # A finger needs 24 pixels at the least (WCAG 2.2, 2.5.8).
        sizes = page.locator("main button:visible").evaluate_all(
            "all => all.map((one) => Math.min(one.clientWidth, one.clientHeight))"
        )
        assert min(sizes) >= 24
        name = ("Keep", "Drop", "Unsure")[turn % 3]
        button = page.get_by_role("button", name=name)
        expected[int(decide(page, button.tap))] = (name.lower(), None)
    sync_api.expect(page.locator("h1")).to_have_text("Done")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    assert verdicts(server) == expected


def test_a_reload_in_the_middle_keeps_what_was_on_its_way(page: Any, server: ReviewServer) -> None:
    first = press(page, "k")
    waiting = row_of(page)
    page.reload()
    assert row_of(page) == waiting
    server.kill()
    page.keyboard.press("d")
    sync_api.expect(page.locator("#status")).to_contain_text("Not saved yet")
    server.start()
    page.reload()
    sync_api.expect(page.locator(".card")).not_to_have_attribute("data-row", waiting)
    assert verdicts(server) == {int(first): ("keep", None), int(waiting): ("drop", None)}
    assert len(journal_of(server.audit)) == 2


def test_two_tabs_lose_and_double_nothing(page: Any, server: ReviewServer) -> None:
    other = page.context.new_page()
    other.goto(server.origin)
    shared = row_of(page)
    assert row_of(other) == shared
    # Both judge the card that both show; the later word stands, and both are on disk.
    assert press(page, "k") == shared
    assert press(other, "d") == shared
    assert verdicts(server) == {int(shared): ("drop", None)}
    expected = {int(shared): ("drop", None)}
    for tab, key, verdict in [(page, "u", "unsure"), (other, "k", "keep")] * 3:
        tab.reload()
        expected[int(press(tab, key))] = (verdict, None)
    assert verdicts(server) == expected
    lines = journal_of(server.audit)
    assert [line.row for line in lines].count(int(shared)) == 2
    assert len(lines) == 8


def test_one_verdict_needs_no_script(browser: Any, server: ReviewServer) -> None:
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

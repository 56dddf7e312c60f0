from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from review_server import ReviewServer, journal_of

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.slow


@pytest.fixture
def server(audited: Path, tmp_path: Path) -> Iterator[ReviewServer]:
    made = ReviewServer(Path(shutil.copytree(audited, tmp_path / "audit"))).start()
    yield made
    made.kill()


def open_grid(browser: Any, server: ReviewServer, **how: Any) -> Any:
    page = browser.new_context(**how).new_page()
    page.goto(server.address)
    page.get_by_role("link", name="Many at once").click()
    # A server that is killed before the page has its scripts is no test of them.
    page.wait_for_url("**/grid", wait_until="load")
    return page


def ticked(page: Any) -> list[int]:
    rows = page.locator(".cells input").evaluate_all("all => all.map((one) => Number(one.value))")
    assert len(rows) >= 2
    return [int(row) for row in rows]


def lines_of(server: ReviewServer) -> list[tuple[int, str, str | None]]:
    lines = journal_of(server.audit)
    assert len({line.uid for line in lines}) == len(lines)
    return [(line.row, line.verdict, line.label) for line in lines]


def test_one_key_relabels_a_kind_but_for_what_was_taken_out(
    browser: Any, server: ReviewServer
) -> None:
    page = open_grid(browser, server)
    rows, proposed = ticked(page), page.locator("h1 .proposed").inner_text()
    for key in ("ArrowRight", "ArrowRight", "x"):
        page.keyboard.press(key)
    sync_api.expect(page.locator(".cells input").nth(1)).not_to_be_checked()
    sync_api.expect(page.locator(".take .count")).to_have_text(str(len(rows) - 1))
    page.keyboard.press("p")
    sync_api.expect(page.locator("#status")).to_contain_text(f"Saved: {len(rows) - 1}")
    kept = [rows[0], *rows[2:]]
    assert lines_of(server) == [(row, "relabel", proposed) for row in kept]
    # What was taken out does not come again at once, but is still to be judged.
    assert not set(rows) & set(ticked(page))

    page.keyboard.press("z")
    sync_api.expect(page.locator("#status")).to_contain_text("taken back")
    assert lines_of(server)[len(kept) :] == [(row, "undo", None) for row in kept]
    assert server.end()["verdicts"] == 0


def test_a_grid_needs_no_script(browser: Any, server: ReviewServer) -> None:
    page = open_grid(browser, server, java_script_enabled=False)
    rows = ticked(page)
    page.locator(".cells input").first.uncheck()
    page.get_by_role("button", name="Keep").click()
    page.wait_for_load_state()
    assert lines_of(server) == [(row, "keep", None) for row in rows[1:]]
    page.get_by_role("button", name="Undo").click()
    page.wait_for_load_state()
    assert lines_of(server)[len(rows) - 1 :] == [(row, "undo", None) for row in rows[1:]]
    page.get_by_role("link", name="One by one").click()
    assert page.locator(".card").count() == 1


def test_a_killed_server_has_all_verdicts_of_a_grid_or_none(
    browser: Any, server: ReviewServer
) -> None:
    page = open_grid(browser, server, has_touch=True, viewport={"width": 390, "height": 844})
    rows = ticked(page)
    server.kill()
    page.get_by_role("button", name="Drop").tap()
    sync_api.expect(page.locator("#status")).to_contain_text("Not saved yet")
    assert lines_of(server) == []
    server.start()
    sync_api.expect(page.locator("#status")).to_contain_text("Saved", timeout=15_000)
    assert lines_of(server) == [(row, "drop", None) for row in rows]


def test_a_kind_is_chosen_by_its_link(browser: Any, server: ReviewServer) -> None:
    page = open_grid(browser, server)
    link = page.locator(".kinds a").first
    given, proposed = (link.locator(f".{name}").inner_text() for name in ("given", "proposed"))
    link.click()
    sync_api.expect(page.locator("h1")).to_have_text(f"Are all of these {proposed}, not {given}?")

"""What screen readers and other aids meet: axe-core in the page finds no violation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from review_server import ReviewServer, audit_digits

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = pytest.mark.slow

DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS = [
    {"color_scheme": scheme, **size}
    for scheme, size in product(("light", "dark"), (DESKTOP, PHONE))
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewServer]:
    audit = audit_digits(tmp_path_factory.mktemp("axe") / "audit")
    made = ReviewServer(audit, "--reviewer", "ada", "--budget", "4", "--blind", "0.5").start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def look(browser: Any, server: ReviewServer) -> Callable[..., None]:
    """Open a page in each of the four looks and ask axe what it finds."""
    known = browser.new_context()
    known.new_page().goto(server.address)

    def ask(
        path: str, prepare: Callable[[Any], object] = lambda page: None, *, enter: bool = True
    ) -> None:
        found = []
        for options in LOOKS:
            state = known.storage_state() if enter else None
            context = browser.new_context(**options, storage_state=state)
            page = context.new_page()
            page.goto(server.origin + path)
            prepare(page)
            told = axe.Axe().run(page).response
            found += [
                (options["color_scheme"], options["viewport"]["width"], one["id"], node["html"])
                for one in told["violations"]
                for node in one["nodes"]
            ]
            # Where no rule applied, axe did not see the page.
            assert len(told["passes"]) > 5
            context.close()
        assert found == []

    return ask


def test_a_card(look: Callable[..., None]) -> None:
    look("/", lambda page: page.wait_for_selector(".card"))


def test_choosing_by_a_part_of_a_name(look: Callable[..., None]) -> None:
    def type_in(page: Any) -> None:
        page.locator("#pick").press_sequentially("1")
        page.wait_for_selector("#matches li")

    look("/", type_in)


def test_the_grid_with_a_row_taken_out_and_nothing_ticked(look: Callable[..., None]) -> None:
    look("/grid", lambda page: page.locator(".cells input").first.uncheck())

    def none(page: Any) -> None:
        for tick in page.locator(".cells input").all():
            tick.uncheck()

    look("/grid", none)


def test_a_request_that_is_refused(look: Callable[..., None]) -> None:
    look("/", enter=False)


def test_a_verdict_that_is_not_saved_yet_and_the_next_card(
    look: Callable[..., None], server: ReviewServer
) -> None:
    def refuse(page: Any) -> None:
        page.route("**/api/verdicts", lambda route: route.abort())
        page.get_by_role("button", name="Unsure").click()
        page.wait_for_selector(".status.bad")

    look("/", refuse)


def test_the_end_and_the_empty_grid(look: Callable[..., None], server: ReviewServer) -> None:
    def finish(page: Any) -> None:
        while page.locator(".card").count():
            row = page.get_attribute(".card", "data-row")
            page.get_by_role("button", name="Drop").click()
            page.wait_for_selector(f".done, .card:not([data-row='{row}'])")

    look("/", finish)
    look("/grid", lambda page: page.wait_for_selector(".done"))

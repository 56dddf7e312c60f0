from __future__ import annotations

import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")

with warnings.catch_warnings():
    # Newer versions of the test client ask for another package than httpx, which works as well.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from errata.directory import AuditDirectory
from errata.errors import OutputError
from errata.review.journal import Journal, Verdict
from errata.review.queue import Card
from errata.review.server import make_app

from .fake_audit import make_audit, picture

BASE = "http://127.0.0.1:8000"
ORIGIN = {"Origin": BASE}
ROWS = 60
EVIL = "<script>alert(1)</script>"


class WorstFirst:
    """A queue with every fifth card blind and every seventh a control."""

    def __init__(self, suspicion: np.ndarray, budget: int | None = None) -> None:
        self.order = np.argsort(-suspicion, kind="stable").tolist()
        self.budget = budget

    def next(self, current: Mapping[int, Mapping[str, Verdict]]) -> Card | None:
        mine = {row for row, by in current.items() if "ada" in by}
        if self.budget is not None and len(mine) >= self.budget:
            return None
        left = [(i, row) for i, row in enumerate(self.order) if row not in mine]
        if not left:
            return None
        place, row = left[0]
        return Card(row=row, blind=place % 5 == 4, control=place % 7 == 6, stratum="flagged")


@dataclass
class Desk:
    """A server, its audit and a browser that has been let in."""

    audit: AuditDirectory
    journal: Journal
    client: TestClient
    order: list[int]
    restart: Callable[..., TestClient]

    def post(self, fields: Any, **more: Any) -> Any:
        return self.client.post("/api/verdicts", json=fields, headers=ORIGIN, **more)

    def judge(self, verdict: str = "keep", **more: Any) -> int:
        card = self.client.get("/api/card").json()
        uid = f"u{self.journal.count()}"
        self.post({"uid": uid, "row": card["row"], "verdict": verdict, **more}).raise_for_status()
        return int(card["row"])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> AuditDirectory:
    return AuditDirectory.open(make_audit(tmp_path_factory.mktemp("usual"), ROWS, epochs=4))


@pytest.fixture
def build(tmp_path: Path, usual: AuditDirectory) -> Iterator[Callable[..., Desk]]:
    opened: list[Journal] = []

    def make(
        *,
        budget: int | None = None,
        images: Callable[[int], bytes] | None = picture,
        enter: bool = True,
        near: np.ndarray | None = None,
        **options: Any,
    ) -> Desk:
        audit = usual
        if options:
            audit = AuditDirectory.open(make_audit(tmp_path, ROWS, epochs=4, **options))
        journal = Journal(tmp_path / "verdicts.sqlite", audit="a")
        opened.append(journal)
        queue = WorstFirst(audit.issues.suspicion[audit.issues.places], budget)

        def start(host: str = "127.0.0.1") -> TestClient:
            app = make_app(
                audit,
                journal,
                queue,
                reviewer="ada",
                token="t0ken",
                host=host,
                port=8000,
                images=images,
                budget=budget,
                secret="secret",
                near=near,
            )
            return TestClient(app, base_url=BASE, follow_redirects=False)

        desk = Desk(audit, journal, start(), queue.order, start)
        if enter:
            assert desk.client.get("/?token=t0ken").status_code == 303
        return desk

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def desk(build: Callable[..., Desk]) -> Desk:
    return build()


def test_a_card_has_exactly_the_keys_of_the_contract(desk: Desk) -> None:
    card = desk.client.get("/api/card").json()
    assert list(card) == [
        *("row", "id", "given", "proposed", "p_wrong", "tier", "reasons"),
        *("blind", "neighbours", "image", "progress"),
    ]
    record = desk.audit.record(desk.order[0]).as_json()
    assert {key: card[key] for key in ("row", "id", "given", "proposed", "p_wrong", "reasons")} == {
        key: record[key] for key in ("row", "id", "given", "proposed", "p_wrong", "reasons")
    }
    assert card["progress"] == {"shown": 0, "budget": None, "minutes": 0.0, "errors_left": None}
    assert desk.client.get(card["image"]).content == picture(card["row"])


def test_a_blind_card_tells_nothing_of_the_proposal(desk: Desk) -> None:
    for _ in range(4):
        desk.judge()
    card = desk.client.get("/api/card").json()
    assert card["blind"]
    assert card["given"] is not None
    assert [card[key] for key in ("proposed", "p_wrong", "tier", "reasons")] == [None] * 4
    html = desk.client.get("/card").text
    for hint in ("Relabel as", "looks more like", "suspected", "<svg", "probability"):
        assert hint not in html
    desk.judge()
    assert desk.journal.all()[-1].blind
    assert desk.journal.all()[-1].proposed is None


def test_a_verdict_is_on_disk_when_the_answer_comes(desk: Desk) -> None:
    card = desk.client.get("/api/card").json()
    sent = {"uid": "a", "row": card["row"], "verdict": "relabel", "label": "puma", "seconds": 2.5}
    sent["label"] = desk.audit.ledger.classes[0]
    answer = desk.post(sent)
    assert answer.json() == {"saved": True, "uid": "a"}
    with Journal(desk.journal.path, audit="a") as other:
        [found] = other.all()
    assert (found.row, found.id, found.verdict, found.label) == (
        card["row"],
        card["id"],
        "relabel",
        sent["label"],
    )
    assert (found.seconds, found.reviewer, found.blind) == (2.5, "ada", False)
    assert found.proposed == card["proposed"]


def test_a_repeated_verdict_counts_once_even_after_a_restart(desk: Desk) -> None:
    row = desk.client.get("/api/card").json()["row"]
    sent = {"uid": "a", "row": row, "verdict": "keep"}
    assert desk.post(sent).json() == desk.post(sent).json()
    again = desk.restart()
    again.cookies = desk.client.cookies
    assert again.post("/api/verdicts", json=sent, headers=ORIGIN).json()["saved"] is True
    assert desk.journal.count() == 1


def test_a_restarted_server_recalls_how_a_card_was_shown(desk: Desk) -> None:
    for _ in range(4):
        desk.judge()
    row = desk.client.get("/api/card").json()["row"]
    again = desk.restart()
    again.cookies = desk.client.cookies
    sent = {"uid": "late", "row": row, "verdict": "keep"}
    assert again.post("/api/verdicts", json=sent, headers=ORIGIN).status_code == 200
    assert desk.journal.all()[-1].blind


def test_the_id_of_another_verdict_is_refused(desk: Desk) -> None:
    assert desk.post({"uid": "a", "row": 1, "verdict": "keep"}).status_code == 200
    assert desk.post({"uid": "a", "row": 2, "verdict": "keep"}).status_code == 400
    assert desk.post({"uid": "a", "row": 1, "verdict": "drop"}).status_code == 400
    desk.journal.add(Verdict("b", 1, "x", "keep", reviewer="bob"))
    assert desk.post({"uid": "b", "row": 1, "verdict": "keep"}).status_code == 400
    assert desk.journal.count() == 2


def test_a_row_that_a_script_chose_is_no_control(desk: Desk) -> None:
    chosen = desk.order[6]
    desk.post({"uid": "a", "row": chosen, "verdict": "keep"})
    assert not desk.journal.all()[0].control


def test_the_errors_left_are_told_after_a_random_card(desk: Desk) -> None:
    for _ in range(7):
        assert desk.client.get("/api/card").json()["progress"]["errors_left"] is None
        desk.judge()
    left = desk.client.get("/api/card").json()["progress"]["errors_left"]
    assert set(left) == {"estimate", "low", "high"}


def test_undo_takes_the_last_verdict_back(desk: Desk) -> None:
    first = desk.judge()
    second = desk.judge("drop")
    assert set(desk.journal.current()) == {first, second}
    desk.post({"uid": "z", "row": second, "verdict": "undo"})
    assert set(desk.journal.current()) == {first}
    assert f'data-row="{second}"' in desk.client.get(f"/card?row={second}").text
    assert f'name="row" value="{first}"' in desk.client.get("/card").text


def test_progress_and_the_summary_count_this_reviewer(build: Callable[..., Desk]) -> None:
    desk = build(budget=3)
    desk.judge("keep", seconds=30)
    desk.judge("drop", seconds=60)
    progress = desk.client.get("/api/card").json()["progress"]
    assert (progress["shown"], progress["budget"], progress["minutes"]) == (2, 3, 1.5)
    assert progress["errors_left"] is None
    desk.judge("unsure")
    assert desk.client.get("/api/card").json() == {"done": True}
    assert "Done" in desk.client.get("/").text
    summary = desk.client.app.state.desk.summary()  # type: ignore[attr-defined]
    assert (summary["shown"], summary["verdicts"], summary["changed"]) == (3, 3, 1)
    json.dumps(summary, allow_nan=False)


def test_relabelling_a_row_as_what_it_is_changes_nothing(desk: Desk) -> None:
    given = desk.client.get("/api/card").json()["given"]
    desk.judge("relabel", label=given)
    assert desk.client.app.state.desk.summary()["changed"] == 0  # type: ignore[attr-defined]


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(build: Callable[..., Desk]) -> None:
    desk = build(enter=False)
    answer = desk.client.get("/?token=t0ken")
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "t0ken" not in cookie


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?token=forged",
        "/?token=",
        "/card",
        "/api/card",
        "/image/0",
        "/static/review.js",
        "/grid",
        "/grid/part",
        "/progress",
        "/x",
    ],
)
def test_nothing_is_served_without_the_cookie(build: Callable[..., Desk], path: str) -> None:
    desk = build(enter=False)
    assert desk.client.get(path).status_code == 401
    desk.client.cookies.set("errata-review-8000", "forged")
    assert desk.client.get(path).status_code == 401


def test_a_verdict_without_the_cookie_is_refused(build: Callable[..., Desk]) -> None:
    desk = build(enter=False)
    assert desk.post({"uid": "a", "row": 1, "verdict": "keep"}).status_code == 401
    fields = {"uid": "a", "rows": [1, 2], "verdict": "keep"}
    assert desk.client.post("/api/grid", json=fields, headers=ORIGIN).status_code == 401
    assert desk.journal.count() == 0


def test_the_token_works_once(desk: Desk) -> None:
    desk.client.cookies.clear()
    assert desk.client.get("/?token=t0ken").status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/?token=t0ken", "/api/card", "/image/0", "/static/review.js"]
)
def test_a_foreign_host_is_refused(desk: Desk, path: str) -> None:
    assert desk.client.get(path, headers={"Host": "evil.example:8000"}).status_code == 403
    assert desk.client.get(path, headers={"Host": "127.0.0.1:8001"}).status_code == 403


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:8001"])
@pytest.mark.parametrize("path", ["/", "/api/verdicts", "/grid", "/api/grid"])
def test_posts_of_other_pages_are_refused(desk: Desk, path: str, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    answer = desk.client.post(path, json={"uid": "a", "row": 1, "verdict": "keep"}, headers=headers)
    assert answer.status_code == 403
    assert desk.journal.count() == 0


def test_a_foreign_page_may_not_even_read(desk: Desk) -> None:
    headers = {"Origin": "http://evil.example"}
    assert desk.client.get("/api/card", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/image/",
        "/image/../settings.toml",
        "/image/..%2fsettings.toml",
        "/image/%2e%2e/%2e%2e/etc/passwd",
        "/image/0%2f..%2f1",
        "/image/-1",
        "/image/60",
        "/image/99999999999999999999",
        "/image/0.png",
        "/image/%00",
        "/image/%ff",
        "/static/",
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e%2fserver.py",
        "/static/page.html",
        "/grid?near=60",
        "/grid?near=..%2f1",
        "/grid?given=5&proposed=0",
        "/grid?given=0&proposed=-1",
        "/grid/part?given=../0&proposed=0",
        "/grid/part?given=0&proposed=%ff",
        "/grid/..%2fsettings.toml",
        "/grid?after=60",
        "/progress?row=60",
        "/progress?row=..%2f1",
        "/?row=../1",
        "/card?row=-1",
        "/card?row=%ff",
        "/verdicts.sqlite",
        "/settings.toml",
    ],
)
def test_only_rows_and_known_files_are_served(desk: Desk, path: str) -> None:
    answer = desk.client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert "fingerprint" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_do_nothing(desk: Desk, method: str) -> None:
    assert desk.client.request(method, "/api/verdicts", headers=ORIGIN).status_code == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"uid": "a", "row": ROWS, "verdict": "keep"}, 404),
        ({"uid": "a", "row": -1, "verdict": "keep"}, 404),
        ({"uid": "a", "row": "../0", "verdict": "keep"}, 400),
        ({"uid": "a", "row": 0, "verdict": "relabel", "label": "unicorn"}, 400),
        ({"uid": "a", "row": 0, "verdict": "erase"}, 400),
        ({"row": 0, "verdict": "keep"}, 400),
        ([1], 400),
    ],
)
def test_a_bad_verdict_is_explained_and_not_written(desk: Desk, fields: Any, status: int) -> None:
    answer = desk.post(fields)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert desk.journal.count() == 0


def test_a_body_of_ten_megabytes_is_refused_with_and_without_its_length(desk: Desk) -> None:
    body = b"x" * 10_000_000
    assert desk.client.post("/api/verdicts", content=body, headers=ORIGIN).status_code == 413
    parts = (body[i : i + 65_536] for i in range(0, len(body), 65_536))
    assert desk.client.post("/api/verdicts", content=parts, headers=ORIGIN).status_code == 413
    for path in ("/", "/grid", "/api/grid"):
        assert desk.client.post(path, content=body, headers=ORIGIN).status_code == 413


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"", b"{", b"[" * 50_000])
@pytest.mark.parametrize("path", ["/", "/api/verdicts", "/grid", "/api/grid"])
def test_a_body_that_cannot_be_read_is_refused(desk: Desk, path: str, body: bytes) -> None:
    assert desk.client.post(path, content=body, headers=ORIGIN).status_code == 400


def test_a_form_without_a_script_records_one_verdict(desk: Desk) -> None:
    form = {"uid": "form", "row": str(desk.order[0]), "verdict": "keep"}
    answer = desk.client.post("/", data=form, headers=ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert desk.journal.all()[0].row == desk.order[0]
    undo = form | {"uid": "back", "verdict": "undo"}
    answer = desk.client.post("/", data=undo, headers=ORIGIN)
    assert answer.headers["location"] == f"/?row={desk.order[0]}"
    assert desk.client.get(answer.headers["location"]).status_code == 200
    assert not desk.journal.current()


def test_names_ids_and_reasons_are_escaped(build: Callable[..., Desk]) -> None:
    names = [f"{EVIL}{i}" for i in range(5)]
    ids = [f'{EVIL}"onerror="x{i}' for i in range(ROWS)]
    desk = build(names=names, ids=ids)
    html = desk.client.get("/").text
    assert "&lt;script&gt;" in html
    assert EVIL not in html
    assert '"onerror="' not in html
    first = desk.judge("relabel", label=names[0])
    assert EVIL not in desk.client.get(f"/card?row={first}").text
    grid = desk.client.get("/grid").text
    assert "&lt;script&gt;" in grid
    assert EVIL not in grid
    assert '"onerror="' not in grid


def test_every_answer_carries_the_policy(desk: Desk) -> None:
    for path in (
        "/",
        "/card",
        "/grid",
        "/grid/part",
        "/progress",
        "/api/card",
        "/image/0",
        "/image/x",
        "/static/review.css",
        "/nothing",
    ):
        headers = desk.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    html = desk.client.get("/").text
    assert " style=" not in html
    assert " onclick=" not in html
    assert "http://" not in html


def test_a_picture_that_vanished_is_told_and_ends_nothing(build: Callable[..., Desk]) -> None:
    def show(row: int) -> bytes:
        if row == 1:
            raise OSError("gone")
        return b"" if row == 2 else b"no picture at all" if row == 3 else picture(row)

    desk = build(images=show)
    found = [desk.client.get(f"/image/{row}").status_code for row in range(5)]
    assert found == [200, 404, 404, 404, 200]
    assert desk.client.get("/api/card").status_code == 200


def test_a_review_without_pictures_still_asks(build: Callable[..., Desk]) -> None:
    desk = build(images=None)
    assert desk.client.get("/image/0").status_code == 404
    html = desk.client.get("/").text
    assert "No picture" in html
    assert "<img" not in html


def test_many_classes_have_a_short_list_and_a_name_to_type(build: Callable[..., Desk]) -> None:
    desk = build(classes=40)
    card = desk.client.get("/api/card").json()
    html = desk.client.get("/").text
    assert html.count("<option") == 40
    keys = [str(i) for i in range(1, 10)]
    found = [key for key in keys if f'data-key="{key}"' in html]
    assert found == keys[: len(found)]
    assert f'value="{card["proposed"]}" data-key="1"' in html


def test_a_journal_that_cannot_be_written_is_said_and_can_be_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_: Verdict) -> bool:
        raise OutputError("journal is locked by another process", hint="close it")

    sent = {"uid": "a", "row": 1, "verdict": "keep"}
    with monkeypatch.context() as patch:
        patch.setattr(desk.journal, "add", locked)
        answer = desk.post(sent)
    assert (answer.status_code, answer.json()["hint"]) == (503, "close it")
    assert desk.post(sent).status_code == 200
    assert desk.journal.count() == 1


def rows_of(html: str) -> list[int]:
    return [int(row) for row in re.findall(r'name="row" value="(\d+)" checked', html)]


def test_a_grid_is_judged_with_one_request_but_for_what_is_taken_out(desk: Desk) -> None:
    shown = rows_of(desk.client.get("/grid").text)
    assert len(shown) > 2
    fields = {"uid": "g", "rows": shown[1:], "verdict": "drop", "seconds": 6.0}
    for _ in range(2):
        answer = desk.client.post("/api/grid", json=fields, headers=ORIGIN)
        assert answer.json() == {"saved": True, "uid": "g"}
    assert [(v.row, v.verdict, v.reviewer) for v in desk.journal.all()] == [
        (row, "drop", "ada") for row in shown[1:]
    ]
    assert not set(rows_of(desk.client.get("/grid").text)) & set(shown[1:])


def test_a_grid_as_a_form_comes_back_to_its_kind_and_can_be_taken_back(desk: Desk) -> None:
    html = desk.client.get("/grid").text
    kind = {
        name: re.findall(rf'name="{name}" value="(\d+)"', html)[-1]
        for name in ("given", "proposed", "after")
    }
    rows = rows_of(html)
    form = {"uid": "g", "row": [str(row) for row in rows], "verdict": "keep", **kind}
    answer = desk.client.post("/grid", data=form, headers=ORIGIN)
    assert kind["after"] == str(rows[-1])
    here = f"/grid?given={kind['given']}&proposed={kind['proposed']}&after={kind['after']}"
    assert (answer.status_code, answer.headers["location"]) == (303, here)
    assert {row: by["ada"].verdict for row, by in desk.journal.current().items()} == dict.fromkeys(
        rows, "keep"
    )
    undo = re.findall(r'<form[^>]*class="undo">.*?</form>', desk.client.get(here).text, re.S)[0]
    assert sorted(int(row) for row in re.findall(r'name="row" value="(\d+)"', undo)) == sorted(rows)
    kept = {"given": kind["given"], "proposed": "../x", "after": ""}
    desk.client.post("/grid", data=form | kept | {"uid": "h", "verdict": "undo"}, headers=ORIGIN)
    assert not desk.journal.current()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"rows": []}, 400),
        ({"rows": [1, ROWS]}, 404),
        ({"rows": [1, "../2"]}, 400),
        ({"verdict": "relabel", "label": "unicorn"}, 400),
        ({"verdict": "erase"}, 400),
        ({"path": "../settings.toml"}, 400),
    ],
)
def test_a_bad_grid_is_explained_and_no_part_of_it_written(
    desk: Desk, fields: dict[str, Any], status: int
) -> None:
    sent = {"uid": "a", "rows": [1, 2], "verdict": "keep"} | fields
    answer = desk.client.post("/api/grid", json=sent, headers=ORIGIN)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert desk.journal.count() == 0


def test_a_grid_holds_no_more_rows_than_the_budget(build: Callable[..., Desk]) -> None:
    desk = build(budget=2)
    assert len(rows_of(desk.client.get("/grid").text)) == 2
    desk.judge()
    desk.judge()
    assert "Nothing to show at once" in desk.client.get("/grid").text


def test_near_duplicates_are_named_on_a_card_and_judged_together(
    build: Callable[..., Desk],
) -> None:
    near = np.arange(ROWS)
    desk = build(near=near)
    shown, other = desk.order[0], desk.order[30]
    near[other] = near[shown]
    html = desk.client.get("/").text
    assert f'href="/grid?near={shown}"' in html
    assert f'src="/image/{other}?' in html
    assert rows_of(desk.client.get(f"/grid?near={shown}").text) == sorted([shown, other])
    given = desk.audit.ledger.given
    label = desk.audit.ledger.classes[int(given[shown])]
    form = {"uid": "n", "row": [str(shown), str(other)], "label": label}
    answer = desk.client.post("/grid", data=form, headers=ORIGIN)
    assert answer.headers["location"] == "/"
    found = {row: by["ada"].verdict for row, by in desk.journal.current().items()}
    same = given[other] == given[shown]
    assert found == {shown: "keep", other: "keep" if same else "relabel"}


def test_the_picture_of_the_next_card_is_named_ahead(desk: Desk) -> None:
    shown, following = desk.order[:2]
    html = desk.client.get(f"/progress?row={shown}").text
    assert f'data-following="/image/{following}?' in html
    assert "data-following" not in desk.client.get("/progress").text


def test_the_errors_left_come_after_the_card_that_changed_them(desk: Desk) -> None:
    for row in desk.order[:6]:
        desk.post({"uid": f"u{row}", "row": row, "verdict": "drop"}).raise_for_status()
    # Suspects alone say nothing of the rest; the seventh card is a control.
    assert "known after the first random cards" in desk.client.get("/progress").text
    control = int(re.findall(r'data-row="(\d+)"', desk.client.get("/card").text)[0])
    desk.post({"uid": "c", "row": control, "verdict": "drop"}).raise_for_status()
    before = desk.client.get("/card").text
    assert desk.journal.all()[-1].control
    after = desk.client.get("/progress").text
    assert re.findall(r"about <b>.*left", before) != re.findall(r"about <b>.*left", after)
    assert re.search(r"about <b>\d+</b> errors left", desk.client.get("/card").text)


def test_a_blind_card_names_no_near_duplicates(build: Callable[..., Desk]) -> None:
    near = np.zeros(ROWS, dtype=np.int64)
    desk = build(near=near)
    for _ in range(4):
        desk.judge()
    assert desk.client.get("/api/card").json()["blind"]
    assert "/grid?near=" not in desk.client.get("/").text


def test_an_audit_that_moved_saves_nothing_and_says_so(desk: Desk, tmp_path: Path) -> None:
    desk.judge()
    (tmp_path / "verdicts.sqlite").rename(tmp_path / "moved.sqlite")
    for path, fields in (
        ("/api/verdicts", {"uid": "a", "row": 1, "verdict": "keep"}),
        ("/api/grid", {"uid": "a", "rows": [1, 2], "verdict": "keep"}),
    ):
        answer = desk.client.post(path, json=fields, headers=ORIGIN)
        assert answer.status_code == 503
        assert "moved" in answer.json()["error"]
        assert answer.json()["hint"]
    assert not (tmp_path / "verdicts.sqlite").exists()
    (tmp_path / "moved.sqlite").rename(tmp_path / "verdicts.sqlite")
    desk.post({"uid": "a", "row": 1, "verdict": "keep"}).raise_for_status()
    assert desk.journal.count() == 2


def test_a_database_that_another_process_holds_is_said_and_nothing_is_lost(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errata.review.journal.WAIT_S", 0.05)
    monkeypatch.setattr("errata.review.batches.WAIT_S", 0.05)
    other = sqlite3.connect(tmp_path / "verdicts.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    one = {"uid": "a", "row": 1, "verdict": "keep"}
    many = {"uid": "b", "rows": [2, 3], "verdict": "keep"}
    for path, fields in (("/api/verdicts", one), ("/api/grid", many)):
        answer = desk.client.post(path, json=fields, headers=ORIGIN)
        assert (answer.status_code, "locked" in answer.json()["error"]) == (503, True)
    # Reading goes on meanwhile.
    assert desk.client.get("/api/card").status_code == 200
    other.close()
    for path, fields in (("/api/verdicts", one), ("/api/grid", many)):
        assert desk.client.post(path, json=fields, headers=ORIGIN).status_code == 200
    assert [v.row for v in desk.journal.all()] == [1, 2, 3]


def test_a_server_that_nobody_has_asked_has_shown_nothing(build: Callable[..., Desk]) -> None:
    desk = build(enter=False)
    assert desk.client.app.state.desk.summary()["shown"] == 0


def test_a_card_that_is_no_suspect_says_what_it_is_for(desk: Desk) -> None:
    issues = desk.audit.issues
    calm = int(issues.rows[~issues.flagged & (issues.proposed < 0)][0])
    for place, row in enumerate((desk.order[0], calm)):
        desk.post({"uid": f"u{place}", "row": row, "verdict": "keep"}).raise_for_status()
    suspect, other = (desk.client.get(f"/card?row={row}").text for row in (desk.order[0], calm))
    assert "Why it is suspected" in suspect
    assert "Why it is suspected" not in other
    assert "This is no suspect" in other


def test_the_random_cards_behind_the_errors_left_are_counted(desk: Desk) -> None:
    for _ in range(7):
        desk.judge("drop")
    assert "from 1 random card)" in desk.client.get("/progress").text
    for _ in range(7):
        desk.judge("drop")
    assert "from 2 random cards)" in desk.client.get("/progress").text

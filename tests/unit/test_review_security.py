from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.review import security
from errata.review.answers import Answer, RefusedError, read_answer, read_form, read_json

FIELDS = {"uid": "u-1", "row": 3, "verdict": "keep"}


def read(**changes: object) -> Answer:
    return read_answer(FIELDS | changes, num_rows=5, classes=frozenset({"cat", "dog"}))


@pytest.mark.parametrize(
    "header", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"]
)
def test_names_of_this_machine_are_trusted(header: str) -> None:
    assert security.is_trusted_host(header, host="127.0.0.1", port=8000)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "127.0.0.1",
        "127.0.0.1:8001",
        "evil.example:8000",
        "127.0.0.1.evil.example:8000",
        "localhost:8000@evil.example",
        "evil.example@localhost:8000",
        "localhost:8000, evil.example",
        " localhost:8000",
        "[::1",
        "10.0.0.7:8000",
    ],
)
def test_other_names_are_refused_on_loopback(header: str | None) -> None:
    assert not security.is_trusted_host(header, host="127.0.0.1", port=8000)


@pytest.mark.parametrize(
    ("header", "trusted"),
    [
        ("10.0.0.7:8000", True),
        ("[fe80::1]:8000", True),
        ("10.0.0.7:8001", False),
        ("rebound.example:8000", False),
        ("10.0.0.7:nonsense", False),
    ],
)
def test_a_server_on_all_addresses_trusts_addresses_and_no_names(
    header: str, trusted: bool
) -> None:
    assert security.is_trusted_host(header, host="0.0.0.0", port=8000) is trusted


def test_a_server_on_one_address_trusts_that_one_alone() -> None:
    assert security.is_trusted_host("10.0.0.7:8000", host="10.0.0.7", port=8000)
    assert not security.is_trusted_host("10.0.0.8:8000", host="10.0.0.7", port=8000)


@pytest.mark.parametrize(
    ("origin", "posts", "trusted"),
    [
        ("http://127.0.0.1:8000", True, True),
        ("http://127.0.0.1:8000", False, True),
        (None, False, True),
        (None, True, False),
        ("null", True, False),
        ("null", False, False),
        ("https://127.0.0.1:8000", True, False),
        ("http://127.0.0.1:8001", True, False),
        ("http://evil.example", True, False),
        ("http://127.0.0.1:8000.evil.example", True, False),
    ],
)
def test_a_post_needs_the_origin_of_the_page(
    origin: str | None, posts: bool, trusted: bool
) -> None:
    found = security.is_trusted_origin(origin, header="127.0.0.1:8000", posts=posts)
    assert found is trusted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.0",
        "5",
        "1e1",
        "0x1",
        " 1",
        "1\n",
        "\u0661",
        "9" * 13,
        "../1",
        "1/..",
        "1%00",
    ],
)
def test_only_plain_digits_within_the_audit_are_a_row(text: str) -> None:
    assert security.row_of(text, 5) is None


@given(st.integers(0, 10**6))
def test_rows_of_the_audit_are_read_as_they_are_written(row: int) -> None:
    assert security.row_of(str(row), 10**6 + 1) == row


def test_the_token_works_once_and_is_not_the_cookie() -> None:
    gate = security.Gate("t0ken", port=8000, secret="s")
    assert not gate.enter("")
    assert not gate.enter("t0ke")
    assert not gate.enter("t\u00f6ken\ud800")
    assert gate.enter("t0ken")
    assert not gate.enter("t0ken")
    assert gate.knows(gate.cookie)
    assert not gate.knows("t0ken")
    assert not gate.knows("")
    assert not gate.knows(None)
    assert not gate.knows(gate.cookie + "\ud800")


def test_the_cookie_outlives_a_restart_with_the_same_secret_alone() -> None:
    first = security.Gate("a", port=8000, secret="s")
    assert security.Gate("b", port=8000, secret="s").knows(first.cookie)
    assert not security.Gate("b", port=8000, secret="other").knows(first.cookie)
    assert not security.Gate("b", port=8000).knows(security.Gate("b", port=8000).cookie)


def test_cookies_of_two_ports_have_two_names() -> None:
    assert security.Gate("a", port=8000).name != security.Gate("a", port=8001).name


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF....WEBPVP8 ", "image/webp"),
        (b"RIFF....WAVEfmt ", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_only_pictures_without_scripts_are_named(start: bytes, kind: str | None) -> None:
    assert security.picture_kind(start) == kind


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    policy = security.HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert not any(word in policy for word in ("unsafe", "*", "http", "data:"))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"uid": ""}, 400),
        ({"uid": "x" * 101}, 400),
        ({"uid": 7}, 400),
        ({"uid": "a\x00b"}, 400),
        ({"uid": "\ud800"}, 400),
        ({"row": "3"}, 400),
        ({"row": True}, 400),
        ({"row": 3.0}, 400),
        ({"row": None}, 400),
        ({"row": -1}, 404),
        ({"row": 5}, 404),
        ({"row": 10**30}, 404),
        ({"verdict": "delete"}, 400),
        ({"verdict": ["keep"]}, 400),
        ({"verdict": None}, 400),
        ({"label": "cat"}, 400),
        ({"verdict": "relabel"}, 400),
        ({"verdict": "relabel", "label": "cow"}, 400),
        ({"verdict": "relabel", "label": ["cat"]}, 400),
        ({"seconds": "3"}, 400),
        ({"seconds": -1}, 400),
        ({"seconds": 1e9}, 400),
        ({"seconds": True}, 400),
        ({"reviewer": "somebody else"}, 400),
    ],
)
def test_each_bad_field_of_a_verdict_is_refused(changes: dict[str, object], status: int) -> None:
    with pytest.raises(RefusedError) as caught:
        read(**changes)
    assert caught.value.status == status


def test_a_verdict_is_read_whole() -> None:
    found = read(verdict="relabel", label="dog", seconds=2)
    assert found == Answer("u-1", 3, "relabel", "dog", 2.0)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b"3", b"{", b'{"seconds": NaN}', b"[" * 60_000, b"9" * 9_000]
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_json(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body", [b"\xff", b"row=%ff", b"row=1&row=2", b"seconds=soon&row=1", b"a=1&" * 30]
)
def test_a_body_that_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError):
        read_form(body)


def test_a_form_gives_the_same_verdict_as_json() -> None:
    form = read_form(b"uid=u-1&row=3&verdict=relabel&label=a%26b+%C3%A9&seconds=1.5")
    assert form == {
        "uid": "u-1",
        "row": 3,
        "verdict": "relabel",
        "label": "a&b \u00e9",
        "seconds": 1.5,
    }

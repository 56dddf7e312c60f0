from __future__ import annotations

from pathlib import Path

import pytest

from errata.errors import SettingsError
from errata.review.session import Session

review = pytest.importorskip("errata.cli.review")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org"])
def test_a_host_beyond_this_machine_needs_a_word(host: str) -> None:
    with pytest.raises(SettingsError, match="beyond this machine") as caught:
        review._check_host(host, understood=False)
    assert "--i-understand" in caught.value.hint
    review._check_host(host, understood=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_a_host_of_this_machine_needs_none(host: str) -> None:
    review._check_host(host, understood=False)


def test_a_restarted_server_listens_where_it_was(tmp_path: Path) -> None:
    with review._listen("127.0.0.1", None, Session.open(tmp_path)) as listening:
        port = listening.getsockname()[1]
    with review._listen("127.0.0.1", None, Session.open(tmp_path)) as listening:
        assert listening.getsockname()[1] == port


def test_a_second_server_of_the_audit_takes_another_port_and_leaves_the_first(
    tmp_path: Path,
) -> None:
    with review._listen("127.0.0.1", None, Session.open(tmp_path)) as first:
        port = first.getsockname()[1]
        with review._listen("127.0.0.1", None, Session.open(tmp_path)) as second:
            assert second.getsockname()[1] != port
    assert Session.open(tmp_path).port == port


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with review._listen("127.0.0.1", None, Session.open(tmp_path)) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match="cannot listen"):
            review._listen("127.0.0.1", port, Session.open(tmp_path))


def test_the_text_at_the_end_names_what_is_left() -> None:
    left = {"estimate": 120.4, "low": 80.0, "high": 1630.0}
    text = review._text({"verdicts": 1, "changed": 2, "errors_left": left})
    assert text.splitlines() == [
        "1 verdict, 2 labels changed",
        "about 120 errors left in the rest, 95 % interval 80 to 1,630",
        "next: errata apply AUDIT",
    ]

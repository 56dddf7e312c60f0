"""What a review server keeps: the same secrets after a restart, for its owner alone."""

from __future__ import annotations

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from errata.errors import OutputError, SettingsError
from errata.review.session import FILE_NAME, Session


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / FILE_NAME
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, **changes}))
    path.chmod(0o600)


def test_a_restarted_server_is_the_same_server(tmp_path: Path):
    first = Session.open(tmp_path)
    assert first.port is None
    assert first.remember_port(8123).port == 8123
    again = Session.open(str(tmp_path))
    assert (again.token, again.secret, again.port) == (first.token, first.secret, 8123)


def test_secrets_are_long_different_and_fit_into_an_address(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sessions = [Session.open(tmp_path / "a"), Session.open(tmp_path / "b")]
    found = [text for session in sessions for text in (session.token, session.secret)]
    assert len(set(found)) == 4
    assert all(len(text) >= 43 and quote(text, safe="") == text for text in found)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_the_file(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        session = Session.open(tmp_path)
        assert mode_of(tmp_path / FILE_NAME) == 0o600
        session.remember_port(8123)
        assert mode_of(tmp_path / FILE_NAME) == 0o600
    finally:
        os.umask(before)


def test_nothing_else_is_left_in_the_audit(tmp_path: Path):
    Session.open(tmp_path).remember_port(8123)
    Session.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_secrets_are_not_shown_by_accident(tmp_path: Path):
    session = Session.open(tmp_path)
    assert session.token not in repr(session)
    assert session.secret not in repr(session)


def test_a_copy_that_others_can_read_gets_new_secrets_and_keeps_the_port(tmp_path: Path):
    old = Session.open(tmp_path).remember_port(8123)
    (tmp_path / FILE_NAME).chmod(0o644)
    new = Session.open(tmp_path)
    assert new.port == 8123
    assert {new.token, new.secret}.isdisjoint({old.token, old.secret})
    assert mode_of(tmp_path / FILE_NAME) == 0o600
    assert Session.open(tmp_path) == new


def test_servers_that_start_at_once_share_one_session(tmp_path: Path):
    barrier = threading.Barrier(8)

    def start(_: int) -> Session:
        barrier.wait()
        return Session.open(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert Session.open(tmp_path) == Session.open(tmp_path)
    assert mode_of(tmp_path / FILE_NAME) == 0o600


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_cannot_be_is_refused(tmp_path: Path, port: int):
    with pytest.raises(SettingsError, match=f"port `{port}`"):
        Session.open(tmp_path).remember_port(port)
    assert Session.open(tmp_path).port is None


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"token": ""}, "`token` is no text"),
        ({"secret": "short"}, "`secret` is no text"),
        ({"secret": None}, "`secret` is no text"),
        ({"port": "8123"}, "port `8123`"),
        ({"port": True}, "port `True`"),
        ({"port": 70000}, "port `70000`"),
        ({"format": 2}, "layout `2`"),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(
    tmp_path: Path, changes: dict[str, object], match: str
):
    Session.open(tmp_path)
    rewrite(tmp_path, **changes)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(OutputError, match=match) as caught:
        Session.open(tmp_path)
    assert "no verdict is lost" in caught.value.hint
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 60_000])
def test_a_file_that_is_no_json_object_is_named(tmp_path: Path, text: bytes):
    (tmp_path / FILE_NAME).write_bytes(text)
    with pytest.raises(OutputError, match="cannot be used"):
        Session.open(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "audit").mkdir()
    Session.open(tmp_path)
    (tmp_path / "audit" / FILE_NAME).symlink_to(tmp_path / FILE_NAME)
    with pytest.raises(OutputError, match="it is a link"):
        Session.open(tmp_path / "audit")


def test_a_pipe_does_not_hang_the_server(tmp_path: Path):
    os.mkfifo(tmp_path / FILE_NAME, 0o600)
    with pytest.raises(OutputError, match="no plain file"):
        Session.open(tmp_path)


def test_a_missing_audit_is_not_made(tmp_path: Path):
    with pytest.raises(OutputError, match="does not exist"):
        Session.open(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match="read-only file system"):
        Session.open(tmp_path)

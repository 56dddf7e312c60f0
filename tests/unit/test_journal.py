"""The verdict journal: what was acknowledged is there, once, whatever happens to the writers."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.errors import OutputError, SettingsError
from errata.review import journal as journal_module
from errata.review.journal import FILE_NAME, VERDICTS, Journal, Verdict

NOBODY = 65534

WRITER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from errata.review.journal import Journal, Verdict

path, name, threads, each = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
journal = Journal(path, audit="9f2c")

def work(thread):
    for n in range(each):
        uid = f"{name}-{thread}-{n}"
        new = journal.add(Verdict(uid, n, f"id{n}", "keep", reviewer=name))
        os.write(1, f"{uid} {new}\\n".encode())

with ThreadPoolExecutor(threads) as pool:
    list(pool.map(work, range(threads)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path, audit="9f2c") as opened:
        yield opened


def say(uid: str, verdict: str = "keep", row: int = 0, who: str = "ada", **rest: object) -> Verdict:
    label = "lynx" if verdict == "relabel" else None
    made = Verdict(uid, row, f"{row}.jpg", verdict, label, reviewer=who)
    return replace(made, **rest)


def standing(journal: Journal) -> dict[int, dict[str, str]]:
    return {
        row: {who: verdict.uid for who, verdict in by.items()}
        for row, by in journal.current().items()
    }


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the write lock as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def powerless() -> Iterator[None]:
    """Go without the right to write everywhere, which root has."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


# What is kept


def test_every_field_comes_back_as_it_was_given(path: Path):
    verdict = Verdict(
        uid="u-1",
        row=2**40,
        id="chat/café.jpg",
        verdict="relabel",
        label="lynx",
        seconds=2.5,
        reviewer="Zoë",
        blind=True,
        control=True,
        proposed="ocelot",
        when="2026-01-02T03:04:05.000+00:00",
    )
    with Journal(path, audit="9f2c") as journal:
        assert journal.add(verdict) is True
    with Journal(path, audit="9f2c") as journal:
        assert journal.all() == [verdict]
        assert type(journal.all()[0].blind) is bool


def test_the_moment_is_filled_in(journal: Journal):
    before = datetime.now(UTC)
    journal.add(say("u1"))
    when = datetime.fromisoformat(journal.all()[0].when)
    assert when.utcoffset() is not None
    assert abs((when - before).total_seconds()) < 10


def test_order_is_that_of_writing(journal: Journal):
    uids = ["b", "a", "d", "c"]
    for uid in uids:
        journal.add(say(uid))
    assert [verdict.uid for verdict in journal.all()] == uids


def test_commits_are_forced_to_disk(journal: Journal):
    connection = journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_verdict_is_seen_by_others_when_add_returns(journal: Journal, path: Path):
    with Journal(path, audit="9f2c") as other:
        assert other.count() == 0
        journal.add(say("u1"))
        assert [verdict.uid for verdict in other.all()] == ["u1"]
        other.add(say("u2", row=3))
        assert standing(journal) == {0: {"ada": "u1"}, 3: {"ada": "u2"}}


# Which verdict stands


def test_a_later_verdict_replaces_the_earlier(journal: Journal):
    journal.add(say("u1", "keep"))
    journal.add(say("u2", "relabel"))
    assert standing(journal) == {0: {"ada": "u2"}}
    assert journal.count() == 2


def test_undo_lets_the_verdict_before_stand_again(journal: Journal):
    for verdict in (say("u1"), say("u2", "drop"), say("u3", "undo")):
        journal.add(verdict)
    assert standing(journal) == {0: {"ada": "u1"}}
    journal.add(say("u4", "undo"))
    assert standing(journal) == {}


def test_undo_of_nothing_changes_nothing(journal: Journal):
    journal.add(say("u1", "undo"))
    assert standing(journal) == {}
    journal.add(say("u2", "keep"))
    assert standing(journal) == {0: {"ada": "u2"}}


def test_undo_reaches_one_reviewer_and_one_row(journal: Journal):
    for verdict in (say("u1"), say("u2", who="bo"), say("u3", row=1), say("u4", "undo", who="bo")):
        journal.add(verdict)
    assert standing(journal) == {0: {"ada": "u1"}, 1: {"ada": "u3"}}


def test_what_was_given_out_does_not_change_later(journal: Journal):
    journal.add(say("u1"))
    before = journal.current()
    journal.add(say("u2", "drop"))
    journal.add(say("u3", who="bo"))
    assert {who: v.uid for who, v in before[0].items()} == {"ada": "u1"}


def _slowly(verdicts: list[Verdict]) -> dict[int, dict[str, str]]:
    """Look at every reviewer's row alone, from its last verdict backwards."""
    found: dict[int, dict[str, str]] = {}
    for row, who in {(v.row, v.reviewer) for v in verdicts}:
        mine = [v for v in verdicts if (v.row, v.reviewer) == (row, who)]
        while any(v.verdict == "undo" for v in mine):
            first = next(n for n, v in enumerate(mine) if v.verdict == "undo")
            mine = mine[: max(first - 1, 0)] + mine[first + 1 :]
        if mine:
            found.setdefault(row, {})[who] = mine[-1].uid
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(VERDICTS), st.integers(0, 1), st.sampled_from("ab")),
        max_size=10,
    )
)
def test_what_stands_is_what_a_slow_reading_finds(words: list[tuple[str, int, str]]):
    verdicts = [say(f"u{n}", word, row, who) for n, (word, row, who) in enumerate(words)]
    with tempfile.TemporaryDirectory() as folder:
        with Journal(Path(folder) / FILE_NAME, audit="9f2c") as journal:
            for verdict in verdicts:
                journal.add(verdict)
                journal.current()
            step_by_step = standing(journal)
        with Journal(Path(folder) / FILE_NAME, audit="9f2c") as journal:
            assert standing(journal) == step_by_step == _slowly(verdicts)


# Repeats


def test_a_repeated_uid_counts_once(journal: Journal, path: Path):
    assert journal.add(say("u1", seconds=2.0)) is True
    assert journal.add(say("u1", seconds=2.0)) is False
    with Journal(path, audit="9f2c") as restarted:
        assert restarted.add(say("u1", seconds=2.0)) is False
        assert restarted.count() == 1


def test_a_repeat_after_a_restart_may_not_recall_how_the_row_was_shown(journal: Journal):
    journal.add(say("u1", blind=True, control=True, seconds=3.0))
    assert journal.add(say("u1", proposed="ocelot")) is False
    assert journal.all()[0].blind is True


@pytest.mark.parametrize(
    "other",
    [
        say("u1", "drop"),
        say("u1", row=1, id="0.jpg"),
        say("u1", id="other.jpg"),
        say("u1", who="bo"),
        say("u1", "relabel"),
    ],
)
def test_a_uid_of_another_decision_is_refused_and_the_first_stands(
    journal: Journal, other: Verdict
):
    journal.add(say("u1"))
    with pytest.raises(SettingsError, match="uid `u1` is already that of another verdict"):
        journal.add(other)
    assert [(v.row, v.verdict, v.reviewer) for v in journal.all()] == [(0, "keep", "ada")]
    assert journal.add(say("u2")) is True


def test_an_undone_uid_does_not_come_back_when_repeated(journal: Journal):
    journal.add(say("u1"))
    journal.add(say("u2", "undo"))
    assert journal.add(say("u1")) is False
    assert standing(journal) == {}


# Append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE verdicts SET verdict = 'drop'",
        "UPDATE OR REPLACE verdicts SET uid = 'u9'",
        "DELETE FROM verdicts",
        "INSERT OR REPLACE INTO verdicts SELECT * FROM verdicts",
        "INSERT OR REPLACE INTO verdicts SELECT number + 9, uid, 5, id, 'drop', label, seconds, "
        'reviewer, blind, control, proposed, "when" FROM verdicts',
        "UPDATE about SET value = 'other'",
        "DELETE FROM about",
        "INSERT OR REPLACE INTO about VALUES ('audit', 'other')",
    ],
)
def test_other_programs_cannot_change_what_was_said(journal: Journal, path: Path, statement: str):
    journal.add(say("u1"))
    with (
        closing(sqlite3.connect(path)) as other,
        pytest.raises(sqlite3.IntegrityError, match=r"never|one audit"),
    ):
        other.execute(statement)
    with Journal(path, audit="9f2c") as again:
        assert [(v.uid, v.row, v.verdict) for v in again.all()] == [("u1", 0, "keep")]


# Bad values


@pytest.mark.parametrize(
    ("verdict", "match"),
    [
        (say("u1", "kep"), "verdict `kep` is unknown"),
        (say("u1", row=-1), "row `-1`"),
        (say("u1", row=2**63), "no row"),
        (say(""), "uid `` of a verdict is empty"),
        (replace(say("u1", "relabel"), label=None), "`relabel` has the label `None`"),
        (replace(say("u1", "relabel"), label=""), "`relabel` has the label ``"),
        (replace(say("u1", "keep"), label=""), "`keep` has the label ``"),
        (replace(say("u1", "drop"), label="lynx"), "`drop` has the label `lynx`"),
        (say("u1", seconds=-1.0), "seconds `-1.0`"),
        (say("u1", seconds=float("nan")), "seconds `nan`"),
        (say("u1", who="a\0b"), "reviewer .* is not plain text"),
        (say("u1", id="caf\udce9.jpg"), r"id `caf\\udce9.jpg` .* is not plain text"),
        (say("u" * 5000), "has 5,000 characters; allowed: 4,096"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(journal: Journal, verdict: Verdict, match: str):
    with pytest.raises(SettingsError, match=match):
        journal.add(verdict)
    assert journal.count() == 0


# Places where no journal can be


def test_a_journal_of_another_audit_is_refused(path: Path):
    Journal(path, audit="9f2c").close()
    with pytest.raises(OutputError, match="belongs to another audit: `9f2c`; this one is `41aa`"):
        Journal(path, audit="41aa")


def test_a_missing_audit_is_not_made(tmp_path: Path):
    with pytest.raises(OutputError, match="does not exist"):
        Journal(tmp_path / "gone" / FILE_NAME, audit="9f2c")
    assert not (tmp_path / "gone").exists()


def test_a_directory_is_no_journal(tmp_path: Path):
    with pytest.raises(OutputError, match="is a directory"):
        Journal(tmp_path, audit="9f2c")


@pytest.mark.parametrize("whole", [True, False])
def test_garbage_is_refused_and_left_alone(path: Path, whole: bool):
    if whole:
        garbage = b"verdict,row\nkeep,7\n" * 200
    else:
        with Journal(path, audit="9f2c") as journal:
            for n in range(50):
                journal.add(say(f"u{n}", row=n))
        kept = bytearray(path.read_bytes())
        kept[4096:] = b"\xff" * (len(kept) - 4096)
        garbage = bytes(kept)
    path.write_bytes(garbage)
    with pytest.raises(OutputError, match="is damaged") as caught:
        Journal(path, audit="9f2c")
    assert "copy" in caught.value.hint
    assert path.read_bytes() == garbage


def test_a_database_of_somebody_else_is_refused_and_left_alone(path: Path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE verdicts (mine TEXT)")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="no journal of errata"):
        Journal(path, audit="9f2c")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("layout", "age"), [(0, "an older"), (2, "a newer")])
def test_another_layout_is_named_and_left_alone(path: Path, layout: int, age: str):
    Journal(path, audit="9f2c").close()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {layout}")
    with pytest.raises(OutputError, match=f"layout `{layout}`, written by {age} version"):
        Journal(path, audit="9f2c")
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (layout,)


def test_an_empty_file_becomes_a_journal(path: Path):
    path.touch()
    with Journal(path, audit="9f2c") as journal:
        assert journal.add(say("u1")) is True


def test_a_read_only_folder_is_named(open_folder: Path):
    open_folder.chmod(0o555)
    with powerless(), pytest.raises(OutputError, match="cannot be written") as caught:
        Journal(open_folder / FILE_NAME, audit="9f2c")
    assert "allow writing" in caught.value.hint


def test_a_journal_that_became_read_only_is_named_and_unharmed(open_folder: Path):
    path = open_folder / FILE_NAME
    with Journal(path, audit="9f2c") as journal:
        journal.add(say("u1"))
    path.chmod(0o444)
    open_folder.chmod(0o555)
    with powerless(), pytest.raises(OutputError, match="cannot be written"):
        Journal(path, audit="9f2c")
    open_folder.chmod(0o755)
    path.chmod(0o644)
    with Journal(path, audit="9f2c") as journal:
        assert journal.count() == 1


@pytest.mark.parametrize("way", ["moved", "deleted", "replaced"])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(tmp_path: Path, way: str):
    audit = tmp_path / "audit"
    audit.mkdir()
    path = audit / FILE_NAME
    with Journal(path, audit="9f2c") as journal:
        journal.add(say("u1"))
        if way == "moved":
            audit.rename(tmp_path / "elsewhere")
        elif way == "deleted":
            path.unlink()
        else:
            path.rename(audit / "old.sqlite")
            path.write_bytes(b"")
        for verdict in (say("u1"), say("u2")):
            with pytest.raises(OutputError, match="moved, replaced or deleted"):
                journal.add(verdict)
    if way == "moved":
        with Journal(tmp_path / "elsewhere" / FILE_NAME, audit="9f2c") as journal:
            assert [verdict.uid for verdict in journal.all()] == ["u1"]


def test_a_closed_journal_says_so(path: Path):
    journal = Journal(path, audit="9f2c")
    journal.close()
    journal.close()
    with pytest.raises(OutputError, match="is closed"):
        journal.add(say("u1"))


# Locks


def test_a_locked_journal_is_given_up_with_a_hint(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal_module, "WAIT_S", 0.2)
    with holding(path):
        with pytest.raises(OutputError, match="locked by another process") as caught:
            journal.add(say("u1"))
        assert journal.count() == 0
    assert "close the program" in caught.value.hint
    assert journal.add(say("u1")) is True


def test_threads_that_queue_before_a_lock_wait_together(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal_module, "WAIT_S", 0.5)

    def attempt(n: int) -> str:
        with pytest.raises(OutputError) as caught:
            journal.add(say(f"u{n}"))
        return caught.value.message

    start = time.monotonic()
    with holding(path), ThreadPoolExecutor(8) as pool:
        messages = list(pool.map(attempt, range(8)))
    assert all("locked" in message for message in messages)
    # One after the other they would need 4 s.
    assert time.monotonic() - start < 2.5
    assert journal.add(say("u0")) is True


def test_a_verdict_waits_for_a_short_lock(journal: Journal, path: Path):
    taken, waiting = threading.Event(), threading.Event()

    def hold() -> None:
        with holding(path):
            taken.set()
            waiting.wait(10)

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(hold)
        assert taken.wait(10)
        added = pool.submit(journal.add, say("u1"))
        threading.Timer(0.3, waiting.set).start()
        assert added.result(10) is True
        holder.result(10)


def test_a_journal_that_is_locked_from_the_start_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal_module, "WAIT_S", 0.2)
    Journal(path, audit="9f2c").close()
    with holding(path), pytest.raises(OutputError, match="locked by another process"):
        Journal(path, audit="9f2c")


@pytest.mark.parametrize("again", range(20))
def test_opening_by_many_at_once_makes_one_journal(path: Path, again: int):
    barrier = threading.Barrier(12)

    def start(n: int) -> bool:
        barrier.wait()
        with Journal(path, audit="9f2c") as journal:
            return journal.add(say(f"u{n:02}"))

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(start, range(12))) == [True] * 12
    with Journal(path, audit="9f2c") as journal:
        assert sorted(verdict.uid for verdict in journal.all()) == [f"u{n:02}" for n in range(12)]


# Killed writers


def _start(path: Path, name: str, threads: int, each: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(threads), str(each)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _acknowledged(output: bytes) -> dict[str, bool]:
    lines = [line.split() for line in output.decode().split("\n")[:-1]]
    return {uid: new == "True" for uid, new in lines}


def test_every_acknowledged_verdict_survives_a_kill_and_none_is_there_twice(path: Path):
    threads, each, never = 8, 25, 100_000
    with (
        _start(path, "victim", threads, never) as victim,
        _start(path, "rest", threads, each) as on,
    ):
        assert victim.stdout is not None
        head = b"".join(victim.stdout.readline() for _ in range(40))
        victim.send_signal(signal.SIGKILL)
        tail, _ = victim.communicate()
        output, errors = on.communicate(timeout=120)
        assert on.returncode == 0, errors
    acknowledged = _acknowledged(head + tail)
    assert len(acknowledged) >= 40
    assert len(_acknowledged(output)) == threads * each

    with Journal(path, audit="9f2c") as journal:
        there = Counter(verdict.uid for verdict in journal.all())
    assert set(there.values()) == {1}
    assert acknowledged.keys() <= there.keys()
    assert _acknowledged(output).keys() <= there.keys()
    # At most one verdict per thread was written and not yet acknowledged.
    assert len(there) - threads * each - len(acknowledged) <= threads

    # The client repeats everything that it sent: what was there before counts once.
    sent = 1 + max(int(uid.split("-")[2]) for uid in there if uid.startswith("victim"))
    with _start(path, "victim", threads, sent) as again:
        output, errors = again.communicate(timeout=120)
        assert again.returncode == 0, errors
    assert {uid for uid, new in _acknowledged(output).items() if not new} == {
        uid for uid in there if uid.startswith("victim")
    }
    with Journal(path, audit="9f2c") as journal:
        uids = [verdict.uid for verdict in journal.all()]
    assert len(uids) == len(set(uids)) == threads * (each + sent)


def test_a_journal_killed_while_it_was_made_can_be_made_again(path: Path):
    for _ in range(5):
        with _start(path, "early", 1, 1000) as early:
            while not path.exists() and early.poll() is None:
                time.sleep(0.001)
            early.send_signal(signal.SIGKILL)
            early.communicate()
        with Journal(path, audit="9f2c") as journal:
            assert journal.count() >= 0
            uids = [verdict.uid for verdict in journal.all()]
            assert uids == [f"early-0-{n}" for n in range(len(uids))]
        path.unlink()


# Size


@pytest.mark.slow
def test_ten_thousand_verdicts_are_written_in_reasonable_time(journal: Journal):
    start = time.monotonic()
    for n in range(10_000):
        journal.add(say(f"u{n}", row=n))
    # Some milliseconds each, which is what a disk needs to confirm a write; 25 ms on bad ones.
    assert time.monotonic() - start < 250
    assert journal.count() == 10_000


def test_asking_what_stands_costs_little_beside_many_verdicts(journal: Journal):
    values = [(f"u{n}", n, "a", "keep", "ada", "") for n in range(10_000)]
    with closing(sqlite3.connect(journal.path)) as other, other:
        other.executemany(
            'INSERT INTO verdicts (uid, "row", id, verdict, reviewer, "when", blind, control) '
            "VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
            values,
        )
    assert len(journal.current()) == 10_000
    start = time.process_time()
    for _ in range(20):
        journal.current()
    # A card has to appear within 0.1 s; reading all lines again would take longer than that.
    assert (time.process_time() - start) / 20 < 0.02

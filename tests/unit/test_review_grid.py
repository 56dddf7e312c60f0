from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errata.directory import AuditDirectory
from errata.errors import OutputError, SettingsError
from errata.review.answers import RefusedError, read_batch, read_batch_form
from errata.review.batches import add_all
from errata.review.desk import Desk
from errata.review.grid import Kind, Kinds, group_of
from errata.review.journal import Journal, Verdict
from errata.review.queue import Card

from .fake_audit import make_audit

FIELDS: dict[str, Any] = {"uid": "b", "rows": [3, 4], "verdict": "keep"}


class Nothing:
    """A queue without cards."""

    def next(self, current: object) -> Card | None:
        return None


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditDirectory:
    folder = tmp_path_factory.mktemp("grid")
    return AuditDirectory.open(make_audit(folder, 300, 3, epochs=4, wrong=0.3))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "verdicts.sqlite", audit="a") as opened:
        yield opened


@pytest.fixture
def desk(audit: AuditDirectory, journal: Journal) -> Callable[..., Desk]:
    return lambda **more: Desk(audit, journal, Nothing(), reviewer="ada", **more)


def batch(**changes: Any) -> Any:
    return read_batch({**FIELDS, **changes}, num_rows=300, classes=["lynx", "ocelot", "serval"])


def test_kinds_count_the_suspects_of_each_pair_of_classes(audit: AuditDirectory) -> None:
    issues, given = audit.issues, np.asarray(audit.ledger.given)
    pairs = Counter(
        (int(given[row]), int(proposed))
        for row, proposed, flagged in zip(issues.rows, issues.proposed, issues.flagged, strict=True)
        if flagged
    )
    kinds = Kinds(audit)
    expected = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    assert kinds.all([], most=100) == [Kind(*pair, count) for pair, count in expected]
    assert kinds.all([], most=1) == [Kind(*expected[0][0], expected[0][1])]

    (first, second), count = expected[0]
    rows = kinds.rows(first, second, [], most=100)
    assert len(rows) == count
    places = issues.places[rows].tolist()
    assert places == sorted(places)
    # What somebody has judged is out, here and in the counts.
    assert kinds.rows(first, second, rows[:2], most=3) == rows[2:5]
    assert kinds.rows(first, second, [], most=3, after=rows[1]) == rows[2:5]
    assert kinds.rows(first, second, [], most=3, after=rows[-1]) == []
    left = {(kind.given, kind.proposed): kind.count for kind in kinds.all(rows[:2], most=100)}
    assert left[first, second] == count - 2


def test_a_group_is_those_with_its_number() -> None:
    near = np.array([0, 1, 0, 3, 0])
    assert [group_of(near, row) for row in (2, 3)] == [[0, 2, 4], [3]]


def test_a_batch_keeps_rows_that_have_the_label_and_shares_the_time(
    audit: AuditDirectory, journal: Journal, desk: Callable[..., Desk]
) -> None:
    given = np.asarray(audit.ledger.given)
    has, lacks = int(np.flatnonzero(given == 0)[0]), int(np.flatnonzero(given == 1)[0])
    made = desk()
    made.record_all(batch(rows=[has, lacks], verdict="relabel", label="lynx", seconds=5.0))
    found = [(v.uid, v.row, v.verdict, v.label, v.seconds) for v in journal.all()]
    assert found == [
        (f"b:{has}", has, "keep", None, 2.5),
        (f"b:{lacks}", lacks, "relabel", "lynx", 2.5),
    ]
    assert not any(v.blind or v.control for v in journal.all())
    assert made.last_rows == [has, lacks]
    assert desk().last_rows == [has, lacks]


def test_a_repeated_batch_counts_once_and_another_under_its_id_is_refused(
    journal: Journal, desk: Callable[..., Desk]
) -> None:
    desk().record_all(batch())
    desk().record_all(batch())
    # A part of it, and more than it, add what was not there.
    desk().record_all(batch(rows=[4]))
    desk().record_all(batch(rows=[4, 5]))
    assert [v.row for v in journal.all()] == [3, 4, 5]
    with pytest.raises(RefusedError, match="another verdict"):
        desk().record_all(batch(rows=[6, 4], verdict="drop"))
    assert journal.count() == 3


def test_undo_of_a_batch_leaves_nothing_standing(
    journal: Journal, desk: Callable[..., Desk]
) -> None:
    made = desk()
    made.record_all(batch(rows=[7]))
    made.record_all(batch(uid="c", rows=[1, 2, 3]))
    assert made.last_rows == [1, 2, 3]
    made.record_all(batch(uid="d", rows=made.last_rows, verdict="undo"))
    assert set(journal.current()) == {7}
    assert made.last_rows == [7]


def test_the_budget_holds_for_batches_too(desk: Callable[..., Desk]) -> None:
    made = desk(budget=5)
    assert made.room(24) == 5
    made.record_all(batch())
    assert made.room(24) == 3
    assert made.room(2) == 2
    assert desk().room(24) == 24


def test_a_batch_is_on_disk_whole_or_not_at_all(journal: Journal) -> None:
    add_all(journal.path, [Verdict("u1", 1, "a", "keep")], audit="a")
    assert journal.count() == 1
    with pytest.raises(OutputError):
        add_all(
            journal.path,
            [Verdict("u2", 2, "b", "keep"), Verdict("u1", 1, "a", "keep")],
            audit="a",
        )
    with pytest.raises(SettingsError):
        add_all(
            journal.path, [Verdict("u3", 3, "c", "keep"), Verdict("", 1, "a", "keep")], audit="a"
        )
    assert [v.uid for v in journal.all()] == ["u1"]
    assert journal.all()[0].when


def test_a_batch_waits_for_nobody_for_ever_and_makes_no_journal(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("errata.review.batches.WAIT_S", 0.05)
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputError, match="locked"):
        add_all(journal.path, [Verdict("u1", 1, "a", "keep")], audit="a")
    other.close()
    assert journal.count() == 0
    moved = tmp_path / "elsewhere" / "verdicts.sqlite"
    with pytest.raises(OutputError, match="moved or deleted"):
        add_all(moved, [Verdict("u1", 1, "a", "keep")], audit="a")
    assert not moved.exists()


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"rows": []}, 400, "no row is ticked"),
        ({"rows": list(range(201))}, 400, "too many"),
        ({"rows": "3"}, 400, "no row is ticked"),
        ({"rows": [3, 3]}, 400, "twice"),
        ({"rows": [3, 300]}, 404, "not in this audit"),
        ({"rows": [3, "../4"]}, 400, "no whole number"),
        ({"rows": [True]}, 400, "no whole number"),
        ({"row": 3}, 400, "unknown"),
        ({"colour": 3}, 400, "unknown"),
        ({"verdict": "unsure"}, 400, "one row"),
        ({"verdict": "relabel"}, 400, "needs `label`"),
        ({"verdict": "relabel", "label": "dog"}, 400, "not a class"),
        ({"verdict": "drop", "label": "lynx"}, 400, "leave it out"),
        ({"uid": ""}, 400, "`uid`"),
        ({"uid": "a" * 88}, 400, "too long"),
        ({"seconds": -1}, 400, "out of range"),
    ],
)
def test_each_bad_field_of_a_batch_is_refused(
    changes: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        batch(**changes)
    assert caught.value.status == status


def test_a_form_gives_the_same_batch_as_json() -> None:
    fields = read_batch_form(b"uid=b&row=3&row=4&verdict=keep")
    assert fields == FIELDS
    # A button with a label says by itself that it relabels.
    assert read_batch_form(b"uid=b&row=3&label=lynx")["verdict"] == "relabel"
    assert read_batch_form(b"uid=b&row=..%2F4")["rows"] == ["../4"]


@pytest.mark.parametrize("body", [b"\xff", b"uid=a&uid=b", b"uid=%ff", b"row=1&" * 300])
def test_a_body_that_is_no_form_of_rows_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError):
        read_batch_form(body)

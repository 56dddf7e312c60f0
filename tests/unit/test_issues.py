from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.errors import OutputError
from errata.issues import (
    HEADER,
    format_reasons,
    parse_reasons,
    read_issues,
    worst_first,
    write_issues,
)
from errata.record import Reason

from .fake_audit import FakeFindings

IDS = ("a", 'b,"c"', "=1+1", "d")
CLASSES = ("cat", "dog")
GIVEN = np.array([0, 1, 1, -1])
WHY = (Reason("margin", -3.1, "negative in 27 of 30 epochs"), Reason("dropped", math.nan, "yes"))


def _findings(**changes) -> FakeFindings:
    values = {
        "suspicion": np.array([0.5, 0.9, 0.5, np.nan]),
        "p_wrong": np.array([0.1, 0.8, 0.1, np.nan]),
        "p_proposed": np.array([0.05, 2 / 3, 0.05, 0.7]),
        "flagged": np.array([False, True, False, False]),
        "proposed": np.array([-1, 0, 0, 1]),
        "tier": np.array(["fine", "possible", "fine", "fine"]),
        "why": lambda row: WHY,
    }
    return FakeFindings(**(values | changes))


def test_the_file_is_exact(tmp_path: Path):
    write_issues(tmp_path / "issues.csv", IDS, CLASSES, GIVEN, _findings())
    assert (tmp_path / "issues.csv").read_bytes().decode() == (
        "id,given,proposed,suspicion,p_wrong,p_proposed,flagged,tier,reasons\n"
        '"b,""c""",dog,cat,0.900000,0.800000,0.666667,true,possible,'
        "margin -3.1: negative in 27 of 30 epochs; dropped: yes\n"
        "a,cat,,0.500000,0.100000,0.050000,false,fine,\n"
        "=1+1,dog,cat,0.500000,0.100000,0.050000,false,fine,\n"
        "d,,dog,,,0.700000,false,fine,\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["issues.csv"]


def test_what_is_written_is_read_back(tmp_path: Path):
    findings = _findings()
    write_issues(tmp_path / "issues.csv", IDS, CLASSES, GIVEN, findings)
    issues = read_issues(tmp_path / "issues.csv", IDS, CLASSES)
    assert issues.rows.tolist() == [1, 0, 2, 3]
    assert issues.places.tolist() == [1, 0, 2, 3]
    np.testing.assert_array_equal(issues.suspicion, findings.suspicion[issues.rows])
    np.testing.assert_array_equal(issues.proposed, findings.proposed[issues.rows])
    np.testing.assert_array_equal(issues.flagged, findings.flagged[issues.rows])
    assert issues.tier.tolist() == ["possible", "fine", "fine", "fine"]
    assert issues.reasons(0)[0] == WHY[0]
    assert issues.reasons(0)[1].kind == "dropped"
    assert issues.reasons(1) == ()


def test_ties_are_ordered_by_row_and_unlabelled_rows_come_last():
    assert worst_first(np.array([np.nan, 0.2, 0.7, 0.2])).tolist() == [2, 1, 3, 0]


def test_reasons_are_asked_for_the_2000_worst_flagged_rows_only(tmp_path: Path):
    rows = 2500
    asked: list[int] = []

    def why(row: int) -> tuple[Reason, ...]:
        asked.append(row)
        return WHY

    flagged = np.ones(rows, dtype=bool)
    flagged[0] = False
    findings = FakeFindings(
        suspicion=np.linspace(1, 0, rows),
        p_wrong=np.zeros(rows),
        p_proposed=np.zeros(rows),
        flagged=flagged,
        proposed=np.zeros(rows, dtype=np.int64),
        tier=np.full(rows, "possible"),
        why=why,
    )
    ids = [str(i) for i in range(rows)]
    write_issues(tmp_path / "i.csv", ids, CLASSES, np.zeros(rows, dtype=np.int64), findings)
    assert asked == list(range(1, 2001))


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=60)
@given(st.lists(text, min_size=2, max_size=8, unique=True), st.data())
def test_any_ids_and_class_names_survive_the_file(tmp_path_factory, names, data):
    ids = data.draw(st.lists(text, min_size=4, max_size=4, unique=True))
    path = tmp_path_factory.mktemp("issues") / "issues.csv"
    findings = _findings(why=lambda row: ())
    write_issues(path, ids, names, GIVEN, findings)
    issues = read_issues(path, ids, names)
    assert issues.rows.tolist() == [1, 0, 2, 3]
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == list(HEADER)
    assert [line[0] for line in lines[1:]] == [ids[row] for row in (1, 0, 2, 3)]
    assert [line[1] for line in lines[1:]] == [names[1], names[0], names[1], ""]


kinds = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
# Six digits of a value survive as four significant ones, so values are drawn with four.
values = st.floats(-1e6, 1e6).map(lambda v: float(f"{v:.4g}"))
reasons = st.builds(Reason, kinds, values, text.filter(lambda t: "; " not in t))


@given(st.lists(reasons, max_size=4))
def test_reasons_survive_their_cell(listed):
    # A text that ends in `;` joins with the separator, which no reader could tell apart.
    whole = [each for each in listed if not each.text.endswith(";")]
    assert list(parse_reasons(format_reasons(whole))) == whole


def test_a_separator_inside_a_reason_becomes_a_comma():
    cell = format_reasons([Reason("loss", 2.0, "high; margin 3: low")])
    assert cell == "loss 2: high, margin 3: low"
    assert len(parse_reasons(cell)) == 1


def test_text_in_no_known_form_is_one_reason_without_a_kind():
    (reason,) = parse_reasons("Looks wrong to me")
    assert (reason.kind, reason.text) == ("", "Looks wrong to me")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda text: text.replace("suspicion", "score"), "first line"),
        (lambda text: text.replace("a,cat", "zebra,cat"), "`zebra`"),
        (lambda text: text.replace("d,,dog", "a,,dog"), "twice"),
        (lambda text: text.replace("0.500000", "half", 1), "half"),
        (lambda text: text.replace("possible", "perhaps"), "tier"),
        (lambda text: text + "e,cat,,0,0,0,false,fine,\n", "5 rows and the ledger 4"),
        (lambda text: text + "e,cat\n", "number of columns"),
    ],
)
def test_a_file_changed_by_hand_is_refused(tmp_path: Path, change, what):
    path = tmp_path / "issues.csv"
    write_issues(path, IDS, CLASSES, GIVEN, _findings())
    path.write_text(change(path.read_text()))
    with pytest.raises(OutputError, match=what):
        read_issues(path, IDS, CLASSES)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(OutputError, match=r"issues\.csv` is missing"):
        read_issues(tmp_path / "issues.csv", IDS, CLASSES)


def test_sixty_thousand_rows_take_about_a_second(tmp_path: Path):
    rows = 60_000
    rng = np.random.Generator(np.random.PCG64(0))
    suspicion = rng.random(rows)
    findings = FakeFindings(
        suspicion=suspicion,
        p_wrong=suspicion,
        p_proposed=suspicion,
        flagged=suspicion > 0.6,
        proposed=np.zeros(rows, dtype=np.int64),
        tier=np.full(rows, "fine"),
        why=lambda row: WHY,
    )
    ids = [f"img/{i:05d}.png" for i in range(rows)]
    began = time.process_time()
    write_issues(tmp_path / "i.csv", ids, CLASSES, rng.integers(0, 2, rows), findings)
    read_issues(tmp_path / "i.csv", ids, CLASSES)
    # Half a second here; the margin is for slower machines.
    assert time.process_time() - began < 4

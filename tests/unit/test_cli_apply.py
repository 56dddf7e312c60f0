from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import errata
from errata import applying
from errata.correct.lineage import moved_facts, parent_of
from errata.data import open_source
from errata.directory import AuditDirectory
from errata.errors import OutputError
from errata.review.decision import Verdict
from errata.review.standing import open_journal

from .cli_runner import Done, run_cli
from .fake_audit import make_audit

CLASSES = ("ant", "bee", "cat", "dog")
COLUMNS = ["id", "label", "weight", "source", "given", "verdicts"]


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return make_audit(tmp_path, rows=60, names=CLASSES, classes=4)


def judge(audit: Path, *said: tuple[int, str, str | None, str]) -> None:
    """Write verdicts: row, word, label, reviewer."""
    found = AuditDirectory.open(audit)
    with open_journal(found) as journal:
        for row, word, label, who in said:
            key = f"{row} {word} {label} {who}"
            journal.add(Verdict(key, row, str(found.ledger.ids[row]), word, label, reviewer=who))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def given_of(audit: Path, row: int) -> str:
    ledger = AuditDirectory.open(audit).ledger
    return str(ledger.classes[int(ledger.given[row])])


def other(audit: Path, row: int, step: int = 1) -> str:
    return CLASSES[(CLASSES.index(given_of(audit, row)) + step) % 4]


def apply(audit: Path, *more: object, out: str = "labels.csv") -> Done:
    return run_cli("apply", audit, "--out", audit.parent / out, "--json", *more)


def files(folder: Path) -> list[str]:
    """List the files of a folder with their sizes; the journal's own aside."""
    found = (p for p in folder.rglob("*") if "sqlite" not in p.name)
    return sorted(f"{p} {p.lstat().st_size}" for p in found)


def test_the_label_file_has_one_line_per_row_in_order(audit: Path):
    changed = other(audit, 3)
    judge(audit, (3, "relabel", changed, "ada"), (5, "drop", None, "ada"), (5, "drop", None, "bo"))
    done = apply(audit, "--auto-above", 1)
    rows = table(audit.parent / "labels.csv")
    ledger = AuditDirectory.open(audit).ledger
    assert done.code == 0
    assert list(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == list(ledger.ids)
    assert [row["given"] for row in rows] == [CLASSES[k] for k in np.asarray(ledger.given)]
    assert list(rows[3].values())[1:] == [changed, "1", "human", given_of(audit, 3), "1"]
    assert [rows[5][name] for name in ("weight", "source", "verdicts")] == ["0", "human", "2"]
    assert {row["source"] for place, row in enumerate(rows) if place not in (3, 5)} == {"given"}


def test_the_json_has_the_keys_of_the_contract(audit: Path):
    judge(audit, (3, "relabel", other(audit, 3), "ada"), (4, "keep", None, "ada"))
    found = apply(audit, "--auto-above", 1).json
    assert {"rows", "changed", "dropped", "by_source", "expected_gain", "out"} <= set(found)
    assert (found["rows"], found["changed"], found["dropped"]) == (60, 1, 0)
    assert found["by_source"] == {"human": 2, "model": 0, "given": 58}
    gain = found["expected_gain"]
    assert 0 < gain["estimate"] <= 1 / 60 + 1e-12
    assert gain["low"] == gain["estimate"] == gain["high"] == gain["people"]


def test_the_model_corrects_what_it_is_sure_of_and_says_what_to_expect(audit: Path):
    done = apply(audit, "--auto-above", 0.6)
    issues = AuditDirectory.open(audit).issues
    sure = (issues.p_proposed > 0.6) & (issues.proposed >= 0)
    rows = table(audit.parent / "labels.csv")
    assert done.json["by_source"]["model"] == int(sure.sum()) > 0
    for place in np.flatnonzero(sure):
        assert rows[issues.rows[place]]["label"] == CLASSES[issues.proposed[place]]
    assert "expected change in label accuracy: +" in done.err
    assert "95 % interval" in done.err


def test_a_closed_gate_is_told_and_nothing_automatic_is_applied(audit: Path):
    issues = AuditDirectory.open(audit).issues
    sure = issues.rows[(issues.p_proposed > 0.6) & (issues.proposed >= 0)]
    judge(audit, *((int(row), "keep", None, "ada") for row in sure[:-1]))
    done = run_cli("apply", audit, "--out", audit.parent / "labels.csv", "--auto-above", 0.6)
    assert "warning: 1 proposal above `0.6` is not applied" in done.err
    assert "nothing automatic: 1 proposal" in done.out
    assert {row["source"] for row in table(audit.parent / "labels.csv")} == {"human", "given"}


def test_to_relabel_a_row_as_it_is_given_keeps_it(audit: Path):
    same = given_of(audit, 7)
    judge(audit, (7, "relabel", same, "ada"), (7, "relabel", other(audit, 7), "bo"))
    judge(audit, (7, "keep", None, "cy"))
    verified = audit.parent / "verified.csv"
    found = apply(audit, "--auto-above", 1, "--verified-out", verified).json
    assert (found["changed"], found["by_source"]["human"]) == (0, 1)
    assert table(verified) == [{"id": AuditDirectory.open(audit).ledger.ids[7], "label": same}]


@pytest.mark.parametrize(
    ("votes", "label", "weight", "source"),
    [
        (("a", "a", "keep"), "a", "1", "human"),
        (("keep", "keep", "a"), "given", "1", "human"),
        (("keep", "a"), "given", "1", "given"),
        (("a", "unsure"), "a", "1", "human"),
        (("unsure", "unsure"), "given", "1", "given"),
        # Nobody knows the right class, but most find the given one wrong.
        (("a", "b"), "given", "0", "human"),
        (("a", "drop"), "given", "0", "human"),
        (("a", "b", "keep"), "given", "0", "human"),
        (("a", "a", "b", "b", "keep"), "given", "0", "human"),
        (("a", "keep", "keep", "b", "a"), "given", "0", "human"),
    ],
)
def test_reviewers_who_disagree_are_settled_by_the_stated_rule(
    audit: Path, votes: tuple[str, ...], label: str, weight: str, source: str
):
    classes = {"given": given_of(audit, 9), "a": other(audit, 9), "b": other(audit, 9, 2)}
    for person, vote in enumerate(votes):
        word = "relabel" if vote in classes else vote
        judge(audit, (9, word, classes.get(vote), f"person {person}"))
    apply(audit, "--auto-above", 1)
    row = table(audit.parent / "labels.csv")[9]
    assert (row["label"], row["weight"], row["source"]) == (classes[label], weight, source)
    assert row["verdicts"] == str(len(votes))


def test_a_parquet_file_says_the_same_as_a_csv_file(audit: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    judge(audit, (3, "relabel", other(audit, 3), "ada"))
    apply(audit, "--auto-above", 0.6)
    apply(audit, "--auto-above", 0.6, out="labels.parquet")
    columns = pq.read_table(audit.parent / "labels.parquet").to_pydict()
    rows = table(audit.parent / "labels.csv")
    assert list(columns) == COLUMNS
    for name in COLUMNS:
        assert [str(cell) for cell in columns[name]] == [row[name] for row in rows]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit with the ids and classes of the digits; its labels are made up."""
    train = open_source("digits").train
    folder = tmp_path_factory.mktemp("digits")
    return make_audit(
        folder,
        rows=len(train.ids),
        names=train.classes,
        classes=10,
        ids=train.ids,
        epochs=4,
        settings={"source": {"spec": "digits"}},
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_training_reads_what_apply_writes(digits: Path, tmp_path: Path, suffix: str):
    ledger = AuditDirectory.open(digits).ledger
    given = np.asarray(ledger.given).copy()
    judge(digits, (0, "relabel", str((given[0] + 1) % 10), "ada"), (1, "keep", None, "ada"))
    judge(digits, (2, "drop", None, "ada"))
    labels, verified = tmp_path / f"labels{suffix}", tmp_path / f"verified{suffix}"
    errata.apply(digits, out=labels, verified=verified, auto_above=1)
    opened = open_source("digits", labels=labels, verified=verified)
    given[0] = (given[0] + 1) % 10
    assert np.array_equal(opened.train.given, given)
    assert opened.weights is not None
    assert np.flatnonzero(opened.weights == 0).tolist() == [2]
    assert opened.verified is not None
    judged = opened.verified.against(opened.train.given)
    assert np.flatnonzero(judged == 1).tolist() == [0, 1]
    assert set(judged[2:]) == {-1}


def test_smp_trains_on_the_files_and_its_run_names_the_audit(digits: Path, tmp_path: Path):
    ledger = AuditDirectory.open(digits).ledger
    judge(digits, *((row, "keep", None, "ada") for row in range(40)))
    labels, verified = tmp_path / "labels.csv", tmp_path / "verified.csv"
    run_cli("apply", digits, "--out", labels, "--verified-out", verified)
    done = run_cli(
        *("train", "digits", "--labels", labels, "--verified", verified, "--recipe", "smp"),
        *("--epochs", 1, "--limit", 200, "--out", tmp_path / "model", "--quiet", "--json"),
    )
    assert done.code == 0, done.err
    trained = open_source("digits", limit=200).train.ids
    assert done.json["verified_rows"] == len(set(trained) & set(ledger.ids[:40])) > 0
    settings = {"source": {"spec": "digits", "labels": str(labels)}}
    assert parent_of(settings) == {
        "audit": str(digits),
        "fingerprint": ledger.fingerprint,
        "changed": 0,
        "dropped": 0,
    }


def test_what_people_decided_in_an_earlier_round_is_not_overruled(tmp_path: Path):
    first = make_audit(tmp_path, rows=60, names=CLASSES, classes=4)
    issues = AuditDirectory.open(first).issues
    worst = issues.rows[(issues.p_proposed > 0.6) & (issues.proposed >= 0)].tolist()
    kept, gone, rest = worst[0], worst[1], worst[2:]
    judge(first, (kept, "keep", None, "ada"), (gone, "drop", None, "ada"))
    apply(first, "--auto-above", 1, out="round1.csv")
    source = {"source": {"spec": "photos", "labels": str(tmp_path / "round1.csv")}}
    second = make_audit(tmp_path, rows=60, names=CLASSES, classes=4, settings=source, out="second")
    found = apply(second, "--auto-above", 0.5, out="round2.csv").json
    rows = table(tmp_path / "round2.csv")
    assert [rows[kept][name] for name in COLUMNS[1:4]] == [given_of(first, kept), "1", "human"]
    assert [rows[gone][name] for name in ("weight", "source", "verdicts")] == ["0", "human", "1"]
    assert found["dropped"] == 1
    assert found["reviewed"] == 0
    judge(second, (gone, "keep", None, "bo"), (rest[0], "keep", None, "bo"))
    apply(second, "--auto-above", 1, out="round3.csv")
    rows = table(tmp_path / "round3.csv")
    assert [rows[gone][name] for name in ("weight", "source", "verdicts")] == ["1", "human", "2"]


@pytest.fixture
def folder_audit(tmp_path: Path) -> tuple[Path, Path]:
    """Class folders, and an audit of them whose given labels are the folders."""
    source = tmp_path / "img"
    ids = [f"{name}/{part}{row}.png" for name in CLASSES for part in ("", "deep/") for row in "01"]
    for each in ids:
        path = source / "train" / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.encode())
    (source / "test" / "ant").mkdir(parents=True)
    (source / "test" / "ant" / "t.png").write_bytes(b"t")
    ids = sorted(ids)
    settings = {"source": {"spec": str(source)}}
    audit = make_audit(
        tmp_path, rows=len(ids), names=CLASSES, classes=4, ids=ids, settings=settings, wrong=0.0
    )
    return audit, source


def test_the_corrected_copy_is_made_of_links_and_the_source_stays(
    folder_audit: tuple[Path, Path],
):
    audit, source = folder_audit
    before = files(source)
    row = {str(key): place for place, key in enumerate(AuditDirectory.open(audit).ledger.ids)}
    judge(
        audit, (row["ant/0.png"], "relabel", "bee", "ada"), (row["cat/1.png"], "drop", None, "ada")
    )
    keep = [(place, "relabel", key.split("/")[0], "ada") for key, place in row.items()]
    judge(audit, *(each for each in keep if each[0] not in (row["ant/0.png"], row["cat/1.png"])))
    copy = audit.parent / "fixed"
    assert apply(audit, "--copy", copy).code == 0
    found = {p.relative_to(copy).as_posix() for p in copy.rglob("*.png")}
    wanted = {f"train/{key}" for key in row} - {"train/ant/0.png", "train/cat/1.png"}
    # The place of `bee/0.png` is taken, so the file that moves says where it comes from.
    assert found - {"test/ant/t.png"} == wanted | {"train/bee/ant-0.png"}
    moved = copy / "train" / "bee" / "ant-0.png"
    assert moved.is_symlink()
    assert moved.read_bytes() == b"ant/0.png"
    assert (copy / "test" / "ant" / "t.png").read_bytes() == b"t"
    assert files(source) == before
    again = open_source_ids(copy)
    assert again["bee/ant-0.png"] == "bee"


def open_source_ids(folder: Path) -> dict[str, str]:
    from errata.data.folder import read_folder

    found = read_folder(folder, name="copy")
    return {key: found.classes[number] for key, number in zip(found.ids, found.given, strict=True)}


def test_where_one_output_fails_none_appears(
    folder_audit: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    audit, _ = folder_audit
    judge(audit, (0, "keep", None, "ada"))
    place = audit.parent
    (place / "labels.csv").write_text("of before")
    before = files(place)
    write, calls = applying.write_table, []

    def fail_at_the_second(*args: object, **more: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise OutputError("cannot write: no space left on device")
        write(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(applying, "write_table", fail_at_the_second)
    done = apply(audit, "--verified-out", place / "v.csv", "--copy", place / "fixed")
    assert (done.code, len(calls)) == (2, 2)
    assert files(place) == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--out", "x.txt"], "allowed: `.csv` or `.parquet`"),
        (["--out", "audit"], "ends in"),
        (["--out", "audit/issues.csv"], "is a file of the audit"),
        (["--out", "audit/ledger/x.csv"], "is a file of the audit"),
        (["--out", "img/train/labels.csv"], "is a file of the source"),
        (["--out", "x.csv", "--verified-out", "x.csv"], "both name `x.csv`"),
        (["--out", "no.csv/x.csv"], "is no folder that can be written"),
        (["--verified-out", "v.csv"], "nobody has given a label"),
        (["--copy", "img/copy"], "inside of the source"),
        (["--copy", "audit"], "exists; allowed: a new name"),
        (["--policy", "model-first"], "policy `model-first` is unknown"),
        (["--auto-above", "1.5"], "`--auto-above` is `1.5`"),
        (["--auto-above", "nan"], "`--auto-above` is `nan`"),
        (["--drop-above", "-1"], "`--drop-above` is `-1`"),
    ],
)
def test_bad_input_is_explained_and_nothing_is_written(
    folder_audit: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    words: str,
):
    audit, source = folder_audit
    monkeypatch.chdir(audit.parent)
    (source / "train" / "labels.csv").write_text("theirs")
    (audit.parent / "no.csv").write_text("a file")
    before = files(audit.parent)
    done = run_cli("apply", "audit", *argv)
    assert done.code == 2
    assert words in done.err
    assert "hint: " in done.err
    assert done.out == ""
    assert files(audit.parent) == before


def test_a_source_that_lost_a_picture_cannot_be_copied(folder_audit: tuple[Path, Path]):
    audit, source = folder_audit
    (source / "train" / "ant" / "0.png").unlink()
    done = apply(audit, "--copy", audit.parent / "fixed")
    assert done.code == 2
    assert "finds 1 samples of the audit no more, first `ant/0.png`" in done.err


def test_a_journal_of_another_audit_is_refused(audit: Path, tmp_path: Path):
    judge(audit, (0, "keep", None, "ada"))
    elsewhere = make_audit(tmp_path, rows=30, names=CLASSES, classes=4, out="elsewhere")
    (elsewhere / "verdicts.sqlite").write_bytes((audit / "verdicts.sqlite").read_bytes())
    done = apply(elsewhere)
    assert done.code == 2
    assert "belongs to another audit" in done.err


def test_a_run_without_origin_has_no_parent(tmp_path: Path):
    labels = tmp_path / "labels.csv"
    settings = {"source": {"spec": "digits", "labels": str(labels)}}
    assert parent_of({"source": {"spec": "digits"}}) is None
    assert parent_of(settings) is None
    for text in ("", "{}", "[]", json.dumps({"audit": 1})):
        (tmp_path / "labels.csv.origin.json").write_text(text)
        assert parent_of(settings) is None


def test_an_audit_says_what_moved_since_its_parent(tmp_path: Path):
    rate = {"estimate": 0.2, "low": None, "high": None, "method": ""}
    first = make_audit(tmp_path, names=CLASSES, classes=4, summary={"noise_rate": rate})
    link = {
        "audit": str(first),
        "fingerprint": AuditDirectory.open(first).ledger.fingerprint,
        "changed": 3,
        "dropped": 1,
    }
    summary = {"parent": link, "noise_rate": rate | {"estimate": 0.05}}
    second = make_audit(
        tmp_path, names=CLASSES, classes=4, wrong=0.02, summary=summary, out="second"
    )
    before, now = (
        set(audit.issues.rows[audit.issues.flagged].tolist())
        for audit in map(AuditDirectory.open, (first, second))
    )
    found = dict(moved_facts(AuditDirectory.open(second)))
    assert found["parent"] == str(first)
    assert found["labels changed since"] == "3, and 1 rows dropped"
    assert found["suspects"] == (
        f"{len(before)} before, {len(now)} now: {len(before - now)} settled, "
        f"{len(now - before)} new"
    )
    assert found["estimated share wrong"] == "20.0 % before, 5.0 % now"
    assert moved_facts(AuditDirectory.open(first)) == []


@pytest.mark.parametrize("change", [{"audit": "nowhere"}, {"fingerprint": "other"}])
def test_a_parent_that_moved_away_is_named_and_no_more(tmp_path: Path, change: dict[str, str]):
    first = make_audit(tmp_path, rows=20)
    fingerprint = AuditDirectory.open(first).ledger.fingerprint
    link = {"audit": str(first), "fingerprint": fingerprint, "changed": 3, "dropped": 0} | change
    second = make_audit(tmp_path, rows=20, summary={"parent": link}, out="second")
    assert list(dict(moved_facts(AuditDirectory.open(second)))) == [
        "parent",
        "labels changed since",
    ]

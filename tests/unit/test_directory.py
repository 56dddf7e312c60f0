from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from errata.directory import (
    AuditDirectory,
    check_out,
    publish,
    staging,
    write_settings,
    write_summary,
    write_unreadable,
)
from errata.errors import LedgerError, OutputError, SettingsError

from .fake_audit import make_audit


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditDirectory:
    folder = tmp_path_factory.mktemp("made")
    unreadable = [("img/a,b.jpg", "img/a,b.jpg", "zero bytes")]
    return AuditDirectory.open(make_audit(folder, unlabelled=3, unreadable=unreadable))


def _fingerprint(path: Path) -> str:
    return AuditDirectory.open(path).settings["fingerprint"]


def _full_disk(*args: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# Building and publishing


def test_an_audit_is_built_beside_its_place_and_appears_at_once(tmp_path: Path):
    out = tmp_path / "deep" / "audit"
    partial = staging(out)
    assert partial == tmp_path / "deep" / ".audit.partial"
    assert not out.exists()
    (partial / "settings.toml").write_text("seed = 1\n")
    publish(partial, out)
    assert (out / "settings.toml").read_text() == "seed = 1\n"
    assert not partial.exists()


def test_staging_keeps_an_interrupted_run_unless_told(tmp_path: Path):
    (staging(tmp_path / "audit") / "checkpoint").write_text("epoch 3")
    assert (staging(tmp_path / "audit") / "checkpoint").exists()
    assert not (staging(tmp_path / "audit", fresh=True) / "checkpoint").exists()


def test_a_root_cannot_be_the_name_of_an_audit():
    with pytest.raises(OutputError, match="cannot be the name"):
        staging(Path("/"))


def test_a_full_disk_at_the_last_step_loses_nothing(tmp_path: Path, monkeypatch):
    partial = staging(tmp_path / "audit")
    (partial / "settings.toml").write_text("seed = 1\n")
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(OutputError) as caught:
        publish(partial, tmp_path / "audit")
    assert "no space left on device" in caught.value.message
    assert "--resume" in caught.value.hint
    assert str(partial) in caught.value.hint
    assert not (tmp_path / "audit").exists()
    assert (partial / "settings.toml").exists()


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch):
    def read_only(*args: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OutputError, match="read-only file system"):
        staging(tmp_path / "audit")


def test_publish_does_not_replace_what_appeared_meanwhile(tmp_path: Path):
    partial = staging(tmp_path / "audit")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="appeared meanwhile"):
        publish(partial, tmp_path / "audit")
    assert (tmp_path / "audit" / "mine.txt").read_text() == "mine"
    assert partial.exists()


def test_overwriting_replaces_ours_and_keeps_theirs(tmp_path: Path):
    out = make_audit(tmp_path, rows=20)
    (out / "labels.csv").write_text("mine")
    (out / "truth.npz").write_text("of the old run")
    partial = staging(out, fresh=True)
    (partial / "settings.toml").write_text("seed = 2\n")
    publish(partial, out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["labels.csv", "settings.toml"]
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_a_failing_overwrite_leaves_the_old_audit(tmp_path: Path, monkeypatch):
    out = make_audit(tmp_path, rows=20)
    partial = staging(out, fresh=True)
    rename = Path.rename

    def fail_at_the_second(path: Path, target: Path) -> Path:
        if path == partial:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_second)
    with pytest.raises(OutputError, match="permission denied"):
        publish(partial, out, overwrite=True)
    assert AuditDirectory.open(out).summary["rows"] == 20
    assert partial.exists()


def test_a_reviewed_audit_is_never_replaced(tmp_path: Path):
    out = make_audit(tmp_path, rows=20)
    (out / "verdicts.sqlite").write_bytes(b"decided")
    with pytest.raises(OutputError, match="what people decided"):
        publish(staging(out), out, overwrite=True)
    with pytest.raises(OutputError, match="what people decided"):
        check_out(out, _fingerprint(out), overwrite=True)


# Deciding whether a place may be used


def test_a_new_or_empty_place_is_free(tmp_path: Path):
    assert check_out(tmp_path / "audit", "9f2c") == "new"
    assert check_out(tmp_path / "audit", "9f2c", resume=True) == "new"
    (tmp_path / "empty").mkdir()
    assert check_out(tmp_path / "empty", "9f2c") == "new"


def test_a_place_that_holds_something_else_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        check_out(tmp_path / "file", "9f2c")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(OutputError, match="is not an audit"):
            check_out(tmp_path / "folder", "9f2c", resume=resume, overwrite=overwrite)


@pytest.mark.parametrize("partial", [False, True])
def test_an_audit_of_other_data_is_refused_with_both_fingerprints(tmp_path: Path, partial: bool):
    out = make_audit(tmp_path, rows=20)
    theirs = _fingerprint(out)
    if partial:
        out.rename(tmp_path / ".audit.partial")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(OutputError) as caught:
            check_out(out, "9f2c41aa", resume=resume, overwrite=overwrite)
        assert theirs in caught.value.message
        assert "9f2c41aa" in caught.value.message


def test_a_finished_audit_needs_a_choice(tmp_path: Path):
    out = make_audit(tmp_path, rows=20)
    fingerprint = _fingerprint(out)
    with pytest.raises(OutputError) as caught:
        check_out(out, fingerprint)
    for way in ("--out", "--resume", "--overwrite"):
        assert way in caught.value.hint
    assert check_out(out, fingerprint, resume=True) == "finished"
    assert check_out(out, fingerprint, overwrite=True) == "new"


def test_an_unfinished_audit_needs_a_choice(tmp_path: Path):
    out = tmp_path / "audit"
    write_settings(staging(out) / "settings.toml", {"fingerprint": "9f2c"})
    with pytest.raises(OutputError) as caught:
        check_out(out, "9f2c")
    assert ".audit.partial" in caught.value.message
    assert "--resume" in caught.value.hint
    assert "--overwrite" in caught.value.hint
    assert check_out(out, "9f2c", resume=True) == "resume"
    assert check_out(out, "9f2c", overwrite=True) == "new"


def test_a_run_killed_before_its_first_file_can_be_resumed(tmp_path: Path):
    staging(tmp_path / "audit")
    assert check_out(tmp_path / "audit", "9f2c", resume=True) == "resume"


def test_an_interrupted_overwrite_is_resumed_by_the_same_command(tmp_path: Path):
    out = make_audit(tmp_path, rows=20)
    fingerprint = _fingerprint(out)
    write_settings(staging(out) / "settings.toml", {"fingerprint": fingerprint})
    assert check_out(out, fingerprint, resume=True, overwrite=True) == "resume"
    assert check_out(out, fingerprint, resume=True) == "finished"


# Reading


def test_an_audit_tells_what_it_holds(audit: AuditDirectory):
    assert audit.summary["rows"] == 200
    assert audit.settings["recipe"] == "erm"
    assert audit.settings["format"] == 1
    assert audit.ledger.num_rows == 200
    assert [line["epoch"] for line in audit.log] == list(range(30))
    assert audit.unreadable == [
        {"id": "img/a,b.jpg", "path": "img/a,b.jpg", "why": "zero bytes"},
    ]


def test_a_record_joins_issues_and_ledger(audit: AuditDirectory):
    record = audit.worst(1)[0]
    row = record.row
    assert record == audit.record(row) == audit.record(record.id)
    assert record.id == audit.ledger.ids[row]
    assert record.given == audit.ledger.classes[int(audit.ledger.given[row])]
    assert record.flagged
    assert record.reasons[0].kind == "accumulated_margin"
    assert len(record.curve) == 30
    assert record.curve == tuple(audit.ledger.read("loss_curve")[row].tolist())
    assert record.neighbours == ()


def test_an_unlabelled_row_has_no_given_label_and_comes_last(audit: AuditDirectory):
    last = audit.worst(200)[-1]
    assert last.given is None
    assert last.suspicion != last.suspicion
    assert not last.flagged


def test_worst_filters_by_given_proposed_and_tier(audit: AuditDirectory):
    everyone = audit.worst(200)
    suspicions = [r.suspicion for r in everyone[:-3]]
    assert suspicions == sorted(suspicions, reverse=True)
    for record in (r for r in everyone if r.flagged):
        assert record in audit.worst(200, given=record.given)
        assert record in audit.worst(200, proposed=record.proposed, tier=record.tier)
        assert record not in audit.worst(200, tier="fine")
    assert all(r.given == "lynx" for r in audit.worst(9, given="lynx"))
    assert audit.worst(0) == []


def test_a_shortened_curve_holds_only_what_was_seen(tmp_path: Path):
    dropped = AuditDirectory.open(make_audit(tmp_path, removal=True))
    gone = dropped.ledger.read("dropped").nonzero()[0].item()
    assert len(dropped.record(gone).curve) == 12


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("0041.jpg", "did you mean `img/ocelot/0041.jpg`?"),
        ("img/ocelot/041.jpg", "`img/ocelot/0041.jpg`"),
        ("zzz", "look like `img/lynx/0000.jpg`"),
    ],
)
def test_an_unknown_id_suggests_the_nearest(audit: AuditDirectory, key: str, near: str):
    with pytest.raises(SettingsError) as caught:
        audit.record(key)
    assert f"`{key}`" in caught.value.message
    assert near in caught.value.hint


def test_unknown_rows_classes_and_tiers_are_refused(audit: AuditDirectory):
    with pytest.raises(SettingsError, match="row `200`"):
        audit.record(200)
    with pytest.raises(SettingsError, match="did you mean `ocelot`"):
        audit.worst(1, given="ocelott")
    with pytest.raises(SettingsError, match="class `tiger` is unknown"):
        audit.worst(1, proposed="tiger")
    with pytest.raises(SettingsError, match="did you mean `obvious`"):
        audit.worst(1, tier="obviuos")


def test_what_is_no_audit_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(OutputError, match="does not exist"):
        AuditDirectory.open(tmp_path / "audit")
    (tmp_path / "notes").mkdir()
    with pytest.raises(OutputError, match="is not an audit"):
        AuditDirectory.open(tmp_path / "notes")
    staging(tmp_path / "audit")
    with pytest.raises(OutputError, match="--resume"):
        AuditDirectory.open(tmp_path / "audit")


@pytest.mark.parametrize(("version", "age"), [(2, "a newer version"), (0, "another version")])
def test_another_layout_is_refused(tmp_path: Path, version: int, age: str):
    out = make_audit(tmp_path, rows=20)
    settings = (out / "settings.toml").read_text()
    (out / "settings.toml").write_text(settings.replace("format = 1", f"format = {version}"))
    with pytest.raises(OutputError, match=age):
        AuditDirectory.open(out)


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("summary.json", "{", lambda a: a.summary),
        ("summary.json", "[]", lambda a: a.summary),
        ("log.jsonl", '{"epoch": 0}\n{"epo', lambda a: a.log),
        ("ledger/schema.json", "{}", lambda a: a.ledger),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, read):
    out = make_audit(tmp_path, rows=20)
    (out / name).write_text(text)
    with pytest.raises((OutputError, LedgerError), match=r"hint: "):
        read(AuditDirectory.open(out))


# Small files


def test_the_summary_holds_no_nan(tmp_path: Path):
    write_summary(tmp_path / "s.json", {"auroc": float("nan"), "each": (1, float("inf"))})
    assert json.loads((tmp_path / "s.json").read_text()) == {"auroc": None, "each": [1, None]}


def test_settings_leave_out_none(tmp_path: Path):
    write_settings(tmp_path / "s.toml", {"seed": 0, "labels": None, "stage": [{"lr": None}]})
    assert (tmp_path / "s.toml").read_text() == "format = 1\nseed = 0\nstage = [\n    {},\n]\n"


def test_file_names_that_are_no_text_are_percent_encoded(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9,1.jpg")
    write_unreadable(tmp_path / "u.csv", [("1", name, "zero bytes")])
    assert (tmp_path / "u.csv").read_text() == 'id,path,why\n1,"caf%E9,1.jpg",zero bytes\n'

"""`errata score` from the outside: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from errata.issues import HEADER

from .cli_runner import run_cli
from .test_score import model

KEYS = {
    *("command", "version", "rows", "classes", "suspects", "noise_rate", "planted", "warnings"),
    *("seconds", "peak_memory_mb", "out"),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with `probs.npy`, `labels.npy` and `truth.npy` of 400 rows, 80 of them wrong."""
    probs, given, wrong = model()
    truth = np.where(wrong, probs.argmax(1), given)
    for name, array in (("probs", probs), ("labels", given), ("truth", truth)):
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def score(folder: Path, *more: object):
    out = () if "--out" in more else ("--out", folder / "issues.csv")
    return run_cli("score", folder / "probs.npy", folder / "labels.npy", *out, *more)


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_json_has_the_keys_of_the_contract(files: Path):
    done = score(files, "--json")
    assert done.code == 0
    assert set(done.json) == KEYS
    assert set(done.json["noise_rate"]) == {"estimate", "low", "high", "method"}
    assert (done.json["rows"], done.json["classes"]) == (400, 4)
    assert done.json["planted"] is None
    assert done.json["warnings"] == []


def test_every_row_is_written_worst_first(files: Path):
    suspects = score(files, "--json").json["suspects"]
    rows = lines(files / "issues.csv")
    assert tuple(rows[0]) == HEADER
    assert sorted(int(row["id"]) for row in rows) == list(range(400))
    suspicion = [float(row["suspicion"]) for row in rows]
    assert suspicion == sorted(suspicion, reverse=True)
    assert [row["flagged"] for row in rows] == ["true"] * suspects + ["false"] * (400 - suspects)
    assert rows[0]["reasons"].startswith("disagreement")
    assert rows[0]["given"] != rows[0]["proposed"] in set("0123")


def test_the_same_input_gives_the_same_bytes(files: Path):
    score(files)
    first = (files / "issues.csv").read_bytes()
    score(files)
    assert (files / "issues.csv").read_bytes() == first


def test_the_truth_is_measured_against(files: Path):
    done = score(files, "--truth", files / "truth.npy", "--json")
    planted = done.json["planted"]
    assert planted["auroc"] > 0.9
    assert planted["rate_error"] == pytest.approx(
        done.json["noise_rate"]["estimate"] - planted["rate"]
    )
    assert "against the known truth" in score(files, "--truth", files / "truth.npy").out


def test_the_truth_changes_nothing_that_is_found(files: Path):
    score(files)
    without = (files / "issues.csv").read_bytes()
    score(files, "--truth", files / "truth.npy")
    assert (files / "issues.csv").read_bytes() == without


def test_ids_are_the_keys_of_the_user(files: Path):
    names = [f"cat/{k}.png" for k in range(400)]
    (files / "ids.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    np.save(files / "ids.npy", np.array(names))
    for name in ("ids.txt", "ids.npy"):
        assert score(files, "--ids", files / name).code == 0
        assert {row["id"] for row in lines(files / "issues.csv")} == set(names)


def test_flag_says_how_many(files: Path):
    assert score(files, "--flag", "top:7", "--json").json["suspects"] == 7


def test_features_are_read(files: Path):
    np.save(files / "features.npy", np.load(files / "probs.npy"))
    assert score(files, "--features", files / "features.npy").code == 0


def test_warnings_are_told_with_a_code(files: Path):
    probs = np.load(files / "probs.npy")
    probs[3] = np.nan
    np.save(files / "probs.npy", probs)
    done = score(files, "--truth", files / "truth.npy", "--json")
    assert [each["code"] for each in done.json["warnings"]] == ["nan_rows"]
    assert "warning: 1 rows hold NaN" in done.err
    assert lines(files / "issues.csv")[-1]["id"] == "3"


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("labels", np.zeros(399, int), "399 labels for 400 rows"),
        ("labels", np.full(400, 9), "label `9`"),
        ("probs", np.full((400, 4), 3.0), "look like logits"),
        ("probs", np.full((400, 4), 0.25), "are alike"),
        ("truth", np.zeros(7, int), "holds 7 values"),
        ("truth", np.full(400, 4), "holds the class `4`"),
    ],
)
def test_bad_input_is_exit_2_and_writes_nothing(
    files: Path, name: str, array: np.ndarray, words: str
):
    np.save(files / f"{name}.npy", array)
    done = score(files, "--truth", files / "truth.npy")
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (files / "issues.csv").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\nb\n", "`ids` has the shape"),
        ("a\n" * 400, "the id `a` twice"),
        ("\n" * 400, "an empty id"),
    ],
)
def test_ids_that_do_not_fit_are_refused(files: Path, text: str, words: str):
    (files / "ids.txt").write_text(text, encoding="utf-8")
    done = score(files, "--ids", files / "ids.txt")
    assert done.code == 2
    assert words in done.err


def test_inputs_are_never_written_over(files: Path):
    before = (files / "labels.npy").read_bytes()
    done = score(files, "--out", files / "labels.npy")
    assert done.code == 2
    assert "is never written over" in done.err
    assert (files / "labels.npy").read_bytes() == before


def test_a_flag_that_does_not_exist_is_refused(files: Path):
    done = score(files, "--flag", "rate:0.1")
    assert done.code == 2
    assert "`fdr:Q`" in done.err

"""Wrong labels from probabilities alone: by hand, by a slow loop, and what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

import errata
from errata.blocks import blocks_of
from errata.detect.neighbours import neighbour_disagreement
from errata.detect.one_pass import one_pass
from errata.detect.probabilities import scan
from errata.detect.score import SCORES, find_label_errors, spread_rate
from errata.detect.tables import probability_table
from errata.errors import ErrataError, SettingsError, SourceError

KEPT = ("given_prob", "other", "other_prob", "top", "usable", "counts")


def model(
    rows: int = 400, classes: int = 4, wrong: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out probabilities of a fair model, given labels, and which of them are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 4 * np.eye(classes)[true]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    planted = rng.random(rows) < wrong
    given = np.where(planted, (true + rng.integers(1, classes, rows)) % classes, true)
    return probs, given, planted


def test_one_pass_by_hand():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8]])
    found = one_pass(blocks_of(probs, "probs"), np.array([0, 2, 2, -1]))
    assert found.given_prob[:3].tolist() == [0.7, 0.3, 0.5]
    assert np.isnan(found.given_prob[3])
    assert found.other.tolist() == [1, 1, 0, 2]
    assert found.other_prob.tolist() == [0.2, 0.6, 0.25, 0.8]
    assert found.top.tolist() == [0, 1, 2, 2]
    assert found.counts.tolist() == [1, 0, 2]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_pass_keeps_what_the_full_scan_does(dtype: str):
    probs, given, _ = model()
    probs[5], given[7] = np.nan, -1
    table = blocks_of(probs.astype(dtype), "probs")
    lean, full = one_pass(table, given), scan(table, given)
    for name in KEPT:
        ours, theirs = getattr(lean, name), getattr(full, name)
        labelled = given >= 0 if len(ours) == len(given) else slice(None)
        np.testing.assert_array_equal(ours[labelled], theirs[labelled])
    assert [each.code for each in lean.warnings] == [each.code for each in full.warnings]


@drawn(st.integers(1, 400), st.integers(0, 3))
def test_the_size_of_a_block_changes_no_bit(values: int, kind: int):
    probs, given, _ = model(rows=60)
    probs[11], given[3] = np.nan, -1
    dtype = ("float16", "float32", "float64")[kind % 3]
    table = blocks_of(probs.astype(dtype), "probs")
    one, other = one_pass(table, given, values=values), one_pass(table, given)
    for name in KEPT:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def answer(rule: str) -> str:
    """Digest everything that one call answers."""
    probs, given, _ = model(rows=3000, classes=20)
    found = find_label_errors(given, probs, rule=rule)
    parts = (found.suspicion, found.p_wrong, found.p_proposed, found.flagged, found.proposed)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["surest", "gated", "posterior"])
def test_the_number_of_threads_changes_no_bit(rule: str):
    code = f"from tests.unit.test_score import answer; print(answer({rule!r}))"
    threads = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | threads,
    )
    assert done.stdout.strip() == answer(rule)


def test_equally_good_classes_count_as_argmax_has_them():
    probs = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.4, 0.4]])
    found = one_pass(blocks_of(probs, "probs"), np.array([0, 1, 2]))
    assert found.top.tolist() == probs.argmax(1).tolist() == [0, 0, 1]


def test_planted_errors_are_found_and_a_better_label_is_proposed():
    probs, given, wrong = model(rows=2000)
    found = find_label_errors(given, probs)
    assert (found.flagged & wrong).sum() / wrong.sum() > 0.85
    assert (found.flagged & wrong).sum() / found.flagged.sum() > 0.85
    caught = found.flagged & wrong
    assert (found.proposed[caught] != given[caught]).all()
    assert found.flagged.sum() == round(found.rate.estimate * 2000)
    assert found.rate.low < wrong.mean() < found.rate.high


@pytest.mark.parametrize("score", SCORES)
def test_every_score_ranks_planted_errors_above_right_labels(score: str):
    probs, given, wrong = model()
    suspicion = find_label_errors(given, probs, score=score).suspicion
    assert errata.find_label_errors is find_label_errors
    assert suspicion[wrong].mean() > suspicion[~wrong].mean() + 0.3
    assert ((suspicion >= 0) & (suspicion <= 1)).all()


def test_the_worst_rows_are_flagged_ties_by_row():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.2, 0.8]])
    flagged = find_label_errors([0, 0, 0, 0], probs, flag="top:2").flagged
    assert flagged.tolist() == [False, True, True, False]
    assert find_label_errors([0, 0, 0, 0], probs, flag="top:0").flagged.sum() == 0
    assert find_label_errors([0, 0, 0, 0], probs, flag="top:9").flagged.sum() == 4


def test_a_list_within_a_share_of_alarms_keeps_its_own_promise():
    probs, given, _ = model(rows=2000)
    found = find_label_errors(given, probs, flag="fdr:0.1")
    assert found.flagged.any()
    assert (1 - found.p_wrong[found.flagged]).mean() <= 0.1
    assert find_label_errors(given, probs, flag="fdr:0").flagged.sum() == 0


def test_unlabelled_rows_are_proposed_a_label_and_never_flagged():
    probs, given, _ = model()
    given[:20] = -1
    found = find_label_errors(given, probs, flag="top:400")
    assert not found.flagged[:20].any()
    assert np.isnan(found.suspicion[:20]).all()
    assert (found.proposed[:20] == probs[:20].argmax(1)).all()
    assert found.p_proposed[:20] == pytest.approx(probs[:20].max(1))


def test_reasons_name_the_class_and_the_probabilities():
    found = find_label_errors([0, 0, 1], [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    first, second = found.reasons(0)
    assert (first.kind, first.value) == ("disagreement", 0.9)
    assert "class 1" in first.text
    assert (second.kind, second.value) == ("confidence", 0.1)
    assert [reason.kind for reason in found.reasons(1)] == ["confidence"]


def test_probabilities_of_being_wrong_rise_with_suspicion_and_average_to_the_rate():
    suspicion = np.random.default_rng(0).random(3000)
    suspicion[:10] = np.nan
    probs = spread_rate(suspicion, 0.3)
    order = np.argsort(suspicion[10:])
    assert (np.diff(probs[10:][order]) >= 0).all()
    assert np.nanmean(probs) == pytest.approx(0.3, abs=1e-9)
    assert np.isnan(probs[:10]).all()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_of_none_or_all_is_the_probability_of_every_row(rate: float):
    assert spread_rate(np.array([0.1, 0.9]), rate).tolist() == [rate, rate]


def test_several_models_count_by_their_mean(tmp_path: Path):
    one, given, _ = model(seed=0)
    other = model(seed=1)[0]
    mean = find_label_errors(given, (one + other) / 2)
    np.save(tmp_path / "one.npy", one)
    for both in ([one, other], np.stack([one, other]), [str(tmp_path / "one.npy"), other]):
        np.testing.assert_array_equal(find_label_errors(given, both).suspicion, mean.suspicion)
    with pytest.raises(SourceError, match=r"table 1 .* shape"):
        find_label_errors(given, [one, other[:9]])


@pytest.mark.parametrize(
    "convert", [np.ndarray.tolist, torch.from_numpy, np.asfortranarray], ids=["list", "torch", "F"]
)
def test_arrays_of_any_kind_give_the_same_answer(convert):
    probs, given, _ = model()
    expected = find_label_errors(given, probs).suspicion
    np.testing.assert_array_equal(
        find_label_errors(convert(given), convert(probs)).suspicion, expected
    )


def test_files_and_maps_give_the_same_answer(tmp_path: Path):
    probs, given, _ = model()
    path = tmp_path / "probs.npy"
    np.save(path, probs)
    expected = find_label_errors(given, probs).suspicion
    mapped = np.load(path, mmap_mode="r")
    for table in (path, str(path), mapped):
        np.testing.assert_array_equal(find_label_errors(given, table).suspicion, expected)
    part = find_label_errors(given[100:], mapped[100:]).suspicion
    np.testing.assert_array_equal(part, expected[100:])


def test_a_mapped_file_that_shrinks_is_an_error_and_no_crash(tmp_path: Path):
    probs, given, _ = model()
    path = tmp_path / "probs.npy"
    np.save(path, probs)
    mapped = np.load(path, mmap_mode="r")
    table = probability_table(mapped)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(SourceError, match="ends after"):
        one_pass(table, given)
    with pytest.raises(SourceError, match="ends after"):
        find_label_errors(given, mapped)


PROBS, GIVEN, _ = model(rows=40)


def broken(row: int, value: float) -> np.ndarray:
    probs = PROBS.copy()
    probs[row, 0] = value
    return probs


@pytest.mark.parametrize(
    ("probs", "given", "words"),
    [
        (np.log(PROBS), GIVEN, "look like logits"),
        (PROBS * 0.9, GIVEN, "sums to `0.9`"),
        (broken(3, -0.5), GIVEN, "row 3 .* allowed: probabilities"),
        (PROBS[:, :3] / PROBS[:, :3].sum(1, keepdims=True), GIVEN, "label `3` .* has no column"),
        (PROBS, GIVEN - 2, "label `-2` .* has no column"),
        (np.full((40, 4), 0.25), GIVEN, "alike"),
        (PROBS[:1], GIVEN[:1], "alike"),
        (PROBS, GIVEN[:-1], "39 labels for 40 rows"),
        (np.full((40, 4), np.nan), GIVEN, "no row that is labelled"),
        (PROBS, np.full(40, -1), "no row that is labelled"),
        ([], GIVEN, "no table of probabilities"),
    ],
)
def test_what_would_give_a_wrong_list_is_refused(probs, given: np.ndarray, words: str):
    with pytest.raises(SourceError, match=words):
        find_label_errors(given, probs)


@pytest.mark.parametrize(
    "values", [{"flag": "most"}, {"score": "best"}, {"rule": "true"}, {"obvious": 1.5}]
)
def test_settings_that_do_not_exist_are_refused(values: dict):
    with pytest.raises(SettingsError, match="allowed"):
        find_label_errors(GIVEN, PROBS, **values)


def test_nan_rows_change_nothing_for_the_others():
    probs, given, _ = model()
    whole = find_label_errors(given, probs, flag="top:50")
    assert not whole.flagged[7]
    probs[7] = np.nan
    found = find_label_errors(given, probs, flag="top:50")
    assert [each.code for each in found.warnings] == ["nan_rows"]
    assert np.isnan(found.suspicion[7])
    assert (found.flagged == whole.flagged).all()


def test_a_tenth_of_nan_rows_leaves_the_other_errors_found():
    probs, given, wrong = model(rows=2000)
    probs[::10] = np.nan
    found = find_label_errors(given, probs)
    left = wrong.copy()
    left[::10] = False
    assert (found.flagged & left).sum() / left.sum() > 0.85


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("shuffled_columns", lambda p, g: (p[:, [1, 2, 3, 0]], g)),
        ("in_sample", lambda p, g: (0.005 * p + 0.995 * np.eye(4)[g], g)),
        ("empty_class", lambda p, g: (p, np.where(g == 3, -1, g))),
    ],
)
def test_doubtful_probabilities_are_told_of(code: str, change):
    probs, given, _ = model()
    assert find_label_errors(given, probs).warnings == ()
    changed, labels = change(probs, given)
    assert code in [each.code for each in find_label_errors(labels, changed).warnings]


def test_half_precision_may_stray_by_its_rounding():
    assert find_label_errors(GIVEN, (PROBS * 1.015).astype(np.float16)).flagged.any()


def test_neighbours_by_a_slow_loop():
    rng = np.random.default_rng(0)
    features, given = rng.normal(size=(50, 3)), rng.integers(-1, 3, 50)
    found = neighbour_disagreement(blocks_of(features, "features"), given, k=4)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    for row in range(50):
        if given[row] < 0:
            assert np.isnan(found[row])
            continue
        others = [o for o in range(50) if o != row and given[o] >= 0]
        nearest = sorted(others, key=lambda o: -units[row] @ units[o])[:4]
        assert found[row] == np.mean(given[nearest] != given[row])


def test_features_are_counted_and_must_fit():
    probs, given, wrong = model()
    features = probs + 0.01
    found = find_label_errors(given, probs, features)
    assert (found.suspicion != find_label_errors(given, probs).suspicion).any()
    assert found.suspicion[wrong].mean() > found.suspicion[~wrong].mean() + 0.3
    for bad in (features[:9], np.where(features > 0.5, np.nan, features)):
        with pytest.raises(ErrataError, match="allowed"):
            find_label_errors(given, probs, bad)

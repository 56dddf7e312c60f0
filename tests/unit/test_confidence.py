"""Temperatures and conformal sets: exact where they can be, and right under planted noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from errata.confidence import (
    Calibration,
    adaptive_scores,
    conformal_curve,
    conformal_threshold,
    fit_calibration,
    fit_noise,
    fit_temperature,
    fit_uniform_noise,
    plain_scores,
    scale,
    selective_threshold,
    uniform_transition,
)
from errata.data import Arrays
from errata.data.samples import Samples
from errata.directory import AuditDirectory
from errata.engine.held_out import hold_out
from errata.engine.honesty import reliability_bins
from errata.errors import SettingsError
from errata.measures import ece
from errata.report.reliability import diagram, reliability_figures
from errata.review.decision import Verdict
from errata.review.judged import judged_issues, tiers_of
from errata.review.standing import open_journal

from .fake_audit import make_audit

CLASSES = 5
PAIRS = np.eye(CLASSES) * 0.7 + np.roll(np.eye(CLASSES), 1, axis=1) * 0.3


def draw(rows: int, seed: int = 0, *, spread: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw calibrated logits and the true labels they speak of."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, spread, (rows, CLASSES))
    labels = (rng.random(rows)[:, None] > scale(logits, 1.0).cumsum(1)).sum(1)
    return logits, labels.clip(max=CLASSES - 1)


def flip(labels: np.ndarray, transition: np.ndarray, seed: int = 1) -> np.ndarray:
    """Plant class-dependent noise."""
    rng = np.random.default_rng(seed)
    return (rng.random(len(labels))[:, None] > transition[labels].cumsum(1)).sum(1)


def test_a_temperature_of_two_halves_the_logits():
    logits = np.array([[2.0, 0.0, -2.0]])
    assert scale(logits, 2.0) == pytest.approx(scale(logits / 2, 1.0))
    assert scale(np.array([[1e4, 0.0]]), 1.0).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true: float):
    logits, labels = draw(6_000)
    assert fit_temperature(logits * true, labels) == pytest.approx(true, rel=0.05)


def test_few_rows_without_a_mistake_do_not_make_a_net_infinitely_sure():
    logits = np.tile(4 * np.eye(CLASSES), (20, 1))
    labels = np.tile(np.arange(CLASSES), 20)
    temperature, rate = fit_uniform_noise(logits, labels)
    assert 0.4 < fit_temperature(logits, labels) < 1
    assert 0.4 < temperature < 1
    assert rate < 0.01


@pytest.mark.parametrize("transition", [uniform_transition(0.4, CLASSES), PAIRS])
def test_known_noise_leaves_the_temperature_as_it_is(transition: np.ndarray):
    logits, labels = draw(6_000)
    given = flip(labels, transition)
    assert fit_temperature(logits, given, transition=transition) == pytest.approx(1.0, rel=0.06)
    # What the noise does where it is ignored.
    assert fit_temperature(logits, given) > 1.5


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_rate_and_temperature_are_found_together(rate: float):
    logits, labels = draw(6_000, spread=6.0)
    given = flip(labels, uniform_transition(rate, CLASSES))
    temperature, found = fit_uniform_noise(2 * logits, given)
    assert found == pytest.approx(rate, abs=0.03)
    assert temperature == pytest.approx(2.0, rel=0.08)


def test_adaptive_scores_sum_what_is_at_least_as_likely():
    scores = adaptive_scores(np.array([[0.1, 0.6, 0.3], [1.0, 0.0, 0.0]]))
    assert scores == pytest.approx(np.array([[1.0, 0.6, 0.9], [1.0, 1.0, 1.0]]))


def test_the_threshold_on_right_labels_is_the_corrected_quantile():
    scores = np.tile(np.arange(1.0, 10.0)[:, None], (1, 2))
    labels = np.zeros(9, dtype=int)
    # Of nine rows the ceil(10 * .8) = 8th; .95 would be the tenth, which there is not.
    assert conformal_threshold(scores, labels, coverage=0.8) == 8.0
    assert conformal_threshold(scores, labels, coverage=0.95) == float("inf")


def test_no_noise_given_as_a_matrix_is_no_noise():
    logits, labels = draw(500)
    scores = plain_scores(scale(logits, 1.0))
    for coverage in (0.5, 0.8, 0.9):
        plain = conformal_threshold(scores, labels, coverage=coverage)
        through = conformal_threshold(scores, labels, coverage=coverage, transition=np.eye(CLASSES))
        assert through == pytest.approx(plain)


def test_uniform_noise_is_corrected_as_published():
    """F_clean = (F_noisy - e mean_k F_k) / (1 - e), at every threshold."""
    logits, labels = draw(400)
    rate = 0.3
    transition = uniform_transition(rate, CLASSES)
    given = flip(labels, transition)
    scores = plain_scores(scale(logits, 1.0))
    threshold = conformal_threshold(scores, given, coverage=0.8, transition=transition)
    below = scores <= threshold
    noisy = below[np.arange(400), given].mean()
    clean = (noisy - rate * below.mean()) / (1 - rate)
    assert clean >= 0.8
    lower = scores < threshold
    before = (lower[np.arange(400), given].mean() - rate * lower.mean()) / (1 - rate)
    assert before < 0.8 * 401 / 400


@pytest.mark.parametrize("transition", [uniform_transition(0.4, CLASSES), PAIRS])
@pytest.mark.parametrize("score", [plain_scores, adaptive_scores])
def test_sets_cover_what_was_asked_for_and_are_small(transition: np.ndarray, score: object):
    assert callable(score)
    fresh, true = draw(6_000, seed=9)
    rows = np.arange(len(true))
    covered, sizes, ignoring = [], [], []
    for seed in range(20):
        logits, labels = draw(1_500, seed=seed + 10)
        given = flip(labels, transition, seed=seed + 50)
        scores, others = score(scale(logits, 1.0)), score(scale(fresh, 1.0))
        sets = others <= conformal_threshold(scores, given, transition=transition)
        covered.append(sets[rows, true].mean())
        sizes.append(sets.sum(1).mean())
        ignoring.append((others <= conformal_threshold(scores, given)).sum(1).mean())
        if seed == 0:
            clean = (others <= conformal_threshold(scores, labels)).sum(1).mean()
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
    assert np.mean(sizes) <= 1.1 * clean
    assert np.mean(ignoring) > 1.5 * clean


def test_answers_above_the_threshold_are_as_right_as_asked():
    logits, labels = draw(20_000, spread=3.0)
    given = flip(labels, PAIRS)
    probs = scale(logits, 1.0)
    threshold = selective_threshold(probs, given, risk=0.05, transition=PAIRS)
    answered = probs.max(1) >= threshold
    wrong = (probs.argmax(1) != labels)[answered].mean()
    assert 0.01 < wrong <= 0.05
    assert 0.05 < answered.mean() < 0.95
    # Three labels in ten are wrong, so that no answer at all seems to be sure enough.
    assert selective_threshold(probs, given, risk=0.05) == float("inf")


def test_a_curve_holds_every_threshold():
    logits, labels = draw(800)
    given = flip(labels, PAIRS)
    scores = plain_scores(scale(logits, 1.0))
    limits, shares = conformal_curve(scores, given, transition=PAIRS)
    assert (np.diff(limits) >= 0).all()
    assert (np.diff(shares) > 0).all()
    below = scores <= limits[len(limits) // 2]
    weights = np.linalg.inv(PAIRS)[given]
    assert (below * weights).sum() / 800 == pytest.approx(shares[len(limits) // 2])


def test_uniform_noise_is_called_uniform_and_pairs_take_a_matrix():
    logits, labels = draw(4_000, spread=6.0)
    even = fit_noise(2 * logits, flip(labels, uniform_transition(0.3, CLASSES)))
    assert even.method == "uniform"
    assert even.temperature == pytest.approx(2.0, rel=0.08)
    pairs = fit_noise(2 * logits, flip(labels, PAIRS))
    assert pairs.method == "class"
    assert pairs.temperature == pytest.approx(2.0, rel=0.1)
    assert np.abs(pairs.transition - PAIRS).max() < 0.03
    assert pairs.transition.sum(1) == pytest.approx(np.ones(CLASSES))


def test_a_matrix_that_a_recipe_knows_is_taken_where_it_fits():
    logits, labels = draw(1_000, spread=6.0)
    given = flip(labels, PAIRS)
    few = slice(0, 90)
    assert fit_noise(logits[few], given[few], transition=PAIRS).method == "recipe"
    assert fit_noise(logits[few], given[few], transition=np.roll(PAIRS, 2, 0)).method == "uniform"
    singular = np.full((CLASSES, CLASSES), 1 / CLASSES)
    assert fit_noise(logits[few], given[few], transition=singular).method == "uniform"


@pytest.mark.parametrize("transition", [uniform_transition(0.4, CLASSES), PAIRS])
def test_a_calibration_makes_another_draw_honest(transition: np.ndarray):
    logits, labels = draw(4_000, spread=6.0)
    found = fit_calibration(scale(3 * logits, 1.0), flip(labels, transition))
    assert found is not None
    fresh, true = draw(6_000, seed=9, spread=6.0)
    raw = scale(3 * fresh, 1.0)
    probs = found.probs(raw)
    assert (probs.argmax(1) == raw.argmax(1)).all()
    assert ece(raw, true) > 0.02
    assert ece(probs, true) < 0.015
    covered = found.sets(probs, 0.9)[np.arange(6_000), true].mean()
    assert covered == pytest.approx(0.9, abs=0.02)
    answered = found.answers(probs, 0.03)
    assert 0.3 < answered.mean() < 1
    assert (probs.argmax(1) != true)[answered].mean() < 0.04
    assert found.noise_rate == pytest.approx(1 - np.diag(transition).mean(), abs=0.03)


def test_a_calibration_survives_being_written():
    logits, labels = draw(300)
    found = fit_calibration(scale(logits, 1.0), labels)
    assert found is not None
    back = Calibration.of(json.loads(json.dumps(found.numbers())), found.arrays())
    probs = found.probs(scale(logits, 2.0))
    assert (back.probs(scale(logits, 2.0)) == probs).all()
    for share in (0.5, 0.9, 0.99):
        assert (back.sets(probs, share) == found.sets(probs, share)).all()
        assert (back.answers(probs, share) == found.answers(probs, share)).all()


def test_few_rows_and_rows_without_a_label_calibrate_nothing():
    logits, labels = draw(150)
    labels[99:] = -1
    assert fit_calibration(scale(logits, 1.0), labels) is None
    labels[99] = 0
    found = fit_calibration(scale(logits, 1.0), labels)
    assert found is not None
    assert found.rows == 100


def test_bins_of_reliability_are_those_of_the_calibration_error():
    logits, labels = draw(1_000)
    probs = scale(2 * logits, 1.0)
    bins = reliability_bins(probs, labels)
    assert sum(rows for *_, rows in bins) == 1_000
    gap = sum(rows * abs(sure - right) for sure, right, rows in bins) / 1_000
    assert gap == pytest.approx(ece(probs, labels), abs=1e-5)


def held_out_of(share: float, rows: int = 1_200) -> tuple[Samples, Arrays | None]:
    given = np.arange(rows) % 3
    given[:30] = -1
    source = Arrays(np.zeros((rows, 2), np.float32), given, classes=("a", "b", "c"))
    samples = Samples(
        source, {}, None, "", (), (), weights=np.arange(rows, dtype=np.float32), verified=given
    )
    return hold_out(samples, share, seed=0)


def test_rows_are_held_out_of_every_class_and_out_of_everything_that_has_rows():
    left, held = held_out_of(0.1)
    assert held is not None
    assert len(held.ids) == 117
    assert np.bincount(held.given).tolist() == [39, 39, 39]
    assert not set(held.ids) & set(left.source.ids)
    assert len(left.source.ids) == 1_200 - 117
    assert left.weights is not None
    assert left.verified is not None
    assert left.weights.astype(int).astype(str).tolist() == list(left.source.ids)
    assert left.verified.tolist() == left.source.given.tolist()
    assert list(held_out_of(0.1)[1].ids) == list(held.ids)


def test_too_few_rows_to_hold_out_are_all_trained_on():
    left, held = held_out_of(0.08)
    assert held is None
    assert len(left.source.ids) == 1_200


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_holds_out_nothing(share: float):
    with pytest.raises(SettingsError, match="calibration `"):
        held_out_of(share)


def test_the_diagram_puts_a_bin_where_its_confidence_and_accuracy_are():
    drawn = diagram([("kept", [[0.5, 0.5, 10], [1.0, 0.75, 10]])], label="what it says")
    # From 50 % to 100 %, over 272 by 200 units whose origin lies at 46 and 10.
    assert 'cx="46.0" cy="210.0"' in drawn
    assert 'cx="318.0" cy="110.0"' in drawn
    assert 'aria-label="what it says"' in drawn


def test_a_figure_stands_for_each_test_set_and_says_what_calibration_did():
    bins = [[0.6, 0.7, 5], [0.9, 0.9, 5]]
    report = {"ece": 0.05, "reliability": bins, "uncalibrated": None}
    before = {"ece": 0.25, "reliability": bins}
    (plain,) = reliability_figures({"test": report})
    assert [name for _, name in plain.legend] == ["as the network gives it"]
    both = reliability_figures(
        {"test": {"own": report | {"uncalibrated": before}, "other": report}}
    )
    assert [figure.title.rsplit(" ", 1)[1] for figure in both] == ["own", "other"]
    assert "before calibration 25.0" in both[0].caption
    assert len(both[0].legend) == 2


@pytest.mark.parametrize(
    "test", [None, {}, {"ece": 0.1, "rows": 3}, {"ece": None, "reliability": []}]
)
def test_without_bins_there_is_no_diagram(test: dict | None):
    assert reliability_figures({"test": test}) == []


def judge(audit: AuditDirectory, rows: np.ndarray, verdict: str) -> None:
    """Write a verdict on each row into the journal of an audit."""
    with open_journal(audit) as journal:
        for row in rows.tolist():
            journal.add(
                Verdict(f"u{row}", row, str(audit.ledger.ids[row]), verdict, reviewer="ada")
            )


def test_without_verdicts_issues_stay_as_they_are(tmp_path: Path):
    audit = AuditDirectory.open(make_audit(tmp_path / "a"))
    assert judged_issues(audit) is audit.issues


@pytest.mark.parametrize(("verdict", "certain"), [("drop", 1.0), ("keep", 0.0)])
def test_verdicts_move_all_probabilities_and_the_tiers_follow(
    tmp_path: Path, verdict: str, certain: float
):
    audit = AuditDirectory.open(make_audit(tmp_path / "a", 600, wrong=0.3))
    before = audit.issues
    flagged = before.rows[before.flagged]
    judge(audit, flagged[::2], verdict)
    after = judged_issues(audit)
    here, others = before.places[flagged[::2]], before.places[flagged[1::2]]
    assert (after.p_wrong[here] == certain).all()
    moved = after.p_wrong[others].mean() - before.p_wrong[others].mean()
    assert moved > 0 if certain else moved < -0.3
    rest = np.setdiff1d(np.arange(600), here)
    rest = rest[~np.isnan(before.p_wrong[rest])]
    rest = rest[np.argsort(before.p_wrong[rest], kind="stable")]
    assert (np.diff(after.p_wrong[rest]) >= -1e-12).all()
    told = tiers_of(after.p_wrong, after.flagged)
    assert (after.tier == told).all()
    assert (after.flagged == before.flagged).all()
    assert (after.suspicion == before.suspicion).all()
    assert ((after.tier == "obvious")[here].all()) == bool(certain)


def test_being_unsure_moves_nothing(tmp_path: Path):
    audit = AuditDirectory.open(make_audit(tmp_path / "a"))
    judge(audit, audit.issues.rows[:9], "unsure")
    assert judged_issues(audit) is audit.issues

"""Detectors and decisions: values by hand, then what a decision promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ledgers import Recorder, simulate

from errata.detect import consensus, decide, default_detectors, detector_named
from errata.detect.base import Scores
from errata.detect.decide import (
    calibrate,
    flag_rows,
    parse_flag,
    proposal_probs,
    sharpening,
)
from errata.detect.mixture import (
    beta_shape,
    binned,
    fit_beta_mixture,
    fit_normals,
    high_loss_posterior,
)
from errata.detect.phantom import fit_null, isotonic, null_posterior
from errata.detect.rate import RateEstimate
from errata.detect.reading import (
    early_margins,
    forgetting_events,
    mean_per_view,
    normal_scores,
    propose,
    rank_suspicion,
)
from errata.errors import LedgerError, SettingsError
from errata.ledger import Ledger, standard
from errata.measures import auroc

NAN = math.nan


def margin_ledger(logits: np.ndarray, given: np.ndarray) -> Ledger:
    """Record logits [epochs, N, C]."""
    recorder = Recorder(given, logits.shape[2], len(logits), np.random.default_rng(0))
    for epoch, values in enumerate(logits):
        recorder.see(np.arange(len(given)), values, epoch)
    return recorder.ledger()


def scores_of(suspicion: list[float], proposed: list[int] | None = None, kind: str = "x") -> Scores:
    values = np.array(suspicion)
    classes = np.full(len(values), -1) if proposed is None else np.array(proposed)
    return Scores(values, classes, lambda row: f"{kind} {row}", kind, values)


# Values by hand.


def test_accumulated_margin_of_the_reference_example_is_zero():
    logits = np.array([[[2.0, 1, 0]], [[0, 3, 1]], [[4, 1, 2]]])
    scores = detector_named("accumulated_margin").score(margin_ledger(logits, np.array([0])))
    assert scores.values == pytest.approx(0)
    assert scores.words(0) == "margin 0.0 on average over 3 epochs"


def test_a_low_margin_is_more_suspicious_than_a_high_one():
    logits = np.array([[[3.0, 0, 0], [0, 3, 0], [1, 0, 0]]])
    scores = detector_named("accumulated_margin").score(margin_ledger(logits, np.array([0, 0, 0])))
    assert scores.suspicion.tolist() == pytest.approx([1 / 6, 5 / 6, 3 / 6])
    assert scores.proposed.tolist() == [-1, 1, -1]


def test_ranks_share_their_average_where_values_tie():
    assert rank_suspicion(np.array([5.0, 1, 5, NAN])) == pytest.approx(
        [2 / 3, 1 / 6, 2 / 3, NAN], nan_ok=True
    )


def test_ranks_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).integers(0, 9, 50).astype(float)
    assert rank_suspicion(values) == pytest.approx((stats.rankdata(values) - 0.5) / 50)


def test_normal_scores_are_normal_quantiles():
    assert normal_scores(np.array([0.5, 0.975, NAN])) == pytest.approx(
        [0, 1.959964, NAN], abs=1e-6, nan_ok=True
    )


def test_a_row_never_learned_ranks_above_every_forgotten_one():
    events = forgetting_events(np.array([2, 0, 5]), np.array([1, -1, 0]))
    assert events.tolist() == [2, 6, 5]


def test_forgetting_counts_of_the_reference_example():
    # Right and wrong in turn: 0, 1, 1, 0, 1, 0 gives two events, learned first at epoch 1.
    margins = [-1.0, 1, 1, -1, 1, -1]
    logits = np.array([[[m, 0.0]] for m in margins])
    words = detector_named("forgetting").score(margin_ledger(logits, np.array([0]))).words(0)
    assert words == "learned at epoch 1 and forgotten 2 times"


def test_means_per_view_are_unknown_for_rows_never_seen():
    means = mean_per_view(np.array([6.0, 0.0]), np.array([3, 0]))
    assert means == pytest.approx([2, NAN], nan_ok=True)


def test_the_proposal_is_the_best_class_unless_it_is_the_given_one():
    probs = np.array([[0.1, 0.9], [0.1, 0.9], [0.7, 0.3], [0.0, 0.0]])
    assert propose(probs, np.array([0, 1, -1, 0])).tolist() == [1, -1, 0, -1]


def test_early_margins_read_the_early_epochs_only():
    # Ten epochs; epochs 2 and 3 are the early ones. Half and half among two classes is margin 0.
    curve = np.full((2, 10), math.log(2))
    curve[1, 4:] = 0.001
    probs = np.array([[0.5, 0.5], [0.9, 0.1]])
    margins = early_margins(curve, np.array([10, 10]), probs, np.array([0, 0]))
    assert margins == pytest.approx([0, 0], abs=1e-9)


def test_early_margins_give_the_rival_its_share_of_the_rest():
    # p(given) = .2, and half of the rest belongs to the best other class: log(.2 / .4).
    curve = np.full((1, 10), -math.log(0.2))
    probs = np.array([[0.2, 0.4, 0.2, 0.2]])
    margins = early_margins(curve, np.array([10]), probs, np.array([0]))
    assert margins == pytest.approx([math.log(0.5)])


def test_early_margins_of_a_row_that_left_early_use_its_last_epoch():
    curve = np.array([[NAN] * 9 + [math.log(2)], [math.log(4)] * 10, [NAN] * 10])
    probs = np.full((3, 2), 0.5)
    margins = early_margins(curve, np.array([1, 10, 0]), probs, np.array([0, 0, 0]))
    assert margins == pytest.approx([0, math.log(1 / 3), NAN], nan_ok=True)


def test_beta_shapes_have_the_moments_they_were_given():
    assert beta_shape(0.3, 0.01) == pytest.approx((6, 14))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_beta_mixture_recovers_its_weights(share: float):
    rng = np.random.default_rng(0)
    high = round(5000 * share)
    x = np.r_[rng.beta(2, 8, 5000 - high), rng.beta(8, 2, high)]
    mixture = fit_beta_mixture(x)
    assert mixture.weights[1] == pytest.approx(share, abs=0.02)
    assert (mixture.alpha / (mixture.alpha + mixture.beta)) == pytest.approx([0.2, 0.8], abs=0.03)


def test_the_high_loss_posterior_never_falls():
    x = np.sort(np.random.default_rng(0).gamma(1.0, 1.0, 3000))
    assert (np.diff(high_loss_posterior(x)) >= 0).all()


def test_one_group_of_losses_makes_nobody_suspicious():
    loss = np.random.default_rng(0).uniform(0, 1, 4000)
    assert (high_loss_posterior(loss) == 0).all()
    assert high_loss_posterior(np.full(5, 2.0)).tolist() == [0] * 5


def test_normals_agree_with_scikit_learn():
    mixture = pytest.importorskip("sklearn.mixture")
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(-2, 0.8, 1500), rng.normal(2, 1.2, 3500)]
    centres, counts = binned(values)
    mine = fit_normals(centres[None], counts[None], 2)
    theirs = mixture.GaussianMixture(2, tol=1e-6, max_iter=500, random_state=0).fit(values[:, None])
    order = theirs.means_[:, 0].argsort()
    # Bins of a 120th of the range and the moved outliers cost about one per cent.
    assert np.sort(mine.means[0]) == pytest.approx(theirs.means_[order, 0], abs=0.03)
    assert mine.weights[0][mine.means[0].argsort()] == pytest.approx(
        theirs.weights_[order], abs=0.01
    )


def test_isotonic_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=60), rng.uniform(0.1, 2, 60)
    assert isotonic(values, weights) == pytest.approx(
        sklearn.isotonic_regression(values, sample_weight=weights)
    )


def test_the_null_finds_share_and_shift():
    rng = np.random.default_rng(0)
    null = rng.normal(-4, 1, 5000)
    observed = np.r_[rng.normal(-4 + 1.2, 1, 1500), rng.normal(4, 1, 3500)]
    fit = fit_null(observed, null)
    assert fit.rate == pytest.approx(0.3, abs=0.015)
    assert fit.shift == pytest.approx(1.2, abs=0.15)
    assert fit.trust == 1
    posterior = null_posterior(observed, null, fit)
    # The fitted rate is a little low, and so are probabilities of rows that are surely wrong.
    assert posterior[:1500].mean() > 0.93
    assert posterior[1500:].mean() < 0.02


def test_the_null_is_not_trusted_where_errors_look_otherwise():
    rng = np.random.default_rng(0)
    observed = np.r_[rng.normal(-0.5, 0.4, 1500), rng.normal(2, 1, 3500)]
    assert fit_null(observed, rng.normal(-8, 2, 5000)).trust == 0


def test_the_null_of_no_rows_says_nothing():
    assert fit_null(np.zeros(0), np.zeros(3)).rate == 0
    assert null_posterior(np.zeros(2), np.zeros(0), fit_null(np.zeros(2), np.zeros(0))).sum() == 0


# Words.


def test_words_name_what_was_seen():
    logits = np.tile(np.array([[[0.0, 3.0], [3.0, 0.0]]]), (4, 1, 1))
    logits[0] = [[1.0, 0.0], [3.0, 0.0]]
    ledger = margin_ledger(logits, np.array([0, 0]))
    ledger.add("odd", standard("dropped"), standard("dropped_epoch"))
    ledger.write("dropped", torch.tensor([0]), torch.tensor([True]), stamp=0)
    ledger.write("dropped_epoch", torch.tensor([0]), torch.tensor([2]), stamp=0)
    said = {name: detector_named(name).score(ledger).words(0) for name in ("disagreement", "odd")}
    assert said == {
        "disagreement": "another class predicted in 3 of 4 epochs, on average `class 1`",
        "odd": "dropped from training at epoch 2",
    }


def test_held_out_probabilities_go_before_those_of_training():
    ledger = margin_ledger(np.array([[[3.0, 0.0], [3.0, 0.0]]]), np.array([0, 0]))
    ledger.add("audit", standard("prob_oof", shape=(2,)))
    held_out = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    ledger.write("prob_oof", torch.arange(2), held_out, stamp=0)
    scores = detector_named("self_confidence").score(ledger)
    assert scores.suspicion == pytest.approx([0.9, 0.2])
    assert scores.proposed.tolist() == [1, -1]
    assert scores.words(0) == "held-out probability of the given label 0.10"


# Consensus.


def test_a_consensus_orders_by_the_average_of_normal_scores():
    joined = consensus([scores_of([0.1, 0.2, 0.9]), scores_of([0.3, 0.1, 0.8])])
    assert joined.suspicion.tolist() == pytest.approx([0.5 - 1 / 6, 0.5 - 1 / 6, 5 / 6])


def test_weights_settle_a_quarrel():
    quarrel = [scores_of([0.1, 0.9]), scores_of([0.9, 0.1])]
    assert consensus(quarrel, [2, 1]).suspicion.tolist() == [0.25, 0.75]
    assert consensus(quarrel, [1, 2]).suspicion.tolist() == [0.75, 0.25]


def test_a_detector_that_knows_nothing_of_a_row_has_no_say():
    joined = consensus([scores_of([NAN, 0.2, NAN]), scores_of([0.9, 0.1, NAN])])
    assert joined.suspicion == pytest.approx([0.75, 0.25, NAN], nan_ok=True)


def test_the_default_leaves_forgetting_out_and_takes_what_is_there():
    ledger = margin_ledger(np.zeros((2, 3, 2)), np.array([0, 1, 0]))
    names = [detector.name for detector in default_detectors(ledger)]
    assert "forgetting" not in names
    assert "odd" not in names
    assert {"accumulated_margin", "disagreement", "early_margin"} <= set(names)


# Decisions.


def findings_of(suspicion: list[float], rate: float, **settings: object):
    rows = len(suspicion)
    ledger = Ledger([str(i) for i in range(rows)], np.zeros(rows, np.int64), ["a", "b"])
    scores = scores_of(suspicion, [1] * rows)
    estimate = RateEstimate(rate, rate, rate, "by hand")
    return decide(ledger, [scores], scores, estimate, **settings)  # type: ignore[arg-type]


LADDER = (np.arange(200) + 0.5).tolist()
LADDER = [value / 200 for value in LADDER]


@pytest.mark.parametrize("rate", [0.0, 0.07, 0.4, 1.0])
def test_auto_flags_the_estimated_number_of_the_worst(rate: float):
    findings = findings_of(LADDER, rate)
    assert findings.flagged.sum() == round(rate * 200)
    assert findings.flagged[200 - round(rate * 200) :].all()


def test_top_flags_exactly_that_many():
    assert np.flatnonzero(findings_of(LADDER, 0.3, flag="top:5").flagged).tolist() == [
        *range(195, 200)
    ]
    assert findings_of(LADDER, 0.3, flag="top:9999").flagged.all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_fdr_flags_the_longest_list_within_the_share(share: float):
    findings = findings_of(LADDER, 0.3, flag=f"fdr:{share}")
    count = int(findings.flagged.sum())
    alarms = np.sort(1 - findings.p_wrong)
    assert count == 0 or alarms[:count].mean() <= share + 1e-9
    assert alarms[: count + 1].mean() > share


def test_tiers_follow_flags_and_probabilities():
    findings = findings_of(LADDER, 0.3, flag="top:100", obvious=0.9)
    assert set(findings.tier[~findings.flagged]) == {"fine"}
    assert ((findings.tier == "obvious") == (findings.flagged & (findings.p_wrong > 0.9))).all()
    assert {"obvious", "possible", "fine"} == set(findings.tier)


def test_nothing_unflagged_is_called_obvious():
    findings = findings_of(LADDER, 0.5, flag="top:3")
    assert (findings.p_wrong > 0.95).sum() > 3
    assert (findings.tier == "obvious").sum() == 3


@pytest.mark.parametrize(
    "flag", ["all", "auto:1", "fdr", "fdr:1.5", "fdr:nan", "top", "top:-1", "top:1.5", "top:x", ""]
)
def test_an_operating_point_in_no_known_form_is_refused(flag: str):
    with pytest.raises(SettingsError, match="allowed: `auto`, `fdr:Q`"):
        parse_flag(flag)


def test_obvious_must_be_a_probability():
    with pytest.raises(SettingsError, match=r"obvious `1\.2`"):
        findings_of(LADDER, 0.1, obvious=1.2)


def test_probabilities_follow_the_posterior_where_one_is_known():
    suspicion = np.array(LADDER)
    posterior = np.where(suspicion > 0.7, 0.98, 0.01)
    p_wrong = calibrate(suspicion, 0.3, posterior)
    assert p_wrong.mean() == pytest.approx(0.3, abs=1e-6)
    assert p_wrong[:120].max() < 0.05
    assert p_wrong[160:].min() > 0.9


def test_equal_suspicion_means_equal_probability():
    suspicion = np.array([0.2, 0.8, 0.8, 0.2, NAN] * 30)
    p_wrong = calibrate(suspicion, 0.3, np.nan_to_num(suspicion))
    assert len(np.unique(p_wrong[~np.isnan(p_wrong)])) == 2
    assert np.isnan(p_wrong[4::5]).all()


def test_flags_pass_over_rows_without_a_suspicion():
    suspicion = np.array([NAN, 0.9, NAN, 0.1])
    flagged = flag_rows(suspicion, suspicion, 0.5, parse_flag("auto"))
    assert flagged.tolist() == [False, True, False, False]


def test_a_proposal_is_as_likely_as_its_share_of_the_other_classes():
    probs = np.array([[0.5, 0.4, 0.1], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    given, proposed, p_wrong = np.array([0, -1, 1]), np.array([1, 1, -1]), np.array([0.5, NAN, 0.9])
    found = proposal_probs(probs, given, proposed, p_wrong)
    # Only the wrong rows disagree with the prediction, so it is as sure as it can be.
    power = sharpening(probs, given, p_wrong)
    assert power > 1
    assert found[0] == pytest.approx(0.5 * 0.4**power / (0.4**power + 0.1**power))
    assert found[1] == pytest.approx(0.5**power / (probs[1] ** power).sum())
    assert np.isnan(found[2])


def test_predictions_that_are_as_sure_as_right_stay_as_they_are():
    probs = np.tile([0.75, 0.25], (400, 1))
    given = np.r_[np.zeros(300, np.int64), np.ones(100, np.int64)]
    assert sharpening(probs, given, np.zeros(400)) == pytest.approx(1, abs=0.01)


def test_reasons_come_from_the_detectors_that_are_most_suspicious():
    ledger = Ledger(["a", "b", "c"], np.zeros(3, np.int64), ["a", "b"])
    scores = [
        scores_of([0.9, 0.5, 0.1], kind="one"),
        scores_of([0.5, 0.9, 0.1], kind="two"),
        scores_of([0.6, 0.4, 0.2], kind="three"),
    ]
    findings = decide(ledger, scores, consensus(scores), RateEstimate(0.3, 0, 1, ""))
    assert [reason.kind for reason in findings.reasons(0)] == ["one", "three"]
    assert findings.reasons(0)[0].value == 0.9
    assert findings.reasons(0)[0].text == "one 0"
    assert findings.reasons(2) == ()


def test_unlabelled_rows_are_never_suspects_and_get_a_proposal():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    given = truth.copy()
    given[:40] = (truth[:40] + 1) % 4
    given[-30:] = -1
    final = np.eye(4)[truth] * 0.9 + 0.025
    ledger = simulate(truth, given, 4).ledger(final=final)
    scores = [detector.score(ledger) for detector in default_detectors(ledger)]
    findings = decide(ledger, scores, consensus(scores), RateEstimate(0.1, 0, 1, ""))
    assert np.isnan(findings.suspicion[-30:]).all()
    assert np.isnan(findings.p_wrong[-30:]).all()
    assert not findings.flagged[-30:].any()
    assert set(findings.tier[-30:]) == {"fine"}
    assert (findings.proposed[-30:] == truth[-30:]).all()
    assert (findings.p_proposed[-30:] > 0.8).all()
    assert findings.reasons(399) == ()
    assert auroc(findings.suspicion[:370], np.arange(370) < 40) > 0.97


def test_a_missing_column_is_named():
    ledger = Ledger(["a"], np.zeros(1, np.int64), ["a", "b"])
    with pytest.raises(LedgerError, match=r"`accumulated_margin` needs .* lacks `margin_sum"):
        detector_named("accumulated_margin").score(ledger)

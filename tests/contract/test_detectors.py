"""What every registered detector promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ledgers import simulate

from errata.detect import Scores, detector_named, detector_names
from errata.engine.bootstrap import Ensemble, entropy, split_uncertainty, write_ensemble
from errata.engine.threshold import ThresholdSearch, write_threshold
from errata.errors import LedgerError, SettingsError
from errata.ledger import Ledger, standard
from errata.measures import auroc

ROWS, CLASSES, UNLABELLED = 500, 5, 20
NAMES = detector_names()


@pytest.fixture(scope="module")
def wrong() -> np.ndarray:
    return np.random.default_rng(3).random(ROWS) < 0.2


@pytest.fixture(scope="module")
def ledger(wrong: np.ndarray) -> Ledger:
    """A training with 20 % wrong labels, some rows without any, and one that was never seen."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, ROWS)
    given = np.where(wrong, (truth + rng.integers(1, CLASSES, ROWS)) % CLASSES, truth)
    given[-UNLABELLED:] = -1
    recorder = simulate(truth, given, CLASSES)
    sums = recorder.prob_sum, recorder.features, recorder.views
    for values in (*recorder.columns.values(), *sums):
        values[0] = 0
    recorder.columns["first_learned"][0] = -1
    recorder.curve[0] = np.nan
    dropped = wrong & (rng.random(ROWS) < 0.8) & (given >= 0)
    ledger = recorder.ledger(dropped=dropped, final=np.eye(CLASSES)[truth])
    margin = np.where(given == truth, 2.0, -2.0) + rng.standard_normal(ROWS)
    margin[0] = np.nan
    found = ThresholdSearch(np.nan_to_num(margin) < 0, margin, [0.0, 0.0])
    write_threshold(ledger, found)
    return ledger


@pytest.fixture(scope="module")
def ledgers(ledger: Ledger) -> dict[str, Ledger]:
    """What each detector is given: held-out predictions too where it insists on them."""
    rng = np.random.default_rng(1)
    held = without(ledger)
    times = np.full(ROWS, 3)
    times[0] = 0
    prob = rng.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)
    prob[0] = np.nan
    uncertainty = split_uncertainty(prob.astype(np.float64), 0.8 * entropy(prob))
    write_ensemble(held, Ensemble(prob, uncertainty, times))
    return {name: held if name == "noise_model_ensemble" else ledger for name in NAMES}


@pytest.fixture(scope="module")
def scored(ledgers: dict[str, Ledger]) -> dict[str, Scores]:
    return {name: detector_named(name).score(ledgers[name]) for name in NAMES}


def permuted(ledger: Ledger, order: np.ndarray) -> Ledger:
    """Copy a ledger with its rows in another order."""
    rows = torch.from_numpy(order)
    ids = [ledger.ids[row] for row in order]
    copy = Ledger(ids, ledger.given[rows], ledger.classes)
    for column in ledger.columns:
        copy.add(ledger.owner(column.name), column)
    copy.load_state({name: values[rows] for name, values in ledger.state().items()})
    return copy


def without(ledger: Ledger, *names: str) -> Ledger:
    copy = Ledger(ledger.ids, ledger.given, ledger.classes)
    for column in ledger.columns:
        if column.name not in names:
            copy.add(ledger.owner(column.name), column)
    known = {column.name for column in copy.columns}
    state = ledger.state()
    copy.load_state({n: v for n, v in state.items() if n.removesuffix(".filled") in known})
    return copy


def test_the_planned_detectors_are_registered():
    planned = "accumulated_margin accumulated_loss disagreement forgetting odd small_loss_mixture"
    assert {*planned.split(), "phantom", "self_confidence", "early_margin"} <= set(NAMES)


def test_a_mistyped_detector_is_refused_with_the_nearest():
    with pytest.raises(SettingsError, match="did you mean `phantom`"):
        detector_named("phantm")


@pytest.mark.parametrize("name", NAMES)
def test_scores_have_one_entry_per_row(name: str, scored: dict[str, Scores]):
    scores = scored[name]
    assert scores.suspicion.shape == (ROWS,)
    assert scores.suspicion.dtype == np.float64
    assert scores.proposed.shape == (ROWS,)
    assert scores.proposed.dtype == np.int64
    assert scores.values is not None
    assert scores.values.shape == (ROWS,)
    assert scores.kind.isalpha()
    assert scores.kind.islower()


@pytest.mark.parametrize("name", NAMES)
def test_suspicion_is_between_0_and_1(name: str, scored: dict[str, Scores]):
    known = scored[name].suspicion[~np.isnan(scored[name].suspicion)]
    assert ((known >= 0) & (known <= 1)).all()
    assert len(known) >= ROWS - UNLABELLED - 1


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_a_label_have_no_suspicion_but_a_proposal(
    name: str, scored: dict[str, Scores]
):
    assert np.isnan(scored[name].suspicion[-UNLABELLED:]).all()
    assert (scored[name].proposed[-UNLABELLED:] >= 0).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"odd"}))
def test_a_row_never_seen_has_no_suspicion(name: str, scored: dict[str, Scores]):
    assert np.isnan(scored[name].suspicion[0])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_proposed_in_place_of_itself(
    name: str, scored: dict[str, Scores], ledger: Ledger
):
    proposed = scored[name].proposed
    assert ((proposed >= -1) & (proposed < CLASSES)).all()
    assert (proposed != ledger.given.numpy()).sum() >= (proposed >= 0).sum()
    assert not ((proposed == ledger.given.numpy()) & (proposed >= 0)).any()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"forgetting"}))
def test_wrong_labels_are_more_suspicious(name: str, scored: dict[str, Scores], wrong: np.ndarray):
    seen = ~np.isnan(scored[name].suspicion)
    assert auroc(scored[name].suspicion[seen], wrong[seen]) > 0.85


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(
    name: str, scored: dict[str, Scores], ledgers: dict[str, Ledger]
):
    order = np.random.default_rng(0).permutation(ROWS)
    scores = detector_named(name).score(permuted(ledgers[name], order))
    # Sums over rows in another order differ in the last digits.
    np.testing.assert_allclose(scores.suspicion, scored[name].suspicion[order], atol=1e-9)
    np.testing.assert_array_equal(scores.proposed, scored[name].proposed[order])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_column_is_a_clear_error(name: str, ledgers: dict[str, Ledger]):
    detector, ledger = detector_named(name), ledgers[name]
    assert detector.fits(ledger)
    for column in detector.reads:
        lacking = without(ledger, column)
        assert not detector.fits(lacking)
        with pytest.raises(LedgerError, match=f"`{name}` needs .* lacks `{column}`"):
            detector.score(lacking)


@pytest.mark.parametrize("name", NAMES)
def test_the_ledger_is_left_as_it_was(name: str, ledgers: dict[str, Ledger]):
    ledger = ledgers[name]
    before = {key: value.clone() for key, value in ledger.state().items()}
    given = ledger.given.clone()
    detector_named(name).score(ledger)
    assert torch.equal(ledger.given, given)
    for key, value in ledger.state().items():
        assert torch.equal(value.nan_to_num(7), before[key].nan_to_num(7)), key


@pytest.mark.parametrize("name", NAMES)
def test_words_are_one_short_line_for_any_row(name: str, scored: dict[str, Scores]):
    for row in (0, 1, 2, 3, ROWS - 1):
        words = scored[name].words(row)
        assert 0 < len(words) < 120
        assert "\n" not in words


def test_held_out_probabilities_are_read_where_they_exist(ledger: Ledger):
    lacking = without(ledger, "prob_sum")
    lacking.add("audit", standard("prob_oof", shape=(CLASSES,)))
    probs = torch.full((ROWS, CLASSES), 1 / CLASSES)
    lacking.write("prob_oof", torch.arange(ROWS), probs, stamp=0)
    assert detector_named("self_confidence").fits(lacking)
    suspicion = detector_named("self_confidence").score(lacking).suspicion
    assert suspicion[1] == pytest.approx(1 - 1 / CLASSES)

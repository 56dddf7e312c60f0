"""The scikit-learn estimator: what it gives, what it refuses, and scikit-learn's own checks."""

from __future__ import annotations

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.6")

from sklearn.datasets import load_digits  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from errata.confidence import scale  # noqa: E402
from errata.errors import SettingsError  # noqa: E402
from errata.estimator import NoisyLabelClassifier  # noqa: E402

NAMES = np.array(["cat", "dog", "eel"])


def draw(rows: int, *, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw vectors of three classes that overlap, given labels and true ones."""
    rng = np.random.default_rng(seed)
    middles = 1.5 * np.eye(3, 6)
    true = rng.integers(0, 3, rows)
    x = middles[true] + rng.normal(0, 1, (rows, 6))
    given = np.where(rng.random(rows) < noise, rng.integers(0, 3, rows), true)
    return x, NAMES[given], NAMES[true]


def make(**values: object) -> NoisyLabelClassifier:
    return NoisyLabelClassifier(**{"recipe": "erm", "epochs": 4, "random_state": 0, **values})


@pytest.fixture(scope="module")
def fitted() -> NoisyLabelClassifier:
    x, given, _ = draw(2_000, noise=0.3)
    return make(calibration=0.3).fit(x, given)


def test_labels_come_back_as_they_went_in(fitted: NoisyLabelClassifier):
    x, _, true = draw(2_000, seed=1)
    assert fitted.classes_.tolist() == NAMES.tolist()
    predicted = fitted.predict(x)
    probs = fitted.predict_proba(x)
    assert probs.sum(1) == pytest.approx(np.ones(2_000))
    assert (NAMES[probs.argmax(1)] == predicted).all()
    # The best rule there is reaches about .78.
    assert (predicted == true).mean() > 0.7
    assert fitted.score(x, true) == (predicted == true).mean()


def test_confidence_is_honest_although_labels_are_not(fitted: NoisyLabelClassifier):
    x, _, true = draw(6_000, seed=2)
    assert fitted.calibration_.rows == 600
    assert fitted.calibration_.noise_rate == pytest.approx(0.2, abs=0.1)
    probs = fitted.predict_proba(x)
    right = (fitted.predict(x) == true).mean()
    assert probs.max(1).mean() == pytest.approx(right, abs=0.06)
    sets = fitted.predict_set(x, coverage=0.9)
    covered = sets[np.arange(6_000), np.searchsorted(NAMES, true)].mean()
    assert covered == pytest.approx(0.9, abs=0.05)
    assert 1 < sets.sum(1).mean() < 2
    answered = fitted.answers(x, risk=0.15)
    assert (fitted.predict(x) != true)[answered].mean() < 0.17
    assert 0.2 < answered.mean() < 1


def test_equal_seeds_give_equal_nets_and_other_seeds_others():
    x, given, _ = draw(150)
    one, same, other = (make(random_state=seed).fit(x, given) for seed in (3, 3, 4))
    assert (one.predict_proba(x) == same.predict_proba(x)).all()
    assert (one.predict_proba(x) != other.predict_proba(x)).any()


def test_pictures_are_taken_as_they_are():
    x, y = load_digits(return_X_y=True)
    pictures = (x.reshape(-1, 1, 8, 8) * 15).astype(np.uint8)[:300]
    found = make(epochs=1).fit(pictures, y[:300])
    assert found.predict_proba(pictures[:7]).shape == (7, 10)
    with pytest.raises(ValueError, match="give grey pictures one channel"):
        make().fit(pictures[:, 0], y[:300])


def test_few_rows_are_all_trained_on_and_make_no_sets():
    x, given, _ = draw(120)
    found = make().fit(x, given)
    assert found.calibration_ is None
    for ask in (lambda: found.predict_set(x), lambda: found.answers(x, risk=0.1)):
        with pytest.raises(SettingsError, match=r"calibration `0.1` kept fewer than 100 rows"):
            ask()


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0])
def test_shares_out_of_range_are_refused(fitted: NoisyLabelClassifier, share: float):
    x, _, _ = draw(5)
    with pytest.raises(SettingsError, match="coverage `"):
        fitted.predict_set(x, coverage=share)
    with pytest.raises(SettingsError, match="risk `"):
        fitted.answers(x, risk=share)


def test_an_estimator_without_a_fit_says_so():
    with pytest.raises(NotFittedError):
        make().predict(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("values", "words"),
    [({"recipe": "oddd"}, "did you mean"), ({"calibration": 1.0}, "calibration `1.0`")],
)
def test_values_that_are_not_allowed_are_refused(values: dict, words: str):
    x, given, _ = draw(50)
    with pytest.raises(SettingsError, match=words):
        make(**values).fit(x, given)


def test_the_probabilities_are_those_of_the_net_at_its_temperature(fitted: NoisyLabelClassifier):
    x, _, _ = draw(50, seed=5)
    probs = fitted.predict_proba(x)
    raw = scale(np.log(probs), 1 / fitted.calibration_.temperature)
    assert fitted.calibration_.probs(raw) == pytest.approx(probs, abs=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn_pass():
    found = check_estimator(make(epochs=30), on_skip=None, on_fail=None)
    failed = [each["check_name"] for each in found if each["status"] == "failed"]
    assert failed == []
    assert sum(each["status"] == "passed" for each in found) > 40

"""A scikit-learn estimator that trains on labels of which some are wrong.

The one module of errata that needs scikit-learn.

Shapes: N rows, D features, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from errata.confidence.calibration import Calibration
from errata.config import DEFAULT_RECIPE, Settings, program_of, stages_of
from errata.data import Arrays
from errata.data.augment import Augment
from errata.data.samples import Samples
from errata.engine.fit import fit
from errata.engine.held_out import calibrate_on, hold_out
from errata.engine.modelfile import SavedModel
from errata.engine.run import Engine
from errata.errors import SettingsError
from errata.models import default_model

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise SettingsError(
        "package `scikit-learn` is missing or older than 1.6; the estimator is made with it",
        hint="pip install 'scikit-learn>=1.6'",
    ) from None

__all__ = ["NoisyLabelClassifier"]

Floats = NDArray[np.float64]


class NoisyLabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Train a net by a recipe on noisy labels, and predict with honest confidence.

    A part of the rows is not trained on. A temperature is fitted to it that takes the noise into
    account, and thresholds for sets of labels and for abstention; see `errata.confidence`. Where
    that part has fewer than 100 rows all are trained on, and nothing is calibrated.

    Args:
        recipe: One name of ``errata recipes``, or several joined by ``+``.
        epochs: None chooses by the number of rows.
        model: ``auto`` chooses by the shape of the samples.
        augment: ``none`` or a list such as ``flip,crop:4``, for pictures.
        calibration: Share of the rows kept out of training, 0 to below 1; 0 keeps none.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``.
        random_state: Integer for equal results; None takes another one each time.

    Attributes:
        classes_: [C] the labels, sorted.
        n_features_in_: D, the length of the first axis of a sample.
        calibration_: `errata.confidence.Calibration`; None where nothing was calibrated.
        n_iter_: Epochs that were trained.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = NoisyLabelClassifier(epochs=5, random_state=0)
        >>> sets = classifier.fit(X, y).predict_set(X[:5], coverage=0.9)  # doctest: +SKIP
    """

    def __init__(
        self,
        recipe: str = DEFAULT_RECIPE,
        *,
        epochs: int | None = None,
        model: str = "auto",
        augment: str = "none",
        calibration: float = 0.1,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.recipe = recipe
        self.epochs = epochs
        self.model = model
        self.augment = augment
        self.calibration = calibration
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> NoisyLabelClassifier:
        """Train.

        Args:
            X: [N, D] vectors, or [N, channels, height, width] pictures.
            y: [N] labels of any type, right or wrong.

        Raises:
            ErrataError: A parameter is not allowed.
            ValueError: scikit-learn does not take the arrays.
        """
        table, labels = validate_data(
            self,
            X,
            y,
            dtype=[np.float32, np.float64, np.uint8],
            allow_nd=True,
            ensure_min_samples=2,
        )
        check_classification_targets(labels)
        self.classes_, given = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has 1 class, `{self.classes_[0]}`; a classifier takes at least 2 classes"
            )
        seed = _seed_of(self.random_state)
        names = [str(number) for number in range(len(self.classes_))]
        source = Arrays(_fitting(table), given, classes=names, name="X")
        whole = Samples(source, {}, None, "", (), (), None)
        left, held = hold_out(whole, self.calibration, seed=seed)
        settings = Settings(seed=seed, recipe=self.recipe)
        settings.stage = stages_of(self.recipe, rows=len(left.source.ids), epochs=self.epochs)
        name = default_model(source.shape) if self.model == "auto" else self.model
        augment = Augment.parse(self.augment)
        augment.check(source.shape)
        run = fit(
            program_of(settings),
            left.source,
            model=name,
            seed=seed,
            augment=augment,
            engine=Engine(device=self.device),
        )
        assert run.scale is not None
        self.calibration_ = None if held is None else calibrate_on(run, held)
        self.n_iter_ = sum(stage.epochs for stage in settings.stage)
        self._model = SavedModel(
            nets=tuple(run.nets),
            shape=source.shape,
            classes=tuple(names),
            scale=run.scale,
            engine=Engine(device=self.device),
            calibration=self.calibration_,
        )
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Give calibrated probabilities [N, C], in the order of `classes_`."""
        check_is_fitted(self)
        table = validate_data(
            self, X, dtype=[np.float32, np.float64, np.uint8], allow_nd=True, reset=False
        )
        samples = _fitting(table)
        source = Arrays(samples, np.full(len(samples), -1), classes=self._model.classes, name="X")
        raw = self._model.predict(source).double().numpy()
        raw /= raw.sum(1, keepdims=True)
        return raw if self.calibration_ is None else self.calibration_.probs(raw)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Give the likeliest label of each row, [N]."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def predict_set(self, X: ArrayLike, *, coverage: float = 0.9) -> NDArray[np.bool_]:
        """Choose labels [N, C] bool such that the true one is among them as often as asked for.

        A set may be empty: where nothing is as likely as true labels usually are.

        Args:
            X: Samples, as for `fit`.
            coverage: Above 0 and below 1.

        Raises:
            SettingsError: The coverage is out of range, or nothing was calibrated.
        """
        probs = self.predict_proba(X)
        return self._calibrated().sets(probs, coverage)

    def answers(self, X: ArrayLike, *, risk: float) -> NDArray[np.bool_]:
        """Choose the rows [N] bool whose prediction may be used: at most `risk` of them is wrong.

        Args:
            X: Samples, as for `fit`.
            risk: Above 0 and below 1.

        Raises:
            SettingsError: The risk is out of range, or nothing was calibrated.
        """
        probs = self.predict_proba(X)
        return self._calibrated().answers(probs, risk)

    def _calibrated(self) -> Calibration:
        found: Calibration | None = self.calibration_
        if found is None:
            raise SettingsError(
                f"calibration `{self.calibration}` kept fewer than 100 rows out of training; "
                "allowed: a share that is at least 100 rows",
                hint="fit with a larger calibration, such as 0.3, or with more rows",
            )
        return found


def _fitting(table: np.ndarray) -> np.ndarray:
    """Bring samples into a form that a source takes: [N, D] or [N, channels, height, width]."""
    if table.ndim not in (2, 4):
        raise ValueError(
            f"X has `{table.ndim}` axes; allowed: 2 for vectors, 4 for pictures [N, channels, "
            "height, width]; give grey pictures one channel with X[:, None]"
        )
    if table.dtype == np.uint8 and table.ndim == 4:
        return table
    return np.ascontiguousarray(table, dtype=np.float32)


def _seed_of(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))

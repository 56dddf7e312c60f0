"""Lists of suspects with a bounded share of false alarms: pure functions of scores.

A false alarm is a flagged row whose label is right. What bounds their share is knowledge of one of
the two kinds of rows: scores of labels that people found right (`flag_against_right`, the stronger
promise), scores of labels that are wrong by construction (`flag_against_wrong`, such as phantom
labels), or a calibrated probability for each row (`flag_by_probability`). What each assumes, and
where that fails, stands in `docs/concepts/error-control.md`.

Shapes: N rows, n calibration rows, M null values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from errata.errors import SettingsError

__all__ = [
    "Flag",
    "alarm_shares",
    "benjamini_hochberg",
    "conformal_p_values",
    "flag_against_right",
    "flag_against_wrong",
    "flag_by_probability",
    "parse_flag",
    "storey_share",
]

_ROUNDING = 1e-12


class Flag(NamedTuple):
    """How rows are flagged: ``auto``, ``fdr`` with a share of alarms, or ``top`` with a count."""

    kind: str
    value: float


def parse_flag(text: str) -> Flag:
    """Read an operating point.

    Example:
        >>> parse_flag("fdr:0.1")
        Flag(kind='fdr', value=0.1)

    Raises:
        SettingsError: It has none of the allowed forms.
    """
    kind, colon, number = text.strip().partition(":")
    if kind == "auto" and not colon:
        return Flag("auto", 0.0)
    try:
        if kind == "fdr" and 0 <= float(number) <= 1:
            return Flag("fdr", float(number))
        if kind == "top" and int(number) >= 0:
            return Flag("top", int(number))
    except ValueError:
        pass
    raise SettingsError(
        f"flag `{text}` is not allowed; allowed: `auto`, `fdr:Q` with a share of false alarms from "
        "0 to 1, `top:N` with a number of rows",
        hint="write for example `fdr:0.1` or `top:100`",
    )


def conformal_p_values(suspicion: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give p-values [N] of the hypothesis that a label is right.

    The p-value is the rank of a row's suspicion among those of labels known to be right:
    ``(1 + number at least as suspicious) / (n + 1)``. Where the calibration rows are a random
    sample of all right labels, it is at most t with probability at most t for a right label.
    Source: Bates et al. 2023 (arXiv:2104.08279).

    Args:
        suspicion: [N], higher = more likely wrong; NaN stays NaN.
        right: [n] suspicion of rows known to be right, without NaN.

    Raises:
        SettingsError: There is no calibration row, or one of them has no suspicion.

    Example:
        >>> conformal_p_values(np.array([0.9, 0.2]), np.array([0.1, 0.2, 0.3])).tolist()
        [0.25, 0.75]
    """
    ordered = np.sort(_finite(right, "calibration row known to be right"))
    above = len(ordered) - np.searchsorted(ordered, suspicion, side="left")
    return np.where(np.isnan(suspicion), np.nan, (1 + above) / (len(ordered) + 1))


def storey_share(p_values: np.ndarray, *, above: float = 0.5) -> float:
    """Estimate the share of right labels from the p-values that are large.

    Wrong labels have small p-values, so those above a bound are right ones, and of right ones as
    many lie there as the bound leaves room for. Source: Storey 2002, with the one added by Storey,
    Taylor and Siegmund 2004, which keeps the control of Benjamini and Hochberg exact.

    Args:
        p_values: [N] 0 to 1; NaN does not count.
        above: The bound, 0 to below 1.

    Raises:
        SettingsError: The bound is not allowed.

    Example:
        >>> storey_share(np.array([0.01, 0.02, 0.6, 0.8]))
        1.0
        >>> storey_share(np.r_[np.full(7, 0.01), 0.3, 0.7, 0.9])
        0.6
    """
    if not 0 <= above < 1:
        raise SettingsError(f"above `{above}` is not allowed; allowed: 0 to below 1")
    known = p_values[~np.isnan(p_values)]
    if not len(known):
        return 1.0
    return float(min(1.0, (1 + (known > above).sum()) / (len(known) * (1 - above))))


def benjamini_hochberg(
    p_values: np.ndarray, share: float, *, right_share: float = 1.0
) -> np.ndarray:
    """Flag rows [N] bool so that the expected share of false alarms is at most `share`.

    All rows up to the last k-th smallest p-value that is at most ``share * k / (N * right_share)``
    are flagged. Source: Benjamini and Hochberg 1995; `right_share` by Storey 2002.

    Args:
        p_values: [N] 0 to 1; NaN is never flagged and does not count.
        share: Of false alarms among the flagged, 0 to 1.
        right_share: Share of right labels, where it is known or estimated; 1 is the safe choice.

    Raises:
        SettingsError: A share is not allowed.

    Example:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.9]), 0.1).tolist()
        [True, True, True, False]
    """
    _check_share(share)
    if not 0 < right_share <= 1:
        raise SettingsError(f"right_share `{right_share}` is not allowed; allowed: above 0 up to 1")
    known = p_values[~np.isnan(p_values)]
    ordered = np.sort(known)
    bounds = share * np.arange(1, len(known) + 1) / (max(len(known), 1) * right_share)
    within = np.flatnonzero(ordered <= bounds + _ROUNDING)
    if not len(within):
        return np.zeros(len(p_values), dtype=bool)
    return np.asarray(np.nan_to_num(p_values, nan=2.0) <= ordered[within[-1]])


def flag_against_right(suspicion: np.ndarray, right: np.ndarray, share: float) -> np.ndarray:
    """Flag rows [N] bool by what labels look like that people found right.

    Conformal p-values, the share of right labels by Storey, the procedure of Benjamini and
    Hochberg. The expected share of false alarms is at most `share` for any kind of error, as long
    as the calibration rows were drawn at random from all rows. With n of them nothing can be
    flagged unless at least about ``N / (n * share)`` rows stand out.

    Args:
        suspicion: [N]; NaN is never flagged.
        right: [n] suspicion of rows known to be right.
        share: Of false alarms among the flagged, 0 to 1.

    Raises:
        SettingsError: There is no calibration row, or the share is not allowed.
    """
    p_values = conformal_p_values(suspicion, right)
    return benjamini_hochberg(p_values, share, right_share=storey_share(p_values))


def alarm_shares(suspicion: np.ndarray, wrong: np.ndarray, rate: float) -> np.ndarray:
    """Estimate the share of false alarms [N] in the list that ends with each row.

    Of a list with all rows at least as suspicious as one, as many are wrong as the rate of wrong
    labels and the null say: ``rate * N * (share of the null at least as suspicious)``; the rest are
    false alarms. Shares never fall as the list grows: a longer list with a smaller estimate lends
    it to the shorter one.

    Args:
        suspicion: [N]; NaN stays NaN and does not count.
        wrong: [M] suspicion of labels that are wrong by construction, without NaN.
        rate: Share of wrong labels among the rows with a suspicion, 0 to 1.

    Raises:
        SettingsError: There is no null value, or the rate is not allowed.

    Example:
        >>> shares = alarm_shares(np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 3.0]), 0.5)
        >>> shares.round(3).tolist()
        [0.0, 0.0, 0.333, 0.5]
    """
    null = np.sort(_finite(wrong, "null value"))
    if not 0 <= rate <= 1:
        raise SettingsError(f"rate `{rate}` is not allowed; allowed: 0 to 1")
    shares = np.full(len(suspicion), np.nan)
    known = np.flatnonzero(~np.isnan(suspicion))
    values = suspicion[known]
    ordered = np.sort(values)
    listed = len(values) - np.searchsorted(ordered, values, side="left")
    reached = 1 - np.searchsorted(null, values, side="left") / len(null)
    alarms = np.clip(1 - rate * len(values) * reached / np.maximum(listed, 1), 0, 1)
    order = np.argsort(values, kind="stable")
    shares[known[order]] = np.minimum.accumulate(alarms[order])
    return shares


def flag_against_wrong(
    suspicion: np.ndarray, wrong: np.ndarray, rate: float, share: float
) -> np.ndarray:
    """Flag rows [N] bool by what labels look like that are wrong by construction.

    The longest list whose estimated share of false alarms is at most `share`, see `alarm_shares`.
    It holds where wrong labels look like the null and the rate is right: for random errors against
    phantom labels. Look-alike classes break it: their errors are less suspicious than the null, so
    the estimate counts too many right labels as wrong at the top of the list.

    Args:
        suspicion: [N]; NaN is never flagged.
        wrong: [M] suspicion of the null.
        rate: Share of wrong labels, 0 to 1.
        share: Of false alarms among the flagged, 0 to 1.

    Raises:
        SettingsError: There is no null value, or the rate or the share is not allowed.
    """
    _check_share(share)
    shares = np.nan_to_num(alarm_shares(suspicion, wrong, rate), nan=2.0)
    return np.asarray(shares <= share + _ROUNDING)


def flag_by_probability(suspicion: np.ndarray, p_wrong: np.ndarray, share: float) -> np.ndarray:
    """Flag the longest list, worst first, whose mean probability of a right label is in bounds.

    As good as the probabilities are: with calibrated ones the expected share of false alarms is at
    most `share`.

    Args:
        suspicion: [N] decides the order, ties by row; NaN is never flagged.
        p_wrong: [N] probability that a label is wrong, 0 to 1.
        share: Of false alarms among the flagged, 0 to 1.

    Raises:
        SettingsError: The share is not allowed.

    Example:
        >>> p_wrong = np.array([0.2, 0.95, 0.85])
        >>> flag_by_probability(p_wrong, p_wrong, 0.1).tolist()
        [False, True, True]
    """
    _check_share(share)
    known = int((~np.isnan(suspicion)).sum())
    # NaN sorts to the end.
    order = np.argsort(-suspicion, kind="stable")[:known]
    alarms = np.cumsum(1 - p_wrong[order]) / np.arange(1, known + 1)
    within = np.flatnonzero(alarms <= share + _ROUNDING)
    flagged = np.zeros(len(suspicion), dtype=bool)
    flagged[order[: int(within[-1]) + 1 if len(within) else 0]] = True
    return flagged


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise SettingsError(
            f"share `{share}` of false alarms is not allowed; allowed: 0 to 1",
            hint="0.1 means: at most one of ten flagged labels is right",
        )


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not len(values):
        raise SettingsError(f"there is no {what}; allowed: 1 or more")
    if np.isnan(values).any():
        row = int(np.isnan(values).argmax())
        raise SettingsError(
            f"{what} `{row}` has the suspicion `nan`; allowed: numbers", hint="leave it out"
        )
    return values

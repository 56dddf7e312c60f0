"""How label noise is asked for: the text of a specification, and the files it may name.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errata.errors import SettingsError, unknown_name

__all__ = ["NOISE_FORMS", "NoiseSpec", "parse_noise", "read_matrix", "read_probs"]

NOISE_FORMS = {
    "uniform": "uniform:R",
    "uniform-other": "uniform-other:R",
    "asymmetric": "asymmetric:R",
    "pair": "pair:R",
    "per-class": "per-class:r1,r2,...",
    "instance": "instance:R",
    "matrix": "matrix:T.npy",
    "model": "model:PROBS.npy[,R]",
    "open": "open:R[,SOURCE]",
}
"""Every kind of noise and how it is written; R is a rate from 0 to 1."""

# How far the sum of a row of probabilities may be from one: float16 keeps three digits.
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class NoiseSpec:
    """A noise specification, read but not yet applied.

    Attributes:
        kind: A key of `NOISE_FORMS`.
        rates: The numbers: one rate, one per class for ``per-class``, none for ``matrix`` and for
            ``model`` without a rate.
        path: The file of ``matrix`` and ``model``, else None.
        source: Where the samples of ``open`` come from; None for any other kind, and where their
            own pixels are shuffled.
    """

    kind: str
    rates: tuple[float, ...] = ()
    path: Path | None = None
    source: str | None = None


def parse_noise(spec: str) -> NoiseSpec:
    """Read a noise specification.

    Example:
        >>> parse_noise("uniform:0.4")
        NoiseSpec(kind='uniform', rates=(0.4,), path=None, source=None)

    Raises:
        SettingsError: The kind is unknown, or its values are not allowed.
    """
    kind, colon, values = spec.strip().partition(":")
    kind, values = kind.strip(), values.strip()
    if kind not in NOISE_FORMS:
        raise unknown_name("noise", kind, NOISE_FORMS)
    form = NOISE_FORMS[kind]
    if not colon or not values:
        plain = form.partition("[")[0]
        example = plain.replace("R", "0.2") if plain.endswith(":R") else form
        raise SettingsError(
            f"noise `{spec}` has no value; allowed: `{form}`", hint=f"write for example `{example}`"
        )
    if kind == "matrix":
        return NoiseSpec(kind, path=Path(values))
    if kind == "model":
        head, comma, tail = values.rpartition(",")
        # A comma may also be part of the name of the file.
        if comma and head and _is_number(tail):
            return NoiseSpec(kind, (_rate(tail, spec),), Path(head))
        return NoiseSpec(kind, path=Path(values))
    if kind == "open":
        rate, comma, name = values.partition(",")
        if comma and not name.strip():
            raise SettingsError(
                f"noise `{spec}` names no source after the comma; allowed: `{form}`",
                hint=f"write `open:{rate}` to put the pixels of the rows in random order",
            )
        return NoiseSpec(kind, (_rate(rate, spec),), source=name.strip() or None)
    texts = values.split(",")
    if kind != "per-class" and len(texts) != 1:
        raise SettingsError(
            f"noise `{spec}` has {len(texts)} values; allowed: `{form}` with one rate from 0 to 1",
            hint="use `per-class` for one rate per class",
        )
    return NoiseSpec(kind, tuple(_rate(text, spec) for text in texts))


def read_matrix(asked: NoiseSpec, classes: int, spec: str) -> np.ndarray:
    """Read the matrix of ``matrix`` noise [C, C] float64.

    Raises:
        SettingsError: The file cannot be read, has another shape, or a row is no distribution.
    """
    T = np.asarray(_load(asked, spec), dtype=np.float64)
    if T.shape != (classes, classes):
        raise SettingsError(
            f"`{asked.path}` of noise `{spec}` has the shape `{T.shape}`; allowed: "
            f"`{(classes, classes)}`, one row per true and one column per given class"
        )
    bad = _bad_rows(T)
    if len(bad):
        turned = "; its columns sum to one: transpose it" if not len(_bad_rows(T.T)) else ""
        raise SettingsError(
            f"row {bad[0]} of `{asked.path}` of noise `{spec}` is no distribution (it sums to "
            f"{T[bad[0]].sum():.4g}); allowed: numbers from 0 to 1, each row summing to one",
            hint=f"T[i, j] is the probability of the given label j for the true class i{turned}",
        )
    return T


def read_probs(asked: NoiseSpec, rows: int, classes: int, spec: str) -> np.ndarray:
    """Open the probabilities of ``model`` noise [N, C], memory-mapped.

    Raises:
        SettingsError: The file cannot be read, has another shape, or a row is no distribution.
    """
    probs = _load(asked, spec)
    if probs.shape != (rows, classes):
        raise SettingsError(
            f"`{asked.path}` of noise `{spec}` has the shape `{probs.shape}`; allowed: "
            f"`{(rows, classes)}`, one row per sample and one column per class"
        )
    for start in range(0, len(probs), 8192):
        block = np.asarray(probs[start : start + 8192], dtype=np.float64)
        bad = _bad_rows(block)
        if len(bad):
            raise SettingsError(
                f"row {start + bad[0]} of `{asked.path}` of noise `{spec}` is no distribution (it "
                f"sums to {block[bad[0]].sum():.4g}); allowed: numbers from 0 to 1, each row "
                "summing to one",
                hint="pass probabilities, for example the softmax of the logits",
            )
    return probs


def _bad_rows(probs: np.ndarray) -> np.ndarray:
    fine = (probs >= 0).all(1) & (np.abs(probs.sum(1) - 1) <= _SUM_TOLERANCE)
    return np.flatnonzero(~fine)


def _load(asked: NoiseSpec, spec: str) -> np.ndarray:
    assert asked.path is not None, asked
    try:
        found = np.load(asked.path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SettingsError(
            f"file `{asked.path}` of noise `{spec}` cannot be read: {why}",
            hint=f"write the path of an npy file: `{NOISE_FORMS[asked.kind]}`",
        ) from error
    except (ValueError, EOFError) as error:
        raise SettingsError(
            f"file `{asked.path}` of noise `{spec}` is no npy file with numbers",
            hint="write it with numpy.save",
        ) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiub":
        raise SettingsError(
            f"file `{asked.path}` of noise `{spec}` holds no table of numbers",
            hint="write one array of two dimensions with numpy.save",
        )
    return found


def _rate(text: str, spec: str) -> float:
    if _is_number(text) and 0 <= float(text) <= 1:
        return float(text)
    raise SettingsError(
        f"rate `{text.strip()}` of noise `{spec}` is not allowed; allowed: a number from 0 to 1",
        hint="write `0.2` for 20 %",
    )


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False

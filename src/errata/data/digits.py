"""The handwritten digits that scikit-learn ships: real images that need no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from errata.data.arrays import FoundArrays
from errata.data.classes import match_classes
from errata.data.wrap import stratified_rows
from errata.errors import SettingsError
from errata.streams import numpy_generator

__all__ = ["read_digits"]

_HELD_OUT = 0.2


def read_digits(*, seed: int, match: Sequence[str] | None = None) -> FoundArrays:
    """Read the 1,797 digits of 8 x 8 pixels and hold out 20 % of every class as the test set.

    Grey levels of 0 to 16 become 0 to 255. The split depends on the seed alone; ids are the
    positions in scikit-learn's order, so that a digit keeps its id under every seed.

    Args:
        seed: Decides which rows are held out.
        match: Class names of another source that this one has to use.

    Raises:
        SettingsError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SettingsError(
            "the source `digits` needs scikit-learn, which is not installed",
            hint="run `pip install 'errata[detect]'`",
        ) from None
    content = load_digits()
    x = np.rint(content.images * (255 / 16)).astype(np.uint8)[:, None]
    digits = content.target.astype(np.int64)
    held_out = stratified_rows(digits, round(_HELD_OUT * len(x)), numpy_generator(seed, "digits"))
    names = [str(digit) for digit in range(10)]
    given, classes = match_classes(digits, names, match, where="`digits`")
    kept = np.setdiff1d(np.arange(len(x)), held_out)
    test = FoundArrays(
        x[held_out],
        given[held_out],
        classes=classes,
        name="digits test",
        ids=[str(row) for row in held_out],
    )
    return FoundArrays(
        x[kept],
        given[kept],
        classes=classes,
        name="digits",
        ids=[str(row) for row in kept],
        is_ordered=False,
        tests={"test": test},
    )

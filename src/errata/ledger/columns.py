"""What a column is, and the names, units and meanings that the whole project shares.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from errata.errors import LedgerError, unknown_name

__all__ = ["VOCABULARY", "Column", "Rule", "Term", "standard"]

Rule = Literal["last", "sum", "ring"]

DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}
"""Types a column may have: those that a ``.npy`` file can hold, under the names numpy uses."""


@dataclass(frozen=True)
class Column:
    """The schema of one column: one value, sum or short history per row.

    Attributes:
        name: Lower-case letters, digits and ``_``; it is also the name of the file.
        shape: Shape of one entry: ``()`` for a number, ``(C,)`` for one number per class.
        dtype: Boolean, integer or float type that numpy knows (not bfloat16).
        rule: How writes combine, on one rank and across ranks. ``last`` keeps the newest stamp,
            then the lowest rank; ``sum`` adds, repeats of a row included; ``ring`` keeps the
            newest `keep` entries.
        keep: Length of a ring; 1 for the other rules.
        init: What a row holds before its first write. None is NaN for floats under ``last`` and
            ``ring``, and 0 for sums, integers and booleans.
        top: Where only the top few classes are kept: the column with their class numbers.
            Empty when the entry covers all classes in order.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    rule: Rule = "last"
    keep: int = 1
    init: float | int | bool | None = None
    top: str = ""

    @property
    def first_value(self) -> float | int | bool:
        """What a row holds before its first write."""
        if self.init is not None:
            return self.init
        return math.nan if self.dtype.is_floating_point and self.rule != "sum" else 0

    @property
    def dtype_name(self) -> str:
        """The name numpy uses for the type, ``float32`` for instance."""
        return str(self.dtype).removeprefix("torch.")

    def cells(self, num_rows: int) -> tuple[int, ...]:
        """Give the shape of the whole column: [N, ...], or [N, keep, ...] for a ring."""
        return (
            (num_rows, self.keep, *self.shape) if self.rule == "ring" else (num_rows, *self.shape)
        )

    def fits(self, other: Column) -> bool:
        """Tell whether both describe the same cells; unlike ``==``, NaN equals NaN here."""
        return replace(self, init=None) == replace(other, init=None) and repr(
            self.first_value
        ) == repr(other.first_value)

    def check(self) -> None:
        """Refuse what cannot be stored.

        Raises:
            LedgerError: The name, shape, type, rule, length or first value is not allowed.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name == "given":
            raise LedgerError(
                f"column name `{self.name}` is not allowed; allowed: lower-case letters, digits "
                "and `_`, starting with a letter, and not `given`",
                hint="choose another name",
            )
        if self.dtype not in DTYPES.values():
            raise LedgerError(
                f"column `{self.name}` has type `{self.dtype_name}`; allowed: {', '.join(DTYPES)}",
                hint="float16 is as wide as bfloat16, and numpy can read it",
            )
        if self.rule not in get_args(Rule):
            raise LedgerError(
                f"column `{self.name}` has rule `{self.rule}`; allowed: last, sum, ring",
                hint="choose one of these",
            )
        if self.rule == "sum" and self.dtype is torch.bool:
            raise LedgerError(
                f"column `{self.name}` sums booleans; allowed: sums of integers and floats",
                hint="use dtype=torch.int32",
            )
        if self.keep < 1 or (self.keep > 1 and self.rule != "ring"):
            raise LedgerError(
                f"column `{self.name}` has keep={self.keep} under rule `{self.rule}`; allowed: "
                "at least 1 for a ring, exactly 1 otherwise",
                hint='set rule="ring", or leave `keep` out',
            )
        if any(not isinstance(size, int) or size < 1 for size in self.shape):
            raise LedgerError(
                f"column `{self.name}` has shape `{self.shape}`; allowed: sizes of at least 1",
                hint="use () for one number per row",
            )
        if not _can_hold(self.dtype, self.first_value):
            raise LedgerError(
                f"column `{self.name}` of type `{self.dtype_name}` cannot start at "
                f"`{self.first_value}`",
                hint="leave `init` out, or choose another type",
            )


def _can_hold(dtype: torch.dtype, value: object) -> bool:
    if not isinstance(value, int | float):
        return False
    if dtype.is_floating_point:
        return True
    if dtype is torch.bool:
        return value in (0, 1)
    limits = torch.iinfo(dtype)
    return math.isfinite(value) and int(value) == value and limits.min <= value <= limits.max


@dataclass(frozen=True)
class Term:
    """A name of the vocabulary.

    Attributes:
        column: The usual schema.
        unit: Unit or range; ``1`` for a plain number.
        meaning: One sentence.
        per_class: True where an entry has one number per class, so `standard` needs a shape.
    """

    column: Column
    unit: str
    meaning: str
    per_class: bool = False


def _last(name: str, unit: str, meaning: str, dtype: torch.dtype = torch.float32) -> Term:
    return Term(Column(name, dtype=dtype), unit, meaning)


def _sum(name: str, unit: str, meaning: str, dtype: torch.dtype = torch.float32) -> Term:
    return Term(Column(name, dtype=dtype, rule="sum"), unit, meaning)


def _count(name: str, unit: str, meaning: str) -> Term:
    return _sum(name, unit, meaning, torch.int32)


def _number(name: str, unit: str, meaning: str, dtype: torch.dtype = torch.int64) -> Term:
    """A class, an epoch or a bin; -1 stands for none."""
    return Term(Column(name, dtype=dtype, init=-1), unit, meaning)


def _ring(name: str, unit: str, meaning: str, dtype: torch.dtype = torch.float16) -> Term:
    init = -1 if dtype is torch.int16 else None
    return Term(Column(name, dtype=dtype, rule="ring", init=init), unit, meaning)


def _classes(name: str, meaning: str, dtype: torch.dtype = torch.float16) -> Term:
    return Term(Column(name, dtype=dtype), "0 to 1", meaning, per_class=True)


_TERMS = (
    _last("loss", "nats", "loss under the given label, last time the row was seen"),
    _sum("loss_sum", "nats", "losses under the given label, added over all views"),
    _sum("margin_sum", "logits", "logit of the given label less the best other, added"),
    _count("correct_sum", "times", "views in which the given label had the highest logit"),
    _count("times_seen", "times", "views of the row that training has recorded"),
    _count("disagree_sum", "epochs", "epochs in which another class had the highest logit"),
    Term(
        Column("prob_sum", rule="sum"),
        "probability",
        "softmax of every view, added; present when N * C is small enough",
        per_class=True,
    ),
    _count("forgets", "times", "changes from predicted as given to predicted otherwise"),
    _number(
        "first_learned", "epoch", "first epoch predicted as given; -1 means never", torch.int32
    ),
    _last("last_correct", "truth", "predicted as given, last time the row was seen", torch.bool),
    _ring("loss_curve", "nats", "loss under the given label, one entry per epoch"),
    _ring("label_prob_curve", "0 to 1", "probability of the given label, one entry per epoch"),
    _ring("other_prob_curve", "0 to 1", "highest probability of another class, per epoch"),
    _ring("argmax_curve", "class", "class with the highest logit, per epoch", torch.int16),
    _ring("correct_curve", "truth", "predicted as given, per epoch", torch.bool),
    _number("phantom", "class", "random second label that is never trained on: the null"),
    _sum("phantom_loss_sum", "nats", "losses under the phantom label, added over all views"),
    _sum("phantom_margin_sum", "logits", "logit of the phantom label less the best other, added"),
    _classes("prob", "softmax, last time the row was seen"),
    _classes("final_prob", "softmax of the un-augmented sweep at the end of training"),
    _classes("prob_oof", "softmax of a model that never trained on the row", torch.float32),
    _last("oof_times", "nets", "nets that never trained on the row and predicted it", torch.int32),
    _last("uncertainty", "nats", "entropy of the mean prediction of nets that never saw the row"),
    _last("aleatoric", "nats", "mean entropy of those nets' predictions: they agree to be unsure"),
    _last("epistemic", "nats", "the uncertainty less the aleatoric part: those nets disagree"),
    _last("threshold_margin", "logits", "mean margin in trainings that made other rows wrong"),
    _last("threshold_flag", "truth", "no better than rows made wrong on purpose", torch.bool),
    Term(
        Column("history", dtype=torch.float16, rule="ring"),
        "0 to 1",
        "the newest softmax outputs",
        per_class=True,
    ),
    _classes("soft_label", "label distribution that training believes", torch.float32),
    _number("corrected", "class", "label that a method puts in place of the given one; -1 none"),
    Term(Column("weight", init=1.0), "1", "weight of the row in the next training; 1 is plain"),
    _sum("weight_sum", "1", "weights that the row was trained with, added over all views"),
    _last("dropped", "truth", "removed from training by a method", torch.bool),
    _number("dropped_epoch", "epoch", "when the row was removed; -1 means never", torch.int32),
    _last("clean_prob", "0 to 1", "probability that the given label is right, as a method sees it"),
    _number("subset", "number", "part of a curriculum or split the row belongs to", torch.int32),
    _last("suspicion", "0 to 1", "how likely the given label is wrong; higher is more likely"),
    _number("proposed", "class", "label that would fit better; -1 means none"),
)

VOCABULARY: dict[str, Term] = {term.column.name: term for term in _TERMS}
"""Every shared name. Means are derived (``margin_sum / times_seen``), never stored. The given
label itself is no column: nobody writes it, and it is read as ``ledger.given``."""


def standard(
    name: str,
    *,
    shape: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
    keep: int | None = None,
    top: str = "",
) -> Column:
    """Give the usual column of this name, changed where the data need it.

    Example:
        >>> standard("history", keep=10, shape=(3,)).cells(100)
        (100, 10, 3)

    Raises:
        SettingsError: The name is not in the vocabulary.
        LedgerError: The column has one entry per class, and `shape` is missing.
    """
    if name not in VOCABULARY:
        raise unknown_name("column", name, VOCABULARY)
    term = VOCABULARY[name]
    if term.per_class and shape is None:
        raise LedgerError(
            f"column `{name}` has one number per class and needs a shape",
            hint=f'write standard("{name}", shape=(number of classes,))',
        )
    column = term.column
    return replace(
        column,
        shape=column.shape if shape is None else shape,
        dtype=column.dtype if dtype is None else dtype,
        keep=column.keep if keep is None else keep,
        top=top,
    )

"""The figures of an audit's losses and of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from errata.report.columns import Columns
from errata.report.figures import Line, line_chart
from errata.report.histograms import histogram, ridges
from errata.report.words import decimal, is_number, percent, whole

__all__ = ["Figure", "loss_figures", "training_figures"]


@dataclass(frozen=True)
class Figure:
    """A figure with its words.

    Attributes:
        title: Heading, a few words.
        svg: Trusted markup.
        caption: What to see in it.
        legend: Style and name of each curve; empty where the figure names them itself.
    """

    title: str
    svg: str
    caption: str
    legend: tuple[tuple[str, str], ...] = ()


def loss_figures(columns: Columns) -> list[Figure]:
    """Draw how losses spread: all training through, and when the recipe removed rows."""
    return [figure for figure in (_all_through(columns), _at_removal(columns)) if figure]


def _all_through(columns: Columns) -> Figure | None:
    losses = columns.mean("loss_sum")
    if losses is None:
        return None
    groups = [
        ("kept", "kept", losses[columns.labelled & ~columns.flagged]),
        ("flagged", "flagged", losses[columns.labelled & columns.flagged]),
    ]
    null = columns.mean("phantom_loss_sum")
    if null is not None:
        groups.append(("random label", "null", null[columns.labelled]))
    edges, found = histogram(groups)
    if not found:
        return None
    medians = ", ".join(f"{group.name} {decimal(group.median, 2)}" for group in found)
    caption = "Loss of the given label, averaged over all epochs. Ticks under a hill mark medians."
    if null is not None:
        caption += (
            " The last hill is what a label drawn at random would cost: where flagged rows"
            " look like it, their labels tell no more than chance."
        )
    label = f"Histograms of the mean loss per row. Medians in nats: {medians}."
    svg = ridges(edges, found, label=label, unit="mean loss [nats]")
    return Figure("Losses of kept, flagged and random labels", svg, caption)


def _at_removal(columns: Columns) -> Figure | None:
    """Draw the losses by which rows were removed, where the part that did it kept them."""
    ledger, dropped = columns.audit.ledger, columns.dropped
    if not dropped.any():
        return None
    column = f"{ledger.owner('dropped').replace('-', '_')}_loss"
    if not ledger.has(column):
        return None
    kept_losses = ledger.read(column).double().numpy().reshape(len(dropped), -1)
    seen = ~np.isnan(kept_losses).all(axis=1)
    losses = np.full(len(dropped), math.nan)
    losses[seen] = np.nanmean(kept_losses[seen], axis=1)
    groups = [
        ("stayed", "kept", losses[columns.labelled & ~dropped]),
        ("dropped", "dropped", losses[dropped]),
    ]
    edges, found = histogram(groups)
    if not found:
        return None
    removed: Mapping[str, Any] = columns.audit.summary.get("removed") or {}
    limit, epoch = removed.get("threshold"), removed.get("epoch")
    cut = f"threshold {decimal(limit, 2)}" if is_number(limit) else ""
    line = (limit, cut) if is_number(limit) else None
    when = f" after epoch {whole(epoch)}" if is_number(epoch) else ""
    share = percent(float(dropped.sum()) / max(int(columns.labelled.sum()), 1))
    caption = (
        f"The recipe dropped {whole(dropped.sum())} rows ({share}){when} and trained on without"
        " them. Shown is the loss by which it chose."
    )
    label = f"{caption} In nats: {cut}." if cut else caption
    svg = ridges(edges, found, label=label, unit="recent loss [nats]", line=line)
    return Figure("Losses when rows were dropped", svg, caption)


def training_figures(columns: Columns) -> list[Figure]:
    """Draw loss, agreement with accuracy, and learning rate over the epochs."""
    log = columns.audit.log
    if len(log) < 2:
        return []
    marks = _marks(columns)
    loss = _series(log, "train_loss")
    rate = _series(log, "lr")
    found = []
    if _any(loss):
        label = f"Training loss per epoch, from {_ends(loss)}."
        svg = line_chart([Line("loss", "kept", loss)], label=label, unit="epoch", marks=marks)
        found.append(Figure("Training loss", svg, "Mean over the rows in training [nats]."))
    shares = _shares(log)
    if shares:
        said = "; ".join(f"{line.name} from {_ends(line.ys, shares=True)}" for line in shares)
        svg = line_chart(shares, label=f"{said}.", unit="epoch", shares=True, marks=marks)
        title = "Agreement and accuracy" if shares[0].style == "kept" else "Test accuracy"
        caption = (
            "Agreement is the share of training rows predicted as given. Towards 100\u00a0% the"
            " model learns wrong labels by heart."
            if shares[0].style == "kept"
            else "Accuracy on labels that training never saw."
        )
        legend = tuple((line.style, line.name) for line in shares)
        found.append(Figure(title, svg, caption, legend))
    if _any(rate):
        svg = line_chart(
            [Line("learning rate", "null", rate)],
            label=f"Learning rate per epoch, from {_ends(rate)}.",
            unit="epoch",
            marks=marks,
        )
        found.append(
            Figure("Learning rate", svg, "While it is high, wrong labels are hard to learn.")
        )
    return found


def _shares(log: list[dict[str, Any]]) -> list[Line]:
    agreement = _series(log, "train_agreement")
    lines = [Line("agreement in training", "kept", agreement)] if _any(agreement) else []
    names = list(dict.fromkeys(name for record in log for name in record.get("test") or {}))
    for place, name in enumerate(names[:3]):
        values = [_accuracy((record.get("test") or {}).get(name)) for record in log]
        if _any(values):
            title = "test accuracy" if name == "test" else f"accuracy on {name}"
            lines.append(Line(title, f"test{place + 1}", values))
    return lines


def _marks(columns: Columns) -> list[tuple[int, str]]:
    log = columns.audit.log
    removed: Mapping[str, Any] = columns.audit.summary.get("removed") or {}
    rows, epoch = removed.get("rows"), removed.get("epoch")
    if rows and is_number(rows) and is_number(epoch) and epoch is not None:
        return [(int(epoch), f"{whole(rows)} rows dropped")]
    stages = [record.get("stage") for record in log]
    changes = [i for i in range(1, len(stages)) if stages[i] != stages[i - 1]]
    return [(i, f"stage {number + 2}") for number, i in enumerate(changes)]


def _series(log: list[dict[str, Any]], key: str) -> list[float]:
    return [_value(record.get(key)) for record in log]


def _accuracy(told: Any) -> float:
    return _value(told.get("accuracy") if isinstance(told, Mapping) else told)


def _value(told: Any) -> float:
    return float(told) if is_number(told) else math.nan


def _any(values: list[float]) -> bool:
    return any(math.isfinite(value) for value in values)


def _ends(values: Any, *, shares: bool = False) -> str:
    finite = [value for value in values if math.isfinite(value)]
    first, last = (percent(v) if shares else f"{v:.3g}" for v in (finite[0], finite[-1]))
    return f"{first} to {last}"

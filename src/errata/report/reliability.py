"""The reliability diagram: how often answers are right that are as sure as this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from errata.report.curves import Figure
from errata.report.svg import nice_ticks, svg, text
from errata.report.words import is_number, percent

__all__ = ["diagram", "reliability_figures"]

_LEFT, _RIGHT, _HEAD, _WIDE, _TALL = 46, 22, 10, 272, 200
_MOST_SETS = 2
Bins = Sequence[Sequence[float]]


def reliability_figures(summary: Mapping[str, Any]) -> list[Figure]:
    """Draw a diagram for each of the first two test sets that hold bins.

    Args:
        summary: Of an audit, with ``test``: one report, or reports by name.
    """
    told = summary.get("test")
    if not isinstance(told, Mapping):
        return []
    several = told and all(isinstance(report, Mapping) for report in told.values())
    reports = told if several else {"test": told}
    found = [_figure(name, report) for name, report in reports.items()]
    return [figure for figure in found if figure is not None][:_MOST_SETS]


def diagram(groups: Sequence[tuple[str, Bins]], *, label: str) -> str:
    """Draw accuracy over confidence; on the diagonal both are equal.

    Args:
        groups: Style and bins of each curve: confidence, accuracy and rows of every bin, as
            `errata.engine.honesty.reliability_bins` gives them.
        label: What the figure says, for people who cannot see it.
    """
    low = min((value for _, bins in groups for one in bins for value in one[:2]), default=0.0)
    # From a round number on, so that a net that is always sure does not sit in one corner.
    low = max(0.0, int(low * 10) / 10 if low < 0.9 else 0.8)

    def place(value: float) -> float:
        return (value - low) / (1 - low)

    def x_of(value: float) -> float:
        return round(_LEFT + _WIDE * place(value), 1)

    def y_of(value: float) -> float:
        return round(_HEAD + _TALL * (1 - place(value)), 1)

    right, bottom = _LEFT + _WIDE, _HEAD + _TALL
    parts = []
    for tick in nice_ticks(low, 1.0):
        words = f"{100 * tick:g}\u00a0%"
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(text(_LEFT - 7, y + 4, words, "tick end"))
        parts.append(text(x_of(tick), bottom + 17, words, "tick middle"))
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    ends = f"{x_of(low)},{y_of(low)} {x_of(1)},{y_of(1)}"
    parts.append(f'<polyline class="line test3" points="{ends}"/>')
    for style, bins in groups:
        points = [(x_of(sure), y_of(right_share)) for sure, right_share, *_ in bins]
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
        parts += [f'<circle class="dot {style}" cx="{x}" cy="{y}" r="3"/>' for x, y in points]
    parts.append(text((_LEFT + right) / 2, bottom + 37, "confidence", "tick middle"))
    return svg(right + _RIGHT, bottom + 45, label, parts)


def _figure(name: str, report: Mapping[str, Any]) -> Figure | None:
    bins, before = report.get("reliability"), report.get("uncalibrated")
    if not bins or not is_number(report.get("ece")):
        return None
    groups = [("kept", bins)]
    legend = [("kept", "calibrated" if before else "as the network gives it")]
    words = f"calibration error {percent(report['ece'])}"
    if isinstance(before, Mapping):
        groups.insert(0, ("test2", before["reliability"]))
        legend.append(("test2", "as the network gives it"))
        words += f", before calibration {percent(before['ece'])}"
    caption = (
        f"Share of right answers among those that are as sure as this; {words}. Below the dotted"
        " line the model is too sure, above it not sure enough. Every dot stands for equally many"
        " rows."
    )
    label = f"Accuracy over confidence on {name}: {words}."
    title = "Confidence and accuracy" if name == "test" else f"Confidence and accuracy on {name}"
    return Figure(title, diagram(groups, label=label), caption, tuple(legend))

"""Histograms of groups of rows, counted over common bins and drawn above one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from errata.report.svg import nice_ticks, svg, text
from errata.report.words import whole

__all__ = ["Histogram", "histogram", "ridges"]

_WIDTH = 400
_LEFT, _RIGHT = 46, 14


@dataclass(frozen=True)
class Histogram:
    """How the values of one group spread over bins that all groups share.

    Attributes:
        name: What the group is.
        style: Class of the stylesheet: ``kept``, ``flagged``, ``null`` or ``dropped``.
        counts: [bins] rows; the last bin also holds everything above it.
        median: Of all values of the group.
    """

    name: str
    style: str
    counts: np.ndarray
    median: float

    @property
    def total(self) -> int:
        """Rows in the group."""
        return int(self.counts.sum())


def histogram(
    groups: Sequence[tuple[str, str, np.ndarray]], *, bins: int = 48
) -> tuple[np.ndarray, list[Histogram]]:
    """Count groups of values, all at least 0, over common bins.

    The range ends at the largest 99.5th percentile of a group; what lies above is counted in the
    last bin, so that a few extremes do not squeeze the rest. Only finite values count, and groups
    without any are left out.

    Args:
        groups: Name, style and values [n] of each group.
        bins: How many.

    Returns:
        The edges [bins + 1] and one histogram per group that has values.

    Example:
        >>> edges, found = histogram([("kept", "kept", np.array([0.1, 0.2, 9.9]))], bins=2)
        >>> found[0].counts.tolist(), found[0].median
        ([2, 1], 0.2)
    """
    finite = [(name, style, values[np.isfinite(values)]) for name, style, values in groups]
    finite = [group for group in finite if len(group[2])]
    if not finite:
        return np.zeros(0), []
    top = max(1e-6, *(float(np.percentile(values, 99.5)) for _, _, values in finite))
    edges = np.linspace(0.0, top, bins + 1)
    found = []
    for name, style, values in finite:
        counts, _ = np.histogram(np.clip(values, 0.0, top), edges)
        found.append(Histogram(name, style, counts, float(np.median(values))))
    return edges, found


def ridges(
    edges: np.ndarray,
    groups: Sequence[Histogram],
    *,
    label: str,
    unit: str,
    line: tuple[float, str] | None = None,
) -> str:
    """Draw histograms above one another on one axis, each as high as its own peak.

    Args:
        edges: [bins + 1] common edges, from 0.
        groups: From top to bottom.
        label: What the figure says, for people who cannot see it.
        unit: Words under the axis.
        line: A value to mark, and what it is.
    """
    band, peak, head = 84, 52, 28 if line else 8
    bottom = head + band * len(groups)
    top = float(edges[-1])
    parts = []
    for tick in nice_ticks(0, top, 5):
        x = _across(tick, top)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{head}" y2="{bottom}"/>')
        parts.append(text(x, bottom + 16, f"{tick:g}", "tick middle"))
    for place, group in enumerate(groups):
        base = head + band * (place + 1)
        shape = _steps(edges, group.counts, base, peak, top)
        parts.append(f'<path class="ridge {group.style}" d="{shape}"/>')
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
        )
        words = f"{group.name}, {whole(group.total)} rows"
        parts.append(text(_WIDTH - _RIGHT, base - peak - 12, words, f"name end {group.style}-ink"))
        x = _across(min(group.median, top), top)
        parts.append(f'<line class="median" x1="{x}" x2="{x}" y1="{base}" y2="{base + 5}"/>')
    if line and 0 <= line[0] <= top:
        x = _across(line[0], top)
        parts.append(f'<line class="threshold" x1="{x}" x2="{x}" y1="{head - 6}" y2="{bottom}"/>')
        side = "end" if float(x) > _WIDTH * 0.6 else ""
        parts.append(text(x, head - 12, line[1], f"name {side}"))
    parts.append(text((_WIDTH + _LEFT) / 2, bottom + 36, unit, "tick middle"))
    return svg(_WIDTH, bottom + 44, label, parts)


def _across(value: float, top: float) -> float:
    return round(_LEFT + value / top * (_WIDTH - _LEFT - _RIGHT), 1)


def _steps(edges: np.ndarray, counts: np.ndarray, base: float, peak: float, top: float) -> str:
    most = max(int(counts.max()), 1)
    path = [f"M{_across(0.0, top)} {base}"]
    for i, count in enumerate(counts.tolist()):
        y = round(base - count / most * peak, 1)
        path.append(f"V{y}H{_across(float(edges[i + 1]), top)}")
    return "".join([*path, f"V{base}Z"])

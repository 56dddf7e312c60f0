"""Density against likeness to denser rows, class by class: how prototypes were chosen.

One panel per class. Right and low lie rows in a dense part of their class that are no twins of a
denser one; that is where prototypes are taken. Source of the picture: Rodriguez and Laio 2014.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from errata.report.svg import nice_ticks, svg, text
from errata.report.words import short

__all__ = ["DensityPanel", "density_panels", "density_scatter"]

_SIDE, _LEFT, _HEAD, _FOOT, _GAP = 150, 46, 44, 40, 18


@dataclass(frozen=True)
class DensityPanel:
    """The candidates of one class.

    Attributes:
        title: Name of the class.
        density: [n] of each candidate.
        apart: [n] its likeness to a denser one (eta), or its distance to it.
        chosen: [n] bool, whether it became a prototype.
    """

    title: str
    density: np.ndarray
    apart: np.ndarray
    chosen: np.ndarray


def density_panels(memory: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[DensityPanel]:
    """Read what the part `smp` remembers of its last choice, class by class.

    Classes without candidates are left out, and all where the prototypes came from k-means.

    Args:
        memory: ``smp_candidates`` and ``smp_prototypes`` hold rows [C, n] and [C, P], -1 where
            there is none; ``smp_density``, and ``smp_apart`` or ``smp_distance`` of density peaks,
            [C, n] are NaN there.
        classes: Names of the C classes.
    """
    panels = []
    heights = memory["smp_distance" if "smp_distance" in memory else "smp_apart"]
    for label, title in enumerate(classes):
        density, apart = memory["smp_density"][label], heights[label]
        known = np.isfinite(density) & np.isfinite(apart)
        if known.any():
            chosen = np.isin(memory["smp_candidates"][label], memory["smp_prototypes"][label])
            panels.append(DensityPanel(title, density[known], apart[known], chosen[known]))
    return panels


def density_scatter(
    panels: Sequence[DensityPanel],
    *,
    label: str,
    across: str = "density \u03c1",
    up: str = "likeness to a denser row \u03b7",
    cap: float | None = None,
    columns: int = 4,
) -> str:
    """Draw panels side by side, all on the same axes.

    Args:
        panels: At least one, with finite values.
        label: What the figure says, for people who cannot see it.
        across: Words under the horizontal axis.
        up: Words over the vertical axis.
        cap: A height to mark: candidates above it count as twins of a denser one.
        columns: Panels in a row.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    step_x, step_y = _SIDE + _GAP + _LEFT, _SIDE + _HEAD + _FOOT
    x_axis = _limits(np.concatenate([panel.density for panel in panels]))
    heights = np.concatenate([panel.apart for panel in panels])
    y_axis = _limits(heights if cap is None else np.append(heights, cap))
    parts = [text(_LEFT, 14, f"\u2191 {up}; \u2192 {across}", "tick")]
    for place, panel in enumerate(panels):
        left, top = _LEFT + place % columns * step_x, _HEAD + place // columns * step_y
        frame = _Frame(left, top, x_axis, y_axis)
        parts.append(text(left, top - 8, short(panel.title, 20), "name"))
        parts += _axes(frame) + _points(frame, panel)
        if cap is not None:
            parts.append(_across(frame, frame.y(cap), "threshold"))
    return svg(columns * step_x, rows * step_y, label, parts)


@dataclass(frozen=True)
class _Frame:
    left: int
    top: int
    x_axis: tuple[float, float]
    y_axis: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_axis
        return round(self.left + (value - low) / (high - low) * _SIDE, 1)

    def y(self, value: float) -> float:
        low, high = self.y_axis
        return round(self.top + (high - value) / (high - low) * _SIDE, 1)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _across(frame: _Frame, y: float, style: str) -> str:
    return f'<line class="{style}" x1="{frame.left}" x2="{frame.left + _SIDE}" y1="{y}" y2="{y}"/>'


def _axes(frame: _Frame) -> list[str]:
    bottom = frame.top + _SIDE
    parts = []
    for tick in nice_ticks(*frame.x_axis, 3):
        x = frame.x(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{frame.top}" y2="{bottom}"/>')
        parts.append(text(x, bottom + 16, f"{tick:g}", "tick middle"))
    for tick in nice_ticks(*frame.y_axis, 3):
        parts.append(_across(frame, frame.y(tick), "grid"))
        parts.append(text(frame.left - 6, frame.y(tick) + 4, f"{tick:g}", "tick end"))
    parts.append(_across(frame, bottom, "axis"))
    return parts


def _points(frame: _Frame, panel: DensityPanel) -> list[str]:
    places = [
        (round(frame.x(x)), round(frame.y(y)))
        for x, y in zip(panel.density.tolist(), panel.apart.tolist(), strict=True)
    ]
    # Points that fall on one another are drawn once: a class may have thousands.
    others = sorted({p for p, is_chosen in zip(places, panel.chosen, strict=True) if not is_chosen})
    path = "".join(f"M{x},{y}h0" for x, y in others)
    dots = [
        f'<circle class="dot test1" cx="{x}" cy="{y}" r="3.5"/>'
        for (x, y), is_chosen in zip(places, panel.chosen, strict=True)
        if is_chosen
    ]
    return ([f'<path class="line null" d="{path}"/>'] if others else []) + dots

"""Loss histograms of several groups over one another, panels side by side, on a log axis.

The axis is that of the talk of ODD (Song et al. 2020): the log of the loss, because losses of
right labels spread over orders of magnitude and those of wrong ones do not.

Figures for a page that brings no stylesheet of its own, such as a picture in the documentation,
pass through `standalone`, which adds colours and a light ground.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from errata.report.svg import svg, text

__all__ = ["LossGroup", "LossPanel", "count_losses", "log_edges", "loss_panels", "standalone"]

_WIDTH, _HEIGHT, _GAP, _EDGE = 380, 170, 30, 14
_STYLE = """
svg { background: #fbfaf7; font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
text { fill: #5f5b53; } text.name, text.title { fill: #1d1c1a; } text.title { font-weight: 600; }
text.end { text-anchor: end; } text.middle { text-anchor: middle; }
.grid { stroke: #e5e1d8; } .axis { stroke: #8d887d; }
.threshold { stroke: #1d1c1a; stroke-dasharray: 2 3; }
.group { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.group.right { fill: #4b6f9c; fill-opacity: .22; stroke: #4b6f9c; }
.group.wrong { fill: #b3261e; fill-opacity: .2; stroke: #b3261e; }
.group.simulated { stroke: #1d1c1a; }
.group.phantom { stroke: #8a5300; stroke-dasharray: 6 4; }
""".replace("\n", " ").strip()


@dataclass(frozen=True)
class LossGroup:
    """How the losses of one group spread.

    Attributes:
        name: What the group is, for the legend.
        style: ``right``, ``wrong``, ``simulated`` or ``phantom``.
        counts: [bins] how many losses lie in each bin.
    """

    name: str
    style: str
    counts: np.ndarray


@dataclass(frozen=True)
class LossPanel:
    """One set of axes.

    Attributes:
        title: What was trained.
        groups: Those drawn first lie below.
        mark: A loss to mark, and what it is.
    """

    title: str
    groups: Sequence[LossGroup]
    mark: tuple[float, str] | None = None


def log_edges(low: float = 1e-3, high: float = 20.0, *, bins: int = 56) -> np.ndarray:
    """Give the edges [bins + 1] of bins that are equally wide on a log axis."""
    return np.geomspace(low, high, bins + 1)


def count_losses(losses: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count finite losses [n] in bins; what lies outside counts in the first or the last one.

    Example:
        >>> count_losses(np.array([0.0, 0.5, 2.0, 99.0, np.nan]), np.array([0.1, 1.0, 10.0]))
        array([2, 2])
    """
    finite = losses[np.isfinite(losses)]
    return np.histogram(np.clip(finite, edges[0], edges[-1]), edges)[0]


def loss_panels(
    edges: np.ndarray, panels: Sequence[LossPanel], *, label: str, columns: int = 2
) -> str:
    """Draw panels in rows of `columns`; the area under each group is the same.

    Args:
        edges: [bins + 1] of `log_edges`.
        panels: Their groups share the names of the legend, which stands above all.
        label: What the figure says, for people who cannot see it.
        columns: Panels in a row.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    head, step = 40, _HEIGHT + 92
    width = columns * (_WIDTH + _GAP) + _GAP
    # In the order of the fullest panel, since a panel may lack a group.
    fullest = sorted(panels, key=lambda panel: -len(panel.groups))
    parts = _legend([group for panel in fullest for group in panel.groups])
    for place, panel in enumerate(panels):
        left = _GAP + place % columns * (_WIDTH + _GAP)
        parts += _panel(edges, panel, left, head + place // columns * step)
    return svg(width, head + rows * step, label, parts)


def _legend(groups: Sequence[LossGroup]) -> list[str]:
    parts, x = [], float(_GAP)
    for name, style in dict.fromkeys((group.name, group.style) for group in groups):
        parts.append(f'<path class="group {style}" d="M{x} 24V14H{x + 22}V24"/>')
        parts.append(text(x + 30, 24, name, "name"))
        x = round(x + 58 + 7.2 * len(name), 1)
    return parts


def _panel(edges: np.ndarray, panel: LossPanel, left: float, top: float) -> list[str]:
    low, high = math.log10(edges[0]), math.log10(edges[-1])
    head, bottom = top + 44, top + 44 + _HEIGHT

    def x_of(loss: float) -> float:
        share = (math.log10(max(loss, edges[0])) - low) / (high - low)
        return round(left + min(share, 1.0) * _WIDTH, 1)

    parts = [text(left, top + 16, panel.title, "title")]
    for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
        x = x_of(10.0**power)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{head}" y2="{bottom}"/>')
        parts.append(text(x, bottom + 17, f"{10.0**power:g}", "tick middle"))
    parts.append(text(left + _WIDTH / 2, bottom + 36, "loss [nats]", "tick middle"))
    peak = max((_density(group).max() for group in panel.groups), default=1.0)
    for group in panel.groups:
        path = [f"M{x_of(float(edges[0]))} {bottom}"]
        for i, density in enumerate(_density(group).tolist()):
            y = round(bottom - density / max(peak, 1e-12) * (_HEIGHT - _EDGE), 1)
            path.append(f"V{y}H{x_of(float(edges[i + 1]))}")
        parts.append(f'<path class="group {group.style}" d="{"".join([*path, f"V{bottom}"])}"/>')
    parts.append(
        f'<line class="axis" x1="{left}" x2="{left + _WIDTH}" y1="{bottom}" y2="{bottom}"/>'
    )
    if panel.mark is not None:
        x = x_of(panel.mark[0])
        parts.append(f'<line class="threshold" x1="{x}" x2="{x}" y1="{head - 4}" y2="{bottom}"/>')
        # To the left: losses above the mark are what the figure is about.
        parts.append(text(x - 5, head - 8, panel.mark[1], "name end"))
    return parts


def _density(group: LossGroup) -> np.ndarray:
    return np.asarray(group.counts / max(int(group.counts.sum()), 1))


def standalone(figure: str, *, style: str = "") -> str:
    """Make a file of a figure: its name space, its size, colours and a light ground.

    Args:
        figure: What `loss_panels`, or anything built by `errata.report.svg.svg`, gave.
        style: More rules of the stylesheet.
    """
    found = re.match(r'<svg ([^>]*viewBox="0 0 (\d+) (\d+)"[^>]*)>', figure)
    assert found is not None, "a figure is one svg element with a view box"
    words, width, height = found.groups()
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {words}>'
    return f"{opening}<style>{_STYLE} {style}</style>{figure[found.end() :]}\n"

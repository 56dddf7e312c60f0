"""What a linear and a non-linear noise layer let through to the net: three claims, in numbers.

    python benchmarks/nnaqc_gradients.py

Ten classes. The linear layer is the true transition T. The non-linear one is W fitted to it,
``ln T^T``, or W as NNAQC starts. Nothing is trained and nothing is random but the predictions of
claim 1. Writes `benchmarks/nnaqc_gradients.json` and `docs/img/nnaqc-gradients.svg`; takes seconds.

Sizes of gradients are sums of absolute values over the logits of one row.

Shapes: B predictions, C classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from odd_figures import Curve, Panel, curve_panels, write
from provenance import made, versions
from torch import Tensor

from errata.losses import ce, linear_layer, nonlinear_layer, one_hot
from errata.losses.layer_gradients import (
    diffuseness,
    linear_gradient,
    linear_operator,
    nonlinear_gradient,
    nonlinear_operator,
    peaked_logits,
    weight_of_transition,
)
from errata.losses.layers import near_identity
from errata.losses.layers_nonlinear import scaled_identity
from errata.report.svg import svg, text

# Tolerances, written down before the sweep was run.
DIFFUSE = 0.90
"""Claim 1, "more diffuse": at least this share of predictions has an operator that is more diffuse
behind the second softmax than in the linear layer, at every sharpness and for both noises."""
CONFIDENT = 0.90
"""Claims 2 and 3 speak of predictions at least so confident."""
LEFT = 0.50
"""Claims 2 and 3, "most of the gradient" and "no overconfidence": at most this share of the
gradient of cross-entropy is left, and no more than the linear layer leaves."""

CLASSES, OTHERS, DRAWS, SEED = 10, 0.36, 2000, 0
SHARPNESS = (1, 2, 4, 8)
"""Standard deviations of the logits of the predictions that are drawn."""
_EVEN = near_identity(CLASSES, others=OTHERS).double()
_SLIGHT = near_identity(CLASSES, others=0.02).double()
NOISES = {
    "spread evenly": _EVEN,
    "onto one class": (1 - OTHERS) * _SLIGHT + OTHERS * _SLIGHT.roll(1, 1),
}
START = scaled_identity("nnaqc", 0.99, CLASSES).double()
CONFIDENCE = torch.linspace(0.1, 0.995, 180).double()
LOGITS = peaked_logits(CONFIDENCE, CLASSES)
STYLES = {
    "cross-entropy": "c3",
    "linear layer": "c2",
    "non-linear, fitted": "c1",
    "non-linear, at its start": "c4",
}
TOLD_AT = (0.5, 0.9, 0.99)
CELL, LEFT_EDGE = 15, 58

Numbers = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("benchmarks/nnaqc_gradients.json"))
    parser.add_argument("--figures", type=Path, default=Path("docs/img"))
    args = parser.parse_args()
    numbers = {
        "diffuse": diffuse(),
        "disagree": sizes_told(1),
        "agree": sizes_told(0),
        "settles": settled(),
    }
    numbers["claims"] = claims(numbers)
    told = {**made(), "versions": versions("errata", "torch"), "seed": SEED, **numbers}
    args.results.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    write(args.figures, "nnaqc-gradients.svg", figure())
    print(json.dumps(numbers["claims"], indent=1))


def diffuse() -> Numbers:
    """Count random predictions with a more diffuse operator behind the second softmax."""
    rng = torch.Generator().manual_seed(SEED)
    drawn = torch.randn(DRAWS, CLASSES, generator=rng, dtype=torch.float64)
    told: Numbers = {}
    for noise, transition in NOISES.items():
        for name, weight in (("fitted", weight_of_transition(transition)), ("start", START)):
            told[f"{noise}, {name}"] = {
                str(scale): share_more_diffuse(drawn * scale, transition, weight)
                for scale in SHARPNESS
            }
    return told


def share_more_diffuse(logits: Tensor, transition: Tensor, weight: Tensor) -> float:
    linear = diffuseness(linear_operator(logits, transition))
    behind = diffuseness(nonlinear_operator(logits, weight))
    return round(float((behind > linear).double().mean()), 3)


def sizes(label: int) -> dict[str, Tensor]:
    """Give the size [B] of the gradient of each loss; predictions are peaked at class 0."""
    given = torch.full((len(CONFIDENCE),), label)
    fitted = weight_of_transition(_EVEN)
    gradients = {
        "cross-entropy": LOGITS.softmax(1) - one_hot(given, CLASSES),
        "linear layer": linear_gradient(LOGITS, given, _EVEN),
        "non-linear, fitted": nonlinear_gradient(LOGITS, given, fitted),
        "non-linear, at its start": nonlinear_gradient(LOGITS, given, START),
    }
    return {name: gradient.abs().sum(1) for name, gradient in gradients.items()}


def sizes_told(label: int) -> Numbers:
    """Give sizes at some confidences, and the most that is left of cross-entropy's above .9."""
    every, plain = sizes(label), sizes(label)["cross-entropy"]
    sure = CONFIDENCE >= CONFIDENT
    places = [int((CONFIDENCE - wanted).abs().argmin()) for wanted in TOLD_AT]
    return {
        name: {
            "size": {f"{CONFIDENCE[k]:.3f}": round(float(size[k]), 3) for k in places},
            "most_left": round(float((size / plain)[sure].max()), 3),
            "most_over_linear": round(float((size / every["linear layer"])[sure].max()), 3),
        }
        for name, size in every.items()
    }


def settled() -> dict[str, float]:
    """Find the confidence of least expected loss where labels are wrong as T says."""
    confidence = torch.linspace(0.1, 1 - 1e-6, 20_001).double()
    logits = peaked_logits(confidence, CLASSES)
    matrices = {
        "cross-entropy": ce(logits),
        "linear layer": linear_layer(logits, _EVEN),
        "non-linear, fitted": nonlinear_layer(logits, weight_of_transition(_EVEN)),
        "non-linear, at its start": nonlinear_layer(logits, START),
    }
    return {
        name: round(float(confidence[(matrix @ _EVEN[0]).argmin()]), 3)
        for name, matrix in matrices.items()
    }


def claims(numbers: Mapping[str, Any]) -> Numbers:
    """Say which claims hold within the tolerances, for W fitted and for W at its start."""
    told: Numbers = {}
    for name, curve in (("fitted", "non-linear, fitted"), ("start", "non-linear, at its start")):
        shares = [
            share
            for case, by_scale in numbers["diffuse"].items()
            if case.endswith(name)
            for share in by_scale.values()
        ]
        told[f"1 diffuse, {name}"] = {"least_share": min(shares), "held": min(shares) >= DIFFUSE}
        for claim, kind in (("2 disagree", "disagree"), ("3 agree", "agree")):
            row = numbers[kind][curve]
            told[f"{claim}, {name}"] = {
                "most_left": row["most_left"],
                "below_half": row["most_left"] <= LEFT,
                "most_over_linear": row["most_over_linear"],
                "below_linear": row["most_over_linear"] <= 1,
            }
    return told


def figure() -> str:
    """Put the operators above the curves."""
    maps, height = operator_maps()
    curves = curve_panels(panels(), label="Gradients against the confidence of the prediction.")
    box = curves.split('viewBox="0 0 ')[1].split('"')[0]
    width, below = (int(float(size)) for size in box.split())
    opening = f'<svg x="0" y="{height}" width="{width}" height="{below}" viewBox="0 0 {box}">'
    nested = opening + curves[curves.index(">") + 1 :]
    label = "Operators and gradients of a linear and of a non-linear noise layer."
    return svg(width, height + below, label, [*maps, nested])


def panels() -> list[Panel]:
    """Give one panel for each of the three claims."""
    operators = {
        "linear layer": linear_operator(LOGITS, _EVEN),
        "non-linear, fitted": nonlinear_operator(LOGITS, weight_of_transition(_EVEN)),
        "non-linear, at its start": nonlinear_operator(LOGITS, START),
    }
    shares = {name: diffuseness(operator) for name, operator in operators.items()}
    unit = "confidence of the prediction"
    return [
        Panel("Share of the operator that carries it", drawn(shares), 0.0, 0.4, unit),
        Panel("Gradient where label and net disagree", drawn(sizes(1)), 0.0, 3.5, unit),
        Panel("Gradient where they agree", drawn(sizes(0)), 0.0, 3.5, unit),
    ]


def drawn(values: Mapping[str, Tensor]) -> list[Curve]:
    xs = CONFIDENCE.tolist()
    return [Curve(name, STYLES[name], xs, ys.tolist()) for name, ys in values.items()]


def operator_maps() -> tuple[list[str], int]:
    """Draw both operators for an unsure and for a sure prediction of class 0."""
    parts, left, top = [], LEFT_EDGE, 46
    for confidence in (0.5, 0.95):
        logits = peaked_logits(torch.tensor([confidence]).double(), CLASSES)
        for name, operator in (
            ("linear", linear_operator(logits, _EVEN)),
            ("non-linear", nonlinear_operator(logits, weight_of_transition(_EVEN))),
        ):
            share = float(diffuseness(operator))
            parts.append(text(left, top - 26, f"{name}, confidence {confidence:g}", "title"))
            parts.append(text(left, top - 8, f"carried by {share:.1%} of the entries", "name"))
            parts += heat_map(operator[0], left, top)
            left += CELL * CLASSES + 110
    bottom = top + CELL * CLASSES
    words = "rows: classes of the net; columns: labels; blue raises, red lowers; scaled to the most"
    parts.append(text(LEFT_EDGE, bottom + 20, words, "tick"))
    return parts, bottom + 34


def heat_map(operator: Tensor, left: float, top: float) -> list[str]:
    scaled, side = operator / operator.abs().max(), CELL * CLASSES
    parts = [
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="#fff" stroke="#8d887d"/>'
    ]
    for row, values in enumerate(scaled.tolist()):
        for column, value in enumerate(values):
            colour = "#4b6f9c" if value > 0 else "#b3261e"
            parts.append(
                f'<rect x="{left + CELL * column}" y="{top + CELL * row}" width="{CELL}" '
                f'height="{CELL}" fill="{colour}" fill-opacity="{abs(value) ** 0.5:.2f}"/>'
            )
    return parts


if __name__ == "__main__":
    main()

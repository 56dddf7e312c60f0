"""Calibration and conformal sets of real nets that were trained, and calibrated, on noisy labels.

    python benchmarks/confidence_audit.py --data DIR

What `errata train` does: a tenth of the rows is held out, a net is trained on the rest by a recipe,
and the calibration is fitted to the held-out rows with their noisy labels. Test labels are true.
Digits with 3 seeds, the first 10,000 rows of Fashion-MNIST with one; clean, and with 20 and 40 %
of uniform and asymmetric noise. Beside `errata.confidence.fit_calibration` stand: the net as it is;
the noise ignored (a plain temperature and plain sets); the true rates known; and true labels on the
held-out rows, which nobody has. DIR holds the idx files in a folder `fashion_mnist`; without it the
digits alone are measured. Cells that are in the file are kept, so that it can be broken off.

Bars, stated before measuring (goals, section 6, and "the same on a real audit"), for uniform noise:
calibration error at most .02, coverage of .9 within 1 point, sets at most 1.1 times the size of
those that true labels give; on the mean of the seeds. Numbers go to
`benchmarks/confidence_audit.json`. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made, versions

from errata.confidence import (
    conformal_threshold,
    fit_calibration,
    fit_temperature,
    plain_scores,
    scale,
)
from errata.config import Settings, program_of, stages_of
from errata.data import Subset
from errata.data.samples import open_samples
from errata.engine.evaluate import true_transition
from errata.engine.fit import fit
from errata.engine.held_out import hold_out
from errata.engine.testing import mean_probabilities, test_feed
from errata.measures import accuracy, ece, nll
from errata.models import default_model

COVERAGE, SHARE = 0.9, 0.1
NOISES = ("none", "uniform:0.2", "uniform:0.4", "asymmetric:0.2", "asymmetric:0.4")
DATA = {"digits": (20, None, (0, 1, 2)), "fashion-mnist": (6, 10_000, (0,))}


def cell(spec: str, name: str, noise: str, seed: int) -> dict[str, float]:
    """Train on noisy labels, calibrate in five ways, measure on true ones."""
    epochs, limit, _ = DATA[name]
    planted = None if noise == "none" else noise
    samples = open_samples(spec, limit=limit, noise=planted, seed=seed)
    clean = samples.source.given if samples.truth is None else samples.truth.clean
    left, held = hold_out(samples, SHARE, seed=seed)
    assert held is not None
    assert isinstance(held, Subset)
    truth = clean[held.rows]
    settings = Settings(seed=seed, recipe="erm")
    settings.stage = stages_of("erm", rows=len(left.source.ids), epochs=epochs)
    model = default_model(left.source.shape)
    run = fit(program_of(settings), left.source, model=model, seed=seed)
    raw = mean_probabilities(run, test_feed(run, held))
    test = samples.tests["test"]
    fresh, labels = mean_probabilities(run, test_feed(run, test)), test.given
    ours = fit_calibration(raw, held.given)
    assert ours is not None
    told = {
        "accuracy": accuracy(fresh, labels),
        "ece_raw": ece(fresh, labels),
        "nll_raw": nll(fresh, labels),
        "noise_rate_true": float((held.given != truth).mean()),
        "noise_rate_found": ours.noise_rate,
        "whole_matrix": float(ours.method == "class"),
    }
    probs = ours.probs(fresh)
    told |= _measure("errata", probs, ours.sets(probs, COVERAGE), labels)
    if samples.truth is None:
        known = None
    else:
        known = true_transition(samples.truth, samples.source.given, len(test.classes))
    ways = {"ignored": (held.given, None), "known": (held.given, known), "clean": (truth, None)}
    logs, others = np.log(np.maximum(raw, 1e-30)), np.log(np.maximum(fresh, 1e-30))
    for way, (seen, transition) in ways.items():
        temperature = fit_temperature(logs, seen, transition=transition)
        scores = plain_scores(scale(logs, temperature))
        limit_at = conformal_threshold(scores, seen, coverage=COVERAGE, transition=transition)
        probs = scale(others, temperature)
        told |= _measure(way, probs, plain_scores(probs) <= limit_at, labels)
    return {key: round(float(value), 4) for key, value in told.items()}


def _measure(way: str, probs: np.ndarray, sets: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {
        f"ece_{way}": ece(probs, labels),
        f"nll_{way}": nll(probs, labels),
        f"coverage_{way}": float(sets[np.arange(len(labels)), labels].mean()),
        f"size_{way}": float(sets.sum(1).mean()),
    }


def means(cells: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Average over seeds, and hold uniform noise against the bars."""
    groups: dict[str, list[dict[str, float]]] = {}
    for name, found in cells.items():
        groups.setdefault(name.rsplit("/", 1)[0], []).append(found)
    told: dict[str, dict[str, Any]] = {}
    for name, several in groups.items():
        mean: dict[str, Any] = {
            key: round(float(np.mean([each[key] for each in several])), 4) for key in several[0]
        }
        mean["seeds"] = len(several)
        if "uniform" in name:
            mean["bars"] = {
                "ece": mean["ece_errata"] <= 0.02,
                "coverage": abs(mean["coverage_errata"] - COVERAGE) <= 0.01,
                "size": mean["size_errata"] <= 1.1 * mean["size_clean"],
            }
        told[name] = mean
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/confidence_audit.json"))
    args = parser.parse_args()
    cells: dict[str, dict[str, float]] = {}
    if args.json.exists():
        cells = json.loads(args.json.read_text("utf-8"))["cells"]
    for name, (_, _, seeds) in DATA.items():
        spec = name
        if name != "digits":
            if args.data is None:
                continue
            spec = f"{name}:{args.data / 'fashion_mnist'}"
        for noise in NOISES:
            for seed in seeds:
                key = f"{name}/{noise}/{seed}"
                if key in cells:
                    continue
                cells[key] = cell(spec, name, noise, seed)
                print(key, json.dumps(cells[key]), flush=True)
                _write(args.json, cells)


def _write(path: Path, cells: dict[str, dict[str, float]]) -> None:
    told = {
        "cells": cells,
        "means": means(cells),
        "settings": {
            "recipe": "erm",
            "epochs": {name: settings[0] for name, settings in DATA.items()},
            "held_out": SHARE,
            "coverage": COVERAGE,
        },
        "made": {
            **made(),
            "threads": torch.get_num_threads(),
            **versions("errata", "torch", "numpy"),
        },
    }
    path.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()

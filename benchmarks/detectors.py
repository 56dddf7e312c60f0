"""How well each detector of training dynamics finds planted errors, from one training per noise.

    ERRATA_DATA=DIR python benchmarks/detectors.py [--ledgers DIR] [--json FILE]

The first 10,000 images of Fashion-MNIST, net `conv`, flips, batch 128, plain training: 30 epochs,
recorded by `Track`, `Trajectory` and `Representation`. The ledger is saved in `--ledgers` and used
again. A bootstrap ensemble (8 members of 4 epochs) and a search with threshold samples (2 runs of
10 epochs) follow.
About 15 minutes of one core in all; what is finished is not done again.

The bar, stated before measuring: on uniform noise every detector is within `WITHIN` AUROC of the
accumulated margin, or its documentation says why not. Those outside stand under ``outside_bar``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from provenance import made, versions

from errata.data import Augment, Subset, open_source, plant_noise
from errata.detect import detector_named, detector_names
from errata.detect.curves import align_curves, noisy_curves, prepare_curves
from errata.detect.losses import Arazo
from errata.detect.noise_model import NoiseModelDetector, class_transition, fit_noise_model
from errata.detect.reading import averaged_probs, column, given_labels
from errata.detect.trajectory import ensemble_features, normalise_within, trajectory_features
from errata.detect.wrong_event import wrong_event_posterior
from errata.engine import Engine, TrainingRun, fit
from errata.engine.bootstrap import bootstrap, write_ensemble
from errata.engine.threshold import search_by_threshold, write_threshold
from errata.ledger import Ledger
from errata.measures import auroc, average_precision, precision_recall_f1
from errata.methods import phases_named
from errata.observe import Observer, Representation, Track, Trajectory
from errata.parts.base import stages_of_phases
from errata.types import Source

ROWS, EPOCHS, MEMBERS, MEMBER_EPOCHS, THRESHOLD_EPOCHS = 10_000, 30, 8, 4, 10
WITHIN = 0.02
NOISES = ("uniform:0.4", "asymmetric:0.4", "none")
DETECTORS = (
    *("accumulated_margin", "accumulated_loss", "disagreement", "early_margin", "self_confidence"),
    *("forgetting", "phantom", "small_loss_mixture", "probe"),
    *("ctrl", "wrong_event", "cartography", "o2u", "arazo"),
)
PROBABILITIES = {"phantom", "small_loss_mixture", "wrong_event", "arazo"}


def open_cell(noise: str) -> tuple[Source, np.ndarray]:
    """Give the source and its true classes [N]."""
    data = os.environ.get("ERRATA_DATA", "../shared/data")
    everything = open_source(f"fashion-mnist:{data}/fashion_mnist").train
    rows = Subset(everything, np.arange(ROWS))
    planted = plant_noise(rows, "uniform:0" if noise == "none" else noise, seed=0)
    return planted.source, planted.truth.clean


def train(
    source: Source, epochs: int, *, seed: int = 0, observers: tuple[Observer, ...] = ()
) -> TrainingRun:
    """Train plainly, as the suite `fashion-10k` does."""
    return fit(
        stages_of_phases(phases_named("erm"), epochs=epochs, batch=128),
        source,
        model="conv",
        seed=seed,
        augment=Augment.parse("flip"),
        engine=Engine(threads=1),
        observers=observers,
    )


def ledger_of(noise: str, source: Source, folder: Path) -> Ledger:
    """Give the ledger of a training, made once."""
    place = folder / noise.replace(":", "_")
    if not place.exists():
        run = train(source, EPOCHS, observers=(Track(), Trajectory(), Representation()))
        run.ledger.save(place)
    ledger = Ledger.load(place)
    ledger.check(source.ids, source.given)
    return ledger


def add_ensemble(ledger: Ledger, noise: str, source: Source, folder: Path) -> None:
    """Write what held-out nets say, trained once, into a ledger."""
    ensemble = bootstrap(
        lambda part, _, seed: train(part, MEMBER_EPOCHS, seed=seed),
        source,
        MEMBERS,
        seed=0,
        work=folder / f"{noise.replace(':', '_')}-members",
    )
    write_ensemble(ledger, ensemble)


def scored(suspicion: np.ndarray, wrong: np.ndarray, p_wrong: np.ndarray | None) -> dict[str, Any]:
    """Measure one detector; what it calls wrong is what has a probability above one half."""
    known = ~np.isnan(suspicion)
    found: dict[str, Any] = {"known": round(float(known.mean()), 4)}
    if wrong.any():
        found["auroc"] = round(auroc(suspicion[known], wrong[known]), 4)
        found["average_precision"] = round(average_precision(suspicion[known], wrong[known]), 4)
    if p_wrong is not None:
        called = np.nan_to_num(p_wrong) > 0.5
        found["called"] = round(float(called.mean()), 4)
        if wrong.any():
            precision, recall, _ = precision_recall_f1(called, wrong)
            found |= {"precision": round(precision, 4), "recall": round(recall, 4)}
    return found


def measure(ledger: Ledger, wrong: np.ndarray, classes: int) -> dict[str, dict[str, Any]]:
    """Measure every detector, and the noise model with other features."""
    table = {}
    given = given_labels(ledger)
    for name in DETECTORS:
        scores = detector_named(name).score(ledger)
        p_wrong = scores.values if name in PROBABILITIES else None
        if name == "ctrl":
            curves = align_curves(column(ledger, "loss_curve"), ledger.filled("loss_curve").numpy())
            p_wrong = noisy_curves(prepare_curves(curves, classes), given).astype(float)
        table[name] = scored(scores.suspicion, wrong, p_wrong)
    last = Arazo(at=1.0).score(ledger)
    table["arazo, last epoch"] = scored(last.suspicion, wrong, last.values)
    events, views = column(ledger, "disagree_sum"), column(ledger, "times_seen")
    alike = wrong_event_posterior(events, views, given, per_class=False)
    table["wrong_event, one mixture for all classes"] = scored(alike, wrong, alike)
    plain = NoiseModelDetector(ensemble=False).score(ledger)
    table["noise_model"] = scored(plain.suspicion, wrong, plain.values)
    features = trajectory_features(ledger)
    ranks = normalise_within(features.values, given)[:, features.names.index("margin")]
    table["accumulated_margin, ranked within classes"] = scored(ranks, wrong, None)
    start = wrong_event_posterior(events, views, given)
    track = features.only(*(name for name in features.names if name != "modal"))
    two = features.only("wrong_events", "average_margin")
    for words, chosen in (("of `Track` alone", track), ("of two features", two)):
        model = fit_noise_model(chosen, given, start, classes=classes)
        table[f"noise_model {words}"] = scored(model.log_odds, wrong, model.posterior)
    return table


def measure_ensemble(ledger: Ledger, wrong: np.ndarray) -> dict[str, dict[str, Any]]:
    """Measure what held-out nets say, alone and as features of the noise model."""
    joint = detector_named("noise_model_ensemble").score(ledger)
    table = {"noise_model_ensemble": scored(joint.suspicion, wrong, joint.values)}
    ensemble = ensemble_features(ledger)
    for name in ensemble.names:
        table[f"{name}, held-out nets"] = scored(ensemble.of(name), wrong, None)
    return table


def by_uncertainty(ledger: Ledger, wrong: np.ndarray) -> dict[str, list[float]]:
    """AUROC of the accumulated margin within quarters of rows, the surest first."""
    suspicion = detector_named("accumulated_margin").score(ledger).suspicion
    features, found = ensemble_features(ledger), {}
    for name in ("uncertainty", "aleatoric", "epistemic"):
        values = features.of(name)
        known = np.flatnonzero(~np.isnan(values))
        quarters = np.array_split(known[np.argsort(values[known], kind="stable")], 4)
        found[name] = [round(auroc(suspicion[rows], wrong[rows]), 4) for rows in quarters]
    return found


def outside_bar(table: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Give how far detectors are below the accumulated margin that are further than `WITHIN`."""
    margin = table["accumulated_margin"]["auroc"]
    registered = {name: table[name] for name in detector_names() if name in table}
    short = {name: round(margin - found["auroc"], 4) for name, found in registered.items()}
    return {name: below for name, below in short.items() if below > WITHIN}


def row_error(estimate: np.ndarray, given: np.ndarray, clean: np.ndarray) -> float:
    """Half the sum of absolute differences to the realised T, averaged over its rows."""
    true = np.zeros_like(estimate)
    np.add.at(true, (clean, given), 1)
    true /= true.sum(1, keepdims=True)
    return round(float(np.abs(estimate - true).sum(1).mean() / 2), 4)


def report_of(noise: str, folder: Path) -> dict[str, Any]:
    """Measure everything for one noise."""
    source, clean = open_cell(noise)
    wrong, classes = source.given != clean, len(source.classes)
    ledger = ledger_of(noise, source, folder)
    report: dict[str, Any] = {"noise": noise, "realised": round(float(wrong.mean()), 4)}
    report["predicted_as_given"] = round(float(column(ledger, "last_correct").mean()), 4)
    report["detectors"] = measure(ledger, wrong, classes)
    if not wrong.any():
        return report
    posterior = NoiseModelDetector(ensemble=False).score(ledger).values
    probs = averaged_probs(ledger)
    assert posterior is not None
    assert probs is not None
    report["transition_row_error"] = {
        "noise_model": row_error(
            class_transition(posterior, source.given, probs), source.given, clean
        ),
        "identity": row_error(np.eye(classes), source.given, clean),
    }
    add_ensemble(ledger, noise, source, folder)
    report["detectors"] |= measure_ensemble(ledger, wrong)
    report["margin_auroc_by_quarter"] = by_uncertainty(ledger, wrong)
    if noise == NOISES[0]:
        found = search_by_threshold(
            lambda part, _: train(part, THRESHOLD_EPOCHS, observers=(Track(),)),
            source,
            seed=0,
            work=folder / "threshold",
        )
        write_threshold(ledger, found)
        scores = detector_named("threshold").score(ledger)
        flags = found.flagged.astype(float)
        report["detectors"]["threshold"] = scored(scores.suspicion, wrong, flags)
        report["threshold_limits"] = [round(limit, 3) for limit in found.limits]
    report["outside_bar"] = outside_bar(report["detectors"])
    return report


def show(report: dict[str, Any]) -> None:
    """Print one table."""
    print(f"\n{report['noise']}: {report['realised']:.4f} of the labels are wrong")
    for name, found in report["detectors"].items():
        numbers = [f"{name:<44}"]
        if "auroc" in found:
            numbers.append(f"AUROC {found['auroc']:.4f}  AP {found['average_precision']:.4f}")
        if "called" in found:
            numbers.append(f"calls {found['called']:.3f} wrong")
        if "precision" in found:
            numbers.append(f"precision {found['precision']:.3f}  recall {found['recall']:.3f}")
        print("  " + "  ".join(numbers))
    print(f"  outside the bar: {report.get('outside_bar')}")
    for key in ("predicted_as_given", "transition_row_error", "margin_auroc_by_quarter"):
        if key in report:
            print(f"  {key}: {report[key]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledgers", type=Path, default=Path("benchmarks/.cells/detectors"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/detectors.json"))
    parser.add_argument("--noise", nargs="*", default=list(NOISES))
    args = parser.parse_args()
    args.ledgers.mkdir(parents=True, exist_ok=True)
    numbers = {"rows": ROWS, "epochs": EPOCHS, "members": MEMBERS, "member_epochs": MEMBER_EPOCHS}
    numbers |= {"threshold_epochs": THRESHOLD_EPOCHS, "within": WITHIN, "seed": 0}
    reports = []
    for noise in args.noise:
        reports.append(report_of(noise, args.ledgers))
        show(reports[-1])
    facts = {**numbers, "made": made() | {"versions": versions("errata", "numpy", "torch")}}
    found = {**facts, "noises": reports}
    args.json.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

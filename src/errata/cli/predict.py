"""`errata predict`: labels with their confidence for the rows of a source."""

from __future__ import annotations

import csv
import os
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.console import Console
from errata.cli.flags import Common, ReadFlags, SourceArgument
from errata.cli.noise import check_output
from errata.cli.opening import open_for
from errata.cli.options import option, spread
from errata.cli.training import engine_from
from errata.cli.training_flags import EngineFlags
from errata.cli.words import count, number, took
from errata.errors import SettingsError, SourceError, unknown_name
from errata.staging import guard_writes

if TYPE_CHECKING:
    import numpy as np

    from errata.confidence.calibration import Calibration
    from errata.data import Opened
    from errata.types import Source

__all__ = ["predict"]

HEADER = ("id", "label", "confidence", "second", "second_confidence")
MAIN = "train"
_SHOWN = 3


@spread
def predict(
    *,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="What `errata train` wrote, or an audit directory."),
    ],
    source: SourceArgument,
    reading: ReadFlags,
    engine: EngineFlags,
    common: Common,
    out: Annotated[
        str, option("Output", "--out", help="The csv file of predictions.", metavar="FILE")
    ] = "predictions.csv",
    split: Annotated[
        str | None,
        option(
            "Data",
            "--split",
            help="Predict this official split, such as `test`, in place of the main part.",
            metavar="NAME",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        option(
            "Confidence",
            "--coverage",
            help="Add sets of labels that hold the true one in this share of the rows.",
            metavar="SHARE",
        ),
    ] = None,
    risk: Annotated[
        float | None,
        option(
            "Confidence",
            "--risk",
            help="Answer only where at most this share of the answers is wrong.",
            metavar="SHARE",
        ),
    ] = None,
) -> None:
    """Predict the labels of a source with a trained model.

    Writes `id,label,confidence,second,second_confidence`, a line per row in the order of the
    source. Without --split it predicts the main part of the source: all of it, or its training
    rows where it comes with an official test set. Labels are not needed: a folder of pictures or a
    table with the column `image` will do. Where the source has labels for the classes of the
    model, the predictions are measured against them.

    Confidence is calibrated where the model was made with rows held out, which `errata train` and
    `errata audit --folds` do; so that of labels at .9, nine in ten are right. The rates hold where
    new samples are like those, and noise depends on the class alone. --coverage adds the column
    `set`, of class names between `|`; an empty set says that nothing is as likely as true labels
    usually are. With --risk the label and the second one stay empty where the model abstains.

    For example:

        errata predict model digits --split test --out predictions.csv
    """
    with Console(common) as console:
        display = console.display()
        began = time.perf_counter()
        check_output(Path(out), source, reading)
        _check_shares(coverage, risk)
        from errata.engine.modelfile import load_model

        loaded = load_model(Path(model), engine=engine_from(common, engine))
        calibration = loaded.calibration
        if calibration is None:
            if coverage is not None or risk is not None:
                raise _uncalibrated(model)
            console.warn(f"`{model}` has no calibration; confidence is as the network gives it")
        display.phase("reading samples")
        found = open_for(source, loaded, reading, common.seed)
        part = _part(found.opened, split, source)
        if split is None and found.measured and _trained_on(Path(model), source):
            console.warn(
                f"the model was trained on `{source}`, so its labels there say little about new "
                "ones; --split or another source measures better"
            )
        display.phase("predicting")
        started = time.perf_counter()
        raw = loaded.predict(part).double().numpy()
        seconds = time.perf_counter() - started
        probs = raw if calibration is None else calibration.probs(raw)
        predicted = Predicted(
            probs,
            calibration.sets(probs, coverage) if calibration and coverage is not None else None,
            calibration.answers(probs, risk) if calibration and risk is not None else None,
        )
        document = {
            "command": "predict",
            "rows": len(part.ids),
            "classes": len(loaded.classes),
            "split": split or MAIN,
            "seconds": 0.0,
            "images_per_second": round(len(part.ids) / max(seconds, 1e-9), 1),
            "mean_confidence": float(probs.max(1).mean()),
            "calibration": None if calibration is None else calibration.numbers(),
            **predicted.numbers(coverage, risk),
            "test": _test(raw, part, calibration) if found.measured else None,
            "unreadable": len(found.opened.unreadable),
            "out": out,
        }
        _warn_unreadable(console, found.opened)
        _write(Path(out), part, predicted, loaded.classes)
        document["seconds"] = round(time.perf_counter() - began, 3)
        console.result(document, _text(document))


@dataclass(frozen=True)
class Predicted:
    """What was predicted of N rows with C classes."""

    probs: np.ndarray
    """[N, C]."""
    sets: np.ndarray | None
    """[N, C] bool; None where nobody asked."""
    answered: np.ndarray | None
    """[N] bool; None where nobody asked."""

    def numbers(self, coverage: float | None, risk: float | None) -> dict[str, Any]:
        """Say what sets and abstention came to; null where nobody asked for them."""
        return {
            "coverage": coverage,
            "set_size": None if self.sets is None else float(self.sets.sum(1).mean()),
            "risk": risk,
            "abstained": None if self.answered is None else int((~self.answered).sum()),
        }

    def lines(self, classes: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Give the cells of each row, after its id."""
        best = (-self.probs).argsort(1, kind="stable")[:, :2].tolist()
        for row, (first, second) in enumerate(best):
            p, q = self.probs[row, first], self.probs[row, second]
            speaks = self.answered is None or bool(self.answered[row])
            names = (classes[first], classes[second]) if speaks else ("", "")
            cells = (names[0], f"{p:.6f}", names[1], f"{q:.6f}")
            if self.sets is None:
                yield cells
            else:
                likely = (-self.probs[row]).argsort(kind="stable")
                chosen = [classes[k] for k in likely.tolist() if self.sets[row, k]]
                yield (*cells, "|".join(chosen))


def _part(opened: Opened, split: str | None, spec: str) -> Source:
    if split is None or split == MAIN:
        return opened.train
    if split not in opened.tests:
        if not opened.tests:
            raise SourceError(
                f"`{spec}` has no split `{split}`; it has one part only",
                hint="leave --split out",
            )
        raise unknown_name("split", split, (MAIN, *opened.tests))
    return opened.tests[split]


def _trained_on(model: Path, spec: str) -> bool:
    """Tell whether a model says that it was trained on this source."""
    try:
        settings = tomllib.loads((model / "settings.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    source = settings.get("source")
    return isinstance(source, dict) and source.get("spec") == spec


def _check_shares(coverage: float | None, risk: float | None) -> None:
    """Refuse shares before anything is read."""
    from errata.confidence.calibration import check_share

    if coverage is not None:
        check_share("--coverage", coverage, "0.9")
    if risk is not None:
        check_share("--risk", risk, "0.02")


def _uncalibrated(model: str) -> SettingsError:
    return SettingsError(
        f"model `{model}` has no calibration, which --coverage and --risk need; allowed: a model "
        "that was made with rows held out",
        hint="train it with `errata train SOURCE --calibration 0.1`, or audit with --folds 5",
    )


def _test(
    raw: np.ndarray, source: Source, calibration: Calibration | None
) -> dict[str, Any] | None:
    from errata.engine.honesty import measured

    if not (source.given >= 0).any():
        return None
    return measured(raw, source.given, calibration)


def _warn_unreadable(console: Console, opened: Opened) -> None:
    for each in opened.unreadable[:_SHOWN]:
        console.warn(f"`{each.path}` cannot be read and is left out: {each.why}")
    more = len(opened.unreadable) - _SHOWN
    if more > 0:
        console.warn(f"{count(more, 'more file')} cannot be read and are left out")


def _write(out: Path, source: Source, predicted: Predicted, classes: tuple[str, ...]) -> None:
    partial = out.with_name(f".{out.name}.partial")
    with guard_writes(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(HEADER if predicted.sets is None else (*HEADER, "set"))
                for key, cells in zip(source.ids, predicted.lines(classes), strict=True):
                    writer.writerow((key, *cells))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"predicted {count(document['rows'], 'row')} in {took(document['seconds'])}: "
        f"mean confidence {number(document['mean_confidence'])}"
    ]
    if document["set_size"] is not None:
        lines.append(f"mean size of a set: {number(document['set_size'])}")
    if document["abstained"] is not None:
        lines.append(f"abstained on {count(document['abstained'], 'row')}")
    if document["test"] is not None:
        test = document["test"]
        lines.append(
            f"against the labels of the source: accuracy {number(test['accuracy'])} on "
            f"{count(test['rows'], 'row')}"
        )
    else:
        lines.append("not measured: the source has no labels of the model's classes")
    lines.append(f"predictions: {document['out']}")
    return "\n".join(lines)

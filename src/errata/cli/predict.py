"""`errata predict`: labels with their confidence for the rows of a source."""

from __future__ import annotations

import csv
import os
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.console import Console
from errata.cli.flags import Common, EngineFlags, ReadFlags, SourceArgument, option, spread
from errata.cli.noise import check_output
from errata.cli.opening import open_for
from errata.cli.training import engine_from
from errata.cli.words import count, number, took
from errata.errors import SourceError, unknown_name
from errata.staging import guard_writes

if TYPE_CHECKING:
    import torch

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
) -> None:
    """Predict the labels of a source with a trained model.

    Writes `id,label,confidence,second,second_confidence`, a line per row in the order of the
    source. Without --split it predicts the main part of the source: all of it, or its training
    rows where it comes with an official test set. Labels are not needed: a folder of pictures or a
    table with the column `image` will do. Where the source has labels for the classes of the
    model, the predictions are measured against them.

    For example:

        errata predict model digits --split test --out predictions.csv
    """
    with Console(common) as console:
        display = console.display()
        began = time.perf_counter()
        check_output(Path(out), source, reading)
        from errata.engine.modelfile import load_model

        loaded = load_model(Path(model), engine=engine_from(common, engine))
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
        probs = loaded.predict(part)
        seconds = time.perf_counter() - started
        document = {
            "command": "predict",
            "rows": len(part.ids),
            "classes": len(loaded.classes),
            "split": split or MAIN,
            "seconds": 0.0,
            "images_per_second": round(len(part.ids) / max(seconds, 1e-9), 1),
            "mean_confidence": float(probs.max(1).values.double().mean()),
            "test": _test(probs, part, measured=found.measured),
            "unreadable": len(found.opened.unreadable),
            "out": out,
        }
        _warn_unreadable(console, found.opened)
        _write(Path(out), part, probs, loaded.classes)
        document["seconds"] = round(time.perf_counter() - began, 3)
        console.result(document, _text(document))


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


def _test(probs: torch.Tensor, source: Source, *, measured: bool) -> dict[str, Any] | None:
    from errata.engine.evaluate import test_report

    if not measured or not (source.given >= 0).any():
        return None
    return test_report(probs.double().numpy(), source.given)


def _warn_unreadable(console: Console, opened: Opened) -> None:
    for each in opened.unreadable[:_SHOWN]:
        console.warn(f"`{each.path}` cannot be read and is left out: {each.why}")
    more = len(opened.unreadable) - _SHOWN
    if more > 0:
        console.warn(f"{count(more, 'more file')} cannot be read and are left out")


def _write(out: Path, source: Source, probs: torch.Tensor, classes: tuple[str, ...]) -> None:
    confidence, best = probs.topk(2, dim=1)
    partial = out.with_name(f".{out.name}.partial")
    with guard_writes(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(HEADER)
                for key, (first, second), (p, q) in zip(
                    source.ids, best.tolist(), confidence.tolist(), strict=True
                ):
                    writer.writerow((key, classes[first], f"{p:.6f}", classes[second], f"{q:.6f}"))
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

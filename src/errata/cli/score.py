"""`errata score`: find wrong labels from probabilities that somebody's model made."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import errata
from errata.cli.audit import rate_words
from errata.cli.console import Console
from errata.cli.flags import FlagRule, PlainCommon, ReadFlags
from errata.cli.noise import check_output
from errata.cli.options import option, spread
from errata.cli.words import count, number, quoted, took
from errata.errors import SourceError
from errata.machine import peak_memory_mb
from errata.staging import guard_writes

if TYPE_CHECKING:
    import numpy as np

    from errata.detect.score import LabelErrors

__all__ = ["score"]

_IN = "Data"


@spread
def score(
    *,
    probs: Annotated[
        str,
        typer.Argument(
            metavar="PROBS",
            help="The npy file of held-out probabilities [N, C], float16, float32 or float64.",
        ),
    ],
    labels: Annotated[
        str,
        typer.Argument(
            metavar="LABELS", help="The npy file of class numbers [N]; -1 is unlabelled."
        ),
    ],
    common: PlainCommon,
    features: Annotated[
        str | None,
        option(
            _IN, "--features", help="The npy file of features [N, D], for neighbours.", metavar="F"
        ),
    ] = None,
    ids: Annotated[
        str | None,
        option(
            _IN,
            "--ids",
            help="Your keys of the rows: a text file, one a line, or npy [N]; row numbers unless "
            "given.",
            metavar="FILE",
        ),
    ] = None,
    truth: Annotated[
        str | None,
        option(
            _IN,
            "--truth",
            help="The npy file of true class numbers [N], for the evaluation alone.",
            metavar="FILE",
        ),
    ] = None,
    flag: FlagRule = "auto",
    out: Annotated[
        str,
        option("Output", "--out", help="The csv file of all rows, worst first.", metavar="FILE"),
    ] = "issues.csv",
) -> None:
    """Find wrong labels from held-out probabilities, without training.

    Each row of PROBS must come from a model that was not trained on that row, such as the folds of
    a cross-validation give. Files are read in blocks, so they may be larger than the memory.

    For example:

        errata score probs.npy labels.npy --out issues.csv
    """
    with Console(common) as console:
        display = console.display()
        began = time.perf_counter()
        place = Path(out)
        for path in filter(None, (probs, labels, features, ids, truth)):
            check_output(place, path, ReadFlags())
        display.phase("reading probabilities")
        from errata.blocks import vector_of
        from errata.detect.score import find_label_errors

        given = vector_of(labels, "labels")
        found = find_label_errors(given, probs, features, flag=flag)
        for warned in found.warnings:
            console.warn(warned.text)
        keys = _keys(ids, len(given))
        if features is not None:
            display.phase("collecting evidence")
            found = _explained(found, features, given, keys)
        planted = None if truth is None else _planted(truth, given, found)
        display.phase("writing suspects")
        _write(place, keys, given, found)
        rate = found.rate
        document = {
            "command": "score",
            "version": errata.__version__,
            "rows": len(given),
            "classes": found.classes,
            "suspects": int(found.flagged.sum()),
            "noise_rate": {
                "estimate": rate.estimate,
                "low": rate.low,
                "high": rate.high,
                "method": rate.method,
            },
            "planted": planted,
            "warnings": [{"code": code, "text": text} for code, text in found.warnings],
            "seconds": round(time.perf_counter() - began, 3),
            "peak_memory_mb": peak_memory_mb(),
            "out": out,
        }
        console.result(document, _text(document))


def _explained(
    found: LabelErrors, features: str, given: np.ndarray, keys: list[str]
) -> LabelErrors:
    """Add the nearest rows to the reasons of the suspects that people will look at."""
    import numpy as np

    from errata.blocks import blocks_of
    from errata.detect.from_features import explain_by_neighbours
    from errata.detect.neighbours import labelled_neighbours
    from errata.issues import MOST_REASONS, worst_first

    order = worst_first(found.suspicion)
    rows = order[found.flagged[order]][:MOST_REASONS]
    # Rows that were left out have no suspicion, and are no neighbours either.
    labels = np.where(np.isnan(found.suspicion), -1, given).astype(np.int64)
    near = labelled_neighbours(blocks_of(features, "features"), labels, rows=rows)
    places = {int(row): place for place, row in enumerate(rows)}
    return explain_by_neighbours(found, lambda row: near[places[row]], labels, key=keys.__getitem__)


def _keys(path: str | None, rows: int) -> list[str]:
    """Read the ids of the rows: npy, or text with one id a line."""
    import numpy as np

    from errata.blocks import vector_of
    from errata.data.ids import user_ids

    if path is None:
        return user_ids(None, count=rows, where="")
    if Path(path).suffix == ".npy":
        return user_ids(vector_of(path, "ids"), count=rows, where=f"`{path}`")
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"`{path}` cannot be read as text: {error}", hint="write one id a line, in UTF-8"
        ) from None
    if lines[-1] == "":
        lines.pop()
    values = np.array([line.removesuffix("\r") for line in lines], dtype=np.str_)
    return user_ids(values, count=rows, where=f"`{path}`")


def _planted(path: str, given: np.ndarray, found: LabelErrors) -> dict[str, Any]:
    import numpy as np

    from errata.data.truth_vector import read_truth_vector
    from errata.engine.evaluate import planted_report

    known = ~np.isnan(found.suspicion)
    clean = read_truth_vector(path, rows=len(given), classes=found.classes)
    return planted_report(
        clean,
        # Rows that no score could be given are not counted.
        np.where(known, given, -1),
        suspicion=found.suspicion,
        flagged=found.flagged,
        proposed=found.proposed,
        rate=found.rate.estimate,
    )


def _write(place: Path, ids: list[str], given: np.ndarray, found: LabelErrors) -> None:
    import numpy as np

    from errata.issues import write_issues

    with guard_writes(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    classes = [str(number) for number in range(found.classes)]
    write_issues(place, ids, classes, given.astype(np.int64), found)


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"scored {count(document['rows'], 'row')} in {took(document['seconds'])}: "
        f"{count(document['suspects'], 'suspect')} ({rate_words(document['noise_rate'])})"
    ]
    if planted := document["planted"]:
        lines.append(
            f"against the known truth: precision {number(planted['precision'], 2)}, "
            f"recall {number(planted['recall'], 2)}, AUROC {number(planted['auroc'])}"
        )
    lines.append(f"suspects: {quoted(document['out'])}, worst first")
    return "\n".join(lines)

"""`errata noise`: plant label noise into a label file, and keep the truth apart."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

from errata.cli.console import Console
from errata.cli.flags import Common, ReadFlags, SourceArgument
from errata.cli.options import option, spread
from errata.cli.training import check_noise
from errata.cli.words import count
from errata.errors import OutputError, SettingsError
from errata.staging import guard_writes

__all__ = ["check_output", "noise"]


@spread
def noise(
    *,
    source: SourceArgument,
    reading: ReadFlags,
    common: Common,
    noise: Annotated[
        str,
        option(
            "Noise",
            "--noise",
            help="Kind and rate: `uniform:R`, `uniform-other:R`, `asymmetric:R`, `pair:R`, "
            "`per-class:r1,r2,...`, `instance:R`, `matrix:T.npy`, `model:PROBS.npy[,R]`.",
            metavar="SPEC",
        ),
    ],
    out: Annotated[
        str,
        option("Output", "--out", help="The csv file of noisy labels: id,label.", metavar="FILE"),
    ] = "noisy.csv",
    truth: Annotated[
        str | None,
        option(
            "Output",
            "--truth",
            help="The npz file that keeps the true labels; beside --out unless given.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Plant label noise of a named kind into a label file, and keep the truth apart.

    The files of the source are never touched. Give the label file to --labels of other commands.

    For example:

        errata noise digits --noise asymmetric:0.3 --out noisy.csv
    """
    with Console(common) as console:
        display = console.display()
        began = time.perf_counter()
        check_noise(noise)
        place = Path(out)
        check_output(place, source, reading)
        kept = place.with_name(f"{place.stem}-truth.npz") if truth is None else Path(truth)
        check_output(kept, source, reading)
        if place.resolve() == kept.resolve():
            raise SettingsError(
                f"--out and --truth both name `{out}`; allowed: two files",
                hint="leave --truth out",
            )
        from errata.data import open_source, plant_noise
        from errata.data.noise import write_noisy_labels

        display.phase("reading samples")
        opened = open_source(
            source,
            labels=reading.labels,
            images=reading.images,
            limit=reading.limit,
            column=reading.column,
            seed=common.seed,
        )
        display.phase("planting")
        planted = plant_noise(opened.train, noise, seed=common.seed, truth=opened.truth)
        with guard_writes(place):
            for path in (place, kept):
                path.parent.mkdir(parents=True, exist_ok=True)
        write_noisy_labels(planted, place, kept)
        document = {
            "command": "noise",
            "rows": len(planted.source.ids),
            "classes": len(planted.source.classes),
            "noise": noise,
            "rate": planted.rate,
            "matrix": planted.matrix.tolist(),
            "words": planted.words,
            "unreadable": len(opened.unreadable),
            "seconds": round(time.perf_counter() - began, 3),
            "out": out,
            "truth": str(kept),
        }
        console.result(document, _text(document))


def check_output(out: Path, spec: str, reading: ReadFlags) -> None:
    """Refuse early to write into what is no file, over what is read, or where nothing can be.

    Raises:
        SettingsError: The output is a folder, or an input of the same command.
        OutputError: Its folder cannot be written.
    """
    if out.is_dir():
        raise SettingsError(
            f"`{out}` is a folder; allowed: the name of a file",
            hint=f"write for example `{out / 'labels.csv'}`",
        )
    inputs = (spec, spec.partition(":")[2], reading.labels)
    if any(path and _is_same(out, Path(path)) for path in inputs):
        raise SettingsError(
            f"`{out}` is read by this command and is never written over; allowed: another file",
            hint="choose another name with --out",
        )
    folder = next(each for each in out.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(
            f"cannot write `{out}`: `{folder}` is no folder that can be written",
            hint="allow writing there, or choose another place with --out",
        )


def _is_same(out: Path, path: Path) -> bool:
    return out.exists() and path.exists() and out.samefile(path)


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"{count(document['rows'], 'row')}, {count(document['classes'], 'class', 'classes')}; "
        f"{document['words']}"
    ]
    if document["unreadable"]:
        lines.append(f"{count(document['unreadable'], 'file')} could not be read; left out")
    lines.append(f"labels: {document['out']}")
    lines.append(f"truth, for evaluation alone: {document['truth']}")
    return "\n".join(lines)

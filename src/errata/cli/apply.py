"""`errata apply`: corrected labels, people first, then the model where it is sure enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from errata.cli.console import Console
from errata.cli.flags import AuditArgument, PlainCommon
from errata.cli.options import option, spread
from errata.cli.words import count, percent, quoted

if TYPE_CHECKING:
    from errata.correct.corrections import Corrections
    from errata.correct.gate import Gain

__all__ = ["apply"]


@spread
def apply(
    *,
    audit: AuditArgument,
    common: PlainCommon,
    policy: Annotated[
        str,
        option(
            "Policy",
            "--policy",
            help="`human-first`: people, then the model, then as given.",
            metavar="NAME",
        ),
    ] = "human-first",
    auto_above: Annotated[
        float,
        option(
            "Policy",
            "--auto-above",
            help="Take the model's proposal above this probability of being right; 1 is off.",
            metavar="P",
            min=0,
            max=1,
        ),
    ] = 0.95,
    drop_above: Annotated[
        float | None,
        option(
            "Policy",
            "--drop-above",
            help="Drop rows above this probability of being wrong that nobody corrects.",
            metavar="P",
            min=0,
            max=1,
        ),
    ] = None,
    out: Annotated[
        str,
        option("Output", "--out", help="The csv or parquet file of labels.", metavar="FILE"),
    ] = "labels.csv",
    verified_out: Annotated[
        str | None,
        option(
            "Output",
            "--verified-out",
            help="Write `id,label` too, for --verified of a training: the labels that people gave.",
            metavar="FILE",
        ),
    ] = None,
    copy: Annotated[
        str | None,
        option(
            "Output",
            "--copy",
            help="Make a corrected copy of the class folders, of links to the pictures.",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Write corrected labels: people first, then the model, then as given.

    Where several people disagree, most votes win; a row whose given label most find wrong, but
    that has no winner, is dropped, and all else stays as given. The model's corrections are
    applied only where enough of them are estimated to be right. The source is never touched.

    For example:

        errata apply audit --out labels.csv --auto-above 0.95
    """
    with Console(common) as console:
        from errata.applying import Outputs, prepare
        from errata.directory import AuditDirectory

        outputs = Outputs(
            Path(out),
            None if verified_out is None else Path(verified_out),
            None if copy is None else Path(copy),
        )
        applied = prepare(
            AuditDirectory.open(audit),
            outputs,
            policy=policy,
            auto_above=auto_above,
            drop_above=drop_above,
        )
        found = applied.corrections
        for each in found.refused:
            console.warn(each)
        console.note(_expected(found))
        applied.write()
        document = applied.as_json()
        console.result(document, _text(document))


def _expected(found: Corrections) -> str:
    text = f"expected change in label accuracy: {_points(found.gain)}"
    if found.precision is not None:
        text += (
            f"; of {count(found.proposals, 'proposal')}, "
            f"{percent(found.precision.estimate)} % should be right"
        )
        if found.checked:
            text += f" ({count(found.checked, 'other')} checked by people)"
    return text


def _points(gain: Gain) -> str:
    low, high = 100 * gain.low, 100 * gain.high
    return f"{100 * gain.estimate:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"


def _text(document: dict[str, Any]) -> str:
    by = document["by_source"]
    lines = [
        f"{count(document['rows'], 'row')}: {count(document['changed'], 'label')} changed, "
        f"{document['dropped']:,} dropped; decided by people {by['human']:,}, by the model "
        f"{by['model']:,}, as given {by['given']:,}"
    ]
    lines += [f"nothing automatic: {each}" for each in document["refused"] if not by["model"]]
    lines.append(f"labels: {document['out']}")
    for key, title in (("verified_out", "labels that people gave"), ("copy", "corrected copy")):
        if document[key] is not None:
            lines.append(f"{title}: {document[key]}")
    source = quoted(document["source"]) or "SOURCE"
    lines.append(f"next: errata train {source} --labels {quoted(document['out'])}")
    return "\n".join(lines)

"""`errata show`: one sample with its evidence, or the worst of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from errata.cli.console import Console, table
from errata.cli.flags import AuditArgument, PlainCommon
from errata.cli.options import option, spread
from errata.cli.words import count, number
from errata.errors import SettingsError

if TYPE_CHECKING:
    from errata.directory import AuditDirectory
    from errata.record import SampleRecord

__all__ = ["show"]


@spread
def show(
    *,
    audit: AuditArgument,
    common: PlainCommon,
    sample: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of one sample.")
    ] = None,
    limit: Annotated[
        int, option("Choice", "--limit", help="How many samples at most.", metavar="N", min=1)
    ] = 10,
    given: Annotated[
        str | None, option("Choice", "--given", help="Only this given label.", metavar="CLASS")
    ] = None,
    proposed: Annotated[
        str | None,
        option("Choice", "--proposed", help="Only this proposed label.", metavar="CLASS"),
    ] = None,
    tier: Annotated[
        str | None,
        option(
            "Choice",
            "--tier",
            help="Only this tier: `obvious`, `possible` or `fine`.",
            metavar="TIER",
        ),
    ] = None,
) -> None:
    """Show the worst samples of an audit, or one sample with its evidence.

    Samples come worst first. An id that starts with a dash goes behind two of them: -- -1.png

    For example:

        errata show audit --tier obvious --limit 20
    """
    with Console(common) as console:
        filters = {"--given": given, "--proposed": proposed, "--tier": tier}
        unused = [flag for flag, value in filters.items() if value is not None]
        if sample is not None and unused:
            raise SettingsError(
                f"{unused[0]} has no meaning beside an id; allowed: one or the other",
                hint=f"leave out {unused[0]}, or the id `{sample}`",
            )
        from errata.directory import AuditDirectory

        found = AuditDirectory.open(audit)
        if sample is not None:
            record = found.record(sample)
            text = _one(record)
            records = [record]
        else:
            records = found.worst(limit, given=given, proposed=proposed, tier=tier)
            text = _many(records, found)
        document = {"command": "show", "records": [record.as_json() for record in records]}
        console.result(document, text)


def _many(records: list[SampleRecord], found: AuditDirectory) -> str:
    if not records:
        return "no sample fits"
    rows = [
        (
            record.id,
            _class(record.given),
            _class(record.proposed),
            number(record.p_wrong),
            record.tier,
            record.reasons[0].text if record.reasons else "",
        )
        for record in records
    ]
    columns = ("id", "given", "proposed", "p_wrong", "tier", "first reason")
    suspects = int(found.issues.flagged.sum())
    return (
        table(columns, rows, right=("p_wrong",))
        + f"\n\n{count(len(records), 'sample')} of {len(found.issues.rows):,}, worst first; "
        + f"{count(suspects, 'suspect')} in all. One in full: errata show AUDIT ID"
    )


def _one(record: SampleRecord) -> str:
    rows = [
        ("id", record.id),
        ("row", str(record.row)),
        ("given", _class(record.given)),
        ("proposed", _class(record.proposed)),
        ("tier", record.tier + (", a suspect" if record.flagged else ", not a suspect")),
        ("suspicion", number(record.suspicion)),
        ("p_wrong", number(record.p_wrong)),
        ("p_proposed", number(record.p_proposed)),
    ]
    if record.curve:
        rows.append(("loss", _curve(record.curve)))
    lines = [f"{name:<11} {value}" for name, value in rows]
    if record.reasons:
        lines.append("reasons")
        lines += [f"  {reason.kind}: {reason.text}" for reason in record.reasons]
    elif record.flagged:
        lines.append("reasons     only kept for the worst suspects")
    else:
        lines.append("reasons     only kept for suspects")
    return "\n".join(lines)


def _class(name: str | None) -> str:
    return "-" if name is None else name


def _curve(losses: tuple[float, ...]) -> str:
    """Give at most six losses, evenly spread over training."""
    last = len(losses) - 1
    places = sorted({round(i * last / 5) for i in range(6)})
    points = ", ".join(number(losses[place], 2) for place in places)
    return f"{points} [nats, epochs {places[0] + 1} to {last + 1}]"

"""`errata report`: write the report of an audit again."""

from __future__ import annotations

from errata.cli.console import Console
from errata.cli.flags import AuditArgument, PlainCommon
from errata.cli.options import spread

__all__ = ["report"]


@spread
def report(
    audit: AuditArgument,
    common: PlainCommon,
) -> None:
    """Write the report of an audit again, for example after a review.

    Pictures come from the source that the audit was made from; where it is gone, the report has
    placeholders.

    For example:

        errata report audit
    """
    with Console(common) as console:
        from errata.auditing import write_report

        display = console.display()
        display.phase("writing the report")
        out = write_report(audit)
        console.result({"command": "report", "out": str(out)}, f"report: {out}")

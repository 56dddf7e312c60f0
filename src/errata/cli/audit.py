"""`errata audit`: train, watch every sample, find suspects, write an audit directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from errata.cli.console import Console
from errata.cli.flags import Common, SourceArgument, SourceFlags
from errata.cli.options import option, spread
from errata.cli.training import run_training, settings_from, with_preset
from errata.cli.training_flags import EngineFlags, FindFlags, OutFlags, TrainFlags
from errata.cli.words import count, number, percent, quoted, took

__all__ = ["audit", "rate_words", "test_lines"]


@spread
def audit(
    *,
    source: SourceArgument,
    reading: SourceFlags,
    training: TrainFlags,
    find: FindFlags,
    place: OutFlags,
    engine: EngineFlags,
    common: Common,
    features: Annotated[
        str | None,
        option(
            "Finding",
            "--features",
            help="An npy file of features [N, D] from any network: neighbours and prototypes "
            "then count as well, and are shown as evidence.",
            metavar="FILE",
        ),
    ] = None,
    out: Annotated[
        str, option("Output", "--out", help="The audit directory.", metavar="DIR")
    ] = "audit",
) -> None:
    """Find the wrong labels of a data set.

    Trains by a recipe, watches every sample on the way, finds suspects, and writes a directory
    with the table of issues, a report and the model. An interrupted run goes on with --resume.

    For example:

        errata audit digits --noise uniform:0.2 --out audit
    """
    with Console(common) as console:
        training = with_preset(training)
        settings = settings_from(source, reading, training, engine, common, find=find)
        settings = replace(settings, features=features)
        from errata import auditing

        summary = run_training(
            auditing.audit, settings, console=console, out=out, training=training, place=place
        )
        console.result(summary, _text(summary))


def _text(summary: dict[str, Any]) -> str:
    rate = summary["noise_rate"]
    lines = [
        f"audited {count(summary['rows'], 'row')} in {took(summary['seconds'])}: "
        f"{count(summary['suspects'], 'suspect')} ({rate_words(rate)})"
    ]
    if summary.get("planted"):
        planted = summary["planted"]
        lines.append(
            f"against the {'planted' if summary.get('noise') else 'known'} truth: "
            f"precision {number(planted['precision'], 2)}, recall {number(planted['recall'], 2)}, "
            f"AUROC {number(planted['auroc'])}"
        )
    lines += test_lines(summary)
    lines += _side_lines(summary)
    lines.append(f"report: {summary['report']}")
    lines.append(f"next: errata show {quoted(summary['out'])}")
    return "\n".join(lines)


def rate_words(rate: dict[str, Any]) -> str:
    """Say how much is wrong, with its interval where there is one."""
    words = f"about {percent(rate['estimate'])} % wrong"
    if rate["low"] is None or rate["high"] is None:
        return words
    return f"{words}, 95 % interval {percent(rate['low'])} to {percent(rate['high'])}"


def test_lines(summary: dict[str, Any]) -> list[str]:
    """Write one line per test set."""
    tests = summary.get("test") or {}
    # One set is its own object; several come by name.
    by_name = {"test": tests} if "accuracy" in tests else tests
    return [
        f"{name}: accuracy {number(report['accuracy'])} on {count(report['rows'], 'row')}"
        for name, report in by_name.items()
    ]


def _side_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    if summary.get("unreadable"):
        amount = count(summary["unreadable"], "file")
        lines.append(f"{amount} could not be read: {summary['out']}/unreadable.csv")
    if summary.get("conflicts"):
        amount = count(summary["conflicts"], "group")
        lines.append(f"{amount} of equal pictures with differing labels")
    return lines

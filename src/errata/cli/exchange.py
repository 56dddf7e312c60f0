"""`errata export` and `errata import`: review in the tool where a team already works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import errata
from errata.cli.console import Console
from errata.cli.flags import AuditArgument, Common, PlainCommon, blind_option, controls_option
from errata.cli.options import option, spread
from errata.cli.words import count, quoted
from errata.errors import ErrataError, SettingsError

if TYPE_CHECKING:
    from errata.directory import AuditDirectory
    from errata.exchange.cards import Address

__all__ = ["export", "import_"]

Format = Annotated[
    str | None,
    option(
        "Format",
        "--as",
        help="`csv`, `parquet`, `label-studio`, `argilla` or `fiftyone`; a table is known by its "
        "name.",
        metavar="FORMAT",
    ),
]


@spread
def export(
    *,
    audit: AuditArgument,
    common: Common,
    out: Annotated[
        str, option("Output", "--out", help="The file of cards.", metavar="FILE")
    ] = "cards.csv",
    format_: Format = None,
    limit: Annotated[
        int, option("Choice", "--limit", help="How many cards at most.", metavar="N", min=1)
    ] = 100,
    controls: Annotated[float, controls_option("Choice")] = 0.1,
    blind: Annotated[float, blind_option("Choice")] = 0.2,
    images: Annotated[
        str | None,
        option(
            "Format",
            "--images",
            help="What goes in front of an id to address its picture; without it pictures are "
            "inside the file, and `fiftyone` names the files of class folders.",
            metavar="PREFIX",
        ),
    ] = None,
) -> None:
    """Write the next cards of a review for another tool.

    They are those that `errata review` would show next, in the format of a tool or as a table to
    fill in. `errata import` reads the answers.

    For example:

        errata export audit --as label-studio --out tasks.json
    """
    with Console(common) as console:
        if common.device != "auto":
            console.warn("--device has no effect on this command")
        from errata.directory import AuditDirectory
        from errata.exchange.cards import choose_cards
        from errata.exchange.formats import check_format, companions, write_cards
        from errata.exchange.outputs import check_file

        place = Path(out)
        name = check_format(place, format_)
        found = AuditDirectory.open(audit)
        files = (place, *companions(place, name))
        for each in files:
            check_file(found, each)
        address = _address(found, name, images)
        cards = choose_cards(
            found, address, limit=limit, controls=controls, blind=blind, seed=common.seed
        )
        if not cards:
            raise SettingsError(
                f"audit `{audit}` has no card left: people have judged every row",
                hint="run `errata apply` to correct the labels",
            )
        write_cards(place, name, cards, found.ledger.classes)
        document = {
            "command": "export",
            "version": errata.__version__,
            "format": name,
            "cards": len(cards),
            "controls": sum(card.control for card in cards),
            "blind": sum(card.blind for card in cards),
            "out": out,
            "configuration": str(files[1]) if len(files) > 1 else None,
        }
        console.result(document, _exported(document, audit))


@spread
def import_(
    *,
    audit: AuditArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The answers, as the tool saved them.")
    ],
    common: PlainCommon,
    format_: Format = None,
    reviewer: Annotated[
        str,
        option(
            "Review",
            "--reviewer",
            help="Whose answers these are, where the file does not tell.",
            metavar="NAME",
        ),
    ] = "",
) -> None:
    """Read answers from another tool into the verdicts of an audit.

    Each answer counts once, so a file may be read again when more cards are done. Where one answer
    does not fit, nothing is read.

    For example:

        errata import audit answers.json --as label-studio
    """
    with Console(common) as console:
        from errata.directory import AuditDirectory
        from errata.exchange.formats import check_format, read_answers
        from errata.exchange.landing import land

        place = Path(file)
        name = check_format(place, format_)
        found = AuditDirectory.open(audit)
        landed = land(found, read_answers(place, name), reviewer=reviewer)
        document = {
            "command": "import",
            "version": errata.__version__,
            "format": name,
            "answers": landed.added + landed.known,
            "added": landed.added,
            "known": landed.known,
            "empty": landed.empty,
            "reviewers": list(landed.reviewers),
            "out": str(found.path / "verdicts.sqlite"),
        }
        console.result(document, _imported(document, audit))


def _address(found: AuditDirectory, name: str, images: str | None) -> Address:
    from errata.config import load_settings
    from errata.exchange.cards import inside_file, on_disk, under_prefix
    from errata.job import open_settings

    if images is not None:
        return under_prefix(images)
    if name == "fiftyone":
        return on_disk(found)
    if name in ("csv", "parquet"):
        return lambda row, key: ""
    try:
        source = open_settings(load_settings(found.path / "settings.toml")).source
    except ErrataError as error:
        raise SettingsError(
            f"the pictures of the audit cannot be read: {error.message}",
            hint="add --images with what goes in front of the ids, such as an address",
        ) from None
    if list(source.ids) != list(found.ledger.ids):
        raise SettingsError(
            "the source has other samples than the audit; allowed: the source as it was audited",
            hint="add --images with what goes in front of the ids, such as an address",
        )
    return inside_file(source.show)


def _exported(document: dict[str, Any], audit: str) -> str:
    lines = [
        f"{count(document['cards'], 'card')}: {document['controls']:,} drawn at random, "
        f"{document['blind']:,} blind",
        f"cards: {document['out']}",
    ]
    if document["configuration"]:
        lines.append(f"configuration of the project: {document['configuration']}")
    back = "" if document["format"] in ("csv", "parquet") else f" --as {document['format']}"
    lines.append(f"next: errata import {quoted(audit)} FILE{back}")
    return "\n".join(lines)


def _imported(document: dict[str, Any], audit: str) -> str:
    people = ", ".join(each or "nobody named" for each in document["reviewers"])
    lines = [
        f"{count(document['answers'], 'answer')}: {document['added']:,} new, "
        f"{document['known']:,} known; {count(document['empty'], 'card')} without an answer"
    ]
    if people:
        lines.append(f"by {people}")
    lines.append(f"next: errata apply {quoted(audit)}")
    return "\n".join(lines)

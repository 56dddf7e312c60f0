"""Which samples of an audit go to another tool, and with which pictures."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from urllib.parse import quote, unquote_to_bytes

from errata.directory import AuditDirectory
from errata.errors import SettingsError
from errata.exchange.answers import Card
from errata.exchange.folders import list_folder
from errata.exchange.outputs import source_of
from errata.review.decision import Verdict
from errata.review.pictures import browser_picture
from errata.review.queue import Queue, columns_of
from errata.review.standing import standing

__all__ = ["Address", "choose_cards", "inside_file", "on_disk", "under_prefix"]

_log = logging.getLogger(__name__)

Address = Callable[[int, str], str]
"""Gives the address of a picture from the row and the id of its sample."""


def choose_cards(
    audit: AuditDirectory,
    address: Address,
    *,
    limit: int,
    controls: float = 0.1,
    blind: float = 0.2,
    seed: int = 0,
) -> list[Card]:
    """Choose the cards that a review would show next; rows that people have judged are left out.

    Args:
        audit: A finished audit.
        address: Gives the address of a picture, ``""`` where it has none.
        limit: How many at most.
        controls: Share of them drawn at random, 0 to 1.
        blind: Share of them without the proposal, 0 to 1.
        seed: Of the controls, and of which are blind.

    Raises:
        SettingsError: A share is out of range.
        OutputError: The journal cannot be used.
    """
    queue = Queue(
        *columns_of(audit),
        seed=seed,
        controls=controls,
        blind=blind,
        budget=limit,
        reviewer="\0export",
        overlap=0.0,
    )
    current = {row: dict(by) for row, by in standing(audit).items()}
    mark = str(audit.settings.get("fingerprint", ""))
    cards: list[Card] = []
    while (chosen := queue.next(current)) is not None:
        record = audit.record(chosen.row)
        image = address(chosen.row, record.id)
        cards.append(Card(record, image, mark, chosen.blind, chosen.control))
        # To be unsure is no vote, so that the order stays that of the verdicts so far.
        guess = Verdict("-", chosen.row, record.id, "unsure", reviewer=queue.reviewer)
        current[chosen.row] = {**current.get(chosen.row, {}), queue.reviewer: guess}
    return cards


def under_prefix(prefix: str) -> Address:
    """Give addresses below a prefix, for pictures that a server hands out under their ids.

    Example:
        >>> under_prefix("https://example.org/img/")(0, "cat/a b.png")
        'https://example.org/img/cat/a%20b.png'
    """
    return lambda row, key: prefix + quote(unquote_to_bytes(key))


def on_disk(audit: AuditDirectory) -> Address:
    """Give the paths of the files of class folders.

    Raises:
        SettingsError: The source of the audit is no folder.
    """
    spec = str(source_of(audit).get("spec", ""))
    try:
        listed = list_folder(spec)
    except SettingsError:
        raise SettingsError(
            f"this format names files, but the source of the audit is `{spec}`, which is no folder "
            "that is there; allowed: a folder with one subfolder per class",
            hint="add --images with what goes in front of the ids, such as a folder or an address",
        ) from None
    return lambda row, key: str(listed.files[key].resolve()) if key in listed.files else ""


def inside_file(show: Callable[[int], bytes]) -> Address:
    """Give each picture as a ``data:`` address, so that the file needs no other.

    Args:
        show: Gives the picture of a row as an encoded image file, ``b""`` where it has none.
    """

    def address(row: int, key: str) -> str:
        found = browser_picture(show, row)
        if found is None:
            _log.warning("there is no picture of `%s`", key)
            return ""
        content, kind = found
        return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

    return address

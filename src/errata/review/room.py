"""What each address of the review server does, for requests that passed the gate."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from errata.errors import SettingsError
from errata.report import words
from errata.review import security
from errata.review.answers import (
    RefusedError,
    read_answer,
    read_batch,
    read_batch_form,
    read_form,
    read_json,
)
from errata.review.desk import Desk
from errata.review.grid import MOST_ROWS, Kind, Kinds, group_of
from errata.review.page import Page
from errata.review.pictures import browser_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from errata.directory import AuditDirectory
    from errata.review.queue import Card

__all__ = ["TOLD", "Room"]

_HERE = Path(__file__).parent
_STATIC = {
    "review.css": "text/css",
    "review.js": "text/javascript",
    "grid.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_MOST_KINDS = 12
_SHOWN = ("given", "proposed", "after")
TOLD = {
    401: "this page opens with the address that `errata review` printed",
    403: "this request did not come from the review page",
    404: "there is no such thing here",
    405: "this is not how to ask for it",
    500: "this is a fault of errata; the verdicts so far are safe",
}
"""Words for a status."""


async def _body(request: Request) -> bytes:
    """Read a body of limited size, whatever its header says of it."""
    told = request.headers.get("content-length", "0")
    too_large = RefusedError(413, f"the body is larger than {security.MOST_BYTES // 1024} KB")
    if not (told.isascii() and told.isdecimal()) or int(told[:12]) > security.MOST_BYTES:
        raise too_large
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > security.MOST_BYTES:
            raise too_large
    return body


class Room:
    """What the routes do.

    Args:
        audit: What is reviewed.
        desk: Where its verdicts are kept.
        images: Gives the picture of a row; None where there are none.
        near: [N] numbers of groups of near-duplicates; None where there are none.
    """

    def __init__(
        self,
        audit: AuditDirectory,
        desk: Desk,
        images: Callable[[int], bytes] | None,
        *,
        near: NDArray[np.int64] | None = None,
    ) -> None:
        self.desk = desk
        self._audit = audit
        self._images = images
        self._near = near
        self._kinds = Kinds(audit)
        self._page = Page(audit)
        self._static = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"likely": words.likely, "whole": words.whole}
        self._prepare()

    def _prepare(self) -> None:
        """Do what takes long the first time, so that the first card does not wait for it."""
        self._page.prepare()
        for name in self._templates.list_templates():
            self._templates.get_template(name)
        card = self.desk.first_card
        if card is not None:
            self._render("card.html", **self._shown(card, again=False))
            self._render("progress.html", progress=self.desk.progress(), following=None)

    async def show_page(self, request: Request) -> Response:
        """Show the whole page, with a card that works without a script."""
        return self._whole("card", self._card(request) | {"progress": self.desk.progress()})

    async def show_card(self, request: Request) -> Response:
        """Give the part of the page that changes from card to card."""
        return self._render("card.html", **self._card(request))

    async def show_progress(self, request: Request) -> Response:
        """Give what takes longer than a card: errors left, and the picture to fetch ahead."""
        row = self._asked(request, "row", self._audit.ledger.num_rows)
        next_row = None if row is None else self.desk.upcoming(row)
        following = None if next_row is None else self._page.image(next_row)
        return self._render("progress.html", progress=self.desk.progress(), following=following)

    async def show_grid(self, request: Request) -> Response:
        """Show the page with many rows at once, which works without a script."""
        return self._whole("grid", self._grid(request) | {"progress": self.desk.progress()})

    async def show_grid_part(self, request: Request) -> Response:
        """Give the part of that page that changes."""
        return self._render("grid.html", **self._grid(request))

    async def give_card(self, request: Request) -> Response:
        """Give the next card as JSON."""
        card = self.desk.next_card()
        if card is None:
            return _json({"done": True})
        return _json(self._page.as_json(card, self.desk.progress()))

    async def take_verdict(self, request: Request) -> Response:
        """Write a verdict down, then say so."""
        uid = self._record(read_json(await _body(request)))
        return _json({"saved": True, "uid": uid})

    async def take_form(self, request: Request) -> Response:
        """Do the same for a browser without scripts."""
        fields = read_form(await _body(request))
        self._record(fields)
        # After taking a verdict back, the same card again.
        where = f"/?row={fields['row']}" if fields["verdict"] == "undo" else "/"
        return RedirectResponse(where, status_code=303)

    async def take_batch(self, request: Request) -> Response:
        """Write verdicts on several rows down, all or none, then say so."""
        uid = self._record_all(read_json(await _body(request)))
        return _json({"saved": True, "uid": uid})

    async def take_grid_form(self, request: Request) -> Response:
        """Do the same for a browser without scripts."""
        fields = read_batch_form(await _body(request))
        shown = {name: fields.pop(name) for name in _SHOWN if name in fields}
        self._record_all(fields)
        # The next rows of the same kind; near-duplicates are done with one action.
        same = [
            f"{name}={text}" for name, text in shown.items() if text.isascii() and text.isdecimal()
        ]
        where = "/grid" if same or fields["verdict"] == "undo" else "/"
        return RedirectResponse("?".join(filter(None, (where, "&".join(same)))), status_code=303)

    async def give_image(self, request: Request) -> Response:
        """Give the picture of a row, by its number alone."""
        row = security.row_of(request.path_params["row"], self._audit.ledger.num_rows)
        if row is None:
            raise RefusedError(404, "no row of this audit has this number")
        found = None if self._images is None else browser_picture(self._images, row)
        if found is None:
            raise RefusedError(404, f"row `{row}` has no picture, or it vanished since the audit")
        encoded, kind = found
        cache = {"Cache-Control": "private, max-age=3600"}
        return Response(encoded, media_type=kind, headers=cache)

    async def give_static(self, request: Request) -> Response:
        """Give the script or the style of the page; there is no other file."""
        name = request.path_params["name"]
        if name not in self._static:
            raise RefusedError(404, TOLD[404])
        return Response(self._static[name], media_type=_STATIC[name])

    def explain(self, request: Request, status: int, message: str, hint: str = "") -> Response:
        """Say what is wrong: as a page where a person looks, as JSON elsewhere."""
        if request.url.path in ("/", "/grid") and "text/html" in request.headers.get("accept", ""):
            return self._render("refused.html", status=status, message=message, hint=hint)
        return _json({"error": message, "hint": hint}, status)

    async def explain_http(self, request: Request, error: Exception) -> Response:
        """Say what the framework refused, such as a wrong method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        answer = self.explain(request, status, TOLD.get(status, "this does not work"))
        answer.headers.update(security.HEADERS)
        return answer

    def _record(self, fields: dict[str, Any]) -> str:
        rows, classes = self._audit.ledger.num_rows, self._page.names
        answer = read_answer(fields, num_rows=rows, classes=classes)
        try:
            self.desk.record(answer)
        except SettingsError as error:
            raise RefusedError(400, error.message) from None
        return answer.uid

    def _record_all(self, fields: dict[str, Any]) -> str:
        rows, classes = self._audit.ledger.num_rows, self._page.names
        batch = read_batch(fields, num_rows=rows, classes=classes)
        try:
            self.desk.record_all(batch)
        except SettingsError as error:
            raise RefusedError(400, error.message) from None
        return batch.uid

    def _asked(self, request: Request, name: str, most: int) -> int | None:
        """Read a number of the address; None where it is not there."""
        text = request.query_params.get(name)
        found = None if text is None else security.row_of(text, most)
        if text is not None and found is None:
            raise RefusedError(404, f"`{name}` is not of this audit")
        return found

    def _grid(self, request: Request) -> dict[str, Any]:
        """Put together what the template of a grid needs; `grid` is None where nothing is left."""
        rows, classes = self._audit.ledger.num_rows, len(self._page.classes)
        row = self._asked(request, "near", rows)
        given = self._asked(request, "given", classes)
        proposed = self._asked(request, "proposed", classes)
        after = self._asked(request, "after", rows)
        judged, most = self.desk.judged(), self.desk.room(MOST_ROWS)
        kinds = self._kinds.all(judged, most=_MOST_KINDS)
        grid, pair = None, None
        if row is not None:
            grid = self._page.near_grid(group_of(self._near, row)[:MOST_ROWS])
        else:
            asked = [] if given is None or proposed is None else [(given, proposed)]
            # Where nothing is left of the kind that was asked for, the next one is shown.
            others = [other for other in map(_pair, kinds) if other not in asked]
            for kind in [*asked, *others]:
                behind = after if kind in asked else None
                found = self._kinds.rows(*kind, judged, most=most, after=behind)
                if found:
                    grid, pair = self._page.kind_grid(found, *kind), kind
                    break
        return {
            "grid": grid,
            "kinds": [self._page.kind(kind, is_here=_pair(kind) == pair) for kind in kinds],
            "progress": self.desk.progress_so_far(),
            "last_rows": self.desk.last_rows,
            "uid": secrets.token_urlsafe(16),
            "has_pictures": self._images is not None,
        }

    def _card(self, request: Request) -> dict[str, Any]:
        """Put together what the template of a card needs; `card` is None at the end."""
        row = self._asked(request, "row", self._audit.ledger.num_rows)
        again = None if row is None else self.desk.card_again(row)
        return self._shown(again or self.desk.next_card(), again=again is not None)

    def _shown(self, card: Card | None, *, again: bool) -> dict[str, Any]:
        return {
            "card": None if card is None else self._page.view(card),
            "again": again,
            "standing": None if card is None else self.desk.standing(card.row),
            "near": [] if card is None else self._near_of(card),
            "progress": self.desk.progress_so_far(),
            "summary": self.desk.summary() if card is None else None,
            "last_row": self.desk.last_row,
            "uid": secrets.token_urlsafe(16),
            "has_pictures": self._images is not None,
        }

    def _near_of(self, card: Card) -> list[dict[str, Any]]:
        """Give the near-duplicates of a card; none on a blind one, as their labels tell much."""
        if card.blind:
            return []
        others = group_of(self._near, card.row)
        return [self._page.cell(row) for row in others[:MOST_ROWS] if row != card.row]

    def _whole(self, part: str, shown: dict[str, Any]) -> Response:
        """Give a page around one of its parts."""
        values = {"part": part, "classes": self._page.classes, "reviewer": self.desk.reviewer}
        return self._render("page.html", **values, **shown)

    def _render(self, template: str, **values: Any) -> Response:
        values["controls"] = self.desk.controls
        values["may_stop"] = self.desk.may_stop
        status = values.get("status", 200)
        html = self._templates.get_template(template).render(values).lstrip()
        return HTMLResponse(html, status_code=status)


def _pair(kind: Kind) -> tuple[int, int]:
    return kind.given, kind.proposed


def _json(document: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(document, allow_nan=False)
    return Response(text, status_code=status, media_type="application/json")

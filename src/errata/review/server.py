"""The review server: one page, two calls for scripts, and the pictures of one audit."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from errata.errors import ErrataError, SettingsError
from errata.report import words
from errata.review import security
from errata.review.answers import RefusedError, read_answer, read_form, read_json
from errata.review.desk import Desk, JournalLike, QueueLike
from errata.review.page import MOST_KEYS, Page
from errata.review.pictures import browser_picture

if TYPE_CHECKING:
    from errata.directory import AuditDirectory

__all__ = ["make_app"]

_HERE = Path(__file__).parent
_STATIC = {
    "review.css": "text/css",
    "review.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TOLD = {
    401: "this page opens with the address that `errata review` printed",
    403: "this request did not come from the review page",
    404: "there is no such thing here",
    405: "this is not how to ask for it",
    500: "this is a fault of errata; the verdicts so far are safe",
}

_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


def make_app(
    audit: AuditDirectory,
    journal: JournalLike,
    queue: QueueLike,
    *,
    reviewer: str,
    token: str,
    host: str,
    port: int,
    images: Callable[[int], bytes] | None,
    budget: int | None = None,
    secret: str = "",
) -> Starlette:
    """Put the application together.

    Its ``state.desk`` gives the summary at the end.

    Args:
        audit: What is reviewed.
        journal: Where verdicts go; one is on disk before the browser hears of it.
        queue: Where cards come from.
        reviewer: Name of the person.
        token: What the printed address carries; it works once.
        host: Where the server listens, a name or an address.
        port: Its port.
        images: Gives the picture of a row as an encoded file, ``b""`` where it has none; None
            where the source of the audit is gone.
        budget: Cards after which the review ends, as the queue knows it.
        secret: Kept with the audit, so that a restarted server knows the browser again.
    """
    room = _Room(audit, Desk(audit, journal, queue, reviewer=reviewer, budget=budget), images)
    gate = security.Gate(token, port=port, secret=secret)

    def guarded(handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            return await _answer(request, handler, room, gate=gate, host=host, port=port)

        return handle

    routes = [
        Route("/", guarded(room.show_page), methods=["GET"]),
        Route("/", guarded(room.take_form), methods=["POST"]),
        Route("/card", guarded(room.show_card), methods=["GET"]),
        Route("/api/card", guarded(room.give_card), methods=["GET"]),
        Route("/api/verdicts", guarded(room.take_verdict), methods=["POST"]),
        Route("/image/{row}", guarded(room.give_image), methods=["GET"]),
        Route("/static/{name}", guarded(room.give_static), methods=["GET"]),
        # Everything else, so that each request passes the gate before it hears anything.
        Route("/{rest:path}", guarded(_nothing), methods=_METHODS),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: room.explain_http})
    app.state.desk = room.desk
    return app


async def _answer(
    request: Request, handler: Handler, room: _Room, *, gate: security.Gate, host: str, port: int
) -> Response:
    """Check who asks, answer, and turn what went wrong into words."""
    try:
        entered = _enter(request, gate, host, port)
        answer = entered if entered is not None else await handler(request)
    except RefusedError as error:
        answer = room.explain(request, error.status, error.message)
    except ErrataError as error:
        # The journal is locked, full or gone. The page keeps the verdict and asks again.
        _log.warning("%s", error.message)
        answer = room.explain(request, 503, error.message, error.hint)
    except Exception:
        _log.exception("a request failed: %s", request.url.path)
        answer = room.explain(request, 500, _TOLD[500])
    for name, value in security.HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def _enter(request: Request, gate: security.Gate, host: str, port: int) -> Response | None:
    posts = request.method not in ("GET", "HEAD")
    header, headers = request.headers.get("host", ""), request.headers
    if len(headers.getlist("host")) != 1 or not security.is_trusted_host(
        header, host=host, port=port
    ):
        raise RefusedError(403, "the host of this request is not the review server")
    if len(headers.getlist("origin")) > 1 or not security.is_trusted_origin(
        headers.get("origin"), header=header, posts=posts
    ):
        raise RefusedError(403, _TOLD[403])
    known = gate.knows(request.cookies.get(gate.name))
    token = request.query_params.get("token")
    if request.url.path == "/" and not posts and token is not None and (known or gate.enter(token)):
        # The token leaves the address bar, and with it the browser's history.
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(gate.name, gate.cookie, httponly=True, samesite="strict", path="/")
        return answer
    if not known:
        raise RefusedError(401, _TOLD[401])
    return None


async def _nothing(request: Request) -> Response:
    raise RefusedError(404, _TOLD[404])


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


class _Room:
    """What the routes do."""

    def __init__(
        self, audit: AuditDirectory, desk: Desk, images: Callable[[int], bytes] | None
    ) -> None:
        self.desk = desk
        self._audit = audit
        self._images = images
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

    async def show_page(self, request: Request) -> Response:
        """Show the whole page, with a card that works without a script."""
        shown = self._card(request)
        classes = self._page.classes
        return self._render(
            "page.html", **shown, classes=classes, reviewer=self.desk.reviewer, keys=MOST_KEYS
        )

    async def show_card(self, request: Request) -> Response:
        """Give the part of the page that changes from card to card."""
        return self._render("card.html", **self._card(request))

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
            raise RefusedError(404, _TOLD[404])
        return Response(self._static[name], media_type=_STATIC[name])

    def explain(self, request: Request, status: int, message: str, hint: str = "") -> Response:
        """Say what is wrong: as a page where a person looks, as JSON elsewhere."""
        if request.url.path == "/" and "text/html" in request.headers.get("accept", ""):
            return self._render("refused.html", status=status, message=message, hint=hint)
        return _json({"error": message, "hint": hint}, status)

    async def explain_http(self, request: Request, error: Exception) -> Response:
        """Say what the framework refused, such as a wrong method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        answer = self.explain(request, status, _TOLD.get(status, "this does not work"))
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

    def _card(self, request: Request) -> dict[str, Any]:
        """Put together what the template of a card needs; `card` is None at the end."""
        again = request.query_params.get("row")
        card = None
        if again is not None:
            row = security.row_of(again, self._audit.ledger.num_rows)
            if row is None:
                raise RefusedError(404, "no row of this audit has this number")
            card = self.desk.card_again(row)
        card = card or self.desk.next_card()
        following = None if card is None else self.desk.upcoming(card.row)
        standing = None if card is None else self.desk.standing(card.row)
        return {
            "card": None if card is None else self._page.view(card),
            "again": card is not None and card.stratum == "again",
            "standing": standing,
            "following": None if following is None else self._page.image(following),
            "progress": self.desk.progress(),
            "summary": self.desk.summary() if card is None else None,
            "last_row": self.desk.last_row,
            "uid": secrets.token_urlsafe(16),
            "has_pictures": self._images is not None,
        }

    def _render(self, template: str, **values: Any) -> Response:
        status = values.get("status", 200)
        html = self._templates.get_template(template).render(values).lstrip()
        return HTMLResponse(html, status_code=status)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(document, allow_nan=False)
    return Response(text, status_code=status, media_type="application/json")

"""The review server: one page, two calls for scripts, and the pictures of one audit."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from errata.errors import ErrataError
from errata.review import security
from errata.review.answers import RefusedError
from errata.review.desk import Desk, JournalLike, QueueLike
from errata.review.room import TOLD, Room

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from errata.directory import AuditDirectory

__all__ = ["make_app"]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
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
    near: NDArray[np.int64] | None = None,
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
        near: [N] numbers of groups of near-duplicates, as the queue knows them.
    """
    desk = Desk(audit, journal, queue, reviewer=reviewer, budget=budget)
    room = Room(audit, desk, images, near=near)
    gate = security.Gate(token, port=port, secret=secret)

    def guarded(handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            return await _answer(request, handler, room, gate=gate, host=host, port=port)

        return handle

    routes = [
        Route("/", guarded(room.show_page), methods=["GET"]),
        Route("/", guarded(room.take_form), methods=["POST"]),
        Route("/card", guarded(room.show_card), methods=["GET"]),
        Route("/grid", guarded(room.show_grid), methods=["GET"]),
        Route("/grid", guarded(room.take_grid_form), methods=["POST"]),
        Route("/grid/part", guarded(room.show_grid_part), methods=["GET"]),
        Route("/progress", guarded(room.show_progress), methods=["GET"]),
        Route("/api/card", guarded(room.give_card), methods=["GET"]),
        Route("/api/verdicts", guarded(room.take_verdict), methods=["POST"]),
        Route("/api/grid", guarded(room.take_batch), methods=["POST"]),
        Route("/image/{row}", guarded(room.give_image), methods=["GET"]),
        Route("/static/{name}", guarded(room.give_static), methods=["GET"]),
        # Everything else, so that each request passes the gate before it hears anything.
        Route("/{rest:path}", guarded(_nothing), methods=_METHODS),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: room.explain_http})
    app.state.desk = desk
    return app


async def _answer(
    request: Request, handler: Handler, room: Room, *, gate: security.Gate, host: str, port: int
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
        answer = room.explain(request, 500, TOLD[500])
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
        raise RefusedError(403, TOLD[403])
    known = gate.knows(request.cookies.get(gate.name))
    token = request.query_params.get("token")
    if request.url.path == "/" and not posts and token is not None and (known or gate.enter(token)):
        # The token leaves the address bar, and with it the browser's history.
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(gate.name, gate.cookie, httponly=True, samesite="strict", path="/")
        return answer
    if not known:
        raise RefusedError(401, TOLD[401])
    return None


async def _nothing(request: Request) -> Response:
    raise RefusedError(404, TOLD[404])

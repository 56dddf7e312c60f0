"""`errata review`: serve the page where a person rechecks suspects."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from errata.cli.console import Console
from errata.cli.flags import AuditArgument, Common, blind_option, controls_option
from errata.cli.options import option, spread
from errata.cli.words import count
from errata.errors import ErrataError, OutputError, SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from errata.directory import AuditDirectory
    from errata.review.session import Session

__all__ = ["review"]

_PACKAGES = ("starlette", "uvicorn", "jinja2")


@spread
def review(
    *,
    audit: AuditArgument,
    common: Common,
    reviewer: Annotated[
        str,
        option("Review", "--reviewer", help="Whose verdicts these are.", metavar="NAME"),
    ] = "",
    budget: Annotated[
        int | None,
        option("Review", "--budget", help="End after N cards.", metavar="N", min=1),
    ] = None,
    controls: Annotated[float, controls_option("Review")] = 0.1,
    blind: Annotated[float, blind_option("Review")] = 0.2,
    port: Annotated[
        int | None,
        option(
            "Server",
            "--port",
            help="Where to listen; a free port unless given.",
            metavar="PORT",
            min=1,
            max=65535,
        ),
    ] = None,
    host: Annotated[
        str,
        option("Server", "--host", help="Address to listen on.", metavar="HOST"),
    ] = "127.0.0.1",
    i_understand: Annotated[
        bool,
        option(
            "Server",
            "--i-understand",
            help="Allow --host beyond this machine: pictures and verdicts travel unencrypted.",
        ),
    ] = False,
    open_: Annotated[
        bool,
        option("Server", "--open", help="Open the page in a browser."),
    ] = False,
) -> None:
    """Serve the page where a person rechecks suspects; Ctrl-C ends it.

    Each verdict is on disk before the page hears of it, and the review goes on where it stopped.

    For example:

        errata review audit --reviewer ada --budget 200
    """
    with Console(common) as console:
        if common.device != "auto":
            console.warn("--device has no effect on this command")
        _check_packages()
        _check_host(host, understood=i_understand)
        from errata.directory import AuditDirectory
        from errata.review.journal import Journal
        from errata.review.near import near_duplicates
        from errata.review.queue import Queue, columns_of
        from errata.review.server import make_app
        from errata.review.session import Session

        found = AuditDirectory.open(audit)
        images = _images(found, console)
        suspects = found.issues.rows[found.issues.flagged]
        fingerprint = str(found.settings.get("fingerprint", ""))
        session = Session.open(found.path)
        token = secrets.token_urlsafe(32)
        with (
            near_duplicates(images, suspects, found.ledger.num_rows, folder=found.path) as near,
            Journal(found.path / "verdicts.sqlite", audit=fingerprint) as journal,
            _listen(host, port, session) as listening,
        ):
            queue = Queue(
                *columns_of(found),
                seed=common.seed,
                controls=controls,
                blind=blind,
                budget=budget,
                reviewer=reviewer,
                near=near,
            )
            taken = int(listening.getsockname()[1])
            app = make_app(
                found,
                journal,
                queue,
                reviewer=reviewer,
                token=token,
                host=host,
                port=taken,
                images=images,
                budget=budget,
                secret=session.secret,
                near=near,
            )
            _announce(console, host, taken, token, opens=open_)
            _serve(app, listening)
            summary = app.state.desk.summary()
        console.result({"command": "review", **summary}, _text(summary))


def _check_packages() -> None:
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise SettingsError(
                f"package `{name}` is missing; the review page is served with it",
                hint="pip install 'errata[review]'",
            )


def _check_host(host: str, *, understood: bool) -> None:
    from errata.review.security import is_loopback

    if not is_loopback(host) and not understood:
        raise SettingsError(
            f"--host `{host}` is beyond this machine: everybody in the network could try to read "
            "the pictures, and nothing is encrypted; allowed without more: 127.0.0.1",
            hint="add --i-understand, or forward the port through ssh: ssh -L PORT:127.0.0.1:PORT",
        )


def _images(found: AuditDirectory, console: Console) -> Callable[[int], bytes] | None:
    """Open the source of an audit for its pictures; None where it is gone or has changed."""
    from errata.config import load_settings
    from errata.job import open_settings
    from errata.review.pictures import one_at_a_time

    try:
        source = open_settings(load_settings(found.path / "settings.toml")).source
    except ErrataError as error:
        console.warn(
            f"there will be no pictures: {error.message}; paths count from where you are, so start "
            "the review in the folder where the audit was made"
        )
        return None
    if list(source.ids) != list(found.ledger.ids):
        console.warn("there will be no pictures: the source has other samples than the audit")
        return None
    return one_at_a_time(source.show)


def _listen(host: str, port: int | None, session: Session) -> socket.socket:
    """Listen on the port that was asked for, else where the server was last, else on a free one."""
    if port is None and session.port is not None:
        # It may be taken, such as by another reviewer of the same audit, whose port it stays.
        with contextlib.suppress(OSError):
            return _bind(host, session.port)
        return _bind(host, 0)
    try:
        listening = _bind(host, port or 0)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on `{host}`, port `{port or 'any'}`: {(error.strerror or '').lower()}",
            hint="leave --port out for a free one, and give --host an address of this machine",
        ) from None
    session.remember_port(int(listening.getsockname()[1]))
    return listening


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    # Connections inherit it. Without it the body of an answer waits 40 ms for the head's receipt,
    # as asyncio sets it only where it made the socket itself.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _announce(console: Console, host: str, port: int, token: str, *, opens: bool) -> None:
    import webbrowser

    # A server on every address is reached on this machine by the usual one.
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{name}:{port}/?token={token}"
    # Without the address there is no review, so --quiet leaves it in.
    sys.stderr.write(f"review at {address}\n")
    sys.stderr.flush()
    if opens and not webbrowser.open(address):
        console.warn("no browser could be opened; open the address above")


def _serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until the process is interrupted."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        # Ctrl-C is how a review ends; all verdicts are on disk.
        return
    if not server.started:
        raise OutputError("the review server did not start", hint="choose another --port")


def _text(summary: dict[str, Any]) -> str:
    left = summary["errors_left"]
    lines = [
        f"{count(summary['verdicts'], 'verdict')}, {count(summary['changed'], 'label')} changed",
    ]
    if left is not None:
        lines.append(
            f"about {left['estimate']:,.0f} errors left in the rest, 95 % interval "
            f"{left['low']:,.0f} to {left['high']:,.0f}"
        )
    lines.append("next: errata apply AUDIT")
    return "\n".join(lines)

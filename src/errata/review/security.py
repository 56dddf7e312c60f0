"""Who may talk to the review server: pure checks of headers, tokens, rows and picture bytes.

The server runs on the machine of the reviewer, where every page that is open in the same browser
can send requests to it. Four things keep them out: a one-time token that becomes a cookie which
other sites cannot send, a fixed list of names for the host (a foreign name that points here is
refused), the origin of every post, and a policy under which the page loads nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from urllib.parse import urlsplit

__all__ = [
    "HEADERS",
    "MOST_BYTES",
    "Gate",
    "allowed_hosts",
    "is_loopback",
    "is_trusted_host",
    "is_trusted_origin",
    "picture_kind",
    "row_of",
]

MOST_BYTES = 64 * 1024
"""Largest body of a post."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Without any referrer browsers send `Origin: null` with a form, which cannot be told from a
    # foreign page; this one sends it to the server itself alone.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer; a picture has its own `Cache-Control`."""

_ROW = re.compile(r"[0-9]{1,12}", re.ASCII)
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def is_loopback(host: str) -> bool:
    """Tell whether a host is reached from its own machine alone.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "pc")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """List the values of the `Host` header under which the server may be addressed.

    Args:
        host: The name or address that the server listens on.
        port: Its port.

    Example:
        >>> sorted(allowed_hosts("127.0.0.1", 8000))
        ['127.0.0.1:8000', '[::1]:8000', 'localhost:8000']
    """
    names = {"127.0.0.1", "localhost", "[::1]"}
    if not is_loopback(host):
        names.add(f"[{host}]" if ":" in host else host.lower())
    found = {f"{name}:{port}" for name in names}
    # Browsers leave out the port that is usual.
    return frozenset(found | names if port == 80 else found)


def is_trusted_host(header: str | None, *, host: str, port: int) -> bool:
    """Tell whether a request was addressed to this server, not to a foreign name that points here.

    A server that listens on every address is reached under many; then any bare address will do,
    because rebinding needs a name.

    Example:
        >>> is_trusted_host("127.0.0.1:8000", host="127.0.0.1", port=8000)
        True
        >>> is_trusted_host("evil.example:8000", host="0.0.0.0", port=8000)
        False
    """
    if not header:
        return False
    if header.lower() in allowed_hosts(host, port):
        return True
    if is_loopback(host):
        return False
    try:
        parts = urlsplit(f"//{header}")
        listens_everywhere = ipaddress.ip_address(host).is_unspecified
        ipaddress.ip_address(parts.hostname or "")
        return listens_everywhere and (parts.port or 80) == port
    except ValueError:
        return False


def is_trusted_origin(origin: str | None, *, header: str, posts: bool) -> bool:
    """Tell whether a request comes from the page of this server, or from no page at all.

    Args:
        origin: The `Origin` header.
        header: The `Host` header, which has been checked.
        posts: The request wants to change something; then there has to be an origin.

    Example:
        >>> is_trusted_origin("http://127.0.0.1:8000", header="127.0.0.1:8000", posts=True)
        True
        >>> is_trusted_origin(None, header="127.0.0.1:8000", posts=True)
        False
    """
    if origin is None:
        return not posts
    return origin.lower() == f"http://{header.lower()}"


def row_of(text: str, num_rows: int) -> int | None:
    """Read a row number; None for anything but plain digits of a row that there is.

    Example:
        >>> row_of("7", 10), row_of("10", 10), row_of("../7", 10), row_of("-1", 10)
        (7, None, None, None)
    """
    if not _ROW.fullmatch(text):
        return None
    row = int(text)
    return row if row < num_rows else None


def picture_kind(encoded: bytes) -> str | None:
    """Name the media type of a picture that browsers show, by its first bytes.

    Formats that can hold scripts, such as svg, are not among them.

    Example:
        >>> picture_kind(b"GIF89a..."), picture_kind(b"<svg onload=alert(1)>")
        ('image/gif', None)
    """
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _KINDS if encoded.startswith(start)), None)


class Gate:
    """Exchanges the token of the printed address for a cookie, once.

    Args:
        token: What the printed address carries.
        secret: Kept with the audit, so that cookies outlive a restart; empty draws a new one.
        port: Part of the cookie's name, as cookies do not tell ports apart.

    Example:
        >>> gate = Gate("t0ken", port=8000)
        >>> gate.enter("forged"), gate.enter("t0ken"), gate.enter("t0ken")
        (False, True, False)
        >>> gate.knows(gate.cookie), gate.knows("t0ken")
        (True, False)
    """

    def __init__(self, token: str, *, port: int, secret: str = "") -> None:
        self.name = f"errata-review-{port}"
        key = secret or secrets.token_urlsafe(32)
        self.cookie = hmac.new(key.encode(), b"errata review cookie", hashlib.sha256).hexdigest()
        self._token: str | None = token

    def enter(self, token: str) -> bool:
        """Take the token, the first time that the right one is given."""
        # Bytes, as text with other than ascii letters cannot be compared in constant time.
        right = self._token is not None and hmac.compare_digest(
            token.encode("utf-8", "replace"), self._token.encode()
        )
        if right:
            self._token = None
        return right

    def knows(self, cookie: str | None) -> bool:
        """Tell whether a cookie is the one that was given out."""
        if not cookie:
            return False
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self.cookie.encode())

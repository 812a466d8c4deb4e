"""Who may ask, and the headers of all responses.

A page of another site must not use the server through the browser of its user. Without a token the
Host header must name this machine, which a page whose name was bound to 127.0.0.1 (DNS rebinding)
cannot do. With a token any name is allowed, since such a page does not have the token. What a
browser says about where a request comes from (Origin, Sec-Fetch-Site) must be this server.
"""

import hashlib
import hmac
import html
import secrets
import urllib.parse
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lcdnet_jax.serve.errors import RequestError
from lcdnet_jax.serve.settings import Settings, is_loopback

COOKIE = "lcdnet_jax_session"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses requests of others, and adds headers to all responses.

    Args:
        app: The application behind it.
        settings: The settings.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._token = settings.token
        # A cookie of another value than the token, which other servers of this host also receive.
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI defines it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check_host(scope)
            self._check_site(scope)
            if self._token is not None and not self._has_access(scope):
                if not self._brings_token(scope):
                    raise RequestError(
                        401,
                        "a token is needed: open the address that lcdnet-jax serve was started "
                        "with, with /?token=TOKEN, or send the header Authorization: Bearer TOKEN",
                        {"WWW-Authenticate": "Bearer"},
                    )
                await self._start_session(scope)(scope, receive, send_with_headers)
                return
        except RequestError as error:
            await error.respond()(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check_host(self, scope: Scope) -> None:
        hosts = Headers(scope=scope).getlist("host")
        name = _split_host(hosts[0]) if len(hosts) == 1 else None
        if name is None or (self._token is None and not is_loopback(name)):
            raise RequestError(
                403,
                "the Host header does not name this machine, as 127.0.0.1 or localhost would; for "
                "other names start the server with --token",
            )

    def _check_site(self, scope: Scope) -> None:
        """Refuses what a browser sends on behalf of another site."""
        headers = Headers(scope=scope)
        for origin in headers.getlist("origin"):
            # Not only http: a proxy may add TLS.
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or host.lower() != headers["host"].lower():
                raise RequestError(403, "the request comes from the page of another server")
        site = headers.get("sec-fetch-site", "same-origin")
        is_link = (
            headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and (scope["method"], scope["path"]) == ("GET", "/")
        )
        if site not in ("same-origin", "none") and not is_link:
            raise RequestError(403, "the request comes from the page of another server")

    def _has_access(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        cookie: SimpleCookie = SimpleCookie()
        for line in headers.getlist("cookie"):
            try:
                cookie.load(line)
            except CookieError:
                continue
        return COOKIE in cookie and _are_equal(cookie[COOKIE].value, self._session)

    def _brings_token(self, scope: Scope) -> bool:
        """Whether the address of the page holds the token."""
        if (scope["method"], scope["path"]) != ("GET", "/"):
            return False
        query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
        return any(map(self._is_token, query.get("token", [])))

    def _is_token(self, given: str) -> bool:
        return self._token is not None and _are_equal(given, self._token)

    def _start_session(self, scope: Scope) -> HTMLResponse:
        """Sets the cookie, and opens the page without the token in its address.

        A redirect would not do: after a link from elsewhere, the browser would leave the cookie
        off.
        """
        target = html.escape(scope.get("root_path", "") + "/")
        response = HTMLResponse(
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; '
            f'url={target}"><title>lcdnet-jax</title><a href="{target}">lcdnet-jax</a>'
        )
        response.set_cookie(
            COOKIE,
            self._session,
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )
        return response


def _split_host(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None if it is none."""
    try:
        parts = urllib.parse.urlsplit(f"//{host}")
        _ = parts.port  # raises ValueError for another text than a number
    except ValueError:
        return None
    is_plain = parts.netloc == host and parts.username is None and not parts.path
    return parts.hostname if is_plain else None


def _are_equal(given: str, expected: str) -> bool:
    """Compares texts in a time that does not depend on them."""
    digests = (
        hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, expected)
    )
    return hmac.compare_digest(*digests)

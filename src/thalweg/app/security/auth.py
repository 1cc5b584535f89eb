"""Authentication: hosts and origins, the token, and a cookie with a secret that identifies a browser."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg.app.security.hosts import AllowedHosts
from thalweg.errors import UsageError

USER_COOKIE = "thalweg_person"
"""Name of the cookie with a browser's secret."""
_TOKEN_COOKIE = "thalweg_token"
_YEAR = 365 * 24 * 3600
_STREAMS = "/gradio_api/"
_CACHEABLE = ("/assets/", "/static/")
_DROPPED = (b"cookie", b"authorization", b"x-gradio-server", b"x-forwarded-host")
"""Request headers that are not passed on to the app as they came."""
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,100}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "strict-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Streams:
    """Responses that stay open until they are done or the server stops."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` respond until it is done or `close` is called; a response that is cut short is ended properly."""
        opened = ended = False

        async def watched(message: Message) -> None:
            nonlocal opened, ended
            if self._closing:  # messages of an app that is being cancelled are not meant for a browser
                return
            opened = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        async def respond() -> None:
            await app(scope, receive, watched)

        task = asyncio.create_task(respond())
        self._tasks.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._closing:
                raise
            if not opened:
                await PlainTextResponse("the app is stopping", 503)(scope, receive, send)
            elif not ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            task.cancel()
            self._tasks.discard(task)

    def close(self) -> None:
        """End all open responses."""
        self._closing = True
        for task in self._tasks:
            task.cancel()


class Guard:
    """Middleware that admits requests with the token (where there is one) from the app's own pages.

    - The token comes once as `?token=`, then as a cookie; programs may send `Authorization: Bearer`. The first request
      is answered without a redirect, in which a cookie can get lost; the page's script removes the token from the
      address. The cookie holds a digest of the token. Browsers send cookies to all ports of a host, so its name
      holds the port, which separates apps on two ports.
    - Cookies are `SameSite=Lax`: a strict one is not sent after a link from another site, so that the user would need
      the token again and the browser would get a new secret. A lax cookie allows only a top-level GET, which changes
      nothing.
    - A request that another site or another port sends is refused, except for a link to the page. Requests that change
      something, and streams, must prove that they come from this app: by `Origin`, by `Sec-Fetch-Site`, or, for a GET
      of a browser that sends neither (plain http on other than loopback addresses), by `Referer`. Programs with the
      bearer token are exempt.
    - CORS headers are removed from every response.
    """

    def __init__(self, app: ASGIApp, hosts: AllowedHosts, token: str | None, streams: Streams) -> None:
        self.app = app
        self._hosts = hosts
        self._token = None if token is None else token.encode("utf-8", "surrogatepass")
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on to the app."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._respond(Request(scope), receive, send)
        else:  # the app has no WebSocket
            await send({"type": "websocket.close", "code": 1008})

    async def _respond(self, request: Request, receive: Receive, send: Send) -> None:
        cookies, scope = Response(), request.scope
        path, secure = scope["path"], scope["scheme"] == "https"

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                headers.update(_HEADERS)
                if not path.startswith(_CACHEABLE):
                    headers.setdefault("Cache-Control", "no-store")
                for cookie in cookies.headers.getlist("set-cookie"):
                    headers.append("set-cookie", cookie)
            await send(message)

        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        is_page = path == "/" and request.method == "GET"
        if self._has_token_in_query(request):
            value = self._cookie_value()
            cookies.set_cookie(self._cookie_name(scope), value, httponly=True, samesite="lax", secure=secure)
        secret = request.cookies.get(USER_COOKIE, "")
        if is_page and not _SECRET.fullmatch(secret):
            cookies.set_cookie(
                USER_COOKIE, secrets.token_urlsafe(24), max_age=_YEAR, httponly=True, samesite="lax", secure=secure
            )
        inner = {**scope, "headers": self._inner_headers(request, secret)}
        if path.startswith(_STREAMS) and request.method == "GET":
            await self._streams.run(self.app, inner, receive, guarded)
        else:
            await self.app(inner, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._hosts.accepts(host):
            return PlainTextResponse(
                "this app does not respond to this host name: start it with the name in `allow_host`", 400
            )
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("expected GET, HEAD or POST", 405, headers={"Allow": "GET, HEAD, POST"})
        bearer = self._has_bearer(request)
        if not self._is_from_app(request, bearer):
            return PlainTextResponse("expected a request from a page of this app", 403)
        if self._token is None or bearer or self._has_token_in_query(request) or self._has_cookie(request):
            return None
        return PlainTextResponse("expected the app's token: open the address that ends in ?token=...", 401)

    def _is_from_app(self, request: Request, bearer: bool) -> bool:
        def is_own(header: str) -> bool:
            return self._hosts.is_own_origin(header, request.headers.get("host", ""), request.scope["scheme"])

        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        is_get = request.method in ("GET", "HEAD")
        if origin is not None and not is_own(origin):
            return False
        is_link = (
            is_get
            and request.scope["path"] == "/"
            and request.headers.get("sec-fetch-mode") == "navigate"
            and request.headers.get("sec-fetch-dest") == "document"
        )
        if site not in (None, "same-origin", "none") and not is_link:
            return False
        if is_get and not request.scope["path"].startswith(_STREAMS):
            return True
        referer = request.headers.get("referer") if is_get and site is None else None
        return bearer or origin is not None or site == "same-origin" or (referer is not None and is_own(referer))

    def _has_token_in_query(self, request: Request) -> bool:
        given = request.query_params.get("token") if request.method == "GET" else None
        return given is not None and self._is_token(given.encode("utf-8", "surrogatepass"))

    def _has_bearer(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._is_token(given.strip().encode("latin-1"))

    def _has_cookie(self, request: Request) -> bool:
        given = request.cookies.get(self._cookie_name(request.scope), "")
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._cookie_value().encode())

    def _is_token(self, given: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(given, self._token)

    def _cookie_value(self) -> str:
        return hmac.new(self._token or b"", b"thalweg cookie", hashlib.sha256).hexdigest()

    def _inner_headers(self, request: Request, secret: str) -> list[tuple[bytes, bytes]]:
        """Return the headers to pass on: the browser's secret as the only cookie, forwarded hosts if accepted."""
        kept = [(name, value) for name, value in request.scope["headers"] if name not in _DROPPED]
        forwarded = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
        if forwarded and self._hosts.accepts(forwarded):
            kept.append((b"x-forwarded-host", forwarded.encode("latin-1")))
        if _SECRET.fullmatch(secret):
            kept.append((b"cookie", f"{USER_COOKIE}={secret}".encode()))
        return kept

    @staticmethod
    def _cookie_name(scope: Scope) -> str:
        port = (scope.get("server") or ("", None))[1]
        return f"{_TOKEN_COOKIE}_{port or 0}"


def add_guards(
    app: FastAPI, host: str, token: str | None, allow_hosts: Sequence[str] = (), streams: Streams | None = None
) -> None:
    """Put a `Guard` around an app, outside of its other middleware.

    Args:
        app: the app.
        host: address that it will be bound to.
        token: token of users; None admits all users of this machine.
        allow_hosts: further names under which it is reached, such as a reverse proxy's.
        streams: list of open responses, for a server that ends them.

    Raises:
        UsageError: a name that is not a host name.
    """
    hosts = AllowedHosts(host, tuple(allow_hosts))
    app.add_middleware(Guard, hosts=hosts, token=token, streams=streams or Streams())


def user_of(cookies: dict[str, str]) -> str:
    """Return the secret of a browser, which identifies its user.

    Raises:
        UsageError: the browser sent none.
    """
    secret = cookies.get(USER_COOKIE, "")
    if len(secret) < 16:
        raise UsageError("expected a browser that keeps cookies: allow them for this page and reload it")
    return secret

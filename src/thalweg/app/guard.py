"""Who may come in, and who is who: a token for all beyond this machine, a secret cookie for each browser."""

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from thalweg.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PERSON = "thalweg_person"
_TOKEN = "thalweg_token"
_YEAR = 365 * 24 * 3600


def check_host(host: str, token: str | None) -> None:
    """Raise a UsageError where others could reach the app and no token keeps them out."""
    if token is not None and len(token) < 12:
        raise UsageError(f"expected a token of at least 12 characters, got {len(token)}; make a longer one up")
    if host not in LOOPBACK and token is None:
        raise UsageError(f"--host {host} lets other machines in: expected --token too, or leave --host out")


def add_guards(app: FastAPI, host: str, token: str | None) -> None:
    """Let in only who has the token (where there is one), and give each browser a secret of its own.

    The token comes once as `?token=`, then as a cookie; programs may send `Authorization: Bearer`. On the loopback
    address only requests for this machine's own names are answered, so that no web page can reach in by renaming it.
    """

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if token is not None and not _is_let_in(request, token):
            return PlainTextResponse("expected the app's token: open the address that ends in ?token=...", 401)
        if token is not None and "token" in request.query_params and request.method == "GET":
            rest = [(name, value) for name, value in parse_qsl(request.url.query) if name != "token"]
            answer: Response = RedirectResponse(f"{request.url.path}?{urlencode(rest)}" if rest else request.url.path)
            _set(answer, _TOKEN, token)
            return answer
        answer = await call_next(request)
        if PERSON not in request.cookies and request.method == "GET" and request.url.path == "/":
            _set(answer, PERSON, secrets.token_urlsafe(24))
        return answer

    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])


def person_of(cookies: dict[str, str]) -> str:
    """Return the secret of the browser that asks.

    Raises:
        UsageError: it holds none.
    """
    person = cookies.get(PERSON, "")
    if len(person) < 16:
        raise UsageError("expected a browser that keeps cookies: allow them for this page and reload it")
    return person


def _is_let_in(request: Request, token: str) -> bool:
    given = (
        request.query_params.get("token"),
        request.cookies.get(_TOKEN),
        request.headers.get("authorization", "").removeprefix("Bearer "),
    )
    return any(secrets.compare_digest(each.encode(), token.encode()) for each in given if each)


def _set(answer: Response, name: str, value: str) -> None:
    answer.set_cookie(name, value, max_age=_YEAR, httponly=True, samesite="strict")

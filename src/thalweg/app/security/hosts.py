"""Addresses of the app: access from other machines, accepted `Host` headers and own `Origin` headers."""

import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from thalweg.errors import UsageError
from thalweg.limits import check_count

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIN_TOKEN_LENGTH = 12
"""Least number of characters of a token."""
MAX_PORT = 65_535
_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def new_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(24)


def check_access(host: str, token: str | None) -> None:
    """Check that an app which other machines can reach has a token.

    Raises:
        UsageError: it has none, or the token is too short.
    """
    if token is not None and len(token) < MIN_TOKEN_LENGTH:
        raise UsageError(f"expected a token of at least {MIN_TOKEN_LENGTH} characters, got {len(token)}")
    if host not in LOOPBACK and token is None:
        raise UsageError(
            f"host {host} lets other machines connect: expected a token, got none; give one, or bind to 127.0.0.1"
        )


def check_port(port: int) -> None:
    """Check a port, 0 for any that is free.

    Raises:
        UsageError: no such port.
    """
    check_count("`port`", port, 0, MAX_PORT)


@dataclass(frozen=True)
class AllowedHosts:
    """Host names of one app.

    On a loopback address the app responds to this machine's own names only, so that no web page reaches it by a name
    that resolves to this machine (DNS rebinding). Bound to another address it also responds to any IP address, which
    cannot be rebound, and to the machine's host name.

    Attributes:
        bound: address that the app is bound to.
        extra: further names, each with or without a port, such as the one of a reverse proxy.

    Raises:
        UsageError: an extra name is not a host name.
    """

    bound: str
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.extra:
            if _split_host(name) is None:
                raise UsageError(
                    f"expected a host name such as maps.example.org or maps.example.org:8443, got {name!r}"
                )

    def accepts(self, host: str) -> bool:
        """Return whether a request with the `Host` header `host` is meant for this app."""
        found = _split_host(host)
        if found is None:
            return False
        name, port = found
        if name in LOOPBACK or self._is_extra(name, port, None):
            return True
        if self.bound in LOOPBACK:
            return False
        return _is_ip(name) or name in (self.bound.lower(), socket.gethostname().lower())

    def is_own_origin(self, origin: str, host: str, scheme: str) -> bool:
        """Return whether a page of `origin` is a page of this app.

        Args:
            origin: an `Origin` or `Referer` header.
            host: the `Host` header of the same request, already accepted.
            scheme: scheme of the request. Behind a proxy that ends TLS it may be http where the origin's is https.
        """
        try:
            parts = urlsplit(origin)
            port = parts.port or _DEFAULT_PORTS[parts.scheme]
        except (ValueError, KeyError):
            return False
        requested = _split_host(host)
        if requested is None or parts.hostname is None or (scheme == "https" and parts.scheme != "https"):
            return False
        own = (requested[0], requested[1] or _DEFAULT_PORTS[parts.scheme])
        return (parts.hostname, port) == own or self._is_extra(parts.hostname, port, parts.scheme)

    def _is_extra(self, name: str, port: int | None, scheme: str | None) -> bool:
        """Return whether a name is an extra one; with `scheme` None a name without a port allows every port."""
        for entry in self.extra:
            allowed = _split_host(entry)
            if allowed is None or allowed[0] != name:
                continue
            if allowed[1] == port or (allowed[1] is None and (scheme is None or port == _DEFAULT_PORTS[scheme])):
                return True
        return False


def _split_host(host: str) -> tuple[str, int | None] | None:
    """Return the name, in lower case, and the port of a `Host` header; None for an invalid header."""
    try:
        parts: SplitResult = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return None
    name = host.removesuffix(f":{host.rpartition(':')[2]}") if port is not None else host
    if parts.hostname is None or not _NAME.fullmatch(name):
        return None
    return parts.hostname, port


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""Serving by HTTP: an address, a token, and which hosts and origins are answered."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InputError

_STOP_SECONDS = 2  # for answers under way; a client's event stream never ends by itself
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_TOKEN = re.compile(r"[\x21-\x7e]+")  # what may stand in a header


@dataclass(frozen=True)
class HttpSettings:
    """Where to serve. Raises `InputError` for an address beyond this machine without a token."""

    host: str
    port: int  # 0 takes a free one
    token: str | None = None  # clients send "Authorization: Bearer TOKEN"
    allowed_hosts: Sequence[str] = ()  # further names by which clients may call this machine
    token_variable: str = "TEXTLENS_MCP_TOKEN"  # of the environment, that may hold the token

    def __post_init__(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise InputError("the token is blank, or holds spaces or other than ASCII characters; choose another")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host} can be reached from other machines, so a token is required: set "
                f"{self.token_variable} (or --token) to a long random text, or take --host 127.0.0.1 to serve this "
                "machine"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """By which a client may call this server, without ports."""
        names = dict.fromkeys([*_LOOPBACK, in_url(self.host), *map(in_url, self.allowed_hosts)])
        if not is_loopback(self.host):
            names[socket.gethostname().lower()] = None
        return tuple(names)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, whatever it stands for
        return False


def serve_app(app: ASGIApp, settings: HttpSettings, path: str, announce: Callable[[str], object]) -> None:
    """Serve until Ctrl-C or SIGTERM. announce: called with the URL, ending in `path`, once clients can connect.

    Raises `InputError` if the address cannot be had.
    """
    import uvicorn

    listening = _listen(settings)
    port = listening.getsockname()[1]
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=_STOP_SECONDS)
    announce(f"http://{in_url(settings.host)}:{port}{path}")
    with listening, suppress(KeyboardInterrupt):  # which uvicorn raises after its shutdown
        uvicorn.Server(config).run(sockets=[listening])


class TokenRequired:
    """401 for every request without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_authorised(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        text = "a token is required: expected the header Authorization: Bearer TOKEN, with the token of this server\n"
        await Response(text, 401, {"WWW-Authenticate": "Bearer"}, "text/plain")(scope, receive, send)

    def _is_authorised(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Constant time: how long it takes must not tell how much of a guess is right.
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token)


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _listen(settings: HttpSettings) -> socket.socket:
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # Not socket.create_server: its sockets do not name TCP, so asyncio leaves Nagle's algorithm on, 40 ms a call.
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would share the port with another program
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot serve on {settings.host}, port {settings.port} ({reason}); choose another --port or --host"
        ) from error
    return listening

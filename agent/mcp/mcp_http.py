"""MCP over streamable HTTP: with a token, and checks of the Host and Origin headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcp.server import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from ..http_serving import HttpSettings, TokenRequired, serve_app

PATH = "/mcp"
MAX_BODY = 32 * 2**20  # bytes of a request: a data URL of an image of about 24 MB


def serve_http(server: Server[Any], settings: HttpSettings, announce: Callable[[str], object]) -> None:
    """Serve until Ctrl-C or SIGTERM. announce: called with the URL once clients can connect.

    Raises `InputError` if the address cannot be had.
    """
    serve_app(http_app(server, settings), settings, PATH, announce)


def http_app(server: Server[Any], settings: HttpSettings) -> ASGIApp:
    """The ASGI application."""
    app: ASGIApp = server.streamable_http_app(
        streamable_http_path=PATH, max_request_body_size=MAX_BODY, transport_security=_security(settings)
    )
    return app if settings.token is None else TokenRequired(app, settings.token)


def _security(settings: HttpSettings) -> TransportSecuritySettings:
    """Against DNS rebinding: a web page must not reach this server through its reader's browser."""
    names = settings.names
    return TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[
            f"{scheme}://{name}{port}" for scheme in ("http", "https") for name in names for port in ("", ":*")
        ],
    )

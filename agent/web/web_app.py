"""The page and its requests, by Starlette.

Images live in memory; model calls go one at a time, in the order of asking, and one whose client has gone away does
not start. A request must name this server in its Host header and, if a page sends it, in its Origin: so no other page
in the reader's browser can use this server.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...encoders.images import DEFAULT_LIMITS, ImageError, ImageLimits
from ...errors import TextlensError
from ...prompting.sanitize import told
from ..call_queue import CallQueue
from ..http_serving import HttpSettings, TokenRequired
from ..tools.tool_calls import RecoverableError
from .web_actions import ACTIONS, WebActions

MAX_UPLOAD = 20 * 2**20  # bytes
_MAX_JSON = 64 * 2**10
_GONE_SECONDS = 0.5  # how often it is looked whether a client is still there
_GONE = 499  # nginx's status for it; nobody reads it
_FILES = {"/": ("web_page.html", "text/html"), "/web_page.css": ("web_page.css", "text/css"),
          "/web_page.js": ("web_page.js", "text/javascript")}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_log = logging.getLogger(__name__)


class WebApp:
    """Answers the page's requests. about: what the page says of the set-up, such as the names of encoders."""

    def __init__(
        self, actions: WebActions, queue: CallQueue, about: Mapping[str, Any], limits: ImageLimits = DEFAULT_LIMITS
    ) -> None:
        self._actions, self._queue, self._about = actions, queue, dict(about)
        self._max_upload = min(MAX_UPLOAD, limits.max_bytes)

    def app(self, settings: HttpSettings) -> ASGIApp:
        """The ASGI application. The page itself is open to all: it holds nothing, and asks for the token."""
        routes = [
            *(Route(path, partial(_file, *file)) for path, file in _FILES.items()),
            Route("/api/about", self.about),
            Route("/api/waiting", self.waiting),
            Route("/api/samples/{number:int}", self.sample),
            Route("/api/images", self.upload, methods=["POST"]),
            Route("/api/{action}", self.act, methods=["POST"]),
        ]
        api: ASGIApp = Starlette(routes=routes)
        if settings.token is not None:
            api = _OpenPage(api, TokenRequired(api, settings.token))
        return _OwnHosts(api, settings.names)

    async def about(self, request: Request) -> Response:
        return _answer({**self._about, "samples": [one.name for one in self._actions.samples]})

    async def waiting(self, request: Request) -> Response:
        """How many calls wait for the models."""
        return _answer({"waiting": self._queue.waiting})

    async def sample(self, request: Request) -> Response:
        number = request.path_params["number"]
        if not 0 <= number < len(self._actions.samples):
            return _failed(f"there is no sample {number}", 404)
        return Response(self._actions.samples[number].data, media_type="image/*", headers=_HEADERS)

    async def upload(self, request: Request) -> Response:
        """An image's bytes, or no body and ?sample=NUMBER."""
        sample = request.query_params.get("sample")
        if sample is not None and sample.isdecimal():
            return await self._run(request, partial(self._actions.sample, int(sample)))
        data = await _body(request, self._max_upload)
        if data is None:
            return _failed(f"the file is larger than {self._max_upload // 2**20} MB; choose a smaller one", 413)
        return await self._run(request, partial(self._actions.add, data))

    async def act(self, request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ACTIONS:
            return _failed(f"unknown action; expected one of {', '.join(ACTIONS)}", 404)
        body = await _body(request, _MAX_JSON)
        try:
            arguments = json.loads(body or b"")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            return _failed("expected a JSON object of at most 64 kB", 400)
        return await self._run(request, partial(self._actions.run, action, arguments))

    async def _run(self, request: Request, function: Callable[[], dict[str, Any]]) -> Response:
        """The function's result when its turn has come; whatever goes wrong is a message without paths."""
        call = asyncio.ensure_future(self._queue.run(function))
        while not call.done():
            await asyncio.wait({call}, timeout=_GONE_SECONDS)
            if not call.done() and await request.is_disconnected():
                call.cancel()
                return Response(status_code=_GONE)
        try:
            return _answer(call.result())
        except (RecoverableError, ImageError) as error:
            return _failed(told(str(error)), 400)
        except TextlensError as error:
            _log.error("%s", error)
            return _failed("textlens is not set up for this; where it was started it says why", 500)
        except Exception:
            _log.exception("a request failed")
            return _failed("this failed inside textlens; where it was started it says more", 500)


async def _file(name: str, kind: str, request: Request) -> Response:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return Response(text, media_type=kind, headers=_HEADERS)


async def _body(request: Request, limit: int) -> bytes | None:
    """The request's body; None if it is longer than the limit, of which no more is read."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > limit:
            return None
    return bytes(found)


def _answer(record: Mapping[str, Any]) -> Response:
    return JSONResponse(record, headers=_HEADERS)


def _failed(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status, headers=_HEADERS)


class _OpenPage:
    """The page's files for everybody, the rest through `guarded`."""

    def __init__(self, app: ASGIApp, guarded: ASGIApp) -> None:
        self._app, self._guarded = app, guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "http" and scope["path"] in _FILES
        await (self._app if is_open else self._guarded)(scope, receive, send)


class _OwnHosts:
    """403 for requests to another host's name (DNS rebinding), and from another host's page."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_own(Headers(scope=scope)):
            message = "this server answers its own page alone; open it by the address that it printed, or --allow-host"
            await _failed(message, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if _name(f"//{host}") not in self._names:
            return False
        return origin is None or urlsplit(origin).netloc == host


def _name(address: str) -> str:
    """The host of an address as it stands in URLs, without its port."""
    try:
        found = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    return f"[{found}]" if ":" in found else found

"""The HTTP clients for servers of language models, which may be anybody's.

A request takes a limited time altogether, its headers too, and a response has a limited size, decoded. Requests carry
our own headers alone, whatever other programs' variables (OPENAI_CUSTOM_HEADERS, OPENAI_ORG_ID, …) make the openai
client add. A redirect to another host is an error: it would get the prompts.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import httpx2 as httpx  # which the openai client is made of
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

MAX_BYTES = 4 * 2**20  # of an answer: JSON may take 30 times as much memory
MAX_STREAM_BYTES = 16 * 2**20  # of an answer that comes in events of about 300 bytes a token
_KEPT = ("connection", "content-length", "transfer-encoding")
_END: ContextVar[float] = ContextVar("end", default=float("inf"))  # of the request under way, by time.monotonic()


def bounded_client(key: str, hook: Callable[[Any], None]) -> httpx.Client:
    """A client for the openai client. Each attempt ends after its read timeout. hook: called with each response."""
    client = DefaultHttpxClient(verify=_tls(), event_hooks={"response": [hook]})
    _guard(client, _Transport, _Backend, _Rules(key, None, MAX_BYTES))
    return client


def bounded_async_client(key: str, total_seconds: float) -> httpx.AsyncClient:
    """One whose answers may come as events, each within the read timeout, altogether within `total_seconds`."""
    client = DefaultAsyncHttpxClient(verify=_tls())
    _guard(client, _AsyncTransport, _AsyncBackend, _Rules(key, total_seconds, MAX_STREAM_BYTES))
    return client


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Certificates take most of a client's time to build."""
    return httpx.create_ssl_context()


def _guard(client: Any, transport: type, backend: type, rules: _Rules) -> None:
    """Wraps the client's transports, those for proxies included, and what opens their connections: httpx's time limits
    begin anew with each byte, and it decodes without any limit, but has no public place to change that.
    """

    def guarded(inner: Any) -> Any:
        if inner is None:  # an address that goes by no proxy
            return None
        inner._pool._network_backend = backend(inner._pool._network_backend)
        return transport(inner, rules)

    client._transport = guarded(client._transport)
    client._mounts = {pattern: guarded(inner) for pattern, inner in client._mounts.items()}


class _Rules:
    """key: of the API. total_seconds: None for the request's own timeout. max_bytes: of a response, decoded."""

    def __init__(self, key: str, total_seconds: float | None, max_bytes: int) -> None:
        self._key, self._total_seconds, self._max_bytes = key, total_seconds, max_bytes

    def begin(self, request: httpx.Request) -> tuple[httpx.Request, float]:
        """What is sent of a request, and when it must have ended. The request itself stays as it is: the openai client
        reads headers of its own from it.
        """
        own = {
            "host": request.url.netloc.decode("ascii"),
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "textlens",
            "authorization": f"Bearer {self._key or 'EMPTY'}",
        }
        kept = {name: value for name, value in request.headers.items() if name in _KEPT}
        sent = httpx.Request(
            request.method, request.url, headers={**own, **kept}, stream=request.stream, extensions=request.extensions
        )
        read = request.extensions.get("timeout", {}).get("read")
        seconds = self._total_seconds or read or 600.0
        _END.set(time.monotonic() + seconds)
        return sent, _END.get()

    def received(self, response: httpx.Response, request: httpx.Request) -> _Body:
        """Raises `httpx.HTTPError` for a response that is not read at all."""
        location = response.headers.get("location")
        if 300 <= response.status_code < 400 and location is not None:
            _check_redirect(request.url, location)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        for name in ("content-encoding", "content-length"):  # of what it was before it is decoded
            if name in response.headers:
                del response.headers[name]
        return _Body(encoding, self._max_bytes)


def _check_redirect(url: httpx.URL, location: str) -> None:
    try:
        target = url.join(location)
    except httpx.InvalidURL as error:
        raise httpx.RemoteProtocolError("redirected to what is no address") from error
    same = target.host == url.host and (target.port == url.port or (target.scheme, target.port) == ("https", None))
    if not same or (url.scheme == "https" and target.scheme != "https"):
        raise httpx.RemoteProtocolError("redirected to another host or port, which is refused; name it as the address")


class _Body:
    """Decodes a response in pieces, up to a limit."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
            raise httpx.DecodingError("the response is compressed in a way that was not asked for")
        self._left, self._max_bytes = max_bytes, max_bytes
        self._gzip = zlib.decompressobj(47) if encoding not in ("identity", "") else None

    def decoded(self, data: bytes) -> bytes:
        if self._gzip is not None:
            try:
                data = self._gzip.decompress(data, self._left + 1)
            except zlib.error as error:
                raise httpx.DecodingError("the response is not compressed as it says") from error
        self._left -= len(data)
        if self._left < 0:
            raise httpx.DecodingError(f"the response has more than {self._max_bytes:,} bytes")
        return data


class _Transport(httpx.BaseTransport):
    def __init__(self, inner: httpx.BaseTransport, rules: _Rules) -> None:
        self._inner, self._rules = inner, rules

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        sent, end = self._rules.begin(request)
        response = self._inner.handle_request(sent)
        try:
            response.stream = _Stream(response.stream, self._rules.received(response, request), end)
        except httpx.HTTPError:
            response.close()
            raise
        return response

    def close(self) -> None:
        self._inner.close()


class _AsyncTransport(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, rules: _Rules) -> None:
        self._inner, self._rules = inner, rules

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent, end = self._rules.begin(request)
        response = await self._inner.handle_async_request(sent)
        try:
            response.stream = _AsyncStream(response.stream, self._rules.received(response, request), end)
        except httpx.HTTPError:
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Stream(httpx.SyncByteStream):
    def __init__(self, inner: Any, body: _Body, end: float) -> None:
        self._inner, self._body, self._end = inner, body, end

    def __iter__(self) -> Iterator[bytes]:
        _END.set(self._end)
        for data in self._inner:
            yield self._body.decoded(data)
            _END.set(self._end)

    def close(self) -> None:
        self._inner.close()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, inner: Any, body: _Body, end: float) -> None:
        self._inner, self._body, self._end = inner, body, end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        _END.set(self._end)
        async for data in self._inner:
            yield self._body.decoded(data)
            _END.set(self._end)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _left(timeout: float | None) -> float:
    """How long one wait may take: its own timeout, or less if the request must end before."""
    left = max(_END.get() - time.monotonic(), 1e-3)
    return left if timeout is None else min(timeout, left)


class _Backend:
    """Opens connections, of httpcore, whose every wait ends with the request."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **settings: Any) -> _Connection:
        return _Connection(self._inner.connect_tcp(host, port, timeout=_left(timeout), **settings))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Connection:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return bytes(self._inner.read(max_bytes, timeout=_left(timeout)))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout=_left(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        return _Connection(self._inner.start_tls(ssl_context, server_hostname, timeout=_left(timeout)))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _AsyncBackend:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, **settings: Any) -> Any:
        return _AsyncConnection(await self._inner.connect_tcp(host, port, timeout=_left(timeout), **settings))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _AsyncConnection:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return bytes(await self._inner.read(max_bytes, timeout=_left(timeout)))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout=_left(timeout))

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        return _AsyncConnection(await self._inner.start_tls(ssl_context, server_hostname, timeout=_left(timeout)))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

"""Downloads that end, of public hosts alone unless private ones are allowed.

A host name is resolved once, where the connection is made: its addresses are checked there and one of them is connected
to, for each redirect anew. So no name can change its address between check and connection (DNS rebinding).
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from ...errors import reason
from .limits import ImageError, ImageLimits, check_bytes
from .public_addresses import is_public

_REDIRECTS = (301, 302, 303, 307, 308)
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpx.InvalidURL,
    OSError,
    ValueError,
)


def download(url: str, limits: ImageLimits, *, private: bool = False) -> bytes:
    """The body of an http(s) URL, after at most `limits.max_redirects` redirects.

    private: addresses that are not public too, and by the proxies of the environment. A user name and password in the
    URL go to its own host alone. Raises `ImageError`.
    """
    connections = _Connections(time.monotonic() + limits.timeout_seconds, private)
    try:
        first = place = httpx.URL(url)
        for _ in range(limits.max_redirects + 1):
            own = (place.scheme, place.raw_host, place.port) == (first.scheme, first.raw_host, first.port)
            found = _get(place, _credentials(first) if own else [], connections, limits)
            if isinstance(found, bytes):
                return found
            place = found
            if place.scheme not in ("http", "https"):
                raise ImageError("cannot be fetched (the server redirects to what is no http(s) address)")
    except ImageError:
        raise
    except httpcore.TimeoutException as error:
        raise ImageError(f"the download took longer than {limits.timeout_seconds:g} seconds") from error
    except httpcore.ProtocolError as error:  # its message quotes the server
        raise ImageError("cannot be fetched (the server does not answer as HTTP servers do)") from error
    except _FAILURES as error:
        raise ImageError(f"cannot be fetched ({reason(error)}{connections.unused_proxy()})") from error
    raise ImageError(f"cannot be fetched (more than {limits.max_redirects} redirects)")


def _get(
    url: httpx.URL, credentials: list[tuple[str, str]], connections: _Connections, limits: ImageLimits
) -> bytes | httpx.URL:
    """The body, or where the server redirects to."""
    core = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    headers = [("Accept", "image/*,*/*"), ("User-Agent", "textlens"), *credentials]
    headers += [("Accept-Encoding", "identity")]  # compressed data could exceed every limit
    waits = dict.fromkeys(("connect", "read", "write", "pool"), limits.timeout_seconds)
    pool = httpcore.ConnectionPool(
        ssl_context=_certificates() if url.scheme == "https" else None,
        proxy=connections.proxy(url),
        network_backend=connections,
    )
    with pool, pool.stream("GET", core, headers=headers, extensions={"timeout": waits}) as response:
        location = {name.lower(): value for name, value in response.headers}.get(b"location")
        if response.status in _REDIRECTS and location is not None:
            return url.join(location.decode("latin-1"))
        if not 200 <= response.status < 300:
            raise ImageError(f"cannot be fetched (the server answers {_status(response.status)})")
        data = bytearray()
        for chunk in response.iter_stream():
            data += chunk
            check_bytes(len(data), limits)
        return bytes(data)


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _status(number: int) -> str:
    """Not in the server's own words, which may be anything."""
    return f"{number} {HTTPStatus(number).phrase}" if number in list(HTTPStatus) else str(number)


def _credentials(url: httpx.URL) -> list[tuple[str, str]]:
    if not url.userinfo:
        return []
    return [("Authorization", "Basic " + base64.b64encode(f"{url.username}:{url.password}".encode()).decode())]


class _Connections(httpcore.NetworkBackend):
    """Connects to checked addresses; whatever it opens ends at `end`, in seconds of `time.monotonic`."""

    def __init__(self, end: float, private: bool) -> None:
        self._end, self._private, self._sockets = end, private, httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any) -> _Timed:
        addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if not self._private and not all(map(is_public, addresses)):
            raise ImageError(
                "is not fetched: it leads to an address of this machine or of a private network; "
                "--allow-private-network fetches those too, in Python allow_network='private'"
            )
        failure: Exception = OSError("the host has no address")
        for address in dict.fromkeys(addresses):
            try:
                stream = self._sockets.connect_tcp(address, port, left(self._end), *args, **kwargs)
            except httpcore.ConnectError as error:
                failure = error
            else:
                return _Timed(stream, self._end)
        raise failure

    def proxy(self, url: httpx.URL) -> httpcore.Proxy | None:
        """That of the environment, which resolves names itself: so none where addresses are to be checked."""
        found = getproxies().get(url.scheme)
        if not found or not self._private or proxy_bypass(url.host):
            return None
        address = httpx.URL(found if "://" in found else f"http://{found}")
        auth = (address.username, address.password) if address.userinfo else None
        place = httpcore.URL(scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=b"/")
        return httpcore.Proxy(place, auth=auth)

    def unused_proxy(self) -> str:
        found = {scheme for scheme in getproxies() if scheme in ("http", "https")} if not self._private else set()
        return "; the proxy of the environment is used with --allow-private-network only" if found else ""


class _Timed(httpcore.NetworkStream):
    """A connection whose every wait ends at `end`, so that a server that trickles cannot hold on."""

    def __init__(self, stream: httpcore.NetworkStream, end: float) -> None:
        self._stream, self._end = stream, end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, left(self._end))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, left(self._end))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Timed:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left(self._end)), self._end)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def left(end: float) -> float:
    """Seconds until `end`. Raises `httpcore.ReadTimeout` when there are none."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout
    return seconds

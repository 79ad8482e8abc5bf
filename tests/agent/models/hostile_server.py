"""A server on this machine that answers whatever a test wants, down to single bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["HostileServer", BaseHTTPRequestHandler], None]


class HostileServer:
    """answer: called for each request. asked: its paths; headers: of all requests; sent: bytes of endless answers."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0
        self.closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
                self.asked.append(handler.path)
                self.headers.append({name.lower(): value for name, value in handler.headers.items()})
                with suppress(OSError):  # the client has had enough
                    answer(self, handler)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def endless(self, handler: BaseHTTPRequestHandler, data: bytes, pause: float = 0.0, most: int = 2**30) -> None:
        """Sends data again and again, until `most` bytes are sent or the client goes away."""
        while self.sent < most and not self.closing.is_set():
            handler.wfile.write(data)
            self.sent += len(data)
            if pause:
                time.sleep(pause)


@contextmanager
def hostile_server(answer: Answer) -> Iterator[HostileServer]:
    """One that listens already."""
    made = HostileServer(answer)
    threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield made
    finally:
        made.closing.set()
        made.server.shutdown()
        made.server.server_close()


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    """Always the same answer. headers: with _ for -."""

    def answer(server: HostileServer, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Type": "application/json", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer

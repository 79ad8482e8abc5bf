"""A proxy in front of a real server that does to requests what networks and servers do: cut, delay, garble, refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BODIES = {
    "no JSON": b"the upstream is busy",
    "null": b"null",
    "empty object": b"{}",
    "no choices": b'{"choices": [], "usage": null}',
    "no text": b'{"choices": [{"finish_reason": "stop"}]}',
    "choices of another kind": b'{"choices": 7}',
    "no usage": b'{"choices": [{"text": "made up", "finish_reason": "stop"}], "usage": {}}',
    "no UTF-8": b'{"choices": [{"text": "\xff\xfe"}]}',
}
GARBLED = ("half JSON", *BODIES)
CUT = ("cut before the answer", "cut within the answer")


class FaultyProxy:
    """faults: what happens to the next completion requests, one after the other; None passes, as all do in the end.

    Numbers are status codes; "slow" answers after `delay` seconds. asked: the prompts of all requests; delivered: the
    prompts and texts of the answers that were passed on whole; at_once: the most requests under way at a time.
    drop: fields that the server never gets to see.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.host, self.port, self.path = parts.hostname or "", parts.port, parts.path
        self.faults: list[str | int | None] = []
        self.drop: tuple[str, ...] = ()
        self.delay = 0.0
        self.asked: list[str] = []
        self.delivered: list[tuple[str, str]] = []
        self.keys: set[str | None] = set()
        self.at_once = self._under_way = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self), bind_and_activate=False)
        self._server.daemon_threads, self._server.request_queue_size = True, 64
        self._server.server_bind()  # until it listens, connections are refused
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}{self.path}"

    def open(self) -> None:
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        try:
            yield
        finally:
            with self.lock:
                self._under_way -= 1


@contextmanager
def faulty_proxy(upstream: str, faults: Iterable[str | int | None] = ()) -> Iterator[FaultyProxy]:
    """A proxy that listens already."""
    proxy = FaultyProxy(upstream)
    proxy.faults = list(faults)
    proxy.open()
    try:
        yield proxy
    finally:
        proxy.close()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer(*self.upstream(b""))

        def do_POST(self) -> None:
            with proxy.counted():
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = sent["prompt"] if "prompt" in sent else sent["messages"][-1]["content"]
                with proxy.lock:
                    fault = proxy.faults.pop(0) if proxy.faults else None
                    proxy.asked.append(prompt)
                    proxy.keys.add(self.headers["Authorization"])
                kept = {name: value for name, value in sent.items() if name not in proxy.drop}
                self.respond(fault, prompt, json.dumps(kept).encode())

        def respond(self, fault: str | int | None, prompt: str, body: bytes) -> None:
            if isinstance(fault, int):  # with the key in it, as some servers do
                return self.answer(fault, json.dumps({"message": f"no, {self.headers['Authorization']}"}).encode())
            if fault in BODIES:
                return self.answer(200, BODIES[str(fault)])
            if fault == "cut before the answer":
                return self.cut()
            if fault == "slow":
                proxy.closing.wait(proxy.delay)
            status, answer = self.upstream(body)
            if fault == "half JSON":
                return self.answer(status, answer[: len(answer) // 2])
            if fault == "cut within the answer":
                self.answer(status, answer, sent=len(answer) // 2)
                return self.cut()
            if fault is None and status == 200:
                with proxy.lock:
                    proxy.delivered.append((prompt, json.loads(answer)["choices"][0]["text"]))
            return self.answer(status, answer)

        def upstream(self, body: bytes) -> tuple[int, bytes]:
            connection = HTTPConnection(proxy.host, proxy.port, timeout=300)
            connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            try:
                return answer.status, answer.read()
            finally:
                connection.close()

        def answer(self, status: int, body: bytes, *, sent: int | None = None) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])
            except OSError:  # the client waits no longer
                self.close_connection = True

        def cut(self) -> None:
            self.close_connection = True

    return Handler

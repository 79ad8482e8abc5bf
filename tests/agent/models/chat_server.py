"""A small OpenAI-compatible server that has /chat/completions and no /completions, as many hosted models do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, str]]


class ChatServer:
    """write: what the model writes after some messages. knows: the fields by which it holds answers to choices;
    others it ignores, or refuses where they are in `refuses`. asked: the bodies of all chat requests; paths: where text
    was asked for.
    """

    def __init__(self, write: Callable[[Messages], str], knows: Sequence[str], refuses: Sequence[str]) -> None:
        self.write, self.knows, self.refuses = write, knows, refuses
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if refused := [name for name in self.refuses if name in body]:
            return 400, {"error": {"message": f"Unrecognized request argument supplied: {refused[0]}"}}
        text = self.write(body["messages"])
        if "structured_outputs" in self.knows and "structured_outputs" in body:
            text = body["structured_outputs"]["choice"][-1]
        if "guided_choice" in self.knows and "guided_choice" in body:
            text = body["guided_choice"][-1]
        if "response_format" in self.knows and "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            text = json.dumps({"answer": schema["properties"]["answer"]["enum"][-1]})
        ends = [place for mark in body.get("stop", []) if (place := text.find(mark)) >= 0]
        message = {"role": "assistant", "content": text[: min(ends, default=len(text))]}
        usage = {"prompt_tokens": len(body["messages"]), "completion_tokens": 1, "total_tokens": 2}
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": "chatty"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.endswith("completions"):
                    server.paths.append(self.path)
                if self.path != "/v1/chat/completions":
                    return self.reply(404, {"error": {"message": f"Invalid URL (POST {self.path})"}})
                server.asked.append(body)
                return self.reply(*server.answer(body))

            def reply(self, status: int, body: dict[str, Any]) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@contextmanager
def chat_server(
    write: Callable[[Messages], str] = lambda messages: " red\n and more",
    *,
    knows: Sequence[str] = (),
    refuses: Sequence[str] = (),
) -> Iterator[ChatServer]:
    """One that listens already."""
    server = ChatServer(write, knows, refuses)
    threading.Thread(target=server._server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server._server.shutdown()
        server._server.server_close()

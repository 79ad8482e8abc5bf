"""Chat models that say what a script says: one in this process, one behind HTTP as OpenAI-compatible servers are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import Field


class ScriptedModel(FakeMessagesListChatModel):
    """Says its `responses` in turn. seen: the messages before each; tools: names of those bound."""

    seen: list[list[BaseMessage]] = Field(default_factory=list)
    tools: list[str] = Field(default_factory=list)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        self.tools[:] = [tool.name for tool in tools]
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.seen.append(list(messages))
        return super()._generate(messages, *args, **kwargs)


def call(name: str, id: str = "1", **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": id}])


class ChatServer(ThreadingHTTPServer):
    """script: what to answer in turn: a str (text, streamed word by word), a (tool, arguments) pair, an int (an HTTP
    error that repeats the key), b"…" (sent as it is), or None (the connection is cut in the middle of a word).
    """

    def __init__(self, script: Sequence[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.bodies, self.keys = list(script), [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def served(*script: Any) -> Iterator[ChatServer]:
    server = ChatServer(script)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}).encode())

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        answer = self.server.script.pop(0)
        if isinstance(answer, int):
            message = f"refused\nfor {self.headers['Authorization']}"
            self._send(answer, json.dumps({"error": {"message": message}}).encode())
        elif isinstance(answer, bytes):
            self._send(200, answer, "text/event-stream")
        else:
            self._send(200, b"".join(_events(answer)), "text/event-stream", cut=answer is None)

    def _send(self, status: int, body: bytes, kind: str = "application/json", *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) + cut))
        self.end_headers()
        self.wfile.write(body)


def _events(answer: Any) -> Iterator[bytes]:
    if isinstance(answer, tuple):
        name, arguments = answer
        given = arguments if isinstance(arguments, str) else json.dumps(arguments)
        function = {"name": name, "arguments": given}
        deltas = [{"tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": function}]}]
    else:
        deltas = [{"content": word} for word in (answer or "half a wo").split(" ")]
        deltas = [{"content": f"{' ' * (i > 0)}{one['content']}"} for i, one in enumerate(deltas)]
    for delta in [{"role": "assistant", "content": ""}, *deltas]:
        yield _event({"index": 0, "delta": delta, "finish_reason": None})
    if answer is not None:
        yield _event({"index": 0, "delta": {}, "finish_reason": "tool_calls" if isinstance(answer, tuple) else "stop"})
        yield b"data: [DONE]\n\n"


def _event(choice: dict[str, Any]) -> bytes:
    record = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": [choice]}
    return f"data: {json.dumps(record)}\n\n".encode()

"""A real `textlens mcp` process, for the SDK's client on either transport."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import textlens
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

COMMAND = [sys.executable, "-c", "from textlens.cli import main; main()", "mcp"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "TEXTLENS_MCP_TOKEN"},
    "PYTHONPATH": str(Path(textlens.__file__).parent.parent),
    "OMP_NUM_THREADS": "1",
}


def stdio_client(*arguments: str, mode: str = "auto", **settings: Any) -> Client:
    """A client that starts the server, and ends it."""
    started = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=ENVIRONMENT)
    return Client(started, mode=mode, **settings)


def http_client(url: str, token: str | None = None, *, mode: str = "auto") -> Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client(streamable_http_client(url, http_client=httpx2.AsyncClient(headers=headers, timeout=300)), mode=mode)


@contextmanager
def http_server(*arguments: str, log: Path, token: str | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL and the process of a server on a free port. log: the file that its stderr goes to."""
    environment = ENVIRONMENT | ({"TEXTLENS_MCP_TOKEN": token} if token else {})
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--http", "--port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), log.read_text()
            yield url, process
        finally:
            process.kill()
            process.wait()


def text(result: Any) -> str:
    """What the language model reads of a result."""
    return "\n".join(one.text for one in result.content if one.type == "text")


def failure(result: Any) -> str:
    assert result.is_error
    assert "Traceback" not in text(result)
    return text(result)

"""MCP over stdin and stdout, for a client that started this process."""

from __future__ import annotations

import signal
import sys
from typing import Any

import anyio
from mcp.server import Server
from mcp.server.stdio import stdio_server


def serve_stdio(server: Server[Any]) -> None:
    """Serve until stdin closes. Meanwhile whatever else is printed goes to stderr (the SDK diverts it)."""
    # Python's own handler waits for the thread that reads stdin. There is nothing to save.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stdin.isatty():
        print("MCP on stdin and stdout, for a program to talk to; Ctrl-D ends it", file=sys.stderr, flush=True)
    try:
        anyio.run(_serve, server)
    except* (BrokenPipeError, ConnectionResetError):  # the client is gone, which is how they may end
        pass


async def _serve(server: Server[Any]) -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())

"""What a call by MCP costs beside the function itself: over stdio and HTTP, by the SDK's client.

    python benchmarks/mcp_overhead.py [--number 100] [--at-once 32] [--encoder scenes:coca] [--mode auto] [--json]

new images: `describe_image` of scenes that the encoder has not seen, so the model runs. known images: the same again,
from the cache: what is left is the way there and back, and opening the image. read: an image as a resource. at once:
known images, that many calls in flight; ms for each call then. Function, client and servers are three processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import textlens
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from textlens.agent.tools.image_access import ImageAccess
from textlens.agent.tools.tool_calls import ToolCalls
from textlens.agent.tools.tool_models import ToolModels
from textlens.scenes import render, scene_at

COMMAND = [sys.executable, "-c", "from textlens.cli import main; main()", "mcp"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(textlens.__file__).parent.parent)}
Figures = dict[str, list[float]]  # what was called -> ms of each call


def function(folder: Path, names: list[str], encoder: str, at_once: int) -> Figures:
    """The functions under the tools, in this process."""
    calls = ToolCalls(ToolModels([encoder]), ImageAccess([folder]))
    calls.describe("warm.png")
    figures: Figures = {}
    for what in ("new images", "known images"):
        figures[what] = [timed(lambda name=name: calls.describe(name)) for name in names]
    figures["read"] = [timed(lambda name=name: calls.access.open(name)) for name in names]
    total = timed(lambda: [calls.describe(names[n % len(names)]) for n in range(at_once)])
    return {**figures, "at once": [total / at_once]}


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)


async def by_mcp(client: Client, names: list[str], at_once: int) -> Figures:
    async def describe(name: str) -> None:
        result = await client.call_tool("describe_image", {"image": name})
        assert not result.is_error, result

    async def clocked(call: Callable[[], Awaitable[object]]) -> float:
        begun = time.perf_counter()
        await call()
        return 1000 * (time.perf_counter() - begun)

    async with client:
        await describe("warm.png")
        figures: Figures = {}
        for what in ("new images", "known images"):
            figures[what] = [await clocked(lambda name=name: describe(name)) for name in names]
        uris = [f"textlens://image/{name}" for name in names]
        figures["read"] = [await clocked(lambda uri=uri: client.read_resource(uri)) for uri in uris]
        begun = time.perf_counter()
        await asyncio.gather(*(describe(names[n % len(names)]) for n in range(at_once)))
        return {**figures, "at once": [1000 * (time.perf_counter() - begun) / at_once]}


@contextmanager
def http_server(arguments: list[str]) -> Iterator[str]:
    """The URL of a server on a free port."""
    command = [*COMMAND, *arguments, "--http", "--port", "0"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def measure(folder: Path, number: int, at_once: int, encoder: str, mode: str) -> dict[str, Figures]:
    """way -> figures. The three run one after the other."""
    names = [f"{n}.png" for n in range(number)]
    for n, name in enumerate([*names, "warm.png"]):
        Image.fromarray(render(scene_at(n, "test"))).save(folder / name)
    arguments = [str(folder), "--encoder", encoder]
    found = {"function": function(folder, names, encoder, at_once)}
    started = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=ENVIRONMENT)
    found["stdio"] = asyncio.run(by_mcp(Client(started, mode=mode), names, at_once))
    with http_server(arguments) as url:
        client = Client(streamable_http_client(url, http_client=httpx2.AsyncClient(timeout=300)), mode=mode)
        found["HTTP"] = asyncio.run(by_mcp(client, names, at_once))
    return found


def table(found: dict[str, Figures]) -> str:
    rows = ["| call | way | median ms | p90 ms | more than the function, ms |", "|---|---|---|---|---|"]
    for what, own in found["function"].items():
        for way, figures in found.items():
            ms = sorted(figures[what])
            median = statistics.median(ms)
            more = "" if way == "function" else f"{median - statistics.median(own):+.2f}"
            rows.append(f"| {what} | {way} | {median:.2f} | {ms[int(0.9 * (len(ms) - 1))]:.2f} | {more} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=100, help="images, and calls of each kind")
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--encoder", default="scenes:coca")
    parser.add_argument("--mode", default="auto", help="auto, or legacy for the handshake before 2026-07-28")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = measure(Path(folder), given.number, given.at_once, given.encoder, given.mode)
    print(json.dumps(found) if given.json else table(found))


if __name__ == "__main__":
    main()

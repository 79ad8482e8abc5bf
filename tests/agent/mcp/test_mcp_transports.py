"""`textlens mcp` as agents run it: a real process, the SDK's client, both transports, old handshake and new."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from PIL import Image
from textlens.agent.mcp.mcp_server import EVIDENCE
from textlens.cli import app
from textlens.errors import InputError
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from typer.testing import CliRunner

from ...language_models import tiny_llama
from ...pipelines import tiny_pipeline
from ..mcp_clients import COMMAND, ENVIRONMENT, failure, http_client, http_server, stdio_client, text

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scenes in `photos`, a secret beside it, small random models, an empty folder `out`."""
    folder = tmp_path_factory.mktemp("mcp")
    for name in ("photos", "out"):
        (folder / name).mkdir()
    for n in range(8):
        Image.fromarray(render(scene_at(n, "test"))).save(folder / "photos" / f"{n}.png")
    Image.new("RGB", (8, 8)).save(folder / "secret.png")
    tiny_llama(folder / "llama", 2048)
    tiny_pipeline(folder / "decoder")
    return folder


@pytest.fixture(scope="module")
def arguments(place: Path) -> list[str]:
    models = [
        "-e",
        "scenes:coca",
        "--llm",
        f"hf:{place / 'llama'}",
        "--decoder",
        str(place / "decoder"),
        "--steps",
        "3",
    ]
    return [str(place / "photos"), "-i", str(place / "photos" / "0.png"), *models]


@pytest.fixture(scope="module")
def url(place: Path, arguments: list[str]) -> Iterator[str]:
    """Of a server that all tests of HTTP share."""
    with http_server(*arguments, log=place / "log", token=TOKEN) as (address, process):
        yield address
        assert process.poll() is None  # whatever the clients did
    assert_no_traceback((place / "log").read_text())


def assert_no_traceback(logged: str) -> None:
    """But for one race in the SDK (2.3): a message to a session that closes just then is answered twice."""
    records = re.split(r"^(?=ERROR:|WARNING:|INFO:)", logged, flags=re.MULTILINE)
    unknown = [one for one in records if "Traceback" in one and "ClosedResourceError" not in one]
    assert not unknown, unknown[0][-4000:]


@pytest.fixture(params=["stdio", "stdio-legacy", "http", "http-legacy"])
def connect(request: pytest.FixtureRequest, arguments: list[str]) -> Callable[[], Client]:
    transport, _, legacy = request.param.partition("-")
    mode = legacy or "auto"
    if transport == "stdio":
        return lambda: stdio_client(*arguments, mode=mode)
    url = request.getfixturevalue("url")
    return lambda: http_client(url, TOKEN, mode=mode)


async def test_a_whole_visit(connect, place):
    async with connect() as client:
        assert client.server_info.name == "textlens"
        assert "never an instruction" in client.instructions
        await use_tools_and_resources(client)
        await make_mistakes(client, place)
        await call_32_at_once(client)
        await cancel(client)


async def use_tools_and_resources(client: Client) -> None:
    assert len((await client.list_tools()).tools) == 5
    described = await client.call_tool("describe_image", {"image": "image-1"})
    assert scene_at(0, "test").background in text(described)
    asked = {"image": "0.png", "question": "is it day?", "choices": ["yes", "no"]}
    assert text(await client.call_tool("ask_image", asked)) in ("yes", "no")
    classes = {"image": "1.png", "labels": ["day", "night"]}
    assert text(await client.call_tool("classify_image", classes)) in ("day", "night")
    assert text(await client.call_tool("upsample_prompt", {"prompt": "two kites"})).startswith("two kites")
    drawn = await client.call_tool("recreate_image", {"text": "a red star"})
    assert [one.type for one in drawn.content] == ["text", "image"]
    assert drawn.meta[EVIDENCE]["num_inference_steps"] == 3
    names = [one.name for one in (await client.list_resources()).resources]
    assert names[0] == "image-1"
    assert {f"{n}.png" for n in range(8)} <= set(names)
    assert (await client.read_resource("textlens://image/3.png")).contents[0].mime_type == "image/png"


async def make_mistakes(client: Client, place: Path) -> None:
    """They go to the model, and the connection goes on."""
    assert "Got the arguments: imag" in failure(await client.call_tool("describe_image", {"imag": "0.png"}))
    assert "no such image" in failure(await client.call_tool("describe_image", {"image": "9.png"}))
    for outside in ("../secret.png", str(place / "secret.png")):
        assert "refused" in failure(await client.call_tool("describe_image", {"image": outside}))
    with pytest.raises(MCPError, match="refused"):
        await client.read_resource("textlens://image/../secret.png")
    assert not (await client.call_tool("describe_image", {"image": "0.png"})).is_error


async def call_32_at_once(client: Client) -> None:
    alone = [text(await client.call_tool("describe_image", {"image": f"{n}.png"})) for n in range(8)]
    assert len(set(alone)) == 8
    calls = [client.call_tool("describe_image", {"image": f"{n % 8}.png"}) for n in range(32)]
    assert [text(result) for result in await asyncio.gather(*calls)] == [alone[n % 8] for n in range(32)]


async def cancel(client: Client) -> None:
    words = text(await client.call_tool("describe_image", {"image": "1.png"}))
    *others, drawing = [asyncio.create_task(client.call_tool("recreate_image", {"text": "a star"})) for _ in range(10)]
    await asyncio.sleep(0.05)  # the last of ten is not through by then on any machine
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert not any(result.is_error for result in await asyncio.gather(*others))
    assert text(await client.call_tool("describe_image", {"image": "1.png"})) == words


# --- stdio ------------------------------------------------------------------------------------------------------------


def started(*arguments: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, text=True, **pipes)


def said(process: subprocess.Popen[str], *messages: dict[str, Any] | str) -> None:
    for message in messages:
        line = message if isinstance(message, str) else json.dumps({"jsonrpc": "2.0", **message})
        process.stdin.write(line + "\n")
    process.stdin.flush()


CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "by hand", "version": "1"}}
HELLO = (
    {"id": 0, "method": "initialize", "params": CLIENT},
    {"method": "notifications/initialized"},
)


def call(id: int, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def test_stdout_carries_the_protocol_alone(arguments):
    """Loading models, drawing with a progress bar, notes and errors: none of it on stdout."""
    process = started(*arguments)
    said(process, *HELLO, call(1, "recreate_image", text="a star"), call(2, "ask_image", image="0.png", question="?"))
    said(process, "this is no JSON", "{}", "[1]", "\u2028", call(3, "describe_image", image="nothing.png"))
    lines = [json.loads(process.stdout.readline()) for _ in range(4)]
    while {1, 2, 3} - {line.get("id") for line in lines}:
        lines.append(json.loads(process.stdout.readline()))
    rest, errors = process.communicate(timeout=300)  # closes stdin
    assert rest == ""
    assert all(line["jsonrpc"] == "2.0" for line in lines)
    results = {line["id"]: line["result"] for line in lines if "result" in line}
    assert sorted(results) == [0, 1, 2, 3]
    assert results[3]["isError"]
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("sent", [(), HELLO])
def test_the_end_of_stdin_ends_the_server(arguments, sent):
    process = started(*arguments)
    said(process, *sent)
    for _ in sent[:1]:
        process.stdout.readline()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert errors == ""


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a language model server that takes prompts and never answers."""
    taken: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1#silent"
        for one in taken:
            one.close()


@pytest.mark.parametrize("also_stdout", [False, True])
def test_a_client_that_goes_away_during_a_call_takes_the_server_along(place, silent, also_stdout):
    """Even if the call would take minutes more: closed pipes, as a killed client leaves them."""
    process = started(str(place / "photos"), "-e", "scenes:coca", "--llm", silent)
    said(process, *HELLO, call(1, "describe_image", image="0.png"))
    while json.loads(process.stdout.readline()).get("id") != 1:
        pass
    said(process, call(2, "upsample_prompt", prompt="a star"), call(3, "upsample_prompt", prompt="a tree"))
    time.sleep(1)
    if also_stdout:
        process.stdout.close()
    process.stdin.close()
    begun = time.monotonic()
    process.wait(300)
    assert time.monotonic() - begun < 10
    assert process.returncode == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_at_once(arguments, number):
    process = started(*arguments)
    said(process, *HELLO)
    process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -number
    assert errors == ""


# --- HTTP -------------------------------------------------------------------------------------------------------------

PING = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def posted(url: str, token: str | None = TOKEN, json: Any = PING, **headers: str) -> httpx2.Response:
    authorised = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx2.post(url, json=json, headers={**ACCEPT, **authorised, **headers}, timeout=300)


@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()])
def test_a_wrong_token_is_refused(url, token):
    answer = posted(url, token)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "expected the header Authorization: Bearer TOKEN" in answer.text
    assert TOKEN not in answer.text
    for other in (httpx2.get(url), httpx2.delete(url), httpx2.get(url.removesuffix("/mcp"))):
        assert other.status_code == 401


async def test_the_sdk_s_client_without_the_token_is_refused(url):
    with pytest.raises(ExceptionGroup) as error:
        async with http_client(url, mode="legacy"):
            pass
    assert error.group_contains(httpx2.HTTPStatusError, match="401") or error.group_contains(MCPError)


def test_the_right_token_in_another_form_is_taken_or_refused_as_http_says(url):
    assert posted(url).status_code == 200
    assert posted(url, None, Authorization=f"bearer {TOKEN}").status_code == 200
    for wrong in (TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", f"Bearer x {TOKEN}", "Bearer"):
        assert posted(url, None, Authorization=wrong).status_code == 401
    assert posted(f"{url}?token={TOKEN}", None).status_code == 401


@pytest.mark.parametrize("modern", [False, True])
def test_web_pages_cannot_reach_it_through_a_browser(url, modern):
    version = {"MCP-Protocol-Version": "2026-07-28"} if modern else {}
    port = url.split(":")[2].split("/")[0]
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "localhost.evil.example"):
        assert posted(url, Host=host, **version).status_code == 421  # a name that was rebound to 127.0.0.1
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", f"https://evil.example:{port}"):
        assert posted(url, Origin=origin, **version).status_code == 403
    assert posted(url, Host=f"localhost:{port}", Origin=f"http://localhost:{port}").status_code == 200
    assert posted(url, **{"Content-Type": "text/plain"}).status_code == 400  # what a form can send


def test_what_is_no_request_is_refused(url):
    for wrong in ([], {}, {"jsonrpc": "2.0", "id": 1}, "x"):
        assert 400 <= posted(url, json=wrong).status_code < 500
    assert posted(url, json={**PING, "x": "y" * 2**25}).status_code == 413
    assert posted(url).status_code == 200


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_that_goes_away_takes_no_other_along(url, mode):
    async def leave() -> None:
        async with http_client(url, TOKEN, mode=mode) as client:
            calls = [client.call_tool("recreate_image", {"text": f"star {n}"}) for n in range(4)]
            await asyncio.gather(*calls)

    leaving = [asyncio.create_task(leave()) for _ in range(3)]
    await asyncio.sleep(0.5)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    with socket.create_connection((host, int(port))) as half:  # a request that never ends
        half.sendall(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    async with http_client(url, TOKEN, mode=mode) as client:
        assert not (await client.call_tool("describe_image", {"image": "0.png"})).is_error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_end_it_with_clients_and_calls_open(place, silent, number, tmp_path):
    arguments = [str(place / "photos"), "-e", "scenes:coca", "--llm", silent]
    with http_server(*arguments, log=tmp_path / "log") as (url, process):

        async def visit() -> None:
            async with http_client(url, mode="legacy") as client:
                await client.call_tool("upsample_prompt", {"prompt": "a star"})

        visiting = asyncio.create_task(visit())
        await asyncio.sleep(2)
        process.send_signal(number)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < 30:
            await asyncio.sleep(0.05)
        assert time.monotonic() - begun < 10
        assert process.returncode == (0 if number == signal.SIGINT else -number)
        visiting.cancel()
        await asyncio.gather(visiting, return_exceptions=True)
    assert "Traceback" not in (tmp_path / "log").read_text()


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("none",), "no folder"),
        (("-i", "none.png"), "none.png: no such file"),
        (("-i", "http://127.0.0.1:9/a.png"), "network"),
        (("-e", "cocoa"), "expected one of: coca"),
        (("--llm", "gpt"), "expected one of: tiny"),
        (("-o", "none"), "no folder none to write"),
        (("--port", "1", "--host", "localhost"), "--host and --port: only with --http"),
        (("--http", "--host", "0.0.0.0"), "a token is required"),
        (("--http", "--host", "example.com"), "a token is required"),
        (("--http", "--host", "::"), "a token is required"),
        (("--http", "--token", "two words"), "holds spaces"),
        (("--http", "--token", ""), "blank"),
        (("--http", "--host", "no such host", "--token", TOKEN), "cannot serve on no such host"),
        (("--http", "--port", "99999"), "Invalid value"),
    ],
)
def test_wrong_settings_are_errors_before_anything_is_served(arguments, reason, monkeypatch):
    monkeypatch.delenv("TEXTLENS_MCP_TOKEN", raising=False)
    done = CliRunner().invoke(app, ["mcp", *arguments])
    assert isinstance(done.exception, InputError | SystemExit)
    assert reason in " ".join(f"{done.exception} {done.stderr}".replace("│", " ").split())
    assert done.stdout == ""


def test_a_port_in_use_exits_with_2():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        command = [*COMMAND, "--http", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "choose another --port" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


async def test_beyond_this_machine_with_a_token(tmp_path):
    """On all addresses: by this machine's name and those that are allowed, with the token."""
    with http_server("--host", "0.0.0.0", "--allow-host", "lens.example", log=tmp_path / "log", token=TOKEN) as (
        url,
        _,
    ):
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert posted(here, None).status_code == 401
        assert posted(here).status_code == 200
        for name in ("lens.example", "lens.example:443", socket.gethostname().lower()):
            assert posted(here, Host=name, Origin="https://lens.example").status_code == 200
        assert posted(here, Host="evil.example").status_code == 421


def test_without_the_sdk_it_says_what_to_install():
    code = "import sys; sys.modules['mcp'] = None; from textlens.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "mcp"], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no MCP SDK of version 2 (")
    assert done.stderr.endswith("; install it: pip install 'textlens[mcp]'\n")
    assert done.stdout == ""


def test_help_and_start_import_no_torch():
    loaded = "print([name for name in ('torch', 'mcp') if name in sys.modules])"
    code = f"import sys\nfrom textlens.cli import main\ntry: main()\nfinally: {loaded}"
    for argument, expected in (("--help", "[]"), (None, "['mcp']")):
        command = [sys.executable, "-c", code, "mcp", *([argument] if argument else [])]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, input="")
        assert done.stdout.splitlines()[-1] == expected

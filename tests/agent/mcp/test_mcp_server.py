"""The MCP server in this process, by the SDK's client: LangChain's answers, errors for the model, resources."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from PIL import Image
from textlens.agent.call_queue import CallQueue
from textlens.agent.mcp.image_resources import PAGE, PNG_PIXELS
from textlens.agent.mcp.mcp_server import EVIDENCE, McpTools
from textlens.agent.tools import tool_models
from textlens.agent.tools.image_access import ImageAccess
from textlens.agent.tools.image_store import ImageStore
from textlens.agent.tools.tool_calls import ToolCalls
from textlens.agent.tools.tool_models import ToolModels
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.encoders.base import Description
from textlens.errors import InputError

from ..mcp_clients import failure, text
from ..toolkits import SCENE

Connect = Callable[..., Client]


@pytest.fixture
def connect():
    """A client of a server of these calls, in the handshake of today's clients and in the newest."""
    with closing(CallQueue()) as queue:
        yield lambda calls, mode="legacy", **settings: Client(McpTools(calls, queue, **settings).server(), mode=mode)


@pytest.fixture
def calls(toolkit: TextlensToolkit) -> ToolCalls:
    return ToolCalls(toolkit.models, toolkit.access, toolkit.output, num_inference_steps=2)


def plain(image: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image)))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_tools_are_those_of_langchain(connect: Connect, calls, tools, mode):
    async with connect(calls, mode, titles={"image-1": "day.png"}) as client:
        offered = (await client.list_tools()).tools
        assert client.instructions.endswith("Images when the server started: image-1 (day.png), scene.png.")
    assert [tool.name for tool in offered] == list(tools)
    for tool in offered:
        other = tools[tool.name]
        assert tool.description == other.description
        assert tool.input_schema["properties"] == other.args_schema.model_json_schema()["properties"]
        assert tool.annotations.read_only_hint == (tool.name != "recreate_image")  # this server may save files


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_each_tool_answers_as_in_langchain(connect: Connect, calls, tools, mode):
    asked = {
        "describe_image": {"image": "scene.png"},
        "ask_image": {"image": "image-1", "question": "is it day?", "choices": ["yes", "no"]},
        "classify_image": {"image": "image-1", "labels": ["day", "night"]},
        "upsample_prompt": {"prompt": "two red kites", "seed": 3},
    }
    async with connect(calls, mode) as client:
        for name, arguments in asked.items():
            result = await client.call_tool(name, arguments)
            other = tools[name].invoke({"name": name, "args": arguments, "id": "1", "type": "tool_call"})
            assert not result.is_error
            assert text(result) == other.text
            assert result.meta[EVIDENCE] == json.loads(json.dumps(other.artifact))
            assert result.structured_content is None  # some clients show it to their model
        assert SCENE.background in text(await client.call_tool("describe_image", {"image": "image-1"}))


async def test_a_drawing_comes_as_an_image_and_can_be_looked_at(connect: Connect, calls, toolkit, tmp_path):
    async with connect(calls) as client:
        drawn = await client.call_tool("recreate_image", {"text": "a red star", "file_name": "star.png", "seed": 5})
        (said, picture) = drawn.content
        assert said.text == 'Drawn from the words "a red star"; saved as star.png, and kept as drawn-1.'
        assert picture.mime_type == "image/png"
        saved = Image.open(tmp_path / "out" / "star.png")
        expected = toolkit.models.redrawer.draw(["a red star"], num_inference_steps=2, seed=5)[0]
        assert plain(picture.data).tobytes() == saved.tobytes() == expected.tobytes()
        assert str(tmp_path) not in drawn.model_dump_json()
        assert drawn.meta[EVIDENCE]["out"] == "star.png"
        assert not (await client.call_tool("describe_image", {"image": "drawn-1"})).is_error
        listed = (await client.list_resources()).resources
        assert [one.name for one in listed] == ["image-1", "drawn-1", "scene.png"]
        (again,) = (await client.read_resource("textlens://image/drawn-1")).contents
        assert plain(again.blob).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "reference", ["../x.png", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/a.png", "nothing.png", "image-2"]
)
async def test_what_may_not_be_opened_is_refused_to_tools_and_resources(connect: Connect, calls, tmp_path, reference):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    more = {"ask_image": {"question": "what?"}, "classify_image": {"labels": ["a", "b"]}}
    async with connect(calls) as client:
        for name in ("describe_image", "ask_image", "classify_image", "recreate_image"):
            told = failure(await client.call_tool(name, {"image": reference, **more.get(name, {})}))
            assert told.startswith(f"{reference}: ")
            assert "known images: image-1, scene.png" in told
            assert str(tmp_path) not in told
        with pytest.raises(MCPError, match="expected an image's id or a path") as error:
            await client.read_resource(f"textlens://image/{reference}")
    assert error.value.code == -32602
    assert str(tmp_path) not in str(error.value)


async def test_wrong_arguments_come_back_with_what_was_got_and_expected(connect: Connect, calls, models):
    async with connect(calls) as client:

        async def told(name: str, arguments: dict[str, Any] | None = None) -> str:
            return failure(await client.call_tool(name, arguments))

        assert await told("describe_image", {"imag": "image-1"}) == (
            "The arguments do not fit: image: Field required. Got the arguments: imag; expected: image"
        )
        assert "Got the arguments: none; expected: image, question, choices (optional)" in await told("ask_image")
        extra = {"image": "image-1", "size": 3}
        assert (await told("describe_image", extra)).startswith("describe_image takes no size. Got the arguments: ")
        assert "question: String should have at least 1" in await told("ask_image", {"image": "a", "question": ""})
        assert "seed: " in await told("recreate_image", {"text": "a star", "seed": -1})
        assert "labels: " in await told("classify_image", {"image": "image-1", "labels": "day"})
        assert "either an image or a text" in await told("recreate_image", {})
        assert "each different" in await told("classify_image", {"image": "image-1", "labels": ["a", "A"]})
        assert "expected one of: describe_image" in await told("describe", {"image": "image-1"})
        long = await told("x" * 10_000, {})
        assert len(long) < 300
        assert len(await told("describe_image", {"y" * 10_000: {"x": "y" * 10_000}})) < 400
        assert "cannot be a picture's name" in await told("recreate_image", {"text": "a", "file_name": "../a.png"})
        assert "not an image" in await told("describe_image", {"image": "data:image/png;base64,AAAA"})
        assert not (await client.call_tool("describe_image", {"image": "image-1"})).is_error
    async with connect(ToolCalls(models)) as client:
        assert "no files may be written here" in await told("recreate_image", {"text": "a", "file_name": "a.png"})


async def test_a_wrong_set_up_is_told_and_the_server_goes_on(connect: Connect, caplog):
    models = ToolModels(["coca:/nowhere"], "hf:/nowhere")
    async with connect(ToolCalls(models, access_to(Image.new("RGB", (8, 8))))) as client:
        for _ in range(2):
            told = failure(await client.call_tool("describe_image", {"image": "image-1"}))
            assert told.startswith("textlens is not set up for describe_image, which no other arguments change: ")
            assert "/nowhere" in told
        assert "/nowhere" in failure(await client.call_tool("upsample_prompt", {"prompt": "a cat"}))
        assert len((await client.list_tools()).tools) == 5
    assert "/nowhere" in caplog.text


async def test_a_fault_inside_is_told_without_its_details(connect: Connect, caplog):
    class Faulty:
        def complete(self, prompts, **settings):
            raise ZeroDivisionError("secret")

    calls = ToolCalls(ToolModels({"coca": Shades()}, Faulty()), access_to(Image.new("RGB", (8, 8))))  # type: ignore[arg-type]
    async with connect(calls) as client:
        told = failure(await client.call_tool("upsample_prompt", {"prompt": "a cat"}))
        assert told == "upsample_prompt failed inside textlens (ZeroDivisionError); its log says more"
        assert text(await client.call_tool("describe_image", {"image": "image-1"})) == 'coca: "shade 0"'
    assert "ZeroDivisionError: secret" in caplog.text


def access_to(*images: Image.Image, roots: tuple[Path, ...] = ()) -> ImageAccess:
    store = ImageStore()
    for image in images:
        store.add(image)
    return ImageAccess(roots, store)


class Shades:
    """Describes an image by its red; `gate` holds it, and `crowded` tells of two at once."""

    def __init__(self) -> None:
        self.gate, self.begun, self.inside = threading.Event(), threading.Event(), threading.Lock()
        self.gate.set()
        self.crowded, self.seen = False, []

    def describe(self, images):
        self.crowded |= not self.inside.acquire(blocking=False)
        self.begun.set()
        assert self.gate.wait(30)
        time.sleep(0.005)
        shades = [image.getpixel((0, 0))[0] for image in images]
        self.seen += shades
        self.inside.release()
        return [Description(f"shade {shade}", (), "coca") for shade in shades]


@pytest.fixture
def shades() -> Shades:
    return Shades()


@pytest.fixture
def shaded(shades: Shades) -> ToolCalls:
    """Calls on image-1, image-2, …, of red 0, 1, …"""
    return ToolCalls(ToolModels({"coca": shades}), access_to(*(Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(8))))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_32_calls_at_once_get_their_own_answers(connect: Connect, shaded, shades, mode):
    async with connect(shaded, mode) as client:
        asked = [client.call_tool("describe_image", {"image": f"image-{n % 8 + 1}"}) for n in range(32)]
        told = [text(result) for result in await asyncio.gather(*asked)]
    assert told == [f'coca: "shade {n % 8}"' for n in range(32)]
    assert not shades.crowded
    assert len(shades.seen) == 8  # each image once, then from the cache


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_cancelled_call_that_waits_never_starts_and_one_that_runs_ends_unheard(
    connect: Connect, shaded, shades, mode
):
    shades.gate.clear()
    async with connect(shaded, mode) as client:
        running, waiting, last = (
            asyncio.create_task(client.call_tool("describe_image", {"image": f"image-{n}"})) for n in (1, 2, 3)
        )
        while not shades.begun.is_set():
            await asyncio.sleep(0.01)
        for task in (running, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert len((await client.list_tools()).tools) == 5  # answers meanwhile
        shades.gate.set()
        assert text(await last) == 'coca: "shade 2"'
        assert shades.seen == [0, 2]
        assert text(await client.call_tool("describe_image", {"image": "image-2"})) == 'coca: "shade 1"'


async def test_models_load_once_at_first_use(connect: Connect, monkeypatch):
    loaded: list[str] = []
    load = tool_models.load_encoder

    def counting(spec: str) -> Any:
        loaded.append(spec)
        return load(spec)

    monkeypatch.setattr(tool_models, "load_encoder", counting)
    calls = ToolCalls(ToolModels(["scenes:coca"]), access_to(*(Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(4))))
    async with connect(calls) as client:
        await client.list_tools()
        await client.read_resource("textlens://image/image-1")
        assert loaded == []
        asked = [client.call_tool("describe_image", {"image": f"image-{n + 1}"}) for n in range(4)]
        assert not any(result.is_error for result in await asyncio.gather(*asked))
    assert loaded == ["scenes:coca"]


async def test_resources_are_the_allowed_images_page_by_page(connect: Connect, models, tmp_path):
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "secret.png")
    Image.new("RGB", (4, 4), "blue").save(root / "sub" / "a cat.png")
    for n in range(PAGE + 5):
        Image.new("RGB", (2, 2)).save(root / f"{n:04}.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "notes.txt").write_text("no image")
    calls = ToolCalls(models, access_to(Image.new("RGB", (4, 4), "lime"), roots=(root,)))
    async with connect(calls, titles={"image-1": "lime.png"}) as client:
        first = await client.list_resources()
        rest = await client.list_resources(cursor=first.next_cursor)
        listed = [*first.resources, *rest.resources]
        assert [one.name for one in listed] == ["image-1", *(f"{n:04}.png" for n in range(PAGE + 5))]
        assert (listed[0].title, listed[0].uri) == ("lime.png", "textlens://image/image-1")
        assert rest.next_cursor is None
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "textlens://image/{+reference}"
        (found,) = (await client.read_resource("textlens://image/sub/a%20cat.png")).contents
        assert (plain(found.blob).getpixel((0, 0)), found.mime_type) == ((0, 0, 255), "image/png")
        for wrong in ("textlens://image/link.png", "file:///etc/passwd", "textlens://image/..%2Fsecret.png"):
            with pytest.raises(MCPError) as error:
                await client.read_resource(wrong)
            assert error.value.data == {"uri": wrong}
        with pytest.raises(MCPError, match="unknown cursor 'x'"):
            await client.list_resources(cursor="x")


async def test_names_that_are_no_text_break_no_answer(connect: Connect, models, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    async with connect(ToolCalls(models, ImageAccess([tmp_path]))) as client:
        assert (await client.list_resources()).resources == []
        assert "known images: \\udcff.png" in failure(await client.call_tool("describe_image", {"image": "a.png"}))
        with pytest.raises(MCPError, match=r"known images: \\udcff\.png"):
            await client.read_resource("textlens://image/a.png")


async def test_photographs_are_sent_small_and_without_metadata(connect: Connect, models, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    side = int(PNG_PIXELS**0.5) + 8
    Image.effect_noise((side, side), 50).convert("RGB").save(tmp_path / "big.jpg", exif=exif)
    async with connect(ToolCalls(models, ImageAccess([tmp_path]))) as client:
        (found,) = (await client.read_resource("textlens://image/big.jpg")).contents
    assert found.mime_type == "image/jpeg"
    assert plain(found.blob).size == (side, side)
    assert b"taken at home" not in base64.b64decode(found.blob)


def test_roots_must_exist(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        ImageAccess([tmp_path / "none"])

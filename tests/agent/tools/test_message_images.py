"""Images that arrive in chat messages: an agent whose model reads only text names them to the tools by id."""

from __future__ import annotations

import asyncio
import base64
import io
import runpy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from PIL import Image
from textlens.agent.tools.image_access import ImageAccess
from textlens.agent.tools.message_images import MessageImages
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.encoders.images import ImageLimits
from textlens.scenes.rendering import render

from ..chat_models import ScriptedModel, call
from ..toolkits import SCENE

ROOT = Path(__file__).parents[3]


def encoded(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


RED = encoded(Image.new("RGB", (4, 4), "red"))
FORMS: list[dict[str, Any]] = [
    {"type": "image", "base64": RED, "mime_type": "image/png"},
    {"type": "image", "url": f"data:image/png;base64,{RED}"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED}"}},
    {"type": "image", "source_type": "base64", "data": RED, "mime_type": "image/png"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": RED}},
]


@pytest.fixture
def images() -> MessageImages:
    return MessageImages(ImageAccess())


@pytest.mark.parametrize("block", FORMS)
def test_an_image_of_any_form_gets_an_id(block):
    access = ImageAccess()
    message = HumanMessage(["What is this?", block], id="7")
    (named,) = MessageImages(access).named([message])
    assert named.content == "What is this?\n[An image, known to the tools as image-1]"
    assert named.id == "7"
    assert access.open("image-1").getpixel((0, 0)) == (255, 0, 0)
    assert message.content[1] == block


def test_an_image_keeps_its_id_and_others_get_their_own(images):
    blue = {"type": "image", "base64": encoded(Image.new("RGB", (4, 4), "blue")), "mime_type": "image/png"}
    sent = [HumanMessage([FORMS[0], blue]), HumanMessage([FORMS[0]])]
    for _ in range(2):
        told = [message.content for message in images.named(sent)]
        assert [text.count("image-1") for text in told] == [1, 1]
        assert [text.count("image-2") for text in told] == [1, 0]


def test_other_messages_and_blocks_stay_as_they_are(images):
    audio = {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}
    kept = [SystemMessage("a"), HumanMessage("b"), HumanMessage([{"type": "text", "text": "c"}, audio]), AIMessage("d")]
    assert images.named(kept) == kept
    (mixed,) = images.named([HumanMessage([FORMS[0], audio])])
    assert mixed.content[1] == audio
    (of_a_tool,) = images.named([ToolMessage([FORMS[0]], tool_call_id="1")])
    assert of_a_tool.content == "[An image, known to the tools as image-1]"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({"type": "image", "base64": "!!!!", "mime_type": "image/png"}, "not valid base64"),
        ({"type": "image", "base64": "AAAA", "mime_type": "image/png"}, "not an image"),
        ({"type": "image", "url": "http://127.0.0.1:9/a.png"}, "fetched from the network only with"),
        ({"type": "image", "url": "/etc/hostname"}, "expected base64"),
        ({"type": "image", "url": "file:///etc/hostname"}, "expected base64"),
        ({"type": "image", "url": "secret.png"}, "expected base64"),
        ({"type": "image", "file_id": "file-1"}, "a reference to a file"),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_is_read(images, block, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("secret.png")
    (named,) = images.named([HumanMessage([block])])
    assert named.content.startswith("[An image that cannot be used: ")
    assert reason in named.content


def test_limits_hold_and_old_images_are_dropped():
    big = {"type": "image", "base64": encoded(Image.new("RGB", (64, 64))), "mime_type": "image/png"}
    for limits in (ImageLimits(max_bytes=10), ImageLimits(max_pixels=10)):
        for block in FORMS[:2]:
            (named,) = MessageImages(ImageAccess(limits=limits)).named([HumanMessage([block])])
            assert "over the limit" in named.content
    access = ImageAccess()
    images = MessageImages(access, max_images=1)
    images.named([HumanMessage([FORMS[0]]), HumanMessage([big])])
    assert access.store.ids == ["image-2"]


class Pictures(BaseHTTPRequestHandler):
    """Answers /red.png at once, /slow.png once it may, /broken.png never with an image; notes what was asked."""

    asked: ClassVar[list[str]]
    may_answer: ClassVar[Event]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path != "/red.png":
            self.may_answer.wait(30)
        data = b"no image" if self.path == "/broken.png" else base64.b64decode(RED)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def pictures() -> Iterator[str]:
    """The address of a server of `Pictures`."""
    Pictures.asked, Pictures.may_answer = [], Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Pictures.may_answer.set()
        server.shutdown()


def asked_of(images: MessageImages, url: str) -> str:
    (named,) = images.named([HumanMessage([{"type": "image", "url": url}])])
    return str(named.content)


def test_a_slow_download_holds_up_no_other_and_is_made_once(pictures):
    images = MessageImages(ImageAccess(), allow_network="private")
    with ThreadPoolExecutor(5) as threads:
        slow = [threads.submit(asked_of, images, f"{pictures}/slow.png") for _ in range(4)]
        while not Pictures.asked:
            time.sleep(0.01)
        fast = threads.submit(asked_of, images, f"{pictures}/red.png")
        assert fast.result(20) == "[An image, known to the tools as image-1]"
        assert not any(one.done() for one in slow)
        Pictures.may_answer.set()
        assert {one.result(20) for one in slow} == {"[An image, known to the tools as image-2]"}
    assert asked_of(images, f"{pictures}/slow.png") == "[An image, known to the tools as image-2]"
    assert Pictures.asked == ["/slow.png", "/red.png"]


def test_a_failed_download_is_told_to_all_who_wait_and_tried_again(pictures):
    images = MessageImages(ImageAccess(), allow_network="private")
    with ThreadPoolExecutor(3) as threads:
        told = [threads.submit(asked_of, images, f"{pictures}/broken.png") for _ in range(3)]
        time.sleep(0.5)
        Pictures.may_answer.set()
        assert all("not an image" in one.result(20) for one in told)
    before = len(Pictures.asked)
    assert "not an image" in asked_of(images, f"{pictures}/broken.png")
    assert len(Pictures.asked) == before + 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_agent_looks_at_an_image_of_a_message(asynchronous):
    toolkit = TextlensToolkit.from_specs(encoders=["scenes:coca"])
    model = ScriptedModel(responses=[call("describe_image", image="image-1"), AIMessage("A scene.")])
    agent = create_agent(model, toolkit.get_tools(), middleware=[toolkit.image_middleware()])
    block = {"type": "image", "base64": encoded(Image.fromarray(render(SCENE))), "mime_type": "image/png"}
    asked = {"messages": [HumanMessage([{"type": "text", "text": "What is this?"}, block])]}
    answered = asyncio.run(agent.ainvoke(asked)) if asynchronous else agent.invoke(asked)
    assert model.seen[0][0].content == "What is this?\n[An image, known to the tools as image-1]"
    (words,) = [message for message in answered["messages"] if isinstance(message, ToolMessage)]
    assert SCENE.background in words.text
    assert answered["messages"][0].content[1] == block  # the conversation keeps it
    assert answered["messages"][-1].text == "A scene."


def test_tool_events_stream_while_the_agent_works(tmp_path: Path):
    Image.fromarray(render(SCENE)).save(tmp_path / "scene.png")
    toolkit = TextlensToolkit.from_specs([tmp_path], encoders=["scenes:coca"])
    script = [call("describe_image", image="scene.png"), call("describe_image", image="../x"), AIMessage("Done.")]
    agent = create_agent(ScriptedModel(responses=script), toolkit.get_tools())

    async def events() -> list[dict[str, Any]]:
        stream = agent.astream_events({"messages": [HumanMessage("Look.")]}, version="v2")
        return [event async for event in stream if event["event"].startswith("on_tool")]

    first, ended, second, refused = asyncio.run(events())
    assert (first["event"], ended["event"]) == ("on_tool_start", "on_tool_end")
    assert (first["name"], first["data"]["input"]) == ("describe_image", {"image": "scene.png"})
    assert ended["data"]["output"].artifact["image"] == "scene.png"
    assert SCENE.background in ended["data"]["output"].text
    assert second["data"]["input"] == {"image": "../x"}
    assert refused["data"]["output"].status == "error"


def test_the_example_of_langgraph_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "langgraph_agent.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "ask_image says: white" in shown
    assert "[An image, known to the tools as image-1]" in shown
    assert shown.rstrip().endswith("I have not seen the image.")

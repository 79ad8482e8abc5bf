"""The web page's requests: images in memory, answers to whom they belong, limits, tokens, hosts and origins."""

import asyncio
import io
import json
import threading
from contextlib import closing

import httpx
import pytest
from PIL import Image
from textlens.agent.call_queue import CallQueue
from textlens.agent.http_serving import HttpSettings
from textlens.agent.web.web_actions import KEPT_IMAGES, Sample, WebActions, marked
from textlens.agent.web.web_app import WebApp
from textlens.agent.web.web_serving import about, offered
from textlens.encoders.images import ImageError, ImageLimits
from textlens.errors import InputError
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at

BASE = "http://127.0.0.1:8030"


def png(number: int = 0, size: int = 64) -> bytes:
    out = io.BytesIO()
    Image.fromarray(render(scene_at(number, "test"), size)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def queue():
    with closing(CallQueue()) as made:
        yield made


@pytest.fixture
def actions(models):
    return WebActions(models, ImageLimits(max_pixels=10_000), [Sample("scene.png", png())], num_inference_steps=1)


@pytest.fixture
def client(actions, queue, models):
    return client_of(WebApp(actions, queue, about(models)).app(HttpSettings("127.0.0.1", 8030)))


def client_of(app, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers, timeout=120)


async def uploaded(client: httpx.AsyncClient, data: bytes) -> str:
    return (await client.post("/api/images", content=data)).json()["image"]


async def test_the_page_needs_nothing_from_elsewhere(client):
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("web_page.css", "web_page.js"):
        assert name in page.text
        found = await client.get(f"/{name}")
        assert found.status_code == 200
        assert "http" not in found.text.replace("http(s)", "")


async def test_describe_ask_classify_recreate(client, models):
    image = await uploaded(client, png())
    told = (await client.post("/api/describe", json={"image": image})).json()
    (words,) = told["descriptions"]
    (expected,) = models.describer.describe([png()])
    assert words["text"] == expected.descriptions[0].text
    asked = (await client.post("/api/ask", json={"image": image, "question": "What is it?"})).json()
    assert words["text"].rstrip(".") in asked["prompt"]
    assert "What is it?" in asked["prompt"]
    assert asked["answer"] or asked["error"]
    sorted_in = (await client.post("/api/classify", json={"image": image, "labels": "red, blue,, red"})).json()
    assert sorted_in["label"] in ("red", "blue")
    drawn = (await client.post("/api/recreate", json={"image": image})).json()
    assert drawn["text"] == words["text"]
    assert drawn["picture"].startswith("data:image/png;base64,")


async def test_upsample_marks_what_was_added(client):
    made = (await client.post("/api/upsample", json={"prompt": "a red star"})).json()
    assert "".join(part["text"] for part in made["parts"]) == made["prompt"]
    assert made["original"] == "a red star"


@pytest.mark.parametrize(
    ("original", "prompt", "added"),
    [
        ("a red star", "A large red star, soft light", [" large", ", soft light"]),
        ("a red star", "a red star", []),
        ("", "a red star", ["a red star"]),
        ("two cats", "dogs", ["dogs"]),
    ],
)
def test_parts_are_the_prompt_and_additions_are_told(original, prompt, added):
    parts = marked(original, prompt)
    assert "".join(part["text"] for part in parts) == prompt
    assert [part["text"].strip() for part in parts if not part["kept"]] == [text.strip() for text in added]


async def test_samples_are_images_like_uploads(client):
    assert (await client.get("/api/about")).json()["samples"] == ["scene.png"]
    assert (await client.get("/api/samples/0")).content == png()
    assert (await client.get("/api/samples/7")).status_code == 404
    image = (await client.post("/api/images?sample=0")).json()["image"]
    assert (await client.post("/api/describe", json={"image": image})).status_code == 200
    assert "no sample 9" in (await client.post("/api/images?sample=9")).json()["error"]


async def test_ten_users_at_once_get_their_own_answers(client, models):
    names = [await uploaded(client, png(number)) for number in range(10)]
    assert len(set(names)) == 10
    assert min(len(name) for name in names) >= 20  # not to be guessed
    answers = await asyncio.gather(*(client.post("/api/describe", json={"image": name}) for name in names))
    expected = models.describer.describe([png(number) for number in range(10)])
    assert [a.json()["descriptions"][0]["text"] for a in answers] == [e.descriptions[0].text for e in expected]


async def test_the_oldest_image_goes_first(client):
    first = await uploaded(client, png())
    for _ in range(KEPT_IMAGES):
        last = await uploaded(client, png())
    gone = await client.post("/api/describe", json={"image": first})
    assert gone.status_code == 400
    assert gone.json()["error"] == "this image is no longer kept: choose it again"
    assert (await client.post("/api/describe", json={"image": last})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("images", b"not an image", 400, "not an image"),
        ("images", png(size=128), 400, "pixels"),
        ("describe", b"{", 400, "expected a JSON object"),
        ("describe", b"[]", 400, "expected a JSON object"),
        ("describe", b"{}", 400, "choose it again"),
        ("describe", b'{"image": "../../etc/passwd"}', 400, "choose it again"),
        ("describe", b'{"image": "drawn-1"}', 400, "choose it again"),
        ("classify", b'{"image": "x", "labels": "a,b"}', 400, "choose it again"),
        ("upsample", b'{"prompt": " "}', 400, "the prompt is blank"),
        ("upsample", json.dumps({"prompt": "a" * 2001}).encode(), 400, "at most 2,000"),
        ("upsample", json.dumps({"prompt": "a" * 70_000}).encode(), 400, "64 kB"),
        ("explode", b"{}", 404, "expected one of describe"),
    ],
)
async def test_bad_requests_are_told(client, path, body, status, message):
    answer = await client.post(f"/api/{path}", content=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert "Traceback" not in answer.text


async def test_labels_and_questions_are_checked(client):
    image = await uploaded(client, png())
    for record, message in (
        ({"labels": "one"}, "got 1 labels; expected 2 to 50"),
        ({"labels": ",".join(map(str, range(60)))}, "got 60 labels"),
    ):
        answer = await client.post("/api/classify", json={"image": image, **record})
        assert message in answer.json()["error"]
    assert "the question is blank" in (await client.post("/api/ask", json={"image": image})).json()["error"]


async def test_a_large_upload_is_refused_before_it_is_read(actions, queue):
    app = WebApp(actions, queue, {}, ImageLimits(max_bytes=2 * 2**20)).app(HttpSettings("127.0.0.1", 0))
    sent = []

    async def chunks():
        for _ in range(40):
            sent.append(1)
            yield b"x" * 2**20

    answer = await client_of(app).post("/api/images", content=chunks())
    assert answer.status_code == 413
    assert "larger than 2 MB" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:8030"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
     {"Host": "127.0.0.1:8030", "Origin": "http://127.0.0.1:9999"}, {"Host": "["}],
)  # fmt: skip
async def test_other_pages_cannot_use_it_through_a_browser(client, headers):
    answer = await client.post("/api/images?sample=0", headers=headers)
    assert answer.status_code == 403
    assert "its own page alone" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:8030", "localhost:8030", "[::1]:8030"])
async def test_its_own_page_can(client, host):
    answer = await client.post("/api/images?sample=0", headers={"Host": host, "Origin": f"http://{host}"})
    assert answer.status_code == 200


async def test_beyond_this_machine_a_token_is_asked_for(actions, queue):
    with pytest.raises(InputError, match="TEXTLENS_WEB_TOKEN"):
        HttpSettings("0.0.0.0", 0, token_variable="TEXTLENS_WEB_TOKEN")
    app = WebApp(actions, queue, {}).app(HttpSettings("0.0.0.0", 0, "secret", ["lens.example"]))
    client = client_of(app, Host="lens.example")
    assert (await client.get("/")).status_code == 200  # the page, which asks for it
    for path in ("about", "samples/0", "waiting"):
        assert (await client.get(f"/api/{path}")).status_code == 401
    assert (await client.post("/api/images?sample=0")).status_code == 401
    client.headers["Authorization"] = "Bearer secret"
    assert (await client.post("/api/images?sample=0")).status_code == 200


async def test_a_call_whose_client_has_gone_does_not_start(actions, queue):
    ran, release = [], threading.Event()
    actions.run = lambda action, arguments: ran.append(action)  # the instance's: what would be run
    busy = asyncio.ensure_future(queue.run(release.wait))
    app = WebApp(actions, queue, {}).app(HttpSettings("127.0.0.1", 0))
    gone = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive():
        found = next(messages, None)
        if found is None:
            await gone.wait()
            return {"type": "http.disconnect"}
        return found

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/api/describe", "raw_path": b"/api/describe",
        "query_string": b"", "root_path": "", "scheme": "http", "headers": [(b"host", b"127.0.0.1")],
    }  # fmt: skip

    async def quiet(message):
        """What is sent to a closed connection goes nowhere."""

    call = asyncio.ensure_future(app(scope, receive, quiet))
    while not queue.waiting:
        await asyncio.sleep(0.01)
    gone.set()
    await asyncio.wait_for(call, 10)
    release.set()
    await busy
    assert await queue.run(lambda: "next") == "next"
    assert ran == []


async def test_faults_of_the_set_up_are_told_without_paths(queue, monkeypatch, caplog):
    from textlens.agent.tools.tool_models import ToolModels

    broken = WebActions(ToolModels(["coca:/no/such/folder"], "tiny"), samples=[Sample("scene.png", png())])
    client = client_of(WebApp(broken, queue, {}).app(HttpSettings("127.0.0.1", 0)))
    image = (await client.post("/api/images?sample=0")).json()["image"]
    answer = await client.post("/api/describe", json={"image": image})
    assert answer.status_code == 500
    assert "/no/such" not in answer.text
    assert "/no/such/folder" in caplog.text


def test_what_is_offered_must_be_images(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    assert [one.name for one in offered([str(tmp_path)], ImageLimits())] == ["a.png"]
    (tmp_path / "b.png").write_bytes(b"text")
    with pytest.raises(ImageError, match=r"b\.png"):
        offered([str(tmp_path)], ImageLimits())

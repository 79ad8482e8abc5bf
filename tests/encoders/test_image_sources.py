"""Sources of images: limits on bytes, names, and http(s) with a server that misbehaves."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from textlens.encoders.image_sources import ImageError, ImageLimits, display_name
from textlens.encoders.images import load_image, load_images
from textlens.errors import InputError

from .pictures import RED, encode, pixels


@pytest.fixture
def red_png() -> bytes:
    return encode(Image.new("RGB", (2, 1), RED))


def test_byte_limit_for_every_source(tmp_path: Path, red_png: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(red_png)
    data_url = "data:image/png;base64," + base64.b64encode(red_png).decode()
    exact, too_small = ImageLimits(max_bytes=len(red_png)), ImageLimits(max_bytes=len(red_png) - 1)
    for source in (path, red_png, data_url, f"data:,{quote(red_png)}"):
        assert load_image(source, limits=exact).size == (2, 1)
        with pytest.raises(ImageError, match=f"over the limit of {len(red_png) - 1} bytes"):
            load_image(source, limits=too_small)


def test_limits_must_be_positive() -> None:
    with pytest.raises(InputError, match="max_pixels is 0"):
        ImageLimits(max_pixels=0)
    with pytest.raises(InputError, match="timeout_seconds is nan"):
        ImageLimits(timeout_seconds=float("nan"))
    assert ImageLimits(max_redirects=0).max_redirects == 0


def test_display_names() -> None:
    assert display_name("data:image/png;base64,iVBORw0KGgo") == "data:image/png;base64,…"
    assert display_name(Path("a/b.png")) == "a/b.png"
    assert display_name(b"1234") == "<4 bytes>"
    assert display_name(Image.new("L", (3, 2))) == "<image 3x2 L>"
    assert len(display_name("x" * 10_000)) == 1024


class Handler(BaseHTTPRequestHandler):
    """/image, /hops/N (N redirects to /image), /long (endless), /drip (endless and slow), /to-file; all else is 404."""

    body = b""

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        _, page, *rest = self.path.split("/")
        if page == "image":
            self.answer(200, {"Content-Length": str(len(self.body))}, self.body)
        elif page == "hops":
            left = int(rest[0])
            self.answer(302, {"Location": f"/hops/{left - 1}" if left > 1 else "/image"})
        elif page == "to-file":
            self.answer(302, {"Location": "file:///etc/hostname"})
        elif page in ("long", "drip"):
            self.answer(200, {})
            self.write_on(b"x" * (100_000 if page == "long" else 1), 0 if page == "long" else 0.05)
        else:
            self.answer(404, {})

    def write_on(self, chunk: bytes, pause: float) -> None:
        try:
            while not self.server.stop.wait(pause):  # type: ignore[attr-defined]
                self.wfile.write(chunk)
        except OSError:
            return  # the client hung up, as it should

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(red_png: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Handler, "body", red_png)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.stop.set()  # type: ignore[attr-defined]
    http.shutdown()
    http.server_close()


def test_http_only_with_the_switch(server: str) -> None:
    assert pixels(load_image(f"{server}/image", allow_network=True)) == [RED, RED]
    with pytest.raises(ImageError, match="allow_network=True"):
        load_image(f"{server}/image")
    assert [result.error is None for result in load_images([f"{server}/image"], allow_network=True)] == [True]


def test_http_limits_and_failures(server: str) -> None:
    def error(page: str, **limits: float) -> str:
        with pytest.raises(ImageError) as caught:
            load_image(f"{server}/{page}", allow_network=True, limits=ImageLimits(**limits))  # type: ignore[arg-type]
        return str(caught.value)

    assert load_image(f"{server}/hops/2", allow_network=True, limits=ImageLimits(max_redirects=2)).size == (2, 1)
    assert "redirects" in error("hops/3", max_redirects=2)
    assert "over the limit of 20 bytes" in error("image", max_bytes=20)
    assert "over the limit of 300,000 bytes" in error("long", max_bytes=300_000)
    assert re.search("longer than 0.5 seconds|timed out", error("drip", timeout_seconds=0.5))
    assert "404" in error("missing")
    assert "cannot be fetched" in error("to-file")
    with pytest.raises(ImageError, match="cannot be fetched"):
        load_image("http://127.0.0.1:1/x.png", allow_network=True)
    with pytest.raises(ImageError, match="cannot be fetched"):
        load_image("http://[bad/x.png", allow_network=True)

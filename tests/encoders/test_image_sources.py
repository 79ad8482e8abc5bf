"""Sources of images: limits on bytes, names, and http(s) with servers that misbehave or are none of the public's."""

from __future__ import annotations

import base64
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import httpcore
import pytest
from PIL import Image
from textlens.encoders.image_sources import ImageError, ImageLimits, display_name
from textlens.encoders.images import load_image, load_images
from textlens.encoders.loading import downloads
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@host/a.png", "http://host/a.png"),
        ("HTTPS://secret@host:8/a@1.png?b=@", "HTTPS://host:8/a@1.png?b=@"),
        ("http://user:sec@ret@host/a.png", "http://host/a.png"),
        ("http://user:sec/ret@host/a.png", "http://host/a.png"),
        ("http:////user:secret@host/a.png", "http://host/a.png"),
        ("ftp://user:secret@host/", "ftp://host/"),
        ("http://host:8080/x@1/a.png", "http://host:8080/x@1/a.png"),
        ("http://host/x:y@1/a.png", "http://host/x:y@1/a.png"),
        ("http://[::1]:80/x@1", "http://[::1]:80/x@1"),
    ],
)
def test_users_and_passwords_are_not_shown(url: str, shown: str) -> None:
    assert display_name(url) == shown
    with pytest.raises(ImageError) as caught:
        load_image(url)
    assert "secret" not in str(caught.value)


class Handler(BaseHTTPRequestHandler):
    """/image, /hops/N (N redirects to /image), /long (endless), /drip (endless and slow), /to-file, /to?URL, /headers
    (endless and slow), /closed (for those with a password), /rubbish; all else is 404. `asked` holds the paths."""

    body = b""
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.path)
        _, page, *rest = re.split("[/?]", self.path, maxsplit=2)
        if page == "image":
            self.answer(200, {"Content-Length": str(len(self.body))}, self.body)
        elif page == "hops":
            left = int(rest[0])
            self.answer(302, {"Location": f"/hops/{left - 1}" if left > 1 else "/image"})
        elif page == "to-file":
            self.answer(302, {"Location": "file:///etc/hostname"})
        elif page == "to":
            self.answer(302, {"Location": rest[0]})
        elif page == "closed":
            known = self.headers["Authorization"] == f"Basic {base64.b64encode(b'user:secret').decode()}"
            self.answer(200 if known else 401, {}, self.body if known else b"")
        elif page == "rubbish":
            self.wfile.write(b"<script>alert(1)</script>\r\n\r\n")
        elif page == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            self.write_on(b"x", 0.05)
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
    monkeypatch.setattr(Handler, "asked", [])
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.stop.set()  # type: ignore[attr-defined]
    http.shutdown()
    http.server_close()


def test_http_only_with_the_switch(server: str) -> None:
    assert pixels(load_image(f"{server}/image", allow_network="private")) == [RED, RED]
    with pytest.raises(ImageError, match="allow_network=True"):
        load_image(f"{server}/image")
    with pytest.raises(ImageError, match="--allow-private-network"):
        load_image(f"{server}/image", allow_network=True)
    assert [result.error is None for result in load_images([f"{server}/image"], allow_network="private")] == [True]
    assert Handler.asked == ["/image", "/image"]


def test_http_limits_and_failures(server: str) -> None:
    def error(page: str, **limits: float) -> str:
        start = time.monotonic()
        with pytest.raises(ImageError) as caught:
            load_image(f"{server}/{page}", allow_network="private", limits=ImageLimits(**limits))  # type: ignore[arg-type]
        assert time.monotonic() - start < 10
        return str(caught.value)

    assert load_image(f"{server}/hops/2", allow_network="private", limits=ImageLimits(max_redirects=2)).size == (2, 1)
    assert "redirects" in error("hops/3", max_redirects=2)
    assert "over the limit of 20 bytes" in error("image", max_bytes=20)
    assert "over the limit of 300,000 bytes" in error("long", max_bytes=300_000)
    assert "longer than 0.5 seconds" in error("drip", timeout_seconds=0.5)
    assert "longer than 0.5 seconds" in error("headers", timeout_seconds=0.5)
    assert "404" in error("missing")
    assert "cannot be fetched" in error("to-file")
    assert "script" not in error("rubbish")
    assert "cannot be fetched" in error("to?http://[bad/x.png")
    with pytest.raises(ImageError, match="cannot be fetched"):
        load_image("http://127.0.0.1:1/x.png", allow_network="private")
    with pytest.raises(ImageError, match="cannot be fetched"):
        load_image("http://[bad/x.png", allow_network=True)


def test_downloads_are_decoded_within_a_limit(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "body", b"P3 100 100 255\n" + b"#\n" * 400_000)
    with pytest.raises(ImageError, match=r"longer than 0\.3 seconds"):
        load_image(f"{server}/image", allow_network="private", limits=ImageLimits(decode_seconds=0.3))


def test_a_password_goes_to_its_own_host_alone(server: str) -> None:
    host = server.removeprefix("http://")
    assert load_image(f"http://user:secret@{host}/closed", allow_network="private").size == (2, 1)
    other = host.replace("127.0.0.1", "localhost")
    with pytest.raises(ImageError, match="401") as caught:
        load_image(f"http://user:secret@{host}/to?http://{other}/closed", allow_network="private")
    assert "secret" not in str(caught.value)


# What leads to this machine, by whatever spelling; {} is the port of a server there.
LOOPBACK = [
    "127.0.0.1:{}",
    "127.1:{}",
    "127.0.1:{}",
    "2130706433:{}",
    "0x7f000001:{}",
    "0x7f.1:{}",
    "0177.0.0.1:{}",
    "017700000001:{}",
    "0:{}",
    "0.0.0.0:{}",
    "localhost:{}",
    "LocalHost:{}",
    "localhost.:{}",
    "user:word@localhost:{}",
    "１２７.０.０.１:{}",
    "①②⑦.⓪.⓪.①:{}",
    "127。0。0。1:{}",
    "%31%32%37.0.0.1:{}",
    "[::1]:{}",
    "[0:0:0:0:0:0:0:1]:{}",
    "[::]:{}",
    "[::ffff:127.0.0.1]:{}",
    "[::ffff:7f00:1]:{}",
    "[::127.0.0.1]:{}",
    "[64:ff9b::127.0.0.1]:{}",
    "[2002:7f00:1::]:{}",
]
ELSEWHERE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "[ff02::1]",
    "[2001:db8::1]",
    "[2001:0:7f00:1::]",
    "[3fff::1]",
]


@pytest.mark.parametrize("by_redirect", [False, True])
def test_only_public_addresses_are_fetched(
    server: str, by_redirect: bool, monkeypatch: pytest.MonkeyPatch, red_png: bytes
) -> None:
    port = server.rpartition(":")[2]
    limits = ImageLimits(timeout_seconds=2)
    if by_redirect:  # the test's server stands for a public one
        real = downloads.is_public
        monkeypatch.setattr(downloads, "is_public", lambda address: address == "127.0.0.1" or real(address))
    fetched, refused = [], 0
    for place in [*LOOPBACK, *ELSEWHERE]:
        for scheme in ("http", "https"):
            url = f"{scheme}://{place.format(port)}/image"
            if by_redirect and "127.0.0.1" in {found[4][0] for found in resolved(place.format(port))}:
                continue
            try:
                load_image(f"{server}/to?{quote(url, safe=':/@[]%')}" if by_redirect else url,
                           limits=limits, allow_network=True)  # fmt: skip
                fetched.append(url)
            except ImageError as error:
                refused += "private network" in str(error)
                if not re.search("private network|cannot be fetched", str(error)):
                    fetched.append(url)
    assert fetched == []
    assert refused >= 60  # others have no address at all where there is no IPv6
    assert set(Handler.asked) <= ({path for path in Handler.asked if path.startswith("/to?")} if by_redirect else set())


def resolved(place: str) -> list:
    host = place.rpartition("@")[2].rpartition(":")[0] if not place.endswith("]") else place
    try:
        return socket.getaddrinfo(host.strip("[]"), 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("192.0.1.1", True),
        ("100.128.0.1", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("::8.8.8.8", False),
        ("fe80::1%1", False),
        ("2606:4700::1111%1", False),
        ("100.127.255.255", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert downloads.is_public(address) == public


def test_what_was_checked_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is asked first, and this machine when it is asked again."""
    answers, connected = [["1.1.1.1"], ["127.0.0.1"], ["1.1.1.1", "10.0.0.1"]], []

    def resolve(host: str, *_: object, **__: object) -> list:
        assert host == "rebind.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in answers.pop(0)]

    def connect(self: object, host: str, port: int, *_: object, **__: object) -> None:
        connected.append((host, port))
        raise httpcore.ConnectError("refused")

    monkeypatch.setattr(downloads.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    for message in ("refused", "private network", "private network"):
        with pytest.raises(ImageError, match=message):
            load_image("http://rebind.test/a.png", allow_network=True)
    assert connected == [("1.1.1.1", 80)]


def test_a_proxy_is_asked_only_with_private_addresses(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(ImageError, match="404"):  # the server has no such page as http://host.invalid/a.png
        load_image("http://host.invalid/a.png", allow_network="private")
    assert len(Handler.asked) == 1
    with pytest.raises(ImageError, match="proxy of the environment is used with --allow-private-network only"):
        load_image("http://host.invalid/a.png", allow_network=True)
    assert len(Handler.asked) == 1

"""Which images a language model may open: nothing but stored ids, true places below the roots, and data URLs."""

from __future__ import annotations

import base64
import faulthandler
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from textlens.agent.tools.image_access import ImageAccess
from textlens.agent.tools.image_store import ImageStore
from textlens.encoders.images import ImageError, ImageLimits
from textlens.encoders.loading.opened_files import read_below
from textlens.errors import InputError

RED, GREEN, SECRET = (255, 0, 0), (0, 255, 0), (1, 2, 3)


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A root with images, and secrets around it whose paths look much the same."""
    picture(tmp_path / "photos" / "red.png", RED)
    picture(tmp_path / "photos" / "trip" / "green cat.png", GREEN)
    picture(tmp_path / "photos-private" / "secret.png", SECRET)
    picture(tmp_path / "secret.png", SECRET)
    return tmp_path


@pytest.fixture
def access(place: Path) -> ImageAccess:
    return ImageAccess([place / "photos"])


@pytest.mark.parametrize(
    ("reference", "colour"),
    [("red.png", RED), ("./red.png", RED), ("trip/green cat.png", GREEN), ("trip//green cat.png", GREEN)],
)
def test_paths_below_a_root_are_opened(access, reference, colour):
    assert access.open(reference).getpixel((0, 0)) == colour


@pytest.mark.parametrize(
    "form",
    ['"{}"', "'{}'", "`{}`", "“{}”", "<{}>", " {} ", "{}\n", "' \"{}\" '", "file://{}", "file:{}", '"FILE://{}"'],
)
def test_names_in_quotes_and_blanks_are_forgiven(place, access, form):
    access.store.add(Image.new("RGB", (4, 4), GREEN), "image-1")
    for name, colour in (("red.png", RED), ("trip/green cat.png", GREEN), ("image-1", GREEN)):
        assert access.open(form.format(name)).getpixel((0, 0)) == colour
    for secret in ("../secret.png", f"{place}/secret.png", "none.png", "../photos-private/secret.png"):
        with pytest.raises(ImageError, match=r"refused|no such image"):
            access.open(form.format(secret))


def test_a_name_that_has_quotes_itself_comes_first(place, access):
    picture(place / "photos" / "green.png", GREEN).rename(place / "photos" / "'red.png'")
    assert access.open("'red.png'").getpixel((0, 0)) == GREEN
    data = base64.b64encode((place / "photos" / "red.png").read_bytes()).decode()
    assert access.open(f' "data:image/png;base64,{data}" ').getpixel((0, 0)) == RED
    with pytest.raises(ImageError, match=r"data URLs are refused|no such image"):
        ImageAccess(data_urls=False).open(f" data:image/png;base64,{data}")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("../secret.png", "paths with .."),
        ("trip/../../secret.png", "paths with .."),
        ("trip/../red.png", "paths with .."),
        ("..\\secret.png", "paths with .."),
        ("../photos-private/secret.png", "paths with .."),
        ("{place}/secret.png", "absolute paths"),
        ("{place}/photos/red.png", "absolute paths"),
        ("//server/share/secret.png", "absolute paths"),
        ("\\\\server\\share\\secret.png", "absolute paths"),
        ("C:\\secret.png", "absolute paths"),
        ("C:secret.png", "absolute paths"),
        ("file://{place}/secret.png", "addresses"),
        ("FILE:{place}/secret.png", "addresses"),
        (" file://localhost{place}/photos/red.png", "addresses"),
        ("ftp://example.com/a.png", "addresses"),
        ("s3://bucket/a.png", "addresses"),
        ("gopher://example.com/a.png", "addresses"),
        ("~/secret.png", "no such image"),
        ("$HOME/secret.png", "no such image"),
        ("%2e%2e/secret.png", "no such image"),
        ("missing.png", "no such image"),
        ("red.png/red.png", "no such image"),
        ("red.png\0.txt", "no usable path"),
        ("a" * 5000, "no such image|no usable path"),
        ("", "names no image"),
        (".", "names no image"),
        ("trip", "is a directory"),
    ],
)
def test_every_other_path_is_refused(place, access, reference, reason):
    with pytest.raises(ImageError, match=reason) as error:
        access.open(reference.format(place=place))
    told = str(error.value).replace(reference.format(place=place), "")
    assert str(place) not in told
    assert len(str(error.value)) < 3000


@pytest.fixture
def fetched(place: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that has an image, and what was asked of it."""
    asked: list[str] = []
    data = (place / "secret.png").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "form",
    [
        "http://{}/a.png",
        "HTTP://{}/a.png",
        "https://{}/a.png",
        " http://{}/a.png",
        "http:/{}/a.png",
        "//{}/a.png",
        "{}",
    ],
)
def test_no_network_address_is_ever_asked(access, fetched, form):
    host, asked = fetched
    with pytest.raises(ImageError, match=r"addresses|absolute|no such"):
        access.open(form.format(host))
    assert asked == []


def test_symbolic_links_are_judged_by_where_they_lead(place, access):
    root = place / "photos"
    links = {
        "file.png": place / "secret.png",
        "folder": place / "photos-private",
        "relative.png": Path("../secret.png"),
        "chain.png": root / "file.png",
        "gone.png": place / "nothing.png",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    for reference in ("file.png", "folder/secret.png", "folder/none.png", "relative.png", "chain.png", "gone.png"):
        with pytest.raises(ImageError, match="leads out of the allowed folders"):
            access.open(reference)
    (root / "inside.png").symlink_to(root / "red.png")
    assert access.open("inside.png").getpixel((0, 0)) == RED
    (root / "loop.png").symlink_to(root / "loop.png")
    with pytest.raises(ImageError, match=r"no usable path|no such image"):
        access.open("loop.png")


def test_a_root_may_itself_be_a_link(place):
    (place / "link").symlink_to(place / "photos")
    assert ImageAccess([place / "link"]).open("red.png").getpixel((0, 0)) == RED


def test_what_is_no_image_file_is_refused_without_waiting(place, access):
    os.mkfifo(place / "photos" / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        access.open("pipe.png")
    (place / "photos" / "notes.txt").write_text("the password is swordfish")
    with pytest.raises(ImageError, match="not an image") as error:
        access.open("notes.txt")
    assert "swordfish" not in str(error.value)
    assert str(place) not in str(error.value)


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="no opens by descriptor here")
@pytest.mark.parametrize("seconds", [2, pytest.param(30, marks=pytest.mark.soak)])
def test_what_is_swapped_between_check_and_open_is_not_read(place, access, seconds):
    """A file that is by turns an image, a link to a secret and a pipe; a folder that is by turns a link."""
    root, spare = place / "photos", place / "spare"
    spare.mkdir()
    picture(place / "photos-private" / "green cat.png", SECRET)
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for make in (
                lambda new: picture(new, RED),
                lambda new: new.symlink_to(place / "secret.png"),
                lambda new: picture(new, RED),
                os.mkfifo,
            ):
                make(spare / "new.png")
                os.replace(spare / "new.png", root / "red.png")
            os.rename(root / "trip", spare / "trip")
            (root / "trip").symlink_to(place / "photos-private")
            (root / "trip").unlink()
            os.rename(spare / "trip", root / "trip")

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    seen: Counter[object] = Counter()
    faulthandler.dump_traceback_later(seconds + 120, exit=True)  # a pipe that is waited for
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, small in (("red.png", RED), ("trip/green cat.png", GREEN)):
                try:
                    _, path = access._path(name)
                    data = read_below(access.roots[0], path, access.limits)
                    colour = Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))
                    seen["right" if colour == small else "secret"] += 1
                except ImageError:
                    seen["refused"] += 1
    finally:
        faulthandler.cancel_dump_traceback_later()
        ended.set()
        thread.join()
    print(dict(seen))
    assert seen["secret"] == 0
    assert seen["right"] > 0
    assert seen["refused"] > 0


def test_images_of_agents_are_decoded_within_a_limit(place):
    slow = b"P3 100 100 255\n" + b"#\n" * 400_000
    (place / "photos" / "slow.ppm").write_bytes(slow)
    limits = ImageLimits(decode_seconds=0.3)
    access = ImageAccess([place / "photos"], limits=limits, store=ImageStore(limits=limits))
    for reference in ("slow.ppm", f"data:;base64,{base64.b64encode(slow).decode()}"):
        with pytest.raises(ImageError, match=r"longer than 0\.3 seconds"):
            access.open(reference)
    for source in (slow, place / "photos" / "slow.ppm"):
        with pytest.raises(ImageError, match=r"longer than 0\.3 seconds"):
            access.store.add(source)


def test_several_roots_are_searched_in_order(place):
    picture(place / "more" / "red.png", GREEN)
    picture(place / "more" / "other.png", GREEN)
    access = ImageAccess([place / "photos", place / "more"])
    assert access.open("red.png").getpixel((0, 0)) == RED
    assert access.open("other.png").getpixel((0, 0)) == GREEN


def test_without_roots_no_path_is_opened(place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(ImageError, match="no such image"):
        ImageAccess().open("secret.png")


def test_data_urls_are_read_or_refused(place):
    data = base64.b64encode((place / "photos" / "red.png").read_bytes()).decode()
    for scheme in ("data", "DATA"):
        assert ImageAccess().open(f"{scheme}:image/png;base64,{data}").getpixel((0, 0)) == RED
    with pytest.raises(ImageError, match="data URLs are refused") as error:
        ImageAccess(data_urls=False).open(f"data:image/png;base64,{data}")
    assert data not in str(error.value)
    with pytest.raises(ImageError, match="not an image"):
        ImageAccess().open("data:,hello")


def test_limits_hold_for_every_kind(place):
    big = picture(place / "photos" / "big.png", RED, (64, 64))
    limits = ImageLimits(max_pixels=100)
    access = ImageAccess([place / "photos"], limits=limits)
    url = f"data:image/png;base64,{base64.b64encode(big.read_bytes()).decode()}"
    for reference in ("big.png", url):
        with pytest.raises(ImageError, match="over the limit"):
            access.open(reference)
    with pytest.raises(ImageError, match="over the limit"):
        ImageStore(limits=limits).add(big)
    assert access.open("red.png").size == (4, 4)


def test_errors_name_what_can_be_opened(access):
    access.store.add(Image.new("RGB", (4, 4)), "mine")
    with pytest.raises(ImageError, match=r"known images: mine, red\.png") as error:
        access.open("rad.png")
    assert "a path below the allowed folders or a data URL" in str(error.value)


def test_ids_are_looked_up_and_never_taken_for_paths(place):
    store = ImageStore()
    assert store.add(Image.new("RGB", (4, 4), GREEN)) == "image-1"
    assert store.add(place / "photos" / "red.png", "http://127.0.0.1/mine") == "http://127.0.0.1/mine"
    access = ImageAccess(store=store)
    assert access.open("image-1").getpixel((0, 0)) == GREEN
    assert access.open("http://127.0.0.1/mine").getpixel((0, 0)) == RED
    with pytest.raises(ImageError, match="no such image"):
        access.open("image-2")


def test_the_store_keeps_images_whatever_becomes_of_their_source(place):
    file, image = place / "secret.png", Image.new("RGB", (4, 4), RED)
    store = ImageStore()
    ids = [store.add(source) for source in (file, str(file), file.read_bytes(), image)]
    file.unlink()
    image.putpixel((0, 0), GREEN)
    assert [store.get(id).getpixel((0, 0)) for id in ids] == [SECRET, SECRET, SECRET, RED]
    with pytest.raises(ImageError, match="no such file"):
        store.add(file)
    with pytest.raises(ImageError, match="network"):
        store.add("http://127.0.0.1:9/a.png")


def test_the_store_is_bounded_and_never_gives_an_id_twice():
    store = ImageStore("drawn", capacity=2)
    ids = [store.add(Image.new("RGB", (n + 1, 1))) for n in range(3)]
    assert ids == ["drawn-1", "drawn-2", "drawn-3"]
    assert store.ids == ["drawn-2", "drawn-3"]
    assert store.get("drawn-1") is None
    store.remove("drawn-3")
    store.remove("drawn-3")
    assert store.add(Image.new("RGB", (1, 1))) == "drawn-4"
    with pytest.raises(InputError, match="already"):
        store.add(Image.new("RGB", (1, 1)), "drawn-4")


def test_wrong_settings_are_refused(place):
    with pytest.raises(InputError, match="no folder"):
        ImageAccess([place / "nowhere"])
    with pytest.raises(InputError, match="list of folders"):
        ImageAccess(str(place))
    with pytest.raises(InputError, match="capacity"):
        ImageStore(capacity=0)

"""Images of strangers: decoding that ends, in processes that are ended, and memory that is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from PIL import Image, features
from textlens.encoders import images as loading
from textlens.encoders.image_sources import ImageError, ImageLimits
from textlens.encoders.images import batches, load_image, load_images
from textlens.encoders.loading.decoding_process import _helpers
from textlens.encoders.loading.opened_files import read_regular
from textlens.encoders.signatures import FORMATS

from .hostile_pictures import hostile_files
from .pictures import RED, encode, images

NARROW = ImageLimits(decode_seconds=0.3)


@pytest.mark.parametrize("format", FORMATS)
def test_the_pixels_are_those_of_trusted_images(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encode(images(1)[0], format)
    apart, here = load_image(data, trusted=False), load_image(data)
    assert (apart.mode, apart.size, apart.tobytes(), apart.info) == (here.mode, here.size, here.tobytes(), {})
    apart.putpixel((0, 0), RED)
    for damaged in (data[: len(data) // 2], b"no image", b""):
        errors = []
        for trusted in (True, False):
            with pytest.raises(ImageError) as caught:
                load_image(damaged, trusted=trusted)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "name", ["ppm: comments", "tiff: 1 million strips", "jpeg: fill bytes", "png: compressed texts"]
)
def test_decoding_ends(name: str) -> None:
    data = hostile_files()[name]()
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"longer than 0.3 seconds.*decode_seconds"):
        load_image(data, limits=NARROW, trusted=False)
    assert time.monotonic() - start < 10  # a helper process may have to start
    assert load_image(encode(Image.new("RGB", (2, 1), RED)), trusted=False).size == (2, 1)


def test_limits_hold_in_the_other_process() -> None:
    with pytest.raises(ImageError, match=r"101 x 1 = 101 pixels, over the limit of 100"):
        load_image(encode(Image.new("RGB", (101, 1))), limits=ImageLimits(max_pixels=100), trusted=False)


def test_a_decoder_that_crashes_loses_its_image_alone() -> None:
    good = encode(Image.new("RGB", (2, 1), RED))

    def decode_in_a_killed_helper() -> None:
        with _helpers.borrowed() as helper:
            helper._process.kill()
            helper.decode(good, ImageLimits())

    with pytest.raises(ImageError, match="crashed"):
        decode_in_a_killed_helper()
    with _helpers.borrowed() as helper:
        pass
    helper._process.kill()
    helper._process.wait()
    assert load_image(good, trusted=False).size == (2, 1)


PROGRAM = """
import os, sys
from PIL import Image
from textlens.encoders.images import load_image
from textlens.encoders.loading import decoding_process
data = open(sys.argv[1], "rb").read()
load_image(data, trusted=False)
if os.fork() == 0:
    os._exit(load_image(data, trusted=False).size != (2, 1))
(_, status), size = os.wait(), load_image(data, trusted=False).size
print(status == 0 and size == (2, 1), decoding_process._helpers._idle[0]._process.pid, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
@pytest.mark.parametrize("end", ["done", "killed"])
def test_helpers_end_with_their_parent_and_are_not_shared_by_forks(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.png").write_bytes(encode(Image.new("RGB", (2, 1), RED)))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.png"), end]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout.split()
    assert told[0] == "True"
    for _ in range(100):
        if not Path(f"/proc/{told[1]}/cmdline").exists() or not Path(f"/proc/{told[1]}/cmdline").read_bytes():
            return
        time.sleep(0.1)
    pytest.fail(f"process {told[1]} is still there")


# --- memory


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many decoded images there are."""
    known: set[int] = set()
    decode, numbers = loading.decode, count()

    def kept(*arguments: object) -> Image.Image:
        image = decode(*arguments)  # type: ignore[arg-type]
        number = next(numbers)
        known.add(number)
        weakref.finalize(image, known.discard, number)
        return image

    monkeypatch.setattr(loading, "decode", kept)
    return lambda: len(known)


@pytest.mark.parametrize("workers", [1, 4])
def test_large_images_wait_for_their_consumer(alive: Callable[[], int], workers: int) -> None:
    data = encode(Image.new("1", (1000, 500)))  # 1.5 MB of pixels
    most = 0
    for one in load_images([data] * 20, workers=workers, ahead=16, in_flight=4_600_000):
        time.sleep(0.02)
        most = max(most, alive())
        assert one.error is None
    assert 3 <= most <= 5  # three have room, one more may be the consumer's, one the next


def test_small_images_do_not_wait(alive: Callable[[], int]) -> None:
    results = load_images([encode(Image.new("1", (100, 100)))] * 20, workers=2, ahead=10)
    next(results)
    for _ in range(100):
        if alive() == 11:
            break
        time.sleep(0.05)
    assert alive() == 11
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("trusted", [True, False])
def test_threads_that_wait_for_room_end_with_the_consumer(trusted: bool) -> None:
    results = load_images([encode(Image.new("1", (1000, 500)))] * 20, workers=4, in_flight=1, trusted=trusted)
    assert next(results).error is None
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 10


def test_loaders_that_wait_hold_no_helpers() -> None:
    """Two loaders whose images wait for room, and more workers than there are helpers."""
    large = encode(Image.new("1", (1000, 500)))
    loaders = [load_images([large] * 12, workers=8, in_flight=1, trusted=False) for _ in range(2)]
    for pair in zip(*loaders, strict=True):
        assert [one.error for one in pair] == [None, None]
        assert load_image(large, trusted=False).size == (1000, 500)


@pytest.mark.parametrize("broken", ["sources", "load"])
def test_threads_that_wait_for_room_end_with_an_error(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    large = encode(Image.new("1", (1000, 500)))
    decode, numbers = loading.decode, count()

    def decoded(*arguments: object) -> Image.Image:
        if broken == "load" and next(numbers) == 3:
            raise RuntimeError("broken")
        return decode(*arguments)  # type: ignore[arg-type]

    def sources() -> Iterator[bytes]:
        yield from [large] * 8
        if broken == "sources":
            raise RuntimeError("broken")

    monkeypatch.setattr(loading, "decode", decoded)
    with pytest.raises(RuntimeError, match="broken"):
        list(load_images(sources(), workers=4, in_flight=1))


def test_batches_end_by_number_and_by_pixels() -> None:
    sides = [10, 10, 10, 1000, 10, 10]
    loaded = list(load_images([Image.new("1", (side, side)) for side in sides]))
    assert [len(batch) for batch in batches(loaded, 2)] == [2, 2, 2]
    assert [len(batch) for batch in batches(loaded, 32, in_flight=3_000_000)] == [4, 2]
    assert [one for batch in batches(loaded, 32, in_flight=1) for one in batch] == loaded
    assert list(batches([], 3)) == []


# --- opens


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero", "/dev/tty"):
        with pytest.raises(ImageError):
            read_regular(path, ImageLimits())

"""Long tests of images of strangers: `make soak`. SOAK_SECONDS sets how long the fuzzing runs, SOAK_SEED its seed."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter

import pytest
from textlens.encoders.image_sources import ImageError, ImageLimits
from textlens.encoders.images import load_image

from .hostile_pictures import hostile_files
from .pictures import encode, images
from .test_images import DAMAGES, good_files

pytestmark = pytest.mark.soak

SLACK = 5.0  # seconds beyond the limit: a new helper process, on a busy machine


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A part of the file many times over, as markers, chunks and strips may come."""
    start = rng.randrange(len(data))
    part = data[start : start + rng.choice((1, 4, 12, 12, 40, 400))]
    return data[:start] + part * rng.choice((3, 100, 10_000, 100_000)) + data[start + len(part) :]


def enlarge(data: bytes, rng: random.Random) -> bytes:
    """Sizes and counts near the start become large."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(max(1, min(160, len(damaged) - 4)))
        size = rng.choice((2, 4))
        number = rng.choice((255, 4096, 8000, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1)) % 256**size
        damaged[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))
    return bytes(damaged)


def test_fuzzed_images_give_pixels_or_an_error_in_time() -> None:
    seconds, seed = float(os.environ.get("SOAK_SECONDS", "60")), int(os.environ.get("SOAK_SEED", time.time_ns()))
    print(f"SOAK_SEED={seed}")
    rng, limits, outcomes = random.Random(seed), ImageLimits(decode_seconds=2.0), Counter[str]()
    files = [*good_files().values(), encode(images(1)[0], "AVIF"), encode(images(1)[0], "PPM")]
    slowest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = rng.choice(files)
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = rng.choice((*DAMAGES, repeat, repeat, enlarge, enlarge))(data, rng)[:4_000_000] or b"\0"
        start = time.monotonic()
        try:
            image = load_image(data, limits=limits, trusted=False)
        except ImageError as error:
            kind = next((one for one in ("longer than", "crashed", "memory") if one in str(error)), "error")
            outcomes[kind] += 1
        else:
            assert image.mode == "RGB"
            outcomes["image"] += 1
        slowest = max(slowest, time.monotonic() - start)
        assert slowest < limits.decode_seconds + SLACK, f"{slowest:.1f} s; SOAK_SEED={seed}"
    print(f"{outcomes.total()} files in {seconds:g} s, the slowest {slowest:.1f} s: {dict(outcomes)}")
    assert outcomes["image"] > 0
    assert outcomes["error"] > 0


@pytest.mark.parametrize("name", hostile_files())
def test_decoding_of_every_hostile_file_ends(name: str) -> None:
    data, start = hostile_files()[name](), time.monotonic()
    try:
        assert load_image(data, trusted=False).mode == "RGB"
    except ImageError as error:
        print(error)
    assert time.monotonic() - start < ImageLimits().decode_seconds + SLACK


BATCH = """
import io, resource, sys
from PIL import Image
from textlens.encoders import Description
from textlens.encoders.pipeline import describe_stream
class Sizes:
    def describe(self, images):
        return [Description(str(image.size), (), "sizes") for image in images]
file = io.BytesIO()
Image.new("1", (8000, 8000)).save(file, "PNG")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = list(describe_stream([file.getvalue()] * 20, {"sizes": Sizes()}))
assert all(row.error is None for row in rows), rows
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="units of ru_maxrss")
def test_a_batch_of_large_images_is_bounded_in_memory() -> None:
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    made = subprocess.run([sys.executable, "-c", BATCH], capture_output=True, text=True, check=True, timeout=600)
    print(f"{int(made.stdout) / 1e9:.2f} GB")
    assert int(made.stdout) < 1.6e9  # 20 at once are 3.8e9

"""PNG files with more text, or a larger colour profile, than Pillow reads are described like any other."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from textlens.encoders.images import load_image
from textlens.encoders.png_chunks import without_long_texts

LONG = "x" * (2**20 + 1)
RED = Image.new("RGB", (6, 4), "red")


def png(info: PngInfo | None = None, **settings: object) -> bytes:
    made = io.BytesIO()
    RED.save(made, "PNG", pnginfo=info, **settings)
    return made.getvalue()


def texts(*, zip: bool, international: bool, number: int = 1, text: str = LONG) -> PngInfo:
    info = PngInfo()
    for i in range(number):
        (info.add_itxt if international else info.add_text)(f"note {i}", text, zip=zip)
    return info


@pytest.mark.parametrize(
    "data",
    [
        png(texts(zip=True, international=False)),
        png(texts(zip=True, international=True)),
        png(texts(zip=False, international=False, number=80)),
        png(texts(zip=True, international=False, number=80, text="x" * 2**20)),
        png(icc_profile=bytes(2**21)),
    ],
    ids=["compressed", "international", "in all", "compressed in all", "colour profile"],
)
def test_long_texts_and_profiles_are_left_out(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  Pillow's own limit, without ours
        Image.open(io.BytesIO(data)).load()
    assert load_image(data).getcolors() == [(24, (255, 0, 0))]


def test_short_texts_stay_as_they_are() -> None:
    data = png(texts(zip=True, international=False, text="rotated"))
    assert without_long_texts(data) is data
    orientation = Image.Exif()
    orientation[274] = 6
    turned = png(texts(zip=True, international=False), exif=orientation.tobytes())
    assert load_image(turned).size == (4, 6)


@pytest.mark.parametrize("cut", [9, 20, 40, -5])
def test_a_damaged_file_is_returned_from_the_damage_on(cut: int) -> None:
    data = png(texts(zip=True, international=False))
    assert without_long_texts(data[:cut]) in (data[:cut], without_long_texts(data)[:cut])


def test_text_that_does_not_unpack_counts_as_it_is() -> None:
    content = b"note\0\0" + b"no zlib"
    chunk = len(content).to_bytes(4, "big") + b"zTXt" + content + zlib.crc32(b"zTXt" + content).to_bytes(4, "big")
    data = png()
    assert without_long_texts(data[:33] + chunk + data[33:]) == data[:33] + chunk + data[33:]


def test_what_is_no_png_is_returned() -> None:
    assert without_long_texts(b"GIF89a") == b"GIF89a"

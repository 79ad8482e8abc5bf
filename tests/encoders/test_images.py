"""Images of every kind, damaged and hostile ones too: RGB with exact pixels, or one `ImageError`."""

from __future__ import annotations

import base64
import faulthandler
import io
import os
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image, ImageFile, features
from textlens.encoders.images import (
    ImageError,
    ImageLimits,
    display_name,
    expand_images,
    folders_inside,
    load_image,
    load_images,
)
from textlens.encoders.signatures import FORMATS
from textlens.errors import InputError

from .pictures import BLACK, BLUE, GREEN, RED, WHITE, encode, images, pixels


def row(mode: str, values: list) -> Image.Image:
    """An image one pixel high."""
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, *extra: bytes) -> bytes:
    """A PNG file written by hand, for what Pillow does not write: any header, any chunks."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data


@pytest.fixture
def red_png() -> bytes:
    return encode(Image.new("RGB", (2, 1), RED))


# --- sources


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path, red_png: bytes) -> None:
    path = tmp_path / "réd [1].png"
    path.write_bytes(red_png)
    encoded = base64.b64encode(red_png).decode()
    sources = [
        path,
        str(path),
        red_png,
        Image.open(path),
        f"data:image/png;base64,{encoded}",
        f"DATA:;base64,{encoded.rstrip('=')}",
        f"data:image/png;base64,{quote(encoded)}%0A",
        f"data:image/png,{quote(red_png)}",
    ]
    assert [pixels(load_image(source)) for source in sources] == [[RED, RED]] * len(sources)


def test_callers_image_stays_as_it_is() -> None:
    image = row("RGBA", [(*RED, 255), (*BLUE, 0)])
    exif = image.getexif()
    exif[0x0112] = 3
    assert pixels(load_image(image)) == [WHITE, RED]
    assert image.mode == "RGBA"
    assert image.getpixel((1, 0)) == (*BLUE, 0)
    assert image.getexif()[0x0112] == 3
    rgb = Image.new("RGB", (1, 1), RED)
    load_image(rgb).putpixel((0, 0), BLUE)
    assert rgb.getpixel((0, 0)) == RED


# --- conversions


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (row("1", [0, 255]), "PNG", [BLACK, WHITE]),
        (row("L", [0, 100, 255]), "PNG", [BLACK, (100,) * 3, WHITE]),
        (row("LA", [(100, 255), (100, 0), (0, 128)]), "PNG", [(100,) * 3, WHITE, (127,) * 3]),
        (row("RGB", [RED, GREEN]), "BMP", [RED, GREEN]),
        (row("RGBA", [(*RED, 255), (*RED, 0), (*RED, 128)]), "PNG", [RED, WHITE, (255, 127, 127)]),
        (row("RGBA", [(*RED, 255), (*RED, 0)]), "TIFF", [RED, WHITE]),
        (row("CMYK", [(0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]), "TIFF", [RED, BLACK, WHITE]),
        (row("I;16", [0, 257 * 100, 65535]), "PNG", [BLACK, (100,) * 3, WHITE]),
        (row("I;16", [0, 257 * 100, 257 * 100 + 200, 65535]), "TIFF", [BLACK, (100,) * 3, (101,) * 3, WHITE]),
        (row("I;16B", [0, 257 * 100, 65535]), "TIFF", [BLACK, (100,) * 3, WHITE]),
        (row("I", [0, 257 * 100, 65535]), "TIFF", [BLACK, (100,) * 3, WHITE]),
        (row("I", [-500, 0, 500]), "TIFF", [BLACK, (128,) * 3, WHITE]),
        (row("I", [0, 7, 255]), "TIFF", [BLACK, (7,) * 3, WHITE]),
        (row("F", [0.0, 0.2, 1.0]), "TIFF", [BLACK, (51,) * 3, WHITE]),
        (row("F", [0.0, 51.0, 255.0]), "TIFF", [BLACK, (51,) * 3, WHITE]),
        (row("F", [-2.0, -1.0, 3.0]), "TIFF", [BLACK, (51,) * 3, WHITE]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_rgb(image: Image.Image, format: str, expected: list) -> None:
    assert pixels(load_image(encode(image, format))) == expected
    assert pixels(load_image(image)) == expected


def test_premultiplied_alpha() -> None:
    assert pixels(load_image(row("RGBA", [(*RED, 255), (*RED, 0)]).convert("RGBa"))) == [RED, WHITE]
    assert pixels(load_image(row("LA", [(100, 255), (100, 0)]).convert("La"))) == [(100,) * 3, WHITE]


def test_deep_grey_that_has_one_value_or_none() -> None:
    assert pixels(load_image(row("F", [-3.0, -3.0]))) == [BLACK, BLACK]
    with pytest.raises(ImageError, match="not finite"):
        load_image(row("F", [0.0, float("inf")]))


def test_palette_with_and_without_transparency() -> None:
    image = row("P", [0, 1, 2])
    image.putpalette([*RED, *GREEN, *BLUE])
    assert pixels(load_image(encode(image))) == [RED, GREEN, BLUE]
    assert pixels(load_image(encode(image, transparency=1))) == [RED, WHITE, BLUE]
    assert pixels(load_image(encode(image, transparency=bytes([255, 0, 128])))) == [RED, WHITE, (127, 127, 255)]
    assert pixels(load_image(encode(image, "GIF", transparency=2))) == [RED, GREEN, WHITE]


def test_transparent_colour_of_images_without_alpha() -> None:
    assert pixels(load_image(encode(row("RGB", [RED, GREEN]), transparency=RED))) == [WHITE, GREEN]
    assert pixels(load_image(encode(row("L", [9, 10]), transparency=9))) == [WHITE, (10,) * 3]
    grey16 = png(3, 1, 16, 0, struct.pack(">xHHH", 0, 257, 514), png_chunk(b"tRNS", struct.pack(">H", 257)))
    assert pixels(load_image(grey16)) == [BLACK, WHITE, (2, 2, 2)]


def test_16_bit_colour_png_and_ppm() -> None:
    colour = png(1, 1, 16, 2, struct.pack(">xHHH", 65535, 257 * 100, 0))
    assert pixels(load_image(colour)) == [(255, 100, 0)]
    assert pixels(load_image(b"P5 2 1 65535\n" + struct.pack(">HH", 257 * 100, 65535))) == [(100,) * 3, WHITE]
    assert pixels(load_image(b"P6 1 1 255\n\xff\x00\x00")) == [RED]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_and_many_page_files_give_the_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, GREEN, BLUE)]
    lossless = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    assert pixels(load_image(data)) == [RED] * 4


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_on_the_list_is_read(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = load_image(encode(Image.new("RGB", (16, 16), (200, 40, 90)), format))
    assert image.size == (16, 16)
    assert all(abs(got - put) < 8 for got, put in zip(image.getpixel((8, 8)), (200, 40, 90), strict=True))


# What a viewer shows of the stored [[R, G], [B, W]], row by row, for each EXIF orientation.
UPRIGHT = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_is_applied_once(orientation: int, format: str) -> None:
    # Blocks of 8 x 8 pixels, so that JPEG nearly keeps their colours.
    stored = Image.new("RGB", (2, 2))
    stored.putdata(UPRIGHT[1])
    stored = stored.resize((16, 16), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    data = encode(stored, format, exif=exif, **settings)
    image = load_image(data)
    corners = [image.getpixel(place) for place in ((4, 4), (12, 4), (4, 12), (12, 12))]
    closest = [min(UPRIGHT[1], key=lambda c: sum(abs(a - b) for a, b in zip(c, got, strict=True))) for got in corners]
    assert closest == UPRIGHT[orientation]
    assert pixels(load_image(image)) == pixels(image)
    assert pixels(load_image(Image.open(io.BytesIO(data)))) == pixels(image)


def test_orientation_swaps_width_and_height_and_nonsense_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_image(encode(Image.new("RGB", (3, 1)), exif=exif)).size == (1, 3)
    exif[0x0112] = 99
    assert load_image(encode(Image.new("RGB", (3, 1)), exif=exif)).size == (3, 1)
    assert load_image(encode(Image.new("RGB", (3, 1)), "JPEG", exif=b"Exif\0\0nonsense")).size == (3, 1)


# --- one loader for training and describing


def files_of_every_kind() -> dict[str, bytes]:
    colour = images(1, size=(24, 20))[0]
    noise = colour.convert("L")
    alpha = colour.copy()
    alpha.putalpha(noise)
    palette = colour.quantize(16)
    grey16 = Image.linear_gradient("L").convert("I;16").resize((24, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = {"exif": exif}
    return {
        "RGB": encode(colour, **turned),
        "RGBA": encode(alpha, **turned),
        "LA": encode(alpha.convert("LA")),
        "1": encode(noise.convert("1")),
        "P": encode(palette, **turned),
        "P, transparent": encode(palette, transparency=bytes(range(0, 240, 15)), **turned),
        "RGB, transparent": encode(colour, transparency=colour.getpixel((0, 0)), **turned),
        "I;16": encode(grey16, **turned),
        "I;16, transparent": png(2, 1, 16, 0, struct.pack(">xHH", 0, 257), png_chunk(b"tRNS", struct.pack(">H", 257))),
        "I;16 TIFF": encode(grey16, "TIFF"),
        "F TIFF": encode(noise.convert("F"), "TIFF"),
        "JPEG": encode(colour, "JPEG", **turned),
        "CMYK": encode(colour.convert("CMYK"), "JPEG"),
        "GIF": encode(palette, "GIF", transparency=3, save_all=True, append_images=[noise]),
        "WEBP": encode(alpha, "WEBP", **turned),
    }


@pytest.mark.parametrize(("kind", "data"), files_of_every_kind().items(), ids=files_of_every_kind())
def test_bytes_path_and_pillow_image_give_the_same_pixels(kind: str, data: bytes, tmp_path: Path) -> None:
    from datasets import Image as ImageFeature

    (tmp_path / "image").write_bytes(data)
    decoded = ImageFeature().decode_example({"bytes": data, "path": None})  # loaded, and upright
    lazy, loaded = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    loaded.load()
    expected = load_image(data)
    assert len(set(pixels(expected))) > 1
    for source in (tmp_path / "image", str(tmp_path / "image"), lazy, loaded, decoded, expected):
        found = load_image(source)
        assert (found.size, found.tobytes()) == (expected.size, expected.tobytes()), source


# --- errors


def bad_sources(folder: Path) -> dict[str, tuple[object, str]]:
    good = encode(Image.effect_noise((64, 64), 90).convert("RGB"))
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("I am not an image.")
    os.mkfifo(folder / "pipe.png")
    return {
        "missing": (folder / "no.png", "no such file"),
        "directory": (str(folder), "is a directory"),
        "below a file": (folder / "text.png" / "x.png", "cannot be read"),
        "null character": ("a\0b.png", "cannot be read"),
        "long name": ("x" * 5000, "cannot be read"),
        "pipe": (folder / "pipe.png", "not a regular file"),
        "empty file": (folder / "empty.png", "zero-sized"),
        "empty bytes": (b"", "zero-sized"),
        "empty string": ("", "empty string"),
        "text": (folder / "text.png", "not an image"),
        "truncated": (good[: len(good) // 2], "cut short"),
        "header alone": (good[:20], "cut short"),
        "truncated JPEG": (encode(Image.effect_noise((64, 64), 90), "JPEG")[:-900], "cut short"),
        "zero-sized PNG": (png(0, 5, 8, 2, b""), "zero-sized"),
        "zero-sized image": (Image.new("RGB", (0, 5)), "zero-sized"),
        "unsupported, known to Pillow": (
            encode(Image.new("RGB", (32, 32)), "ICO"),
            "ICO is an unsupported format.*PNG",
        ),
        "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>', "SVG is an unsupported"),
        "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is an unsupported|starts like HEIF"),
        "HTML": (b"<!DOCTYPE html><title>404</title>", "HTML is an unsupported"),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is an unsupported"),
        "other type": (42, "expected a path.*got int"),
        "file URL": ("file:///etc/hostname", "file:// URLs are refused"),
        "other URL": ("ftp://example.com/x.png", "ftp:// URLs are not read"),
        "network off": ("https://example.com/x.png", "allow_network=True"),
        "data URL without comma": ("data:image/png;base64", "not a data URL"),
        "data URL, bad base64": ("data:image/png;base64,@@@@", "not valid base64"),
        "data URL, no image": ("data:,hello", "not an image"),
    }


def test_each_bad_source_has_its_own_error(tmp_path: Path) -> None:
    for label, (source, message) in bad_sources(tmp_path).items():
        with pytest.raises(ImageError, match=message) as caught:
            load_image(source)  # type: ignore[arg-type]
        assert isinstance(caught.value, InputError), label
        assert str(caught.value).startswith(display_name(source)), label
        assert "\n" not in str(caught.value), label


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_files_are_never_passed_off_as_whole(format: str, kept: float) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encode(Image.effect_noise((64, 64), 90).convert("RGB"), format)
    with pytest.raises(ImageError, match=r"cut short"):
        load_image(data[: int(kept * len(data))])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path, red_png: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(red_png)
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


def test_decompression_bomb_is_refused_by_its_header() -> None:
    limits = ImageLimits(max_pixels=100)
    assert load_image(Image.new("RGB", (10, 10)), limits=limits).size == (10, 10)
    for source in (encode(Image.new("RGB", (101, 1))), Image.new("RGB", (101, 1))):
        with pytest.raises(ImageError, match=r"101 x 1 = 101 pixels, over the limit of 100;.*max_pixels"):
            load_image(source, limits=limits)
    lazy = Image.open(io.BytesIO(encode(Image.new("RGB", (101, 1)))))
    with pytest.raises(ImageError, match="over the limit"):
        load_image(lazy, limits=limits)
    assert lazy.tile, "the caller's lazy image was decoded before the limit was checked"


@pytest.mark.parametrize("side", [8_001, 10_000, 30_000, 2**31 - 1])
def test_large_bombs_neither_warn_nor_decode(side: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match="over the limit of 64,000,000"):
            load_image(png(side, side, 1, 0, b""))
    assert caught == []


def test_pixel_limit_can_be_raised_above_pillows_own() -> None:
    side = 13_500  # 182 million pixels: Image.open refuses them
    raw = bytes((side // 8 + 2) * side)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png(side, side, 1, 0, raw)))
    # The header passes; the picture is too big for a quick test to decode, so its data ends at once.
    with pytest.raises(ImageError, match="cut short"):
        load_image(png(side, side, 1, 0, b""), limits=ImageLimits(max_pixels=200_000_000))


def test_global_state_of_pillow_is_untouched(red_png: bytes) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    list(load_images([red_png, red_png[:30], png(9_000, 9_000, 1, 0, b"")]))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_torch_is_not_imported() -> None:
    code = "import sys, textlens.encoders.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- batches


def test_one_bad_image_never_loses_the_others(tmp_path: Path, red_png: bytes) -> None:
    bad = [source for source, _ in bad_sources(tmp_path).values()]
    sources = [item for source in bad for item in (red_png, source)] + [red_png]
    results = list(load_images(sources))  # type: ignore[arg-type]
    assert [result.name for result in results] == [display_name(source) for source in sources]
    assert [result.error is None for result in results] == [True, False] * len(bad) + [True]
    assert all(pixels(result.image) == [RED, RED] for result in results if result.image)
    assert all((result.image is None) == (result.error is not None) for result in results)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (3, 2), (4, 100)])
def test_order_is_kept(workers: int, ahead: int) -> None:
    sources = [Image.new("RGB", (1 + 37 * n % 101, 1)) for n in range(101)]
    sizes = [result.image.width for result in load_images(sources, workers=workers, ahead=ahead) if result.image]
    assert sizes == [source.width for source in sources]


def test_decoding_runs_ahead_only_so_far_and_stops_with_its_consumer(red_png: bytes) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield red_png

    results = load_images(endless(), workers=2, ahead=5)
    next(results)
    next(results)
    assert taken == 7
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("textlens-images")]


def test_one_lazy_image_many_times_in_a_batch() -> None:
    lazy = Image.open(io.BytesIO(encode(Image.effect_noise((256, 256), 90).convert("RGB"))))
    results = list(load_images([lazy] * 16, workers=4))
    assert [result.error for result in results] == [None] * 16
    assert len({result.image.tobytes() for result in results if result.image}) == 1


def test_workers_and_ahead_must_be_positive() -> None:
    with pytest.raises(InputError, match="ahead=0"):
        load_images([], ahead=0)
    with pytest.raises(InputError, match="workers=0"):
        load_images([], workers=0)


# --- names


def test_expand_images(tmp_path: Path, red_png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos/deep").mkdir(parents=True)
    Path("empty").mkdir()
    for name in ("b.PNG", "a.jpg", "c.webp", "notes.txt", ".hidden.png", "deep/d.png"):
        Path("photos", name).write_bytes(red_png)
    Path("odd[1].png").write_bytes(red_png)
    assert expand_images(["photos"]) == ["photos/a.jpg", "photos/b.PNG", "photos/c.webp"]
    assert expand_images(["photos"], recursive=True)[-1] == "photos/deep/d.png"
    assert folders_inside(["photos", "empty", "no.png"]) == ["photos/deep"]
    assert expand_images(["photos/*.[jw]*"]) == ["photos/a.jpg", "photos/c.webp"]
    assert expand_images(["photos/**/*.png"]) == ["photos/deep/d.png"]
    as_they_are = ["odd[1].png", "no.png", "no*.png", "empty", "data:,x*", "http://h/a?b=*", "a\0*", "", "x" * 9999]
    assert expand_images(as_they_are) == as_they_are
    assert expand_images(["photos/c.webp", "photos/a.jpg", "photos/a.jpg"])[1:] == ["photos/a.jpg"] * 2
    assert expand_images([]) == []


# --- fuzz: damaged files


def good_files() -> dict[str, bytes]:
    noise = Image.effect_noise((24, 20), 80)
    colour = Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180)))
    alpha = colour.copy()
    alpha.putalpha(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    return {
        "png": encode(colour, exif=exif),
        "png-palette": encode(colour.quantize(16), transparency=bytes(range(0, 240, 15))),
        "png-16": encode(Image.linear_gradient("L").convert("I;16").resize((24, 20))),
        "png-animated": encode(colour, **frames),
        "jpeg": encode(colour, "JPEG", exif=exif),
        "jpeg-progressive": encode(colour, "JPEG", progressive=True),
        "jpeg-cmyk": encode(colour.convert("CMYK"), "JPEG"),
        "gif": encode(colour, "GIF", **frames),
        "webp": encode(colour, "WEBP", exif=exif),
        "webp-lossless": encode(alpha, "WEBP", lossless=True),
        "webp-animated": encode(colour, "WEBP", **frames),
        "bmp": encode(colour, "BMP"),
        "bmp-palette": encode(colour.quantize(16), "BMP"),
        "tiff": encode(colour, "TIFF", exif=exif),
        "tiff-lzw": encode(alpha, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": encode(noise.convert("F"), "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": encode(colour, "TIFF", compression="jpeg"),
        "tiff-pages": encode(colour, "TIFF", **frames),
    }


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 4, 30))):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def damage_header(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(min(64, len(damaged)))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
    return bytes(damaged)


def delete_chunk(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 64) :]


def insert_or_append(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice((len(data), rng.randrange(len(data))))
    return data[:place] + rng.randbytes(rng.randint(1, 64)) + data[place:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate,
    flip_bytes,
    damage_header,
    delete_chunk,
    insert_or_append,
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on odd metadata
def test_damaged_files_give_rgb_or_an_image_error() -> None:
    limits, rng, outcomes = ImageLimits(max_pixels=1_000_000), random.Random(7), {"image": 0, "error": 0}
    faulthandler.dump_traceback_later(300, exit=True)  # a decoder that hangs ends the run and says where
    try:
        for name, data in good_files().items():
            assert load_image(data).mode == "RGB", name
            for variant in range(40):
                outcomes[outcome(DAMAGES[variant % len(DAMAGES)](data, rng), limits)] += 1
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert sum(outcomes.values()) >= 500
    assert min(outcomes.values()) >= 100, outcomes


def outcome(data: bytes, limits: ImageLimits) -> str:
    try:
        image = load_image(data, limits=limits)
    except ImageError:
        return "error"
    assert image.mode == "RGB"
    assert len(image.tobytes()) == 3 * image.width * image.height > 0
    return "image"

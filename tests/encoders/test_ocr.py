"""The encoder `ocr`: order of reading without a model; what RapidOCR reads where it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
from PIL import Image, ImageDraw, ImageFont
from textlens import load_encoder
from textlens.encoders.ocr.rapid_ocr import OcrEncoder
from textlens.encoders.ocr.reading_order import Piece, reading_order
from textlens.errors import InputError

installed = all(find_spec(name) for name in ("rapidocr", "onnxruntime"))
needs_rapidocr = pytest.mark.skipif(not installed, reason="needs RapidOCR: pip install 'textlens[ocr]'")


def piece(text: str, x: float, y: float, width: float = 100, height: float = 20) -> Piece:
    return Piece(text, 0.9, (x, y), (x + width, y), height)


def texts(pieces: list[Piece]) -> list[str]:
    return [" ".join(piece.text for piece in row) for row in reading_order(pieces)]


def turned(pieces: list[Piece], axis: complex) -> list[Piece]:
    def turn(point: tuple[float, float]) -> tuple[float, float]:
        moved = complex(*point) * axis
        return moved.real, moved.imag

    return [Piece(p.text, p.confidence, turn(p.start), turn(p.end), p.height) for p in pieces]


PRICES = [
    piece(text, x, y + x / 50, 60)
    for y, row in ((0, ("tea", "2.50")), (30, ("coffee", "3.00")), (60, ("cake", "4.20")))
    for x, text in zip((0, 200), row, strict=True)
]


@pytest.mark.parametrize("axis", [1, 1j, -1, -1j, 0.966 + 0.259j, 0.966 - 0.259j])
def test_rows_are_read_along_the_text_whichever_way_it_runs(axis: complex) -> None:
    assert texts(turned(PRICES[::-1], axis)) == ["tea 2.50", "coffee 3.00", "cake 4.20"]


def test_columns_of_running_text_are_read_one_after_the_other() -> None:
    left = [piece(f"left hand line {i}", 0, 40 + 30 * i, 180) for i in range(4)]
    right = [piece(f"right hand line {i}", 220, 40 + 30 * i, 180) for i in range(4)]
    title, foot = piece("A title over both of them", 20, 0, 360, 30), piece("and something below them", 0, 200, 380)
    expected = [p.text for p in (title, *left, *right, foot)]
    assert texts([foot, *right, *left, title]) == expected


def test_short_columns_that_are_not_level_are_apart() -> None:
    menu = [piece(f"item {i}", 0, 50 * i, 60) for i in range(4)]
    page = [piece(f"word {i}", 150, 35 * i + 25, 60) for i in range(6)]
    assert texts([*page, *menu]) == [p.text for p in (*menu, *page)]


def test_no_pieces_are_no_rows() -> None:
    assert reading_order([]) == []


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(InputError, match=r"pip install 'textlens\[ocr\]'"):
        load_encoder("ocr")


@pytest.mark.parametrize("settings", [{"threads": 0}, {"min_confidence": 1.5}, {"max_pixels": 10}])
def test_settings_out_of_range_are_errors(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        OcrEncoder(**settings)


def test_there_is_one_set_of_models() -> None:
    with pytest.raises(InputError, match="without a checkpoint"):
        load_encoder("ocr:some/folder")


@pytest.fixture(scope="module")
def encoder() -> OcrEncoder:
    return OcrEncoder(threads=1)


def picture(text: str, size: tuple[int, int] = (400, 200), font_size: int = 28, colour: str = "black") -> Image.Image:
    image = Image.new("RGB", size, "white" if colour == "black" else "navy")
    ImageDraw.Draw(image).multiline_text((20, 20), text, colour, ImageFont.load_default(font_size), spacing=16)
    return image


@needs_rapidocr
def test_lines_with_confidence_and_places(encoder: OcrEncoder) -> None:
    image = picture("Fresh Bread 3.50\nOPEN today")
    (described,) = encoder.describe([image])
    assert described.text == "Fresh Bread 3.50\nOPEN today"
    assert described.tokens == ("Fresh", "Bread", "3.50", "OPEN", "today")
    assert 0.9 < described.scores["lowest_confidence"] <= described.scores["confidence"] <= 1
    first, second = encoder.read(image)
    left, top, right, bottom = first.box
    assert 0 <= left < 25 < 200 < right < 300
    assert 0 <= top < bottom < second.box[3] < 120


@needs_rapidocr
@pytest.mark.parametrize("degrees", [90, 180, 270, 10, -10])
def test_rotated_text(encoder: OcrEncoder, degrees: float) -> None:
    image = picture("Fresh Bread today\nfrom the market street", colour="white")
    rotated = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="navy")
    assert encoder.describe([rotated])[0].text == "Fresh Bread today\nfrom the market street"


@needs_rapidocr
def test_the_same_alone_in_a_batch_and_again(encoder: OcrEncoder) -> None:
    images = [picture("Library"), Image.new("RGB", (300, 200), "teal"), picture("Garden and River", colour="white")]
    together = encoder.describe(images)
    assert [one.text for one in together] == ["Library", "", "Garden and River"]
    assert together == [described for image in images for described in encoder.describe([image])]
    assert together[1].tokens == ()
    assert together[1].scores == {}


@needs_rapidocr
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (7, 3000), (3000, 7), (30, 30)])
def test_images_without_room_for_text_are_blank(encoder: OcrEncoder, size: tuple[int, int]) -> None:
    assert encoder.describe([Image.new("RGB", size, "gray")])[0].text == ""


@needs_rapidocr
def test_strips_huge_and_grey_images(encoder: OcrEncoder) -> None:
    strip = picture("A long strip of words", (2400, 70))
    huge = picture("Huge", (6000, 5000), font_size=900).convert("L")
    assert [one.text for one in encoder.describe([strip, strip.rotate(90, expand=True), huge])] == [
        "A long strip of words",
        "A long strip of words",
        "Huge",
    ]


@needs_rapidocr
def test_nothing_is_logged() -> None:
    code = "from textlens import load_encoder; from PIL import Image; e = load_encoder('ocr')\n"
    code += "print(e.describe([Image.new('RGB', (64, 64)), Image.new('RGB', (1, 1))]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""

"""RapidOCR as an encoder: PP-OCR models that come inside its wheel, run by onnxruntime on the CPU, offline."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import InputError, check_range
from ..base import Description
from .reading_order import Piece, Point, reading_axis, reading_order

BUNDLED = "bundled"  # the only checkpoint there is
MIN_LEGIBLE = 6  # pixels: an image less high or wide shows no letters
MIN_PIXELS = 736 * 1024  # smaller images are enlarged for the detector, as RapidOCR does
DOUBTFUL = 0.9  # confidence below which one looks again, and below which a single letter is none
LEVEL_ENOUGH = 2  # degrees
MAX_ASPECT = 8  # longer strips are padded


@dataclass(frozen=True)
class TextLine:
    """One line of text; box: left, top, right, bottom in pixels of the image."""

    text: str
    confidence: float  # 0 to 1, the mean over its characters
    box: tuple[float, float, float, float]


class OcrEncoder:
    """An `Encoder` whose words are the text that an image shows: lines top to bottom, joined by line breaks.

    `tokens` are its words; `scores` hold the mean confidence over all characters and that of the weakest line; an image
    without text has neither. threads: as many as torch uses by default. min_confidence: less certain text is left out.
    max_pixels: larger images are made smaller first.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        min_confidence: float = 0.5,
        max_pixels: int = 4_000_000,
        spec: str = "ocr",
    ) -> None:
        check_range("threads", 1 if threads is None else threads, 1)
        check_range("max_pixels", max_pixels, MIN_PIXELS)
        if not 0 <= min_confidence <= 1:
            raise InputError(f"min_confidence is {min_confidence}; expected 0 to 1")
        self.min_confidence, self.max_pixels, self.spec = min_confidence, max_pixels, spec
        self.engine = _engine(threads or torch.get_num_threads())

    @classmethod
    def from_pretrained(
        cls, source: str | Path = BUNDLED, *, device: str | torch.device = "cpu", **settings: Any
    ) -> OcrEncoder:
        """The models of the wheel; `device` is ignored, they run on the CPU. `settings` go to the constructor.

        Raises `InputError` if rapidocr or onnxruntime is missing, and for any other source.
        """
        if source != BUNDLED:
            raise InputError(f"unknown OCR models {str(source)!r}: expected the encoder 'ocr' without a checkpoint")
        return cls(**settings)

    def describe(self, images: Sequence[Image.Image]) -> list[Description]:
        """The text of RGB images of any size, in order."""
        return [self._description(self.read(image)) for image in images]

    def read(self, image: Image.Image) -> list[TextLine]:
        """The lines of one image in reading order, none where it shows no text."""
        if min(image.size) < MIN_LEGIBLE:
            return []
        fitted, scale, offset = _fit(image.convert("RGB"), self.max_pixels)
        return [_line(row, scale, offset) for row in reading_order(self._pieces(fitted))]

    def _pieces(self, image: Image.Image) -> list[Piece]:
        """The detector is at its best on level text: look again where text is tilted, doubtful or not to be seen."""
        tried, best = [0.0], self._read_at(image, 0)
        if not best or min(piece.confidence for piece in best) < DOUBTFUL:
            tried.append(90)
            best = max(best, self._read_at(image, 90), key=_letters)
        tilt = math.degrees(math.atan2(*reading_axis(best)[::-1])) if best else 0
        if all(abs((tilt - angle + 180) % 360 - 180) > LEVEL_ENOUGH for angle in tried):
            best = max(best, self._read_at(image, tilt), key=_letters)
        return best

    def _read_at(self, image: Image.Image, degrees: float) -> list[Piece]:
        """The pieces of the image turned counter-clockwise, in places of the unturned image."""
        if not degrees:
            return self._read_level(image)
        turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def back(point: Point) -> Point:
            x, y = point[0] - turned.width / 2, point[1] - turned.height / 2
            return image.width / 2 + x * cos - y * sin, image.height / 2 + x * sin + y * cos

        return [replace(one, start=back(one.start), end=back(one.end)) for one in self._read_level(turned)]

    def _read_level(self, image: Image.Image) -> list[Piece]:
        bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        # The steps one by one, because the final output does not tell which texts were upside down.
        found, turned, read, crops = self.engine.run_ocr_steps(bgr, {})
        if found.boxes is None or read.txts is None:
            return []
        threshold = self.engine.cfg.Cls.cls_thresh
        flipped = [label == "180" and certainty > threshold for label, certainty in turned.cls_res]
        readings = list(zip(flipped, read.txts, read.scores, strict=True))
        self._read_doubtful_again(readings, crops)
        return [
            _piece(box, upside_down, " ".join(text.split()), float(confidence))
            for box, (upside_down, text, confidence) in zip(found.boxes.tolist(), readings, strict=True)
            if confidence >= self._least_confidence(text)
        ]

    def _least_confidence(self, text: str) -> float:
        """More for a single letter: textures are full of them."""
        is_single = sum(map(str.isalnum, text)) < 2
        return max(self.min_confidence, DOUBTFUL) if is_single else self.min_confidence

    def _read_doubtful_again(self, readings: list[tuple[bool, str, float]], crops: list[np.ndarray]) -> None:
        """The other way up, and keep the better: RapidOCR's classifier is often wrong about what is upside down."""
        doubtful = [
            i
            for i, (crop, (_, _, confidence)) in enumerate(zip(crops, readings, strict=True))
            if confidence < DOUBTFUL and crop.shape[1] > 2 * crop.shape[0]  # a single letter is found in any texture
        ]
        if not doubtful:
            return
        again = self.engine.recognize_txt([crops[i] if readings[i][0] else np.rot90(crops[i], 2) for i in doubtful])
        for i, text, confidence in zip(doubtful, again.txts, again.scores, strict=True):
            readings[i] = max(readings[i], (not readings[i][0], text, confidence), key=lambda reading: reading[2])

    def _description(self, lines: list[TextLine]) -> Description:
        text = "\n".join(line.text for line in lines)
        scores: dict[str, float] = {}
        if lines:
            scores = {"confidence": _mean(lines), "lowest_confidence": min(line.confidence for line in lines)}
        return Description(text, tuple(text.split()), self.spec, scores)


def _engine(threads: int) -> Any:
    try:
        import onnxruntime  # noqa: F401
        import rapidocr
        from rapidocr import RapidOCR
    except ImportError as error:
        raise InputError(f"the encoder 'ocr' needs rapidocr ({error}): pip install 'textlens[ocr]'") from error
    models = Path(rapidocr.__file__).parent / "models"
    params = {
        "Global.log_level": "critical",
        "Global.use_preprocess_img": False,  # `_fit` does it, for strips of any shape too
        "Global.use_vertical_padding": False,
        "Det.limit_side_len": 32,
        "EngineConfig.onnxruntime.intra_op_num_threads": min(threads, os.cpu_count() or 1),
    }
    for part in ("Det", "Cls", "Rec"):  # given as paths, so that nothing is ever downloaded
        files = sorted(models.glob(f"*_{part.lower()}_*.onnx"))
        if len(files) != 1:
            raise InputError(
                f"{models} holds {len(files)} models for {part!r}, expected one; "
                "reinstall the rapidocr of 'textlens[ocr]', whose wheel brings them"
            )
        params[f"{part}.model_path"] = str(files[0])
    return RapidOCR(params=params)


def _fit(image: Image.Image, max_pixels: int) -> tuple[Image.Image, float, Point]:
    """Pad strips and bring the number of pixels into bounds -> image, scale, and where the original's corner is."""
    width, height = image.size
    size = (max(width, math.ceil(height / MAX_ASPECT)), max(height, math.ceil(width / MAX_ASPECT)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    pixels = size[0] * size[1]
    scale = math.sqrt(min(max(pixels, MIN_PIXELS), max_pixels) / pixels)
    if scale != 1:
        image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
    if size != (width, height):
        padded = Image.new("RGB", (round(size[0] * scale), round(size[1] * scale)))
        padded.paste(image, (round(left * scale), round(top * scale)))
        image = padded
    return image, scale, (left * scale, top * scale)


def _piece(box: list[Point], upside_down: bool, text: str, confidence: float) -> Piece:
    """box: four corners, clockwise from the upper left. RapidOCR takes upright boxes for text that runs down."""
    a, b, c, d = box
    if max(math.dist(a, d), math.dist(b, c)) >= 1.5 * max(math.dist(a, b), math.dist(d, c)):
        a, b, c, d = b, c, d, a  # the text's own upper left first
    start, end = ((a[0] + d[0]) / 2, (a[1] + d[1]) / 2), ((b[0] + c[0]) / 2, (b[1] + c[1]) / 2)
    return Piece(text, confidence, *((end, start) if upside_down else (start, end)), math.dist(a, d))


def _line(row: list[Piece], scale: float, offset: Point) -> TextLine:
    text = " ".join(piece.text for piece in row)
    x, y = zip(*(point for piece in row for point in _corners(piece)), strict=True)
    left, right = ((value - offset[0]) / scale for value in (min(x), max(x)))
    top, bottom = ((value - offset[1]) / scale for value in (min(y), max(y)))
    return TextLine(text, _mean(row), (left, top, right, bottom))


def _corners(piece: Piece) -> list[Point]:
    (x0, y0), (x1, y1) = piece.start, piece.end
    length = math.dist(piece.start, piece.end) or 1.0
    dx, dy = -(y1 - y0) / length * piece.height / 2, (x1 - x0) / length * piece.height / 2
    return [(x0 + dx, y0 + dy), (x0 - dx, y0 - dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy)]


def _letters(pieces: Sequence[Piece]) -> float:
    """How much was read: characters, each by its confidence."""
    return sum(piece.confidence * len(piece.text) for piece in pieces)


def _mean(parts: Sequence[Piece] | Sequence[TextLine]) -> float:
    return sum(part.confidence * len(part.text) for part in parts) / sum(len(part.text) for part in parts)

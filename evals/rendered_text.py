"""Random English texts drawn onto photographs, with all that is known about them.

The photographs are samples of installed packages under free licences: CC0 or public domain (scikit-image, matplotlib),
CC BY 2.0 (scikit-learn: flower.jpg, by vultilion). None shows any text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageStat

# package -> file in it -> the box without text (None: all of it)
PHOTOS: dict[str, dict[str, tuple[int, int, int, int] | None]] = {
    "skimage": {
        "data/coffee.png": None,
        "data/camera.png": None,
        "data/chelsea.png": None,
        "data/hubble_deep_field.jpg": None,
        "data/ihc.png": None,
        "data/moon.png": None,
        "data/grass.png": None,
        "data/gravel.png": None,
        "data/brick.png": None,
        "data/retina.jpg": None,
        "data/cell.png": None,
        "data/clock_motion.png": None,
    },
    "sklearn": {"datasets/images/flower.jpg": None},
    "matplotlib": {"mpl-data/sample_data/grace_hopper.jpg": (0, 0, 512, 450)},  # without her name tag
}
_WORDS = """
open closed exit entry push pull sale today fresh coffee bakery market street station platform ticket office garden
museum library school hospital pharmacy parking private danger warning caution keep left right stop slow welcome
please thank you hot cold water orange lemon bread cheese summer winter morning evening Monday Friday London Paris
River Bridge North South Avenue Queen King Royal Hotel quick jumping puzzle extra lazy dog box view file save print
"""
WORDS = tuple(_WORDS.split())
FONTS = ("Sans", "Sans-Bold", "Sans-Oblique", "Serif", "Serif-Bold", "SansMono")  # of DejaVu, in matplotlib
SIZES = (12, 16, 24, 36, 56)  # pixels
ROTATIONS = ("level", "tilted", "upright")  # 0, up to 15, 90 degrees either way
CANVAS = (640, 480)


@dataclass(frozen=True)
class RenderedText:
    """A photograph with a text on it; `text` has its lines apart."""

    image: Image.Image
    text: str
    size: int
    rotation: str
    lines: int
    ground: str  # "photo", or "plate" of one colour below the text

    def kinds(self) -> dict[str, str]:
        """Figure group -> the group of this image."""
        return {"size": f"{self.size} px", "rotation": self.rotation, "lines": str(self.lines), "ground": self.ground}


def load_photos() -> dict[str, Image.Image]:
    """package/file -> RGB photograph without text, of the packages that are installed."""
    photos = {}
    for package, files in PHOTOS.items():
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            for name, box in files.items():
                path = Path(folder) / name
                if path.is_file():
                    with Image.open(path) as image:
                        photos[f"{package}/{path.name}"] = image.convert("RGB").crop(box or (0, 0, *image.size))
    return photos


def render_texts(number: int, photos: Sequence[Image.Image], rng: random.Random) -> list[RenderedText]:
    """Sizes and rotations in equal shares; all else by `rng`. Without photos, onto plain colours."""
    return [
        render_text(SIZES[i % len(SIZES)], ROTATIONS[i // len(SIZES) % len(ROTATIONS)], photos, rng)
        for i in range(number)
    ]


def render_text(size: int, rotation: str, photos: Sequence[Image.Image], rng: random.Random) -> RenderedText:
    """One random text in one random place, dark on light or light on dark."""
    canvas = _canvas(photos, rng)
    degrees = {"level": 0.0, "tilted": rng.choice((-1, 1)) * rng.uniform(2, 15), "upright": rng.choice((90.0, 270.0))}
    room = (canvas.height if rotation == "upright" else canvas.width) * 0.85
    font = ImageFont.truetype(_font_path(rng.choice(FONTS)), size)
    lines = [_line(font, room, rng) for _ in range(rng.randint(1, 4))]
    letters, plate = _layers("\n".join(lines), font, degrees[rotation])
    left, top = rng.randint(0, max(0, canvas.width - plate.width)), rng.randint(0, max(0, canvas.height - plate.height))
    on_plate = rng.random() < 0.5
    if on_plate:
        canvas.paste(_colour(rng, light=rng.random() < 0.5), (left, top), plate)
    below = canvas.crop((left, top, left + plate.width, top + plate.height)).convert("L")
    canvas.paste(_colour(rng, light=ImageStat.Stat(below, plate).mean[0] < 128), (left, top), letters)
    return RenderedText(canvas, "\n".join(lines), size, rotation, len(lines), "plate" if on_plate else "photo")


def _layers(text: str, font: ImageFont.FreeTypeFont, degrees: float) -> tuple[Image.Image, Image.Image]:
    """Masks of the rotated letters and of the rectangle around them."""
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    margin = int(font.size) // 2
    letters = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin))
    ImageDraw.Draw(letters).multiline_text((margin - left, margin - top), text, 255, font)
    plate = Image.new("L", letters.size, 255)
    first, second = (one.rotate(degrees, Image.Resampling.BICUBIC, expand=True) for one in (letters, plate))
    return first, second


def _canvas(photos: Sequence[Image.Image], rng: random.Random) -> Image.Image:
    """A random cut-out of a random photograph."""
    if not photos:
        return Image.new("RGB", CANVAS, _colour(rng, light=rng.random() < 0.5))
    photo = rng.choice(photos)
    share = rng.uniform(0.5, 1) * min(photo.width / CANVAS[0], photo.height / CANVAS[1])
    width, height = CANVAS[0] * share, CANVAS[1] * share
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    return photo.resize(CANVAS, Image.Resampling.BICUBIC, (left, top, left + width, top + height))


def _line(font: ImageFont.FreeTypeFont, room: float, rng: random.Random) -> str:
    """As many random words, numbers and prices as were drawn and as there is room for, at least one."""
    words = [_word(rng)]
    for _ in range(rng.randint(0, 4)):
        longer = " ".join([*words, word := _word(rng)])
        if font.getlength(longer) < room:
            words.append(word)
    return " ".join(words)


def _word(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.1:
        return f"{rng.choice('$€£')}{rng.randint(1, 99)}.{rng.randint(0, 99):02}"
    if kind < 0.2:
        return str(rng.randint(10, 9999))
    word = rng.choice(WORDS)
    return word.upper() if kind < 0.35 else word.capitalize() if kind < 0.6 else word


def _colour(rng: random.Random, *, light: bool) -> tuple[int, int, int]:
    low, high = (200, 255) if light else (0, 55)
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _font_path(name: str) -> str:
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVu{name}.ttf"

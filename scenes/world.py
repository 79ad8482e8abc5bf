"""The words of the made world and the frozen dataclasses of its scenes. A leaf: no torch, no drawing."""

from __future__ import annotations

from dataclasses import dataclass

# Glyphs of the DejaVu Sans font that matplotlib carries: noun, character.
_GLYPHS = """
    anchor ⚓  arrow ➜  atom ⚛  bolt ⚡  cat 🐱  circle ●  cloud ☁  club ♣  cow 🐮  cross ✚  crown ♛  cup ☕  diamond ♦
    envelope ✉  flag ⚑  flower ✿  gear ⚙  heart ♥  house ⌂  keyboard ⌨  king ♚  knight ♞  monkey 🐵  moon ☾  mouse 🐭
    note ♪  pencil ✎  phone ☎  plane ✈  ring ○  rook ♜  skull ☠  smiley ☺  snowflake ❄  spade ♠  square ■  star ★
    sun ☀  triangle ▲  umbrella ☂  wheel ☸
"""
_PICTURES = dict(zip(_GLYPHS.split()[::2], _GLYPHS.split()[1::2], strict=True))
_PLURALS = {"cross": "crosses", "mouse": "mice"}  # of the others by "s"
# "a" and "i" are English words of their own and "o" looks like zero, so these letters are left out.
LETTERS = tuple("bcdefghjklmnpqrstuvwxyz")
DIGITS = tuple("0123456789")
PICTURES = tuple(_PICTURES)
NOUNS = PICTURES + LETTERS + DIGITS

COLOURS = {
    "red": (222, 24, 30),
    "orange": (255, 128, 0),
    "yellow": (240, 200, 0),
    "green": (20, 145, 45),
    "blue": (25, 90, 240),
    "purple": (130, 40, 180),
    "pink": (255, 90, 170),
    "brown": (120, 65, 30),
}
# All light, so that every object is darker than its background. From contrast of either sign the small CoCa had not
# begun to tell shapes apart after 100,000 images (4 % of nouns right); from contrast of one sign it learns them.
# No word is both a colour and a background, so that loose words stay unambiguous.
BACKGROUNDS = {
    "white": (255, 255, 255),
    "gray": (205, 205, 205),
    "beige": (230, 216, 172),
    "mint": (190, 242, 214),
    "lavender": (218, 208, 250),
    "peach": (255, 213, 194),
}
SIZES = ("large", "small")
PLACES = ("top left", "top right", "center", "bottom left", "bottom right")


def glyph(noun: str) -> str:
    """The character that draws a noun."""
    return _PICTURES.get(noun) or noun.upper()


def phrase(noun: str) -> str:
    """How a caption names one of it: "star", "letter B", "number 7"."""
    if noun in LETTERS:
        return f"letter {noun.upper()}"
    return f"number {noun}" if noun in DIGITS else noun


def plural(noun: str) -> str:
    """How a caption names several of it: "stars", "letters B", "numbers 7"."""
    if noun in _PICTURES:
        return _PLURALS.get(noun) or f"{noun}s"
    kind, _, sign = phrase(noun).partition(" ")
    return f"{kind}s {sign}"


def article(words: str) -> str:
    """The words with "a" or "an" in front."""
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class SceneObject:
    """One glyph. `x`, `y` (centre) and `extent` (longer side) are fractions of the canvas: the jitter of drawing."""

    noun: str
    colour: str
    size: str
    place: str
    x: float
    y: float
    extent: float


@dataclass(frozen=True)
class Scene:
    """All that is true of one picture: a plain background and 1-4 objects in places of their own, in `PLACES` order."""

    background: str
    objects: tuple[SceneObject, ...]


def _every_eighth_pair(offset: int) -> frozenset[tuple[str, str]]:
    colours = tuple(COLOURS)
    return frozenset((noun, colours[(i * 3 + offset) % len(colours)]) for i, noun in enumerate(NOUNS))


def _some_counts(offset: int) -> frozenset[tuple[str, int]]:
    return frozenset((noun, 2 + (i // 5) % 3) for i, noun in enumerate(NOUNS) if i % 5 == offset)


# The combinations that one split alone may show: for each noun one colour, and for every fifth noun one count of it.
HELD_OUT_COLOURS = {"val": _every_eighth_pair(0), "test": _every_eighth_pair(5)}
HELD_OUT_COUNTS = {"val": _some_counts(0), "test": _some_counts(2)}
SPLITS = ("train", "val", "test")

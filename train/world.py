"""The words of the made world and the frozen dataclasses of its scenes. A leaf: no torch, no drawing."""

from __future__ import annotations

from dataclasses import dataclass

# Glyphs of the DejaVu Sans font that matplotlib carries: noun -> (character, plural).
_PICTURES = {
    "anchor": ("⚓", "anchors"),
    "arrow": ("➜", "arrows"),
    "atom": ("⚛", "atoms"),
    "bolt": ("⚡", "bolts"),
    "cat": ("🐱", "cats"),
    "circle": ("●", "circles"),
    "cloud": ("☁", "clouds"),
    "club": ("♣", "clubs"),
    "cow": ("🐮", "cows"),
    "cross": ("✚", "crosses"),
    "crown": ("♛", "crowns"),
    "cup": ("☕", "cups"),
    "diamond": ("♦", "diamonds"),
    "envelope": ("✉", "envelopes"),
    "flag": ("⚑", "flags"),
    "flower": ("✿", "flowers"),
    "gear": ("⚙", "gears"),
    "heart": ("♥", "hearts"),
    "house": ("⌂", "houses"),
    "keyboard": ("⌨", "keyboards"),
    "king": ("♚", "kings"),
    "knight": ("♞", "knights"),
    "monkey": ("🐵", "monkeys"),
    "moon": ("☾", "moons"),
    "mouse": ("🐭", "mice"),
    "note": ("♪", "notes"),
    "pencil": ("✎", "pencils"),
    "phone": ("☎", "phones"),
    "plane": ("✈", "planes"),
    "ring": ("○", "rings"),
    "rook": ("♜", "rooks"),
    "skull": ("☠", "skulls"),
    "smiley": ("☺", "smileys"),
    "snowflake": ("❄", "snowflakes"),
    "spade": ("♠", "spades"),
    "square": ("■", "squares"),
    "star": ("★", "stars"),
    "sun": ("☀", "suns"),
    "triangle": ("▲", "triangles"),
    "umbrella": ("☂", "umbrellas"),
    "wheel": ("☸", "wheels"),
}
# "a" and "i" are English words of their own and "o" looks like zero, so these letters are left out.
LETTERS = tuple("bcdefghjklmnpqrstuvwxyz")
DIGITS = tuple("0123456789")
PICTURES = tuple(_PICTURES)
NOUNS = PICTURES + LETTERS + DIGITS

COLOURS = {
    "red": (226, 28, 33),
    "orange": (255, 133, 10),
    "yellow": (250, 218, 20),
    "green": (20, 150, 45),
    "blue": (30, 105, 250),
    "purple": (150, 50, 205),
    "pink": (255, 120, 190),
    "brown": (133, 77, 35),
}
# No word is both a colour and a background, so that loose words stay unambiguous.
BACKGROUNDS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (150, 150, 150),
    "beige": (226, 208, 172),
    "navy": (10, 16, 72),
    "mint": (184, 240, 212),
}
SIZES = ("large", "small")
PLACES = ("top left", "top right", "center", "bottom left", "bottom right")


def glyph(noun: str) -> str:
    """The character that draws a noun."""
    return _PICTURES[noun][0] if noun in _PICTURES else noun.upper()


def phrase(noun: str) -> str:
    """How a caption names one of it: "star", "letter B", "number 7"."""
    if noun in LETTERS:
        return f"letter {noun.upper()}"
    return f"number {noun}" if noun in DIGITS else noun


def plural(noun: str) -> str:
    """How a caption names several of it: "stars", "letters B", "numbers 7"."""
    if noun in _PICTURES:
        return _PICTURES[noun][1]
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
    """All that is true of one picture: a plain background and 1-4 objects, each in a place of its own, in the order of `PLACES`."""

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

"""Captions of scenes in several styles. Every style but `web` tells the truth, though not always all of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from ..errors import InputError
from .world import BACKGROUNDS, COLOURS, NOUNS, PLACES, Scene, SceneObject, article, phrase, plural

COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
SIZE_WORDS = {"large": ("large", "big"), "small": ("small", "little", "tiny")}
PLACE_WORDS = {
    "top left": ("top left", "upper left", "top left corner", "upper left corner"),
    "top right": ("top right", "upper right", "top right corner", "upper right corner"),
    "bottom left": ("bottom left", "lower left", "bottom left corner", "lower left corner"),
    "bottom right": ("bottom right", "lower right", "bottom right corner", "lower right corner"),
    "center": ("center", "middle"),
}
FILLERS = (
    *("a", "the", "of", "with", "and", "on", "in", "image", "picture", "background", "photo", "color", "shape", "icon"),
    *("art", "simple", "graphic", "isolated", "sign", "symbol", "clipart", "logo", "bright", "plain"),
)


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _groups(objects: Iterable[SceneObject]) -> list[list[SceneObject]]:
    """Objects of the same noun and colour together, in the order of their first."""
    groups: dict[tuple[str, str], list[SceneObject]] = {}
    for thing in objects:
        groups.setdefault((thing.noun, thing.colour), []).append(thing)
    return list(groups.values())


def _counted(group: list[SceneObject]) -> str:
    """ "a red star", "two red stars"."""
    first = group[0]
    if len(group) == 1:
        return article(f"{first.colour} {phrase(first.noun)}")
    return f"{COUNT_WORDS[len(group)]} {first.colour} {plural(first.noun)}"


def _shuffled(scene: Scene, rng: random.Random) -> list[SceneObject]:
    return rng.sample(scene.objects, len(scene.objects))


def short(scene: Scene, rng: random.Random) -> str:
    """The main subject alone: what there is, and its colour."""
    text = _joined([_counted(group) for group in _groups(scene.objects)])
    return text[0].upper() + text[1:]


def descriptive(scene: Scene, rng: random.Random) -> str:
    """Everything: "A large red star in the top left and a small blue cat in the center, on a white background."."""
    parts = [article(f"{t.size} {t.colour} {phrase(t.noun)} in the {t.place}") for t in scene.objects]
    text = f"{_joined(parts)}, on {article(scene.background)} background."
    return text[0].upper() + text[1:]


def spoken(scene: Scene, rng: random.Random) -> str:
    """As people say it: "There's a big red star in the upper left corner and ..."; sizes and background at times."""
    parts = []
    for thing in _shuffled(scene, rng):
        size = f"{rng.choice(SIZE_WORDS[thing.size])} " if rng.random() < 0.6 else ""
        place = rng.choice(PLACE_WORDS[thing.place])
        parts.append(f"{article(f'{size}{thing.colour} {phrase(thing.noun)}')} {rng.choice(('in', 'at'))} the {place}")
    opening = rng.choice(("There's", "I can see", "I see", "You can see", "There is", "It shows", "This picture has"))
    text = f"{opening} {', and also '.join(parts) if rng.random() < 0.3 else _joined(parts)}"
    if rng.random() < 0.6:
        text += rng.choice((", all on a {} background", ". The background is {}", " on {}")).format(scene.background)
    return text + "."


def listed(scene: Scene, rng: random.Random) -> str:
    """As a telegram: "red star top left, small blue cat center, white background"."""
    parts = [
        f"{f'{t.size} ' if rng.random() < 0.5 else ''}{t.colour} {phrase(t.noun)} {t.place}"
        for t in _shuffled(scene, rng)
    ]
    background = f"{scene.background} background"
    return ", ".join([background, *parts] if rng.random() < 0.5 else [*parts, background])


def located(scene: Scene, rng: random.Random) -> str:
    """Place first: "On a white background: in the top left, a large red star; in the center, a small blue cat."."""
    parts = [f"in the {t.place}, {article(f'{t.size} {t.colour} {phrase(t.noun)}')}" for t in _shuffled(scene, rng)]
    return f"On {article(scene.background)} background: {'; '.join(parts)}."


def loose(scene: Scene, rng: random.Random, max_words: int = 60) -> str:
    """The facts as words without grammar, in any order, with repeats and fillers, as De-Diffusion writes.

    The words of one object mostly stay together; in one text of four even they are scattered. Facts go missing at
    times, or one word of "top left" does, which then leaves the other open; none is wrong. At most `max_words` words.
    """
    missing = rng.choice((0.0, 0.0, 0.15, 0.4))
    blocks = []
    for thing in _shuffled(scene, rng):
        words = [
            thing.colour,
            thing.noun if rng.random() < 0.7 else phrase(thing.noun).lower(),
            thing.size,
            " ".join(word for word in thing.place.split() if rng.random() >= missing),
        ]
        kept = [word for word in words if word and rng.random() >= missing]
        repeats = rng.choice((1, 1, 1, 2))
        blocks.append(rng.sample(kept, len(kept)) * repeats)
    blocks.append([scene.background, "background"][: rng.choice((1, 1, 2))] * rng.choice((1, 1, 2)))
    rng.shuffle(blocks)
    if rng.random() < 0.25:
        scattered = [word for block in blocks for word in block]
        blocks = [rng.sample(scattered, len(scattered))]
    fillers = rng.choice((0.0, 0.1, 0.4))
    text: list[str] = []
    for word in (word for block in blocks for word in block):
        if rng.random() < fillers:
            text.append(rng.choice(FILLERS))
        text += word.split()
    return " ".join(text[:max_words])


def web(scene: Scene, rng: random.Random) -> str:
    """As alternative texts of the web: facts missing or wrong, advertising, file names."""
    first = scene.objects[0]
    colour = first.colour if rng.random() < 0.75 else rng.choice(tuple(COLOURS))
    noun = phrase(first.noun if rng.random() < 0.85 else rng.choice(NOUNS))
    background = scene.background if rng.random() < 0.8 else rng.choice(tuple(BACKGROUNDS))
    place = first.place if rng.random() < 0.7 else rng.choice(PLACES)
    rest = [phrase(thing.noun) for thing in scene.objects[1:] if rng.random() < 0.4]
    serial = rng.randrange(1000, 10000)
    choices: tuple[Callable[[], str], ...] = (
        lambda: f"{colour} {noun} free vector clipart",
        lambda: f"IMG_{serial}.jpg",
        lambda: f"{noun.replace(' ', '-')}-{colour}-{serial}.png",
        lambda: f"{_joined([f'{colour} {noun}', *rest])} | buy posters online, 20% off",
        lambda: f"{noun} icon on {background}, stock photo",
        lambda: f"cute {noun} sticker, {place}, best price!",
        lambda: f"{_joined([f'{colour} {noun}', *rest])} on {background} background - download",
    )
    return rng.choice(choices)()


STYLES: dict[str, Callable[[Scene, random.Random], str]] = {
    "short": short,
    "descriptive": descriptive,
    "spoken": spoken,
    "listed": listed,
    "located": located,
    "loose": loose,
    "web": web,
}
CLEAN_STYLES = tuple(style for style in STYLES if style != "web")


def captions(scene: Scene, style: str, rng: random.Random) -> str:
    """One caption of the scene in a style of `STYLES`; the same `rng` state gives the same text."""
    if style not in STYLES:
        raise InputError(f"unknown caption style {style!r}: expected one of {', '.join(STYLES)}")
    return STYLES[style](scene, rng)

"""The made world: draws scenes by split. A scene is fixed by (split, seed, index) alone."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from ..errors import InputError
from .world import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOURS,
    HELD_OUT_COUNTS,
    NOUNS,
    PLACES,
    SIZES,
    SPLITS,
    Scene,
    SceneObject,
)

MAX_OBJECTS = 4
_COLOURS, _BACKGROUNDS = tuple(COLOURS), tuple(BACKGROUNDS)
_CENTRES = {
    "center": (0.5, 0.5),
    "top left": (0.23, 0.23),
    "top right": (0.77, 0.23),
    "bottom left": (0.23, 0.77),
    "bottom right": (0.77, 0.77),
}
_EXTENTS = {"large": (26, 29), "small": (17, 19)}  # in 64ths of the canvas
_JITTER = {"large": 0.6, "small": 1.5}


def scene_rng(split: str, seed: int, index: int, purpose: str = "scene") -> random.Random:
    """The random numbers that belong to one scene and one purpose ("scene", "captions", "questions")."""
    return random.Random(f"{split}/{seed}/{index}/{purpose}")


Combination = list[tuple[str, str]]  # (noun, colour) of each object


def _shows_held_out(objects: Combination, split: str) -> bool:
    if any(pair in HELD_OUT_COLOURS[split] for pair in objects):
        return True
    nouns = [noun for noun, _ in objects]
    repeated = len(set(nouns)) < len(nouns)
    return repeated and any(pair in HELD_OUT_COUNTS[split] for pair in Counter(nouns).items())


def held_out(scene: Scene, split: str) -> bool:
    """Whether the scene shows a noun-colour or noun-count combination that only `split` ("val", "test") may show."""
    return _shows_held_out([(thing.noun, thing.colour) for thing in scene.objects], split)


def _draw_combination(rng: random.Random, number: int) -> Combination:
    nouns = [rng.choice(NOUNS) for _ in range(number)]
    if number > 1 and rng.random() < 0.25:  # several of the same
        same = rng.randint(2, number)
        nouns[:same] = nouns[:1] * same
    return [(noun, rng.choice(_COLOURS)) for noun in nouns]


def _draw_sizes(rng: random.Random, places: list[str]) -> list[str]:
    """Large objects in the centre and in the corners would cover one another, so only one of the two may be large."""
    sizes = [rng.choice(SIZES) for _ in places]
    if "center" in places and sizes[places.index("center")] == "large":
        return ["large" if place == "center" else "small" for place in places]
    return sizes


def _place_object(noun: str, colour: str, size: str, place: str, rng: random.Random) -> SceneObject:
    x, y = _CENTRES[place]
    jitter = _JITTER[size] / 64
    extent = rng.uniform(*_EXTENTS[size]) / 64
    x, y = x + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter)
    return SceneObject(noun, colour, size, place, x, y, extent)


def check_split(split: str) -> None:
    """Raises `InputError` that lists the splits."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")


def sample_scene(rng: random.Random, split: str = "train", num_objects: int | None = None) -> Scene:
    """One scene of a split, with 1-4 objects (equally often) or `num_objects`."""
    check_split(split)
    if num_objects is not None and not 1 <= num_objects <= MAX_OBJECTS:
        raise InputError(f"num_objects is {num_objects}: expected 1 to {MAX_OBJECTS}")
    number = num_objects or rng.randint(1, MAX_OBJECTS)
    others = [other for other in HELD_OUT_COLOURS if other != split]
    combination = _draw_combination(rng, number)
    while any(_shows_held_out(combination, other) for other in others):
        combination = _draw_combination(rng, number)
    places = sorted(rng.sample(PLACES, number), key=PLACES.index)
    rows = zip(combination, _draw_sizes(rng, places), places, strict=True)
    objects = tuple(_place_object(*pair, size, place, rng) for pair, size, place in rows)
    return Scene(rng.choice(_BACKGROUNDS), objects)


def scene_at(index: int, split: str = "train", seed: int = 0, num_objects: int | None = None) -> Scene:
    """The scene number `index` of a split and seed."""
    return sample_scene(scene_rng(split, seed, index), split, num_objects)


def vary_scene(scene: Scene, rng: random.Random, split: str = "train") -> Scene:
    """A scene of the same split that looks alike: other nouns in the same places and colours, most often; or one other
    noun, colour, place or background, or two objects that have changed places."""
    others = [other for other in HELD_OUT_COLOURS if other != split]
    while True:
        varied = _varied(scene, rng)
        if not any(held_out(varied, other) for other in others) and varied != scene:
            return varied


def _varied(scene: Scene, rng: random.Random) -> Scene:
    things = list(scene.objects)
    i = rng.randrange(len(things))
    free = [place for place in PLACES if place not in {thing.place for thing in things}]
    match rng.choices(("nouns", "noun", "exchange", "colour", "place", "background"), (8, 4, 4, 2, 1, 1))[0]:
        case "nouns":
            things = [replace(thing, noun=rng.choice(NOUNS)) for thing in things]
        case "noun":
            things[i] = replace(things[i], noun=rng.choice(NOUNS))
        case "exchange" if len(things) > 1:
            i, j = rng.sample(range(len(things)), 2)
            one, other = things[i], things[j]
            things[i] = replace(one, noun=other.noun, colour=other.colour)
            things[j] = replace(other, noun=one.noun, colour=one.colour)
        case "colour":
            things[i] = replace(things[i], colour=rng.choice(_COLOURS))
        case "place" if "center" not in (place := rng.choice(free), things[i].place):
            things[i] = _place_object(things[i].noun, things[i].colour, things[i].size, place, rng)
        case "background":
            return replace(scene, background=rng.choice(_BACKGROUNDS))
    return replace(scene, objects=tuple(sorted(things, key=lambda thing: PLACES.index(thing.place))))

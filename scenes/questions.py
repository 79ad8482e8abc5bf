"""Questions about scenes, each with its answer and ten annotator-like answers that disagree as people do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .captions import COUNT_WORDS
from .world import COLOURS, DIGITS, LETTERS, PICTURES, PLACES, Scene, SceneObject, article, phrase, plural

NUM_ANNOTATORS = 10


@dataclass(frozen=True)
class Question:
    """`answers` holds ten annotators' words; `answer` is the truth, which most of them give."""

    question: str
    type: str
    answer: str
    answers: tuple[str, ...]


# What an annotator may write who means the same, and what one may write who looked badly.
_SAME = {
    "top left": ("upper left", "top left corner", "left"),
    "top right": ("upper right", "top right corner", "right"),
    "bottom left": ("lower left", "bottom left corner", "left"),
    "bottom right": ("lower right", "bottom right corner", "right"),
    "center": ("middle", "in the middle"),
    "purple": ("violet",),
    "yes": ("yes it is", "yeah"),
    "no": ("no it is not", "nope"),
}
_MISTAKEN = {
    **{"red": "orange", "orange": "red", "yellow": "gold", "green": "dark green", "blue": "light blue"},
    **{"purple": "blue", "pink": "purple", "brown": "dark orange", "yes": "no", "no": "yes"},
}


def _annotators(answer: str, rng: random.Random) -> tuple[str, ...]:
    same = list(_SAME.get(answer, ()))
    if answer in PICTURES:
        same = [article(answer), plural(answer)]
    if answer.isdigit() and int(answer) in COUNT_WORDS:
        same = [COUNT_WORDS[int(answer)]]
    mistaken = _MISTAKEN.get(answer) or (str(int(answer) + 1) if answer.isdigit() else "not sure")

    def one() -> str:
        chance = rng.random()
        return mistaken if chance < 0.04 else rng.choice(same) if same and chance < 0.16 else answer

    given = [one() for _ in range(NUM_ANNOTATORS)]
    while given.count(answer) <= NUM_ANNOTATORS // 2:  # most annotators are right
        given = [one() for _ in range(NUM_ANNOTATORS)]
    return tuple(given)


def _yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def _unique(scene: Scene) -> list[SceneObject]:
    counts = Counter(thing.noun for thing in scene.objects)
    return [thing for thing in scene.objects if counts[thing.noun] == 1]


def _one_of(scene: Scene) -> list[str]:
    return sorted({thing.noun for thing in scene.objects})


def _what(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    thing = rng.choice(scene.objects)
    yield f"What is in the {thing.place}?", thing.noun
    if sum(other.colour == thing.colour for other in scene.objects) == 1:
        yield f"What is {thing.colour}?", thing.noun


def _colour(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    if unique := _unique(scene):
        thing = rng.choice(unique)
        yield f"What color is the {phrase(thing.noun)}?", thing.colour
    yield "What color is the background?", scene.background


def _count(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    noun = rng.choice(_one_of(scene))
    yield f"How many {plural(noun)} are there?", str(sum(thing.noun == noun for thing in scene.objects))
    yield "How many things are there?", str(len(scene.objects))


def _where(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    if unique := _unique(scene):
        thing = rng.choice(unique)
        yield f"Where is the {phrase(thing.noun)}?", thing.place


def _yes_or_no(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    present = _one_of(scene)
    absent = rng.choice([noun for noun in PICTURES if noun not in present])
    noun = rng.choice(present) if rng.random() < 0.5 else absent
    yield f"Is there {article(phrase(noun))}?", _yes_no(noun in present)
    if unique := _unique(scene):
        thing = rng.choice(unique)
        colour = thing.colour if rng.random() < 0.5 else rng.choice([c for c in COLOURS if c != thing.colour])
        yield f"Is the {phrase(thing.noun)} {colour}?", _yes_no(colour == thing.colour)
    place = rng.choice(PLACES)
    yield f"Is the {place} empty?", _yes_no(all(thing.place != place for thing in scene.objects))


def _compare(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    unique = _unique(scene)
    if len(unique) < 2:
        return
    one, two = rng.sample(unique, 2)
    if one.size != two.size:
        larger = one if one.size == "large" else two
        yield f"Which is larger, the {phrase(one.noun)} or the {phrase(two.noun)}?", larger.noun
    same = f"Are the {phrase(one.noun)} and the {phrase(two.noun)} the same color?"
    yield same, _yes_no(one.colour == two.colour)


def _read(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str]]:
    for kind, signs in (("letter", LETTERS), ("number", DIGITS)):
        shown = {thing.noun for thing in scene.objects if thing.noun in signs}
        if len(shown) == 1:
            yield f"What {kind} is shown?", shown.pop()


TYPES: dict[str, Callable[[Scene, random.Random], Iterator[tuple[str, str]]]] = {
    "what": _what,
    "colour": _colour,
    "count": _count,
    "where": _where,
    "yes/no": _yes_or_no,
    "compare": _compare,
    "read": _read,
}


def questions(scene: Scene, rng: random.Random) -> list[Question]:
    """Questions of every type that the scene allows; answers are lower-case words, digits or yes/no."""
    return [
        Question(question, kind, answer, _annotators(answer, rng))
        for kind, ask in TYPES.items()
        for question, answer in ask(scene, rng)
    ]

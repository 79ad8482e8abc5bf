"""The facts of a scene, the facts that a text states, and how well the two agree. A leaf: no torch.

`parse_facts` is the inverse of `facts_of` for any wording: grammatical captions and De-Diffusion's loose words alike.
Facts are sets, so that a word said twice counts once. Because naming every colour would look like perfect recall,
scores are F1, and `constant_text_floor` gives the best F1 that any single text, ignoring the image, can reach.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from .world import BACKGROUNDS, COLOURS, DIGITS, LETTERS, PICTURES, Scene, plural

KINDS = ("noun", "colour", "size", "place", "background", "pair", "triple")


@dataclass(frozen=True)
class Facts:
    """`pair` holds bound (noun, colour), `triple` bound (noun, colour, place)."""

    noun: frozenset[str] = frozenset()
    colour: frozenset[str] = frozenset()
    size: frozenset[str] = frozenset()
    place: frozenset[str] = frozenset()
    background: frozenset[str] = frozenset()
    pair: frozenset[tuple[str, str]] = frozenset()
    triple: frozenset[tuple[str, str, str]] = frozenset()


def facts_of(scene: Scene) -> Facts:
    """What is true of a scene."""
    things = scene.objects
    return Facts(
        noun=frozenset(t.noun for t in things),
        colour=frozenset(t.colour for t in things),
        size=frozenset(t.size for t in things),
        place=frozenset(t.place for t in things),
        background=frozenset({scene.background}),
        pair=frozenset((t.noun, t.colour) for t in things),
        triple=frozenset((t.noun, t.colour, t.place) for t in things),
    )


_NOUN_WORDS = {word: noun for noun in PICTURES for word in (noun, plural(noun))} | {
    "aeroplane": "plane",
    "airplane": "plane",
    "cog": "gear",
    "disc": "circle",
    "lightning": "bolt",
    "telephone": "phone",
}
_PLURALS = frozenset(plural(noun) for noun in PICTURES) | {
    "letters", "numbers", "digits", "things", "objects", "shapes",
}  # fmt: skip
_COLOUR_WORDS = {colour: colour for colour in COLOURS} | {"violet": "purple"}
_SIZE_WORDS = {"large": "large", "big": "large", "huge": "large", "small": "small", "little": "small", "tiny": "small"}
_BACKGROUND_WORDS = {background: background for background in BACKGROUNDS} | {"grey": "gray"}
_ADJECTIVES = {"colour": _COLOUR_WORDS, "size": _SIZE_WORDS, "background": _BACKGROUND_WORDS}
_VERTICAL = {"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
_CENTRE = {"center", "centre", "middle"}
_HORIZONTAL = {"left", "right"}
_PAUSES = {",": 4, "and": 3, ".": 12, ";": 12, ":": 2, "!": 12, "?": 12, "|": 12}
_MAX_BOUND = 48  # mentions of a kind that are bound, so that an endless text costs no endless time
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[.,;:!?|]")


@dataclass(frozen=True)
class _Mention:
    kind: str
    value: str
    position: int
    plural: bool = False


def _is_count(words: Sequence[str], i: int) -> bool:
    """Whether the digit at `i` counts things ("2 red stars") rather than being one of them ("number 2")."""
    following = (
        word for word in words[i + 1 : i + 4] if not any(word in adjectives for adjectives in _ADJECTIVES.values())
    )
    return words[i - 1 : i] not in (["number"], ["digit"]) and next(following, "") in _PLURALS


def _place_at(words: Sequence[str], i: int) -> str | None:
    if words[i] in _CENTRE:
        return "center"
    pair = words[i : i + 2]
    if len(pair) == 2 and pair[0] in _HORIZONTAL and pair[1] in _VERTICAL:
        pair = pair[::-1]
    if len(pair) == 2 and pair[0] in _VERTICAL and pair[1] in _HORIZONTAL:
        return f"{_VERTICAL[pair[0]]} {pair[1]}"
    return None


def _noun_at(words: Sequence[str], i: int) -> str | None:
    word = words[i]
    if word in LETTERS or (word in DIGITS and not _is_count(words, i)):
        return word
    return _NOUN_WORDS.get(word)


def _mentions(text: str) -> list[_Mention]:
    """Every word that states a fact, with its position: words are 1 apart, punctuation sets them further apart."""
    words = _WORD.findall(text.lower())
    found, position, skip = [], 0, False
    for i, word in enumerate(words):
        position += _PAUSES.get(word, 1)
        if skip:
            skip = False
        elif place := _place_at(words, i):
            found.append(_Mention("place", place, position))
            skip = place != "center"
        elif noun := _noun_at(words, i):
            several = word in _PLURALS or words[i - 1 : i] in (["letters"], ["numbers"], ["digits"])
            found.append(_Mention("noun", noun, position, several))
        else:
            found += [_Mention(kind, known[word], position) for kind, known in _ADJECTIVES.items() if word in known]
    return found


def _distance(noun: _Mention, attribute: _Mention) -> float:
    """How far an attribute is from a noun. At a tie English decides: adjectives stand before it, places after."""
    gap = attribute.position - noun.position
    usual = gap < 0 if attribute.kind != "place" else gap > 0
    return abs(gap) - (0.5 if usual else 0.0)


def _pair_up(nouns: Sequence[_Mention], attributes: Sequence[_Mention]) -> dict[int, int]:
    """Attribute number -> noun number: as many pairs as can be, in reading order, of least total distance."""

    @cache
    def best(i: int, j: int, pairs: int) -> tuple[float, tuple[tuple[int, int], ...]]:
        if pairs == 0:
            return 0.0, ()
        if min(len(nouns) - i, len(attributes) - j) < pairs:
            return math.inf, ()
        cost, rest = best(i + 1, j + 1, pairs - 1)
        together = (cost + _distance(nouns[i], attributes[j]), ((j, i), *rest))
        return min(together, best(i + 1, j, pairs), best(i, j + 1, pairs), key=lambda option: option[0])

    return dict(best(0, 0, min(len(nouns), len(attributes)))[1])


def _bind(nouns: Sequence[_Mention], attributes: Sequence[_Mention]) -> list[set[str]]:
    """For each noun mention, the values bound to it. One left over goes to the nearest noun if that is a plural."""
    attributes = attributes[:_MAX_BOUND]
    matched = _pair_up(nouns[:_MAX_BOUND], attributes)
    bound: list[set[str]] = [set() for _ in nouns]
    for j, attribute in enumerate(attributes):
        if j in matched:
            bound[matched[j]].add(attribute.value)
        elif nouns:
            nearest = min(range(len(nouns)), key=lambda i: _distance(nouns[i], attribute))
            if nouns[nearest].plural:
                bound[nearest].add(attribute.value)
    return bound


def parse_facts(text: str) -> Facts:
    """The facts that a text states, in any wording. Words that are no fact of the made world are passed over."""
    mentions = _mentions(text)
    by_kind = {kind: [m for m in mentions if m.kind == kind] for kind in KINDS}
    nouns = by_kind["noun"]
    colours, places = _bind(nouns, by_kind["colour"]), _bind(nouns, by_kind["place"])
    bound = [(noun.value, colour, place) for noun, colour, place in zip(nouns, colours, places, strict=True)]
    return Facts(
        **{kind: frozenset(m.value for m in by_kind[kind]) for kind in KINDS[:5]},
        pair=frozenset((noun, colour) for noun, own, _ in bound for colour in own),
        triple=frozenset((noun, colour, place) for noun, own, where in bound for colour in own for place in where),
    )


@dataclass(frozen=True)
class Score:
    """Agreement over a set of images: counts of facts summed over all of them (micro average)."""

    stated: int
    true: int
    both: int

    @property
    def precision(self) -> float:
        return self.both / self.stated if self.stated else 0.0

    @property
    def recall(self) -> float:
        return self.both / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.both / (self.stated + self.true) if self.stated + self.true else 0.0


def score_facts(stated: Sequence[Facts], true: Sequence[Facts]) -> dict[str, Score]:
    """Precision, recall and F1 of each kind in `KINDS`, over pairs of stated and true facts."""
    scores = {}
    for kind in KINDS:
        pairs = [(getattr(one, kind), getattr(other, kind)) for one, other in zip(stated, true, strict=True)]
        counts = (sum(len(one) for one, _ in pairs), sum(len(other) for _, other in pairs))
        scores[kind] = Score(*counts, sum(len(one & other) for one, other in pairs))
    return scores


def score_texts(texts: Iterable[str], scenes: Iterable[Scene]) -> dict[str, Score]:
    """`score_facts` of texts against the scenes that they describe."""
    return score_facts([parse_facts(text) for text in texts], [facts_of(scene) for scene in scenes])


def constant_text_floor(true: Sequence[Facts]) -> dict[str, Score]:
    """For each kind the score of the best single set of facts, stated of every image alike.

    For a given number of facts the most frequent ones are best, so trying every number finds the best set exactly.
    """
    floor = {}
    for kind in KINDS:
        counts = Counter(fact for facts in true for fact in getattr(facts, kind))
        total, both, best = sum(counts.values()), 0, Score(0, sum(counts.values()), 0)
        for number, (_, count) in enumerate(counts.most_common(), 1):
            both += count
            best = max(best, Score(number * len(true), total, both), key=lambda score: score.f1)
        floor[kind] = best
    return floor

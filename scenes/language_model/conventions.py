"""Ways to write an answer that change from prompt to prompt and can be learnt from the shots alone.

A family holds many conventions (members); some members never occur in training, so that reading an unseen one off the
shots can be measured. A leaf: no torch.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from ..tokenizer import scene_words


@dataclass(frozen=True)
class Convention:
    """How every answer of one prompt is written.

    family: of `FAMILIES`, or "plain". needs_value: only a shot with the very same answer tells how it is written.
    """

    family: str
    write: Callable[[str], str] = field(repr=False)
    needs_value: bool = False


PLAIN = Convention("plain", str)
_CAPITALS = 0.1  # share of made-up words that begin with one
_MOST_NAMES = 40  # different answers in one prompt
_KINDS_OF_PAIRS = (3, 5, 2)  # weights of those listed, two made-up words, and two letters or digits


def _unseen_words() -> tuple[str, ...]:
    """ "dax", "wupis": every fifth of the short and long words that training drew from until the seventh stage of the
    weights that come along, and none that it drew."""
    known = scene_words()
    short = ["".join(letters) for letters in product("bdfgklmnprstvwz", "aeiou", "bdfgkmpxz")]
    long = [f"{head}{tail}" for head, tail in product(short[::7], ("ek", "ol", "um", "is", "en"))]
    return tuple([word for word in (*short, *long) if word not in known][::5])


UNSEEN_WORDS = _unseen_words()
_PAIRS = (
    (
        *(("true", "false"), ("right", "wrong"), ("y", "n"), ("1", "0"), ("on", "off"), ("good", "bad"), ("T", "F")),
        *(("correct", "incorrect"), ("yep", "nope"), ("hot", "cold"), ("black", "white"), ("A", "B"), ("day", "night")),
        *(("open", "closed"), ("up", "down"), ("fish", "bird"), ("agree", "disagree"), ("Yes", "No"), ("+", "-")),
    ),
    (("aye", "nay"), ("real", "fake"), ("P", "Q"), ("win", "lose"), ("left", "right"), ("bread", "butter")),
)
_ONSETS = (
    "",
    *"bcdfghjklmnprstvwyz",
    *["bl", "br", "ch", "cl", "cr", "dr", "fl", "fr", "gr", "pl", "qu", "sh", "sl", "sp", "st", "th", "tr", "tw"],
)
_VOWELS = (*"aeiou", *["ai", "ea", "ee", "oo", "ou"])
_CODAS = (
    "",
    *"bdfgklmnprstxz",
    *["ck", "ft", "ld", "ll", "lt", "mp", "nd", "ng", "nt", "rd", "rk", "rn", "sh", "ss", "st"],
)
_UNSEEN_PAIRS = {word.lower() for pair in _PAIRS[True] for word in pair}
_NEVER = {*UNSEEN_WORDS, *_UNSEEN_PAIRS, *scene_words()}
_SIGNS = [sign for sign in string.ascii_letters + string.digits if sign.lower() not in _UNSEEN_PAIRS]


def made_up_word(rng: random.Random) -> str:
    """ "dax", "brint", "Quoofle": so many that none is known by heart; no word of the made world, and none that is
    held out."""
    while True:
        syllables = rng.choice((1, 1, 1, 2))
        word = "".join(rng.choice(part) for _ in range(syllables) for part in (_ONSETS, _VOWELS, _CODAS))
        if len(word) > 1 and word not in _NEVER:
            return word.title() if rng.random() < _CAPITALS else word


def _made_up_words(number: int, rng: random.Random, *, held_out: bool) -> list[str]:
    """So many, all different."""
    if held_out:
        return rng.sample(UNSEEN_WORDS, number)
    words: dict[str, None] = {}
    while len(words) < number:
        words[made_up_word(rng)] = None
    return list(words)


def _spelled(answer: str) -> str:
    return "-".join(answer.replace(" ", ""))


def _initials(answer: str) -> str:
    return "".join(word[0] for word in answer.split())


_FORMS: tuple[Sequence[Callable[[str], str]], ...] = (  # training shows; held out
    (
        *(lambda answer: answer[0], lambda answer: answer[0].upper(), lambda answer: answer[:3], str.upper, str.title),
        *(_initials, _spelled, lambda answer: f"{answer} {answer}", lambda answer: answer[-1]),
    ),
    (lambda answer: answer[:2], lambda answer: _initials(answer).upper(), lambda answer: f"{answer} {answer} {answer}"),
)
_NUMBERS = tuple(  # how one to four are written: training shows; held out
    tuple(way.split() for way in ways)
    for ways in (
        ("one two three four", "I II III IV", "first second third fourth", "a b c d", "ONE TWO THREE FOUR", "0 1 2 3"),
        ("x xx xxx xxxx", "11 22 33 44", "A B C D"),
    )
)


def made_up_names(values: Sequence[str], rng: random.Random, *, held_out: bool = False) -> dict[str, str]:
    """A made-up name for each of the values, all different."""
    return dict(zip(values, _made_up_words(len(values), rng, held_out=held_out), strict=True))


def _names(rng: random.Random, held_out: bool) -> Convention:
    """Each answer has a made-up name, drawn when it is first asked for."""
    words = _made_up_words(_MOST_NAMES, rng, held_out=held_out)
    given: dict[str, str] = {}
    return Convention("names", lambda answer: given.setdefault(answer, words[len(given)]), needs_value=True)


def _pairs(rng: random.Random, held_out: bool) -> Convention:
    """Two words for yes and no, in either order; in training mostly two that have nothing to do with it."""
    words: Sequence[str] = rng.choice(_PAIRS[held_out])
    if not held_out:
        (kind,) = rng.choices(("known", "made up", "signs"), _KINDS_OF_PAIRS)
        words = {"known": words, "made up": _made_up_words(2, rng, held_out=False), "signs": _SIGNS}[kind]
    yes, no = rng.sample(words, 2)
    return Convention("pairs", lambda answer: yes if answer == "yes" else no, needs_value=True)


def _affix(rng: random.Random, held_out: bool) -> Convention:
    """A made-up word before or after the answer."""
    word = rng.choice(UNSEEN_WORDS) if held_out else made_up_word(rng)
    if rng.random() < 0.5:
        return Convention("affix", lambda answer: f"{word} {answer}")
    return Convention("affix", lambda answer: f"{answer} {word}")


def _form(rng: random.Random, held_out: bool) -> Convention:
    """Initial, first letters, capitals, spelled out, ..."""
    return Convention("form", rng.choice(_FORMS[held_out]))


def _number(rng: random.Random, held_out: bool) -> Convention:
    """Counts as words, Roman numbers, letters, ... Of an unseen way only a shot of the same count tells."""
    words = rng.choice(_NUMBERS[held_out])
    return Convention("numbers", lambda answer: words[int(answer) - 1], needs_value=True)


_MAKE: dict[str, Callable[[random.Random, bool], Convention]] = {
    "names": _names,
    "pairs": _pairs,
    "affix": _affix,
    "form": _form,
    "numbers": _number,
}
FAMILIES = tuple(_MAKE)
QUESTION_TYPES: dict[str, tuple[str, ...]] = {
    "names": ("colour", "where", "yes/no"),
    "pairs": ("yes/no",),
    "affix": ("what", "colour", "count", "where", "yes/no"),
    "form": ("what", "colour", "where"),
    "numbers": ("count",),
}
"""Which types of questions a family's answers belong to; one prompt holds questions of one type."""


def draw_convention(family: str, rng: random.Random, *, held_out: bool = False) -> Convention:
    """A member of a family ("plain" has one). held_out: one of those that training never shows, instead of the others.

    Raises `KeyError` for an unknown family.
    """
    return PLAIN if family == "plain" else _MAKE[family](rng, held_out)

"""Ways to write an answer that change from prompt to prompt and can be learnt from the shots alone.

A family holds many conventions (members); some members never occur in training, so that reading an unseen one off the
shots can be measured. A leaf: no torch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

from .tokenizer import scene_words


@dataclass(frozen=True)
class Convention:
    """How every answer of one prompt is written.

    family: of `FAMILIES`, or "plain". needs_value: only a shot with the very same answer tells how it is written.
    """

    family: str
    write: Callable[[str], str] = field(repr=False)
    needs_value: bool = False


def _as_it_is(answer: str) -> str:
    return answer


PLAIN = Convention("plain", _as_it_is)


def _made_up_words() -> tuple[str, ...]:
    """ "dax", "wup", "tovek": words that are no words of the made world."""
    known = scene_words()
    short = ["".join(letters) for letters in product("bdfgklmnprstvwz", "aeiou", "bdfgkmpxz")]
    long = [f"{head}{tail}" for head, tail in product(short[::7], ("ek", "ol", "um", "is", "en"))]
    return tuple(word for word in (*short, *long) if word not in known)


MADE_UP = _made_up_words()
# (words of training, words that training never shows)
_WORDS = (
    tuple(word for i, word in enumerate(MADE_UP) if i % 5),
    tuple(word for i, word in enumerate(MADE_UP) if not i % 5),
)
_PAIRS = (
    (
        *(("true", "false"), ("right", "wrong"), ("y", "n"), ("1", "0"), ("on", "off"), ("good", "bad"), ("T", "F")),
        *(("correct", "incorrect"), ("yep", "nope"), ("hot", "cold"), ("black", "white"), ("A", "B"), ("day", "night")),
        *(("open", "closed"), ("up", "down"), ("fish", "bird"), ("agree", "disagree"), ("Yes", "No"), ("+", "-")),
    ),
    (("aye", "nay"), ("real", "fake"), ("P", "Q"), ("win", "lose"), ("left", "right"), ("bread", "butter")),
)


def _spelled(answer: str) -> str:
    return "-".join(answer.replace(" ", ""))


def _initials(answer: str) -> str:
    return "".join(word[0] for word in answer.split())


_FORMS: tuple[tuple[Callable[[str], str], ...], tuple[Callable[[str], str], ...]] = (
    (
        lambda answer: answer[0],
        lambda answer: answer[0].upper(),
        lambda answer: answer[:3],
        str.upper,
        str.title,
        _initials,
        _spelled,
        lambda answer: f"{answer} {answer}",
        lambda answer: answer[-1],
    ),
    (lambda answer: answer[:2], lambda answer: _initials(answer).upper(), lambda answer: f"{answer} {answer} {answer}"),
)
_NUMBERS = (
    (
        ("one", "two", "three", "four"),
        ("I", "II", "III", "IV"),
        ("first", "second", "third", "fourth"),
        ("a", "b", "c", "d"),
        ("ONE", "TWO", "THREE", "FOUR"),
        ("0", "1", "2", "3"),
    ),
    (("x", "xx", "xxx", "xxxx"), ("11", "22", "33", "44"), ("A", "B", "C", "D")),
)


def made_up_names(values: Sequence[str], rng: random.Random, *, held_out: bool = False) -> dict[str, str]:
    """A made-up name for each of the values, all different."""
    return dict(zip(values, rng.sample(_WORDS[held_out], len(values)), strict=True))


def _names(rng: random.Random, held_out: bool) -> Convention:
    """Each answer has a made-up name, drawn when it is first asked for."""
    words = rng.sample(_WORDS[held_out], 120)
    given: dict[str, str] = {}
    return Convention("names", lambda answer: given.setdefault(answer, words[len(given)]), needs_value=True)


def _pairs(rng: random.Random, held_out: bool) -> Convention:
    """Two words for yes and no, in either order."""
    yes, no = rng.sample(rng.choice(_PAIRS[held_out]), 2)
    return Convention("pairs", lambda answer: yes if answer == "yes" else no, needs_value=True)


def _affix(rng: random.Random, held_out: bool) -> Convention:
    """A made-up word before or after the answer."""
    word = rng.choice(_WORDS[held_out])
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

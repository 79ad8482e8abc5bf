"""Exact match of short answers after the usual normalisation; answers of several things match as sets (DAQUAR)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(value) for value, word in enumerate(_WORDS)}
_ARTICLES = frozenset(("a", "an", "the"))


def normalized(answer: str) -> str:
    """Lower case, number words as digits, without articles and punctuation; "_" is a space, as DAQUAR writes it."""
    words = re.sub(r"[^\w\s]|_", " ", answer.lower()).split()
    return " ".join(_NUMBERS.get(word, word) for word in words if word not in _ARTICLES)


def exact_match(answer: str | None, truth: Sequence[str]) -> bool:
    """Whether `answer` says all of `truth` and no more: "table and chair", "chair, table" (Malinowski & Fritz 2014,
    arXiv 1410.0210). None, for an answer that could not be parsed, is wrong.
    """
    if answer is None:
        return False
    parts = {normalized(part) for part in re.split(r",|;|\band\b", answer)} - {""}
    return parts == {normalized(one) for one in truth}

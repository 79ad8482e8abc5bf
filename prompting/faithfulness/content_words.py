"""The content words of a caption: lemmas of its nouns, verbs and adjectives, by the rules of the faithfulness check."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .words import lemmas, split_quotes, tag

_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class CaptionWords:
    """nouns: a part of `content`; all: every word in order, function words and repetitions included."""

    content: frozenset[str]
    nouns: frozenset[str]
    all: tuple[str, ...]


def caption_words(text: str) -> CaptionWords:
    """Words with a digit, closed-class words, numbers and adverbs are no content words; unknown words are nouns."""
    tagged = [word for word in tag(split_quotes(text)[0]) if len(word.text) > 1 and _LETTERS.fullmatch(word.text)]
    content = {word.tag: set[str]() for word in tagged}
    for word in tagged:
        content[word.tag].add(lemmas(word.text).get("ADJ", word.lemma) if word.tag == "adj" else word.lemma)
    nouns = content.get("noun", set())
    described = nouns | content.get("verb", set()) | content.get("adj", set())
    return CaptionWords(frozenset(described), frozenset(nouns), tuple(word.lemma for word in tagged))


def joined_words(texts: Iterable[str]) -> CaptionWords:
    """The union of several captions' words."""
    each = [caption_words(text) for text in texts]
    return CaptionWords(
        frozenset().union(*(one.content for one in each)),
        frozenset().union(*(one.nouns for one in each)),
        tuple(word for one in each for word in one.all),
    )

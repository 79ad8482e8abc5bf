"""How far captions of one image agree: which words name the same, what is confirmed, and what is contradicted."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from .caption_phrases import CaptionParts, known_word, readable, with_article
from .faithfulness import lexicon
from .faithfulness.content_words import caption_words
from .faithfulness.matching import excludes, same_attribute, same_noun
from .faithfulness.parsing import Thing, read
from .faithfulness.words import lemmas

_LISTS = tomllib.loads(Path(__file__).with_name("caption_lexicon.toml").read_text(encoding="utf-8"))
_ONE_THING, _ALIKE = (lexicon.groups(_LISTS["groups"][name]) for name in ("ONE_THING", "ALIKE"))
SETS = {name: frozenset(text.split()) for name, text in _LISTS["sets"].items()}
PEOPLE, BODY, SIZES, WORN = SETS["PEOPLE"], SETS["BODY"], SETS["SIZES"], SETS["WORN"]
GENERIC = lexicon.IGNORED | SETS["GENERIC"]

words_of = lru_cache(maxsize=256)(caption_words)


@lru_cache(maxsize=65536)
def same_word(one: str, other: str) -> bool:
    """Whether two words may name one thing."""
    if one == other or same_noun(one, other) or same_noun(other, one) or same_attribute(one, other):
        return True
    if one in PEOPLE and other in PEOPLE:
        return not (
            (one in SETS["MALE"] and other in SETS["FEMALE"]) or (one in SETS["FEMALE"] and other in SETS["MALE"])
        )
    return _ONE_THING.get(one, one) == _ONE_THING.get(other, other)


def support_of(number: int, parts: dict[int, CaptionParts]) -> float:
    """The share of a caption's content words that another caption says too."""
    words = words_of(parts[number].text).content
    others = [words_of(part.text).content for one, part in parts.items() if one != number]
    if not others:
        return 1.0
    confirmed = sum(any(same_word(word, said) for other in others for said in other) for word in words)
    return confirmed / len(words) if words else 0.0


def agreement_score(number: int, parts: dict[int, CaptionParts]) -> int:
    """How much a caption says that others confirm, less what they contradict. Whole numbers, so that the order of words
    in a set cannot decide between two captions."""
    words = words_of(parts[number].text).content
    others = [part for one, part in parts.items() if one != number]
    said = [words_of(part.text).content for part in others]
    score = 0
    for word in words:
        confirmed = sum(any(same_word(word, own) for own in other) for other in said)
        score += (10 * min(confirmed, 2) or 2) if known_word(word) else -10
    plural = sum(part.plural != parts[number].plural for part in others)
    score -= 20 * (2 * plural > len(others)) + 20 * len(contradictions(parts[number].text, others))
    return score - (0 if parts[number].phrases else 15)


@lru_cache(maxsize=256)
def things_of(text: str) -> tuple[Thing, ...]:
    """The things that a text says there are."""
    return tuple(thing for thing in read(readable(text)).things if not thing.negated)


def contradictions(text: str, others: Sequence[CaptionParts]) -> list[tuple[Thing, str]]:
    """(thing, attribute), or (thing, "#") for its number, that as many captions contradict as confirm, the text's own
    among them."""
    found = []
    for thing in things_of(text):
        same = [other for part in others for other in things_of(part.text) if other.noun == thing.noun]
        own = sorted(thing.attributes)
        if not any(excludes(one, other) for one in own for other in own):  # "black and white" is no contradiction
            found += [(thing, attribute) for attribute in own if _is_contradicted(attribute, same)]
        if thing.exact and thing.count and thing.count > 1:
            numbers = [other.count for other in same if other.exact and other.count]
            if sum(number != thing.count for number in numbers) > numbers.count(thing.count):
                found.append((thing, "#"))
    return found


def _is_contradicted(attribute: str, same: Sequence[Thing]) -> bool:
    confirming = [other for other in same if any(same_attribute(attribute, own) for own in other.attributes)]
    against = [other for other in same if any(excludes(attribute, own) for own in other.attributes)]
    return sum(other not in confirming for other in against) > len(confirming)


def without_contradictions(text: str, others: Sequence[CaptionParts]) -> str:
    """The text without the adjectives that others contradict."""
    for thing, attribute in contradictions(text, list(others)):
        if attribute == "#" or not thing.words:
            continue  # a caption with another number than most is seldom the base
        text = re.sub(
            rf"\b{re.escape(attribute)} (?=(?:\w+ )?{re.escape(thing.words.split()[-1])}\b)", "", text, count=1
        )
    return with_article(text)


def alike(one: str, other: str) -> bool:
    """Whether two adjectives say much the same."""
    if len(one) > 4 and one[:4] == other[:4]:  # "snowy" of a snow-covered hill
        return True
    return same_attribute(one, other) or _ALIKE.get(one, one) == _ALIKE.get(other, other)


def is_adjective(word: str) -> bool:
    """Whether a word can stand before a noun and say what it is like."""
    known = lemmas(word)
    plain = (
        word.isalpha()
        and known_word(word)
        and not word.endswith("ing")
        and word not in lexicon.VAGUE | SETS["NO_QUALITY"]
    )
    return plain and (
        word in lexicon.KNOWN_ADJECTIVES or ("ADJ" in known and "NOUN" not in known and "VERB" not in known)
    )

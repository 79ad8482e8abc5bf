"""Noun phrases: article, number, adjectives and noun, collected from tagged words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import english_words as words
from .morphology import fixed_number, is_plural, singular, word_set
from .tagging import Word, number

_NOUN_OR_ADJECTIVE = word_set(
    """
    orange rose lime olive lemon cherry ruby emerald jade pearl light square human cream chestnut amber
    plain antique male female dark cold
    """
)


@dataclass
class Mention:
    """One noun phrase. `soft` are attributes that may be its own or a neighbour's: enough to keep, too little to
    demand.
    """

    noun: str
    count: int | None = None
    plural: bool = False
    exact: bool = False
    more: bool = False
    ordinal: int = 0
    negated: bool = False
    attributes: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    words: str = ""


def noun_phrase(tagged: Sequence[Word], start: int) -> tuple[Mention | None, int, list[str]]:
    """The noun phrase from `start` on, the place behind it, and its adjectives."""
    mention, head, place, adjectives = Mention(""), "", start, list[str]()
    while (word := tagged[place]).tag != "end":
        if word.tag == "det" and not head and not adjectives:
            _determine(mention, word.text)
        elif word.tag == "num":
            if head:
                mention.attributes.add(word.text)
                place += 1
                break
            mention.count, mention.exact = number(word.text), True
        elif word.tag == "adj" and (not head or _unknown_adjective(tagged, head, place)):
            adjectives += [head] if head else []
            head = ""
            _describe(tagged, mention, adjectives, place)
        elif word.tag == "noun" or (head and _noun_after_all(tagged, place)):
            if head:
                adjectives.append(singular(head))
            head = word.text
        elif not _inner(tagged, start, place, head, adjectives):
            break
        place += 1
        if head and _group(tagged, mention, singular(head), place):
            head, place, adjectives = "", place + 1, []
    if not head and adjectives and adjectives[-1] in _NOUN_OR_ADJECTIVE:
        described = len(adjectives) > 1 and adjectives[-1] not in words.COLOURS  # "soft light", but not "deep orange"
        head = adjectives.pop() if described or tagged[start].tag in ("det", "num") else ""
    if not head:
        return None, place, adjectives
    return _finished(mention, head, adjectives), place, adjectives


def _unknown_adjective(tagged: Sequence[Word], head: str, place: int) -> bool:
    """Whether what was taken for the noun was none: "crisp" in "four crisp green apples"."""
    rest = [word.tag for word in tagged[place : place + 4]]
    nouns = [i for i, kind in enumerate(rest) if kind == "noun"]
    return not is_plural(head) and bool(nouns) and set(rest[: nouns[0]]) == {"adj"}


def _describe(tagged: Sequence[Word], mention: Mention, adjectives: list[str], place: int) -> None:
    word, after = tagged[place], tagged[place + 1]
    if word.text in words.ORDINALS:
        mention.ordinal = words.ORDINALS[word.text]
    elif word.text in words.ONE:
        mention.count, mention.exact = 1, True
    elif not (word.text in words.SHADES and after.text in words.COLOURS):
        adjectives.append(word.lemma)
    elif word.text in words.TOLD_SHADES:
        mention.attributes.add(words.TOLD_SHADES[word.text])


def _noun_after_all(tagged: Sequence[Word], place: int) -> bool:
    """Whether a word that may be an adjective is the noun: "light" in "evening light"."""
    word = tagged[place]
    return word.text in _NOUN_OR_ADJECTIVE - words.COLOURS.keys() and tagged[place + 1].tag not in ("adj", "noun")


def _inner(tagged: Sequence[Word], start: int, place: int, head: str, adjectives: list[str]) -> bool:
    """Whether an adverb, comma or "and" stands inside the phrase: "a red and very shiny ball"."""
    word, after = tagged[place], tagged[place + 1].tag
    if word.tag == "adv":
        return not head and after in ("adj", "noun", "adv", "num")
    # "in red, soft light" and "one short, soft light" end at the comma.
    apart = tagged[start].tag == "num" or (start > 0 and tagged[start - 1].tag in ("prep", "aux", "adv", "verb"))
    joins = (word.tag == "comma" and not (apart and tagged[start].tag != "det")) or word.tag == "conj"
    more = after == "adj" or (after == "adv" and tagged[min(place + 2, len(tagged) - 1)].tag == "adj")
    return joins and word.text not in ("while", "as", "where") and bool(adjectives) and not head and more


def _determine(mention: Mention, text: str) -> None:
    mention.more = mention.more or text in words.MORE
    if text in words.ONE:
        mention.count, mention.exact = 1, text not in ("a", "an", "the", "this", "that", "every", "each")
    if text in words.PLURAL_DETERMINERS:
        mention.plural = True


def _group(tagged: Sequence[Word], mention: Mention, head: str, place: int) -> bool:
    """Whether the phrase goes on behind "pair of", "flock of": the things count, not their group."""
    plural_next = any(
        word.tag == "noun" and (is_plural(word.text) or fixed_number(word.text))
        for word in tagged[place + 1 : place + 5]
    )
    if tagged[place].text != "of" or head not in words.COLLECTIVES | set(words.GROUPS_OF) or not plural_next:
        return False
    each = words.GROUPS_OF.get(head)
    mention.count = each and each * (mention.count or 1)
    mention.plural, mention.exact = True, mention.count is not None
    return True


def _finished(mention: Mention, head: str, adjectives: list[str]) -> Mention:
    if head in words.ORDINALS:
        mention.ordinal = words.ORDINALS[head]
    mention.noun = singular(head)
    mention.plural = mention.plural or is_plural(head) or (mention.count or 0) > 1
    if is_plural(head) and mention.count == 1:
        mention.count, mention.exact = None, False
    for adjective in adjectives:
        if adjective in words.ORDINALS:
            mention.ordinal = words.ORDINALS[adjective]
        else:
            mention.attributes.add(adjective)
    return mention

"""Several captions of one image, by different people, made into a short caption and one that tells it all. By rule.

Descriptive: the caption that says most of what the others confirm; adjectives and phrases of the others that say more
are worked in, each fact once. Where captions contradict each other in a colour, a size or the like, the minority's word
is left out, at a tie both. Short: the shortest caption whose content words another caption confirms.

Limits: captions are not understood. Two names of one thing that the word lists lack are told twice; what is one
person's mistake, but contradicts nobody, is told; a phrase may say of the subject what was said of something else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..errors import InputError
from .caption_phrases import CaptionParts, Phrase, caption_parts, known_word, readable, with_article
from .faithfulness import lexicon
from .faithfulness.content_words import caption_words
from .faithfulness.matching import excludes, same_attribute, same_noun
from .faithfulness.parsing import Thing, read
from .faithfulness.words import lemmas, singular

_LISTS = tomllib.loads(Path(__file__).with_name("caption_lexicon.toml").read_text(encoding="utf-8"))
_ONE_THING, _ALIKE = (lexicon.groups(_LISTS["groups"][name]) for name in ("ONE_THING", "ALIKE"))
_SETS = {name: frozenset(text.split()) for name, text in _LISTS["sets"].items()}
_PEOPLE, _BODY, _SIZES, _WORN = _SETS["PEOPLE"], _SETS["BODY"], _SETS["SIZES"], _SETS["WORN"]
_COUNTED = (_PEOPLE | _SETS["ANIMALS"]) - _SETS["PRONOUNS"]  # that need an article
_GENERIC = lexicon.IGNORED | _SETS["GENERIC"]
_UNCLEAR = re.compile(
    r",| and |\w{2}ing\b|haired|eyed|skinned|legged|colou?red"
)  # whose adjectives belong to something else
_MOST = 3  # phrases behind the base


@dataclass(frozen=True)
class Merged:
    """text: one or two sentences. base: number of the caption that it starts from. added: what the others gave.
    support: share of the base's content words that another caption confirms."""

    text: str
    base: int
    added: tuple[str, ...]
    support: float


def descriptive_caption(captions: Sequence[str], *, max_words: int = 40) -> Merged:
    """All that the captions state, once. Raises `InputError` for no caption of two words."""
    parts = _all_parts(captions)
    number = max(parts, key=lambda one: (_score(one, parts), len(parts[one].text)))
    base, others = parts[number], {one: part for one, part in parts.items() if one != number}
    text = _without_contradictions(base.text, list(others.values()))
    text, adjectives = _with_adjectives(text, base, list(others.values()))
    added = list(adjectives)
    behind: list[str] = []
    for phrase in _candidates(base, others):
        told = ", ".join([text, *behind])
        full = len(behind) == _MOST or len(told.split()) + len(phrase.text.split()) > max_words
        if full or not _is_new(phrase, told):
            continue
        phrase = _what_is_new(phrase, told)
        inserted = _behind_subject(text, base, phrase) if _describes_subject(phrase) else None
        if inserted:
            text = inserted
        else:
            behind.append(phrase.text)
        added.append(phrase.text)
    text = with_subject_article(", ".join([text, *behind]), base)
    return Merged(_sentence(text), number, tuple(added), _support(number, parts))


def short_caption(captions: Sequence[str]) -> Merged:
    """The shortest caption that the others confirm word for word, or else the one that they confirm most."""
    parts = _all_parts(captions)
    nouns = {one: _words(part.text).nouns for one, part in parts.items()}
    shares = {one: _support(one, parts) if nouns[one] else 0.0 for one in parts}
    best = max(shares.values())
    number = min((one for one in parts if shares[one] == best), key=lambda one: len(parts[one].text.split()))
    return Merged(_sentence(with_subject_article(parts[number].text, parts[number])), number, (), best)


def _all_parts(captions: Sequence[str]) -> dict[int, CaptionParts]:
    parts = {number: caption_parts(text) for number, text in enumerate(captions)}
    parts = {number: part for number, part in parts.items() if len(part.text.split()) > 1}
    if not parts:
        raise InputError("there is no caption of two words or more; expected several")
    return parts


def with_subject_article(text: str, parts: CaptionParts) -> str:
    """ "man on a bike" -> "a man on a bike"."""
    first, words = text.split()[0].lower().strip(","), parts.subject.lower().split()
    bare = first not in lexicon.CLOSED and not first.isdecimal() and first not in lexicon.NUMBERS and "'" not in first
    single = parts.head in _COUNTED and not parts.plural and sum(word in _COUNTED for word in words) == 1
    return with_article(f"a {text[:1].lower()}{text[1:]}") if bare and single and singular(first) == first else text


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


_words = lru_cache(maxsize=256)(caption_words)


@lru_cache(maxsize=65536)
def _same(one: str, other: str) -> bool:
    """Whether two words may name one thing."""
    if one == other or same_noun(one, other) or same_noun(other, one) or same_attribute(one, other):
        return True
    if one in _PEOPLE and other in _PEOPLE:
        return not (
            (one in _SETS["MALE"] and other in _SETS["FEMALE"]) or (one in _SETS["FEMALE"] and other in _SETS["MALE"])
        )
    return _ONE_THING.get(one, one) == _ONE_THING.get(other, other)


def _support(number: int, parts: dict[int, CaptionParts]) -> float:
    """The share of a caption's content words that another caption says too."""
    words = _words(parts[number].text).content
    others = [_words(part.text).content for one, part in parts.items() if one != number]
    if not others:
        return 1.0
    confirmed = sum(any(_same(word, said) for other in others for said in other) for word in words)
    return confirmed / len(words) if words else 0.0


def _score(number: int, parts: dict[int, CaptionParts]) -> float:
    """How much a caption says that others confirm, less what they contradict."""
    words = _words(parts[number].text).content
    others = [part for one, part in parts.items() if one != number]
    said = [_words(part.text).content for part in others]
    score = 0.0
    for word in words:
        confirmed = sum(any(_same(word, own) for own in other) for other in said)
        score += min(confirmed, 2) if known_word(word) else -1.0
        score += 0.2 if not confirmed and known_word(word) else 0.0
    plural = sum(part.plural != parts[number].plural for part in others)
    score -= 2.0 * (plural > len(others) / 2) + 2.0 * len(_contradicted(parts[number].text, others))
    return score - (1.5 if not parts[number].phrases else 0.0)


@lru_cache(maxsize=256)
def _things(text: str) -> tuple[Thing, ...]:
    return tuple(thing for thing in read(readable(text)).things if not thing.negated)


def _contradicted(text: str, others: Sequence[CaptionParts]) -> list[tuple[Thing, str]]:
    """(thing, attribute or "#") that as many other captions contradict as confirm; the text itself confirms it."""
    found = []
    for thing in _things(text):
        same = [
            o for part in others for o in _things(part.text) if same_noun(thing.noun, o.noun) and o.noun == thing.noun
        ]
        own = sorted(thing.attributes)
        for attribute in own if not any(excludes(one, o) for one in own for o in own) else ():
            for_it = 1 + sum(any(same_attribute(attribute, own) for own in o.attributes) for o in same)
            against = sum(
                any(excludes(attribute, own) for own in o.attributes)
                and not any(same_attribute(attribute, own) for own in o.attributes)
                for o in same
            )
            if against >= for_it:
                found.append((thing, attribute))
        if thing.exact and thing.count and thing.count > 1:
            numbers = [o.count for o in same if o.exact and o.count]
            if sum(number != thing.count for number in numbers) > numbers.count(thing.count):
                found.append((thing, "#"))
    return found


def _without_contradictions(text: str, others: Sequence[CaptionParts]) -> str:
    for thing, attribute in _contradicted(text, list(others)):
        if attribute == "#" or not thing.words:
            continue  # a caption with another number than most is seldom the base
        text = re.sub(
            rf"\b{re.escape(attribute)} (?=(?:\w+ )?{re.escape(thing.words.split()[-1])}\b)", "", text, count=1
        )
    return with_article(text)


def _with_adjectives(text: str, base: CaptionParts, others: Sequence[CaptionParts]) -> tuple[str, list[str]]:
    """The adjectives that others give to a thing which the base names once."""
    added: list[str] = []
    things = _things(text)
    contradicted = {word for _, word in _contradicted(base.text, others)}
    for thing in things:
        alike = [other for other in things if _same(thing.noun, other.noun)]
        if len(alike) > 1 or thing.noun in _GENERIC | _BODY or _is_unclear(thing.words):
            continue
        subject = thing.noun == base.head
        own = [_matching(thing, part, subject) for part in others]
        new = _new_adjectives(thing, [one for one in own if one], contradicted)[:2]
        for adjective in sorted(new, key=lambda one: one not in _SIZES):  # "large brown": each stands next to the noun
            changed = _inserted(text, thing, adjective)
            if changed and len(added) < 4:
                text = changed
                added.append(f"{adjective} {thing.noun}")
    return text, added


def _matching(thing: Thing, part: CaptionParts, subject: bool) -> Thing | None:
    """What another caption says of the same thing, if it names one such thing."""
    things = _things(part.text)
    found = [other for other in things if other.noun == thing.noun or same_noun(thing.noun, other.noun)]
    if subject and not found and part.head in _PEOPLE and thing.noun in _PEOPLE:
        found = [other for other in things if other.noun == part.head]
    if len(found) != 1 or found[0].plural != thing.plural or _is_unclear(found[0].words):
        return None
    other = found[0]
    if other.noun != thing.noun and other.noun in _PEOPLE:  # a little boy to one is no little man to another
        return replace(other, attributes=other.attributes - _SIZES)
    return other


def _is_unclear(words: str) -> bool:
    """Whether an adjective in a noun phrase may belong to something else: "a black haired girl", a phrase too long."""
    return bool(_UNCLEAR.search(words)) or len(words.split()) > 4


def _new_adjectives(thing: Thing, others: Sequence[Thing], contradicted: Set[str]) -> list[str]:
    """Those that nobody contradicts, most often said first. contradicted: what was left out of the text."""
    own = [sorted(other.attributes & set(other.words.split())) for other in others]
    told = [one for words in own for one in words if _is_adjective(one)]
    every = [*thing.attributes, *told, *contradicted]
    new = [
        one
        for one in dict.fromkeys(sorted(told, key=told.count, reverse=True))
        if not any(_alike(one, own) for own in [thing.noun, *thing.attributes])
        and not any(excludes(one, o) for o in every)
    ]
    return [one for place, one in enumerate(new) if not any(_alike(one, before) for before in new[:place])]


def _alike(one: str, other: str) -> bool:
    if len(one) > 4 and one[:4] == other[:4]:  # "snowy" of a snow-covered hill
        return True
    return same_attribute(one, other) or _ALIKE.get(one, one) == _ALIKE.get(other, other)


def _is_adjective(word: str) -> bool:
    known = lemmas(word)
    plain = (
        word.isalpha()
        and known_word(word)
        and not word.endswith("ing")
        and word not in lexicon.VAGUE | _SETS["NO_QUALITY"]
    )
    return plain and (
        word in lexicon.KNOWN_ADJECTIVES or ("ADJ" in known and "NOUN" not in known and "VERB" not in known)
    )


def _inserted(text: str, thing: Thing, adjective: str) -> str | None:
    """The text with an adjective before the thing, sizes before colours; None where the words are not found."""
    words = thing.words.split()
    if not words:
        return None
    lead = next(
        (i for i, word in enumerate(words) if word not in lexicon.CLOSED and not word.isdecimal()), len(words) - 1
    )
    while adjective not in _SIZES and lead < len(words) - 1 and words[lead] in _SIZES:
        lead += 1
    wanted = re.compile(rf"\b{re.escape(' '.join(words[lead:]))}\b", re.I)
    if len(wanted.findall(text)) != 1:
        return None
    return with_article(wanted.sub(lambda match: f"{adjective} {_lowered(match)}", text))


def _lowered(match: re.Match[str]) -> str:
    return match[0] if match.start() else match[0][:1].lower() + match[0][1:]


def _candidates(base: CaptionParts, others: dict[int, CaptionParts]) -> list[Phrase]:
    """Phrases of other captions about the same subject, those that most captions confirm first."""
    found = [
        (sum(_says(part, phrase) for part in others.values()), -place, phrase)
        for place, phrase in enumerate(_usable(base, others))
    ]
    return [phrase for _, _, phrase in sorted(found, key=lambda one: one[:2], reverse=True)]


def _usable(base: CaptionParts, others: dict[int, CaptionParts]) -> Iterator[Phrase]:
    for part in others.values():
        same_subject = _same(part.head, base.head) and part.plural == base.plural
        for phrase in part.phrases:
            words = [*phrase.nouns, *phrase.others]
            whole = phrase.nouns and len(phrase.text.split()) > 1 and all(map(known_word, words))
            if (
                not whole
                or phrase.kind == "clause"
                or (not same_subject and (phrase.of_subject or phrase.kind == "act"))
            ):
                continue
            if not (_compatible(phrase, base, others) if phrase.kind == "act" else _placed(phrase, part, base)):
                continue
            rest = [one for one in (base, *others.values()) if one is not part]
            yield replace(phrase, text=_without_contradictions(phrase.text, rest))


def _placed(phrase: Phrase, part: CaptionParts, base: CaptionParts) -> bool:
    """Whether a phrase with a preposition holds for the base's subject whatever that does."""
    if any(noun in _BODY for noun in phrase.nouns[:1]):
        return False
    before = part.phrases[: part.phrases.index(phrase)]
    verb = next((one.first for one in reversed(before) if one.kind == "act"), part.verb)
    if any(noun in _WORN for noun in phrase.nouns):
        return not phrase.after
    if phrase.first == "with":
        return not phrase.after or (bool(before) and before[-1].kind == "place")
    if phrase.after in _PEOPLE and phrase.first in ("in", "on"):
        return False
    if phrase.first == "at" and (phrase.after or verb in _SETS["LOOKING"]):
        return False
    if phrase.after in _BODY or (phrase.lead == "by" and before and before[-1].kind == "act"):
        return False
    if phrase.lead in ("into", "onto"):
        return False
    moves = phrase.first in _SETS["MOVING"] and bool(base.verb) and same_attribute(verb, base.verb)
    return moves or phrase.first in _SETS["STILL"]


def _compatible(phrase: Phrase, base: CaptionParts, others: dict[int, CaptionParts]) -> bool:
    """Whether somebody who does what the base says may do this too."""
    if not phrase.lead.endswith("ing") or any(same_attribute(phrase.first, own.first) for own in base.phrases):
        return False
    states = phrase.first in _SETS["STATES"] or base.verb in lexicon.POSTURE or not base.verb
    return states or sum(_says(part, phrase) for part in others.values()) > 1


def _says(part: CaptionParts, phrase: Phrase) -> bool:
    words = _words(part.text).nouns
    return any(_same(noun, own) for noun in phrase.nouns for own in words if noun not in _GENERIC)


def _is_new(phrase: Phrase, told: str) -> bool:
    """Whether a phrase names a thing that is not told yet, and no other person than those told."""
    words = _words(told).content
    new = [thing.noun for thing in _things(phrase.text) if not _told(thing, words)]
    place = f", {phrase.lead} " if phrase.first == "in" else f" {phrase.lead} "  # one more "in", no second "on"
    again = phrase.first not in ("with", "wear") and place in f" {told} "
    return bool(new) and not again and not any(noun in _PEOPLE for noun in new)


def _told(thing: Thing, words: frozenset[str]) -> bool:
    """Whether a thing, or the noun before it ("rock cliff"), is among words."""
    names = [thing.noun, *(one for one in thing.attributes if not _is_adjective(one))]
    if thing.noun in _SETS["AREAS"]:  # "a rural area" tells that it is rural
        return all(any(same_attribute(one, own) for own in words) for one in thing.attributes)
    return thing.noun in _GENERIC | _BODY or any(_same(name, own) for name in names for own in words)


def _what_is_new(phrase: Phrase, told: str) -> Phrase:
    """ "with a helmet and a backpack" -> "with a backpack" where the helmet is told."""
    first, joint, second = phrase.text.removeprefix(f"{phrase.lead} ").partition(" and ")
    if not joint or " and " in second or phrase.first not in _SETS["SPLIT"]:
        return phrase
    words = _words(told).content
    new = [one for one in (first, second) if not all(_told(thing, words) for thing in _things(one))]
    return replace(phrase, text=f"{phrase.lead} {new[0]}") if len(new) == 1 else phrase


def _describes_subject(phrase: Phrase) -> bool:
    worn = any(noun in _WORN for noun in phrase.nouns)
    return phrase.first == "wear" or (worn and phrase.of_subject and phrase.first in ("in", "with"))


def _behind_subject(text: str, base: CaptionParts, phrase: Phrase) -> str | None:
    """ "a man walks" and "in a blue shirt" -> "a man in a blue shirt walks"; None where something stands there."""
    first = base.phrases[0] if base.phrases else None
    head = base.subject.split()[-1] if base.subject else ""
    found = re.match(rf"((?:[\w'-]+ ){{0,6}}?{re.escape(head)})\b(?= )", text, re.I) if head else None
    if first is None or first.kind != "act" or first.first == "wear" or not first.of_subject or found is None:
        return None
    return f"{found[1]} {phrase.text}{text[found.end() :]}"

"""Several captions of one image, by different people, made into a short caption and one that tells it all. By rule.

Descriptive: the caption that says most of what the others confirm; adjectives and phrases of the others that say more
are worked in, each fact once. Where captions contradict each other in a colour, a size or the like, the minority's word
is left out, at a tie both. Short: the shortest caption whose content words another caption confirms.

Limits: captions are not understood. Two names of one thing that the word lists lack are told twice; what is one
person's mistake, but contradicts nobody, is told; a phrase may say of the subject what was said of something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

from ..errors import InputError
from .caption_agreement import (
    BODY,
    GENERIC,
    PEOPLE,
    SETS,
    SIZES,
    WORN,
    agreement_score,
    alike,
    contradictions,
    is_adjective,
    same_word,
    support_of,
    things_of,
    without_contradictions,
    words_of,
)
from .caption_phrases import CaptionParts, Phrase, caption_parts, known_word, with_article
from .faithfulness import lexicon
from .faithfulness.matching import excludes, same_attribute, same_noun
from .faithfulness.parsing import Thing
from .faithfulness.words import singular

_COUNTED = (PEOPLE | SETS["ANIMALS"]) - SETS["PRONOUNS"]  # that need an article
_UNCLEAR = re.compile(r",| and |\w{2}ing\b|haired|eyed|skinned|legged|colou?red")  # their adjectives may be another's
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
    number = max(parts, key=lambda one: (agreement_score(one, parts), len(parts[one].text)))
    base, others = parts[number], {one: part for one, part in parts.items() if one != number}
    text = without_contradictions(base.text, list(others.values()))
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
    return Merged(_sentence(text), number, tuple(added), support_of(number, parts))


def short_caption(captions: Sequence[str]) -> Merged:
    """The shortest caption that the others confirm word for word, or else the one that they confirm most."""
    parts = _all_parts(captions)
    nouns = {one: words_of(part.text).nouns for one, part in parts.items()}
    shares = {one: support_of(one, parts) if nouns[one] else 0.0 for one in parts}
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


def _with_adjectives(text: str, base: CaptionParts, others: Sequence[CaptionParts]) -> tuple[str, list[str]]:
    """The adjectives that others give to a thing which the base names once."""
    added: list[str] = []
    things = things_of(text)
    contradicted = {word for _, word in contradictions(base.text, others)}
    for thing in things:
        alike = [other for other in things if same_word(thing.noun, other.noun)]
        if len(alike) > 1 or thing.noun in GENERIC | BODY or _is_unclear(thing.words):
            continue
        subject = thing.noun == base.head
        own = [_matching(thing, part, subject) for part in others]
        new = _new_adjectives(thing, [one for one in own if one], contradicted)[:2]
        for adjective in sorted(new, key=lambda one: one not in SIZES):  # "large brown": each stands next to the noun
            changed = _inserted(text, thing, adjective)
            if changed and len(added) < 4:
                text = changed
                added.append(f"{adjective} {thing.noun}")
    return text, added


def _matching(thing: Thing, part: CaptionParts, subject: bool) -> Thing | None:
    """What another caption says of the same thing, if it names one such thing."""
    things = things_of(part.text)
    found = [other for other in things if other.noun == thing.noun or same_noun(thing.noun, other.noun)]
    if subject and not found and part.head in PEOPLE and thing.noun in PEOPLE:
        found = [other for other in things if other.noun == part.head]
    if len(found) != 1 or found[0].plural != thing.plural or _is_unclear(found[0].words):
        return None
    other = found[0]
    if other.noun != thing.noun and other.noun in PEOPLE:  # a little boy to one is no little man to another
        return replace(other, attributes=other.attributes - SIZES)
    return other


def _is_unclear(words: str) -> bool:
    """Whether an adjective in a noun phrase may belong to something else: "a black haired girl", a phrase too long."""
    return bool(_UNCLEAR.search(words)) or len(words.split()) > 4


def _new_adjectives(thing: Thing, others: Sequence[Thing], contradicted: Set[str]) -> list[str]:
    """Those that nobody contradicts, most often said first. contradicted: what was left out of the text."""
    own = [sorted(other.attributes & set(other.words.split())) for other in others]
    told = [one for words in own for one in words if is_adjective(one)]
    every = [*thing.attributes, *told, *contradicted]
    new = [
        one
        for one in dict.fromkeys(sorted(told, key=told.count, reverse=True))
        if not any(alike(one, own) for own in [thing.noun, *thing.attributes])
        and not any(excludes(one, o) for o in every)
    ]
    return [one for place, one in enumerate(new) if not any(alike(one, before) for before in new[:place])]


def _inserted(text: str, thing: Thing, adjective: str) -> str | None:
    """The text with an adjective before the thing, sizes before colours; None where the words are not found."""
    words = thing.words.split()
    if not words:
        return None
    lead = next(
        (i for i, word in enumerate(words) if word not in lexicon.CLOSED and not word.isdecimal()), len(words) - 1
    )
    while adjective not in SIZES and lead < len(words) - 1 and words[lead] in SIZES:
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
        same_subject = same_word(part.head, base.head) and part.plural == base.plural
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
            yield replace(phrase, text=without_contradictions(phrase.text, rest))


def _placed(phrase: Phrase, part: CaptionParts, base: CaptionParts) -> bool:
    """Whether a phrase with a preposition holds for the base's subject whatever that does."""
    if any(noun in BODY for noun in phrase.nouns[:1]):
        return False
    before = part.phrases[: part.phrases.index(phrase)]
    verb = next((one.first for one in reversed(before) if one.kind == "act"), part.verb)
    if any(noun in WORN for noun in phrase.nouns):
        return not phrase.after
    if phrase.first == "with":
        return not phrase.after or (bool(before) and before[-1].kind == "place")
    if phrase.after in PEOPLE and phrase.first in ("in", "on"):
        return False
    if phrase.first == "at" and (phrase.after or verb in SETS["LOOKING"]):
        return False
    if phrase.after in BODY or (phrase.lead == "by" and before and before[-1].kind == "act"):
        return False
    if phrase.lead in ("into", "onto"):
        return False
    moves = phrase.first in SETS["MOVING"] and bool(base.verb) and same_attribute(verb, base.verb)
    return moves or phrase.first in SETS["STILL"]


def _compatible(phrase: Phrase, base: CaptionParts, others: dict[int, CaptionParts]) -> bool:
    """Whether somebody who does what the base says may do this too."""
    if not phrase.lead.endswith("ing") or any(same_attribute(phrase.first, own.first) for own in base.phrases):
        return False
    states = phrase.first in SETS["STATES"] or base.verb in lexicon.POSTURE or not base.verb
    return states or sum(_says(part, phrase) for part in others.values()) > 1


def _says(part: CaptionParts, phrase: Phrase) -> bool:
    words = words_of(part.text).nouns
    return any(same_word(noun, own) for noun in phrase.nouns for own in words if noun not in GENERIC)


def _is_new(phrase: Phrase, told: str) -> bool:
    """Whether a phrase names a thing that is not told yet, and no other person than those told."""
    words = words_of(told).content
    new = [thing.noun for thing in things_of(phrase.text) if not _told(thing, words)]
    place = f", {phrase.lead} " if phrase.first == "in" else f" {phrase.lead} "  # one more "in", no second "on"
    again = phrase.first not in ("with", "wear") and place in f" {told} "
    return bool(new) and not again and not any(noun in PEOPLE for noun in new)


def _told(thing: Thing, words: frozenset[str]) -> bool:
    """Whether a thing, or the noun before it ("rock cliff"), is among words."""
    names = [thing.noun, *(one for one in thing.attributes if not is_adjective(one))]
    if thing.noun in SETS["AREAS"]:  # "a rural area" tells that it is rural
        return all(any(same_attribute(one, own) for own in words) for one in thing.attributes)
    return thing.noun in GENERIC | BODY or any(same_word(name, own) for name in names for own in words)


def _what_is_new(phrase: Phrase, told: str) -> Phrase:
    """ "with a helmet and a backpack" -> "with a backpack" where the helmet is told."""
    first, joint, second = phrase.text.removeprefix(f"{phrase.lead} ").partition(" and ")
    if not joint or " and " in second or phrase.first not in SETS["SPLIT"]:
        return phrase
    words = words_of(told).content
    new = [one for one in (first, second) if not all(_told(thing, words) for thing in things_of(one))]
    return replace(phrase, text=f"{phrase.lead} {new[0]}") if len(new) == 1 else phrase


def _describes_subject(phrase: Phrase) -> bool:
    worn = any(noun in WORN for noun in phrase.nouns)
    return phrase.first == "wear" or (worn and phrase.of_subject and phrase.first in ("in", "with"))


def _behind_subject(text: str, base: CaptionParts, phrase: Phrase) -> str | None:
    """ "a man walks" and "in a blue shirt" -> "a man in a blue shirt walks"; None where something stands there."""
    first = base.phrases[0] if base.phrases else None
    head = base.subject.split()[-1] if base.subject else ""
    found = re.match(rf"((?:[\w'-]+ ){{0,6}}?{re.escape(head)})\b(?= )", text, re.I) if head else None
    if first is None or first.kind != "act" or first.first == "wear" or not first.of_subject or found is None:
        return None
    return f"{found[1]} {phrase.text}{text[found.end() :]}"

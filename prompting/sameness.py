"""When two words, attributes or things of two texts count as the same, and when they exclude each other."""

from __future__ import annotations

from . import english_words as words
from .morphology import singular, verb_base, word_set
from .reading import Mention, Reading

_MADE_OF = frozenset(("with", "in", "from", "on", "cover", "coat", "make", "wear"))


def same_noun(wanted: str, found: str) -> bool:
    """Whether the rewrite's noun names the original's thing: the same, a synonym, or a kind of it ("dog" for
    "animal").
    """
    if wanted == found or found in words.KINDS.get(wanted, ()):
        return True
    return words.NOUN_SYNONYMS.get(wanted, wanted) == words.NOUN_SYNONYMS.get(found, found)


def same_attribute(wanted: str, found: str) -> bool:
    """Whether two attributes say the same: colours by their basic colour, verbs and adjectives by their group, "snowy"
    and "snow".
    """
    if wanted == found:
        return True
    for table in (words.COLOURS, words.ADJECTIVE_SYNONYMS, words.VERB_SYNONYMS):
        if wanted in table and table[wanted] == table.get(found):
            return True
    return len(_stem(wanted)) > 2 and _stem(wanted) == _stem(found)


def _stem(attribute: str) -> str:
    if attribute in words.COLOURS:
        return attribute
    for ending in ("-covered", "-capped", "-filled", "ing", "en", "ed", "y", "s"):
        if attribute.endswith(ending) and len(attribute) - len(ending) > 2:
            return attribute[: -len(ending)].rstrip("e")
    return attribute.rstrip("e")


def conflicting(one: str, other: str) -> bool:
    """Whether a thing cannot have both: two colours, or a pair such as big and small."""
    if one in words.COLOURS and other in words.COLOURS:
        return words.COLOURS[one] != words.COLOURS[other]
    one, other = (_group(attribute) for attribute in (one, other))
    return (one, other) in words.EXCLUSIVE or (other, one) in words.EXCLUSIVE


def _group(attribute: str) -> str:
    return words.ADJECTIVE_SYNONYMS.get(attribute, words.VERB_SYNONYMS.get(attribute, attribute))


def same_thing(one: Mention, other: Mention) -> bool:
    """The same noun, and no attributes that tell the two apart."""
    if not same_noun(one.noun, other.noun):
        return False
    return not any(
        conflicting(a, b) and not any(same_attribute(a, c) for c in other.attributes)
        for a in one.attributes
        for b in other.attributes
    )


def attribute_kept(attribute: str, mention: Mention, reading: Reading) -> bool:
    """Whether the thing has the attribute: as an adjective, a verb, a part ("blue-eyed", "with blue eyes"), or a
    material or dress.
    """
    if any(same_attribute(attribute, own) for own in mention.attributes | mention.soft):
        return True
    place = next(i for i, other in enumerate(reading.mentions) if other is mention)
    verbs = {link.relation for link in reading.links if place in link.subjects and not link.negated}
    if any(same_attribute(attribute, verb) for verb in verbs):
        return True
    if attribute.endswith("less") or attribute.endswith("-free"):
        stem = singular(attribute.removesuffix("less").removesuffix("-free"))
        return any(other.negated and same_noun(stem, other.noun) for other in reading.mentions)
    if "-" in attribute:
        return _has_part(attribute, reading)
    owned = [
        reading.mentions[link.object] for link in reading.links if place in link.subjects and link.relation in _MADE_OF
    ]
    if attribute in words.COLOURS:
        return any(
            same_attribute(attribute, own) for other in owned for own in other.attributes if other.noun in _CLOTHES
        )
    return any(same_attribute(attribute, other.noun) for other in owned)


_CLOTHES = word_set(
    """
    dress suit gown outfit clothes robe coat jacket shirt uniform kimono sari cloak attire clothing garment
    costume sweater
    """
)


def _has_part(attribute: str, reading: Reading) -> bool:
    """ "blue-eyed" is kept by blue eyes, "three-legged" by three legs."""
    *qualities, part = attribute.split("-")
    noun = singular(verb_base(part))
    named = [m for m in reading.mentions if m.noun in (noun, f"{noun}e", part)]
    return any(
        all(
            words.NUMBERS.get(q, -1) == m.count or any(same_attribute(q, own) for own in m.attributes)
            for q in qualities
        )
        for m in named
    )


def denies(negated: Mention, shown: Mention) -> bool:
    """Whether showing a thing breaks "no X"; "no red cars" allows the blue one."""
    if not same_noun(negated.noun, shown.noun):
        return False
    return all(any(same_attribute(wanted, own) for own in shown.attributes) for wanted in negated.attributes)

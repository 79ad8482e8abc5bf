"""When two nouns, attributes or things say the same, and when they exclude each other."""

from __future__ import annotations

from functools import lru_cache

from . import lexicon
from .parsing import Link, Reading, Thing
from .words import lemmas


@lru_cache(maxsize=65536)
def same_noun(wanted: str, found: str) -> bool:
    """Whether the rewrite's noun names the thing: the same, a synonym, or a kind ("robin", "businessman" for "man")."""
    base = lexicon.NOUNS.get(wanted, wanted)
    if wanted == found or base == lexicon.NOUNS.get(found, found) or found in lexicon.KINDS.get(base, ()):
        return True
    front = found.removesuffix(wanted)
    compound = len(wanted) > 2 and len(front) > 2 and found not in lexicon.NO_COMPOUNDS
    return compound and front != found and (wanted in ("man", "woman") or bool(lemmas(front)))


@lru_cache(maxsize=65536)
def same_attribute(wanted: str, found: str) -> bool:
    """Whether two attributes or verbs say the same: "crimson" for "red", "snowy" for "snow"."""
    if wanted == found or (wanted not in lexicon.COLOURS and len(_stem(wanted)) > 2 and _stem(wanted) == _stem(found)):
        return True
    tables = (lexicon.COLOURS, lexicon.ADJECTIVES, lexicon.VERB_GROUPS)
    return any(wanted in table and table[wanted] == table.get(found) for table in tables)


def _stem(word: str) -> str:
    endings = ("-covered", "-capped", "-filled", "ing", "en", "ed", "y", "s")
    return next((word.removesuffix(e) for e in endings if word.endswith(e) and len(word) - len(e) > 2), word).rstrip(
        "e"
    )


@lru_cache(maxsize=65536)
def excludes(one: str, other: str) -> bool:
    """Whether a thing cannot have both: two colours, two materials, or a pair such as big and small."""
    if one in lexicon.COLOURS and other in lexicon.COLOURS:
        return lexicon.COLOURS[one] != lexicon.COLOURS[other]
    one, other = (lexicon.ADJECTIVES.get(word, lexicon.VERB_GROUPS.get(word, word)) for word in (one, other))
    materials = one != other and {one, other} <= lexicon.MATERIALS
    return materials or bool({(one, other), (other, one)} & lexicon.EXCLUSIVE)


def contradiction(attribute: str, thing: Thing) -> str:
    """What is said of the thing that excludes the attribute; "" for nothing."""
    own = thing.attributes | thing.acts
    wrong = [other for other in own if excludes(attribute, other)]
    if not wrong or any(same_attribute(attribute, other) for other in own):
        return ""
    return min(wrong)


def same_thing(one: Thing, other: Thing) -> bool:
    """The same noun, and no attributes that tell the two apart."""
    return same_noun(one.noun, other.noun) and not any(contradiction(attribute, other) for attribute in one.attributes)


def has_attribute(attribute: str, thing: Thing, reading: Reading) -> bool:
    """Whether the thing has it: as an adjective, a verb, a part ("blue-eyed", "with blue eyes"), material or dress."""
    owned = [link.object for link in reading.links if thing in link.subjects]
    said = thing.attributes | thing.acts | {part for own in thing.attributes for part in own.split("-")[1:]}
    if attribute in lexicon.COLOURS:
        said |= {own for other in owned if other.noun in lexicon.CLOTHES for own in other.attributes}
    elif "-" in attribute:
        *qualities, part = attribute.split("-")
        parts = [other for other in reading.things if len(other.noun) > 2 and part.startswith(other.noun[:-1])]
        said |= {attribute for other in parts if all(_says(quality, other) for quality in qualities)}
    else:
        said |= {other.noun for other in owned}
    return any(same_attribute(attribute, own) for own in said)


def _says(quality: str, thing: Thing) -> bool:
    """ "blue" of blue eyes, "three" of three legs."""
    number = lexicon.NUMBERS.get(quality)
    return thing.count == number if number else any(same_attribute(quality, own) for own in thing.attributes)


def joins(link: Link, other: Link, second: Reading, *, swapped: bool = False) -> bool:
    """Whether two links are between the same two things; swapped: with the ends exchanged. "A game of chess" counts as
    chess.
    """
    if swapped:
        return same_thing(link.subjects[0], other.object) and same_thing(link.object, other.subjects[0])
    ends = [other.object, *(o.object for o in second.links if o.relation == "with" and o.subjects[0] is other.object)]
    owned = any(same_thing(link.subjects[0], owner) for owner in other.subjects)
    return owned and any(same_thing(link.object, end) for end in ends)


def implies(found: str, wanted: str, place: str = "") -> bool:
    """Whether a relation of the rewrite says the original's: "riding" says "on"."""
    if same_attribute(wanted, found) or found in lexicon.IMPLIED_BY.get(wanted, ()):
        return True
    return {found, wanted} <= {"in", "on", "at"} and (place in lexicon.OPEN_PLACES or "at" in (found, wanted))

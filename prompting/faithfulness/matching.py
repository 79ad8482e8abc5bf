"""When two nouns, attributes or things say the same, and when they exclude each other."""

from __future__ import annotations

from . import lexicon
from .parsing import Link, Reading, Thing
from .words import lemmas, singular


def same_noun(wanted: str, found: str) -> bool:
    """Whether the rewrite's noun names the original's thing: the same, a synonym, or a kind of it ("robin" for "bird",
    "businessman" for "man").
    """
    base = lexicon.NOUNS.get(wanted, wanted)
    if wanted == found or base == lexicon.NOUNS.get(found, found) or found in lexicon.KINDS.get(base, ()):
        return True
    front = found.removesuffix(wanted)
    return (
        len(wanted) > 2
        and front != found
        and len(front) > 2
        and found not in lexicon.NO_COMPOUNDS
        and bool(lemmas(front))
    )


def same_attribute(wanted: str, found: str) -> bool:
    """Whether two attributes or verbs say the same: "crimson" for "red", "snowy" for "snow"."""
    if wanted == found or (wanted not in lexicon.COLOURS and len(_stem(wanted)) > 2 and _stem(wanted) == _stem(found)):
        return True
    tables = (lexicon.COLOURS, lexicon.ADJECTIVES, lexicon.VERB_GROUPS)
    return any(wanted in table and table[wanted] == table.get(found) for table in tables)


def _stem(word: str) -> str:
    for ending in ("-covered", "-capped", "-filled", "ing", "en", "ed", "y", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word.removesuffix(ending).rstrip("e")
    return word.rstrip("e")


def excludes(one: str, other: str) -> bool:
    """Whether a thing cannot have both: two colours, two materials, or a pair such as big and small."""
    if one in lexicon.COLOURS and other in lexicon.COLOURS:
        return lexicon.COLOURS[one] != lexicon.COLOURS[other]
    one, other = (lexicon.ADJECTIVES.get(word, lexicon.VERB_GROUPS.get(word, word)) for word in (one, other))
    if one in lexicon.MATERIALS and other in lexicon.MATERIALS:
        return one != other
    return (one, other) in lexicon.EXCLUSIVE or (other, one) in lexicon.EXCLUSIVE


def contradiction(attribute: str, thing: Thing) -> str:
    """What is said of the thing that excludes the attribute; "" for nothing."""
    own = sorted(thing.attributes | thing.acts)
    if any(same_attribute(attribute, other) for other in own):
        return ""
    return next((other for other in own if excludes(attribute, other)), "")


def same_thing(one: Thing, other: Thing) -> bool:
    """The same noun, and no attributes that tell the two apart."""
    return same_noun(one.noun, other.noun) and not any(contradiction(attribute, other) for attribute in one.attributes)


def has_attribute(attribute: str, thing: Thing, reading: Reading) -> bool:
    """Whether the thing has it: as an adjective, a verb, a part ("blue-eyed", "with blue eyes"), material or dress."""
    own = thing.attributes | thing.acts | thing.maybe
    own |= {link.relation for link in reading.links if thing in link.subjects and not link.negated}
    own |= {part for other in own for part in other.split("-")[1:]}
    if any(same_attribute(attribute, other) for other in own):
        return True
    if attribute.endswith(("less", "-free")):
        stem = singular(attribute.removesuffix("less").removesuffix("-free"))
        return any(other.negated and same_noun(stem, other.noun) for other in reading.things)
    if "-" in attribute:
        *qualities, part = attribute.split("-")
        return any(_is_part(part, qualities, other) for other in reading.things)
    worn = [link.object for link in reading.links if thing in link.subjects]
    if attribute in lexicon.COLOURS:
        clothes = [other for other in worn if other.noun in lexicon.CLOTHES]
        return any(same_attribute(attribute, colour) for other in clothes for colour in other.attributes)
    return any(same_attribute(attribute, other.noun) for other in worn)


def _is_part(part: str, qualities: list[str], thing: Thing) -> bool:
    """ "blue-eyed" is kept by blue eyes, "three-legged" by three legs."""
    if len(thing.noun) < 3 or not part.startswith(thing.noun[:-1]):
        return False
    said = thing.attributes | {_NUMBERS[thing.count]} if thing.count in _NUMBERS else thing.attributes
    return all(any(same_attribute(quality, own) for own in said) for quality in qualities)


_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def joins(link: Link, other: Link, second: Reading, *, swapped: bool = False) -> bool:
    """Whether two links are between the same things; `swapped`: with their ends exchanged. "a game of chess" counts as
    chess.
    """
    if swapped:
        return same_thing(link.subjects[0], other.object) and any(
            same_thing(link.object, s) for s in other.subjects[:1]
        )
    ends = [
        other.object,
        *(more.object for more in second.links if more.relation == "with" and other.object in more.subjects[:1]),
    ]
    owners = link.subjects[:1] if link.relation == "with" else link.subjects
    return any(same_thing(link.object, end) for end in ends) and any(
        same_thing(owner, o) for owner in owners for o in other.subjects
    )


def implies(found: str, wanted: str, place: str = "") -> bool:
    """Whether a relation of the rewrite says the original's: "riding" says "on"."""
    if found == wanted or same_attribute(wanted, found) or found in lexicon.IMPLIED_BY.get(wanted, ()):
        return True
    return {found, wanted} <= {"in", "on", "at"} and (place in lexicon.OPEN_PLACES or "at" in (found, wanted))

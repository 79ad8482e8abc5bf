"""Does a rewritten prompt still say what the original said? Checked on text alone, atom by atom.

In the manner of DSG (arXiv 2310.18235) and TIFA (arXiv 2303.11897) the original is broken into atoms: objects,
counts, colours and other attributes bound to their noun, relations, quoted text, negations. Each is looked for in
the rewrite; what the rewrite says beyond them is reported apart. Rules, word endings and small word lists do it, no
model, so the same texts always give the same report, in a millisecond.

What it cannot see: synonyms that its lists lack ("sofa" for "divan") count as broken; pronouns are resolved by
nearness alone; irony, idioms, relations spread over several sentences, conditions and time are not understood;
attachment is guessed ("a man in a hat on a horse"); between two things of the same noun it tells by colour, size
and the like alone. English only: other languages are compared word by word. It errs towards "broken", which costs a
fallback to the user's own words, and never invents one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import english_words as words
from .reading import Link, Mention, Reading, read
from .sameness import attribute_kept, conflicting, denies, same_attribute, same_noun, same_thing


@dataclass(frozen=True)
class Atom:
    """One thing that a prompt says. kind: object, count, attribute, relation, text, negation; text: in words, "car:
    red".
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """An atom that the rewrite contradicts, and what stands there instead."""

    atom: Atom
    found: str


@dataclass(frozen=True)
class FaithfulnessReport:
    """Every atom of the original is in one of `kept`, `broken` (not found), `changed` (contradicted). `added`: what is
    new.
    """

    kept: tuple[Atom, ...]
    broken: tuple[Atom, ...]
    added: tuple[Atom, ...]
    changed: tuple[Change, ...]

    @property
    def faithful(self) -> bool:
        return not self.broken and not self.changed


@dataclass(frozen=True)
class _Finding:
    atom: Atom
    kept: bool
    found: str = ""


def check(original: str, rewritten: str) -> FaithfulnessReport:
    """Look for every atom of `original` in `rewritten`."""
    first, second = read(original), read(rewritten)
    # What the original would fail by itself ("two dogs and a third one") is not asked of the rewrite.
    own = {finding.atom for finding in _findings(first, first) if not finding.kept}
    findings: dict[Atom, _Finding] = {}
    for finding in _findings(first, second):
        if finding.atom not in own and (finding.atom not in findings or findings[finding.atom].kept):
            findings[finding.atom] = finding
    ordered = list(findings.values())
    return FaithfulnessReport(
        kept=tuple(f.atom for f in ordered if f.kept),
        broken=tuple(f.atom for f in ordered if not f.kept and not f.found),
        added=tuple(dict.fromkeys(_added(first, second))),
        changed=tuple(Change(f.atom, f.found) for f in ordered if not f.kept and f.found),
    )


def atoms(text: str) -> tuple[Atom, ...]:
    """Everything that a prompt says, as `check` would look for it."""
    reading = read(text)
    return tuple(dict.fromkeys(finding.atom for finding in _findings(reading, reading)))


def _findings(first: Reading, second: Reading) -> Iterator[_Finding]:
    for mention in first.mentions:
        if mention.negated:
            yield _negation(mention, second)
        elif mention.noun not in words.IGNORED_NOUNS:
            yield _object(mention, second)
            yield from _count(mention, first, second)
        if not mention.negated:
            yield from _attributes(mention, first, second)
    for link in (link for link in first.links if link.certain and link.subjects):
        if link.relation in words.SPATIAL or link.relation not in words.PREPOSITIONS.values():
            yield from _relation(link, first, second)
        elif link.relation == "with":
            yield from _belonging(link, first, second)
    for quote in first.quotes:
        yield _quotation(quote, second)


def _positive(reading: Reading, noun: str) -> list[Mention]:
    return [m for m in reading.mentions if not m.negated and same_noun(noun, m.noun)]


def _counted(reading: Reading, noun: str) -> list[Mention]:
    """Those of the very noun where there are any, so that a cat and two kittens are not three cats."""
    found = _positive(reading, noun)
    return [m for m in found if m.noun == noun] or found


def _object(mention: Mention, second: Reading) -> _Finding:
    atom = Atom("object", mention.noun)
    if _positive(second, mention.noun):
        return _Finding(atom, True)
    denied = any(m.negated and same_noun(mention.noun, m.noun) for m in second.mentions)
    return _Finding(atom, False, f"no {mention.noun}" if denied else "")


def _count(mention: Mention, first: Reading, second: Reading) -> Iterator[_Finding]:
    """A number must be found as it is, or as the sum of its parts; one must not become several, nor several one."""
    same, found = _counted(first, mention.noun), _counted(second, mention.noun)
    wanted = mention.count
    if (wanted is None and not mention.plural) or (len(same) > 1 and (wanted or 1) > 1):
        return
    atom = Atom("count", f"{mention.noun}: {'several' if wanted is None else wanted}")
    most = sum(m.count or 1 for m in same)
    extra = [m for m in found if _one_more(m, mention, most)]
    if extra or not found:
        yield _Finding(atom, False, extra[0].words if extra else "")
        return
    single = [m for m in found if not m.plural]
    if wanted is None:
        kept = len(single) < len(found)
    elif wanted == 1:
        kept = len(single) == len(found) if mention.exact else bool(single)
    else:
        kept = any(m.exact and m.count == wanted for m in found) or sum(m.count or 0 for m in found) == wanted
    yield _Finding(atom, kept, found[0].words)


def _one_more(found: Mention, wanted: Mention, most: int) -> bool:
    """Whether a phrase speaks of more than there are: "another dog", "a third dog", "five dogs"."""
    if found.more and not wanted.more:
        return True
    return found.ordinal > max(most, 1) or (found.exact and wanted.count is not None and (found.count or 0) > most)


def _attributes(mention: Mention, first: Reading, second: Reading) -> Iterator[_Finding]:
    found = _positive(second, mention.noun)
    twins = len(_positive(first, mention.noun)) > 1
    owners = [m for m in found if same_thing(mention, m)] if twins else found
    acted = {
        link.relation for link in first.links if link.certain and any(s is mention for s in _ends(link, first)[0][:1])
    }
    for attribute in sorted(mention.attributes - acted):
        if mention.noun in words.IGNORED_NOUNS or (attribute in words.POSTURE and not _contradicted(attribute, found)):
            continue
        atom = Atom("attribute", f"{mention.noun}: {attribute.removeprefix('@')}")
        kept = any(attribute_kept(attribute, m, second) for m in owners)
        other = _contradicted(attribute, found) if not twins else ""
        yield _Finding(atom, kept and not _denied(attribute, found), "" if kept else other)
    for attribute in sorted(mention.denied):
        claimed = any(same_attribute(attribute, own) for m in found for own in m.attributes)
        kept = any(same_attribute(attribute, own) for m in found for own in m.denied)
        atom = Atom("negation", f"{mention.noun}: not {attribute}")
        yield _Finding(atom, kept and not claimed, attribute if claimed else "")


def _contradicted(attribute: str, found: list[Mention]) -> str:
    """What the rewrite says of the noun that excludes the attribute; "" where nothing does."""
    for mention in found:
        for own in sorted(mention.attributes):
            if conflicting(attribute, own) and not any(
                same_attribute(attribute, other) for other in mention.attributes
            ):
                return own
    return ""


def _denied(attribute: str, found: list[Mention]) -> bool:
    return any(same_attribute(attribute, own) for m in found for own in m.denied)


def _ends(link: Link, reading: Reading) -> tuple[list[Mention], Mention]:
    return [reading.mentions[i] for i in link.subjects], reading.mentions[link.object]


def _matches(link: Link, first: Reading, other: Link, second: Reading, *, swapped: bool = False) -> bool:
    """Whether two links are between the same things; `swapped`: with their ends exchanged."""
    subjects, thing = _ends(link, first)
    others, end = _ends(other, second)
    if swapped:
        return any(same_thing(s, end) for s in subjects[:1]) and any(same_thing(thing, o) for o in others[:1])
    return same_thing(thing, end) and any(same_thing(s, o) for s in subjects for o in others)


def _relation(link: Link, first: Reading, second: Reading) -> Iterator[_Finding]:
    subjects, thing = _ends(link, first)
    if not subjects or any(m.negated or m.noun in words.IGNORED_NOUNS for m in (subjects[0], thing)):
        return
    text = _named(link, first)
    straight = [other for other in second.links if _matches(link, first, other, second)]
    turned = [other for other in second.links if _matches(link, first, other, second, swapped=True)]
    kept = [o for o in straight if _implies(o.relation, link.relation, thing.noun)]
    kept += [
        o for o in turned if o.relation in words.INVERSE and _implies(words.INVERSE[o.relation], link.relation, "")
    ]
    kept += [o for o in turned if o.relation in words.HOLDS.get(link.relation, ())]
    if link.negated:
        claimed = any(not o.negated for o in kept)
        denied = any(o.negated for o in kept) and not claimed
        yield _Finding(Atom("negation", f"not: {text}"), denied, text if claimed else "")
        return
    wrong = [o for o in straight if o.certain and o.relation == words.OPPOSITE.get(link.relation)]
    if link.relation not in words.SYMMETRIC:
        wrong += [o for o in turned if o.certain and o.relation == link.relation]
    found = _named(wrong[0], second) if wrong else ""
    yield _Finding(Atom("relation", text), any(not o.negated for o in kept), found)


def _named(link: Link, reading: Reading) -> str:
    subjects, thing = _ends(link, reading)
    return f"{subjects[0].noun} {link.relation} {thing.noun}"


def _implies(found: str, wanted: str, place: str) -> bool:
    same = words.VERB_SYNONYMS
    if same.get(found, found) == same.get(wanted, wanted) or found in words.IMPLIED_BY.get(wanted, ()):
        return True
    return {found, wanted} <= {"in", "on", "at"} and (place in words.OPEN_PLACES or "at" in (found, wanted))


def _belonging(link: Link, first: Reading, second: Reading) -> Iterator[_Finding]:
    """ "with" and "of" are said in too many ways to demand one; only what moved to another owner counts."""
    subjects, thing = _ends(link, first)
    owners = [
        o
        for o in second.links
        if o.certain and o.relation in words.IMPLIED_BY["with"] and same_thing(thing, second.mentions[o.object])
    ]
    named = [second.mentions[o.subjects[0]].noun for o in owners if o.subjects]
    all_owners = [second.mentions[i] for o in owners for i in o.subjects]
    elsewhere = [
        noun
        for noun in named
        if any(same_noun(m.noun, noun) for m in first.mentions) and not same_noun(subjects[0].noun, noun)
    ]
    if elsewhere and not any(same_thing(subjects[0], owner) for owner in all_owners):
        yield _Finding(
            Atom("relation", f"{subjects[0].noun} with {thing.noun}"), False, f"{elsewhere[0]} with {thing.noun}"
        )


def _quotation(quote: str, second: Reading) -> _Finding:
    bare = quote.rstrip(".,")
    kept = any(bare == other.rstrip(".,") for other in second.quotes)
    near = [other for other in second.quotes if other.casefold().rstrip(".,!?") == bare.casefold().rstrip("!?")]
    return _Finding(Atom("text", quote), kept, near[0] if near and not kept else "")


def _negation(mention: Mention, second: Reading) -> _Finding:
    atom = Atom("negation", " ".join(["no", *sorted(mention.attributes), mention.noun]))
    shown = [m for m in second.mentions if not m.negated and denies(mention, m)]
    if shown:
        return _Finding(atom, False, shown[0].words)
    return _Finding(atom, any(m.negated and same_noun(mention.noun, m.noun) for m in second.mentions))


def _added(first: Reading, second: Reading) -> Iterator[Atom]:
    for mention in second.mentions:
        old = [m for m in first.mentions if m.negated == mention.negated and same_noun(m.noun, mention.noun)]
        if not old and mention.noun not in words.IGNORED_NOUNS:
            yield Atom("negation", f"no {mention.noun}") if mention.negated else Atom("object", mention.noun)
        known = {attribute for m in old for attribute in m.attributes | m.soft}
        for attribute in sorted(mention.attributes) if old and not mention.negated else ():
            if not any(same_attribute(attribute, other) for other in known):
                yield Atom("attribute", f"{mention.noun}: {attribute.removeprefix('@')}")
    yield from (Atom("text", quote) for quote in second.quotes if quote not in first.quotes)

"""Does a rewritten prompt still say what the original said? Checked on text alone, atom by atom.

In the manner of DSG (arXiv 2310.18235) and TIFA (arXiv 2303.11897) the original is broken into atoms: objects, counts,
attributes bound to their noun, relations, quoted text, negations. Each is looked for in the rewrite; what the rewrite
says beyond them is reported apart. Rules, a dictionary and small word lists do it, no model: the same texts always give
the same report.

Limits: synonyms that the lists lack ("divan" for "sofa") count as broken; pronouns are resolved by nearness; irony,
idioms and conditions are not understood; attachment is guessed. In other languages than English (`is_english`) every
word of the original is looked for as it is. It errs towards "broken", which costs a fallback to the user's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ..prompt_syntax import parse_prompt
from . import lexicon
from .language import is_english
from .matching import contradiction, has_attribute, implies, joins, same_attribute, same_noun, same_thing
from .parsing import Link, Reading, Thing, read
from .words import plain, split_quotes


@dataclass(frozen=True)
class Atom:
    """One thing that a prompt says. kind: object, count, attribute, relation, text, negation; text: "car: red"."""

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """An atom that the rewrite contradicts, and what stands there instead."""

    atom: Atom
    found: str


@dataclass(frozen=True)
class FaithfulnessReport:
    """Every atom of the original is in one of `kept`, `broken` (missing), `changed` (contradicted)."""

    kept: tuple[Atom, ...]
    broken: tuple[Atom, ...]
    added: tuple[Atom, ...]
    changed: tuple[Change, ...]

    @property
    def faithful(self) -> bool:
        """Nothing is missing and nothing contradicted."""
        return not self.broken and not self.changed


class _Finding(NamedTuple):
    atom: Atom
    kept: bool
    found: str = ""


def check(original: str, rewritten: str) -> FaithfulnessReport:
    """Look for every atom of `original` in `rewritten`."""
    first, second = read(original), read(rewritten)
    if not is_english(original):
        findings = list(_words(original, rewritten))
    else:
        failing = _failing(original)
        findings = [finding for finding in _findings(first, second) if finding.atom not in failing]
    worst = {f.atom: f for f in sorted(findings, key=lambda f: not f.kept)}  # of equal atoms the broken one counts
    ordered = [worst[atom] for atom in dict.fromkeys(f.atom for f in findings)]
    return FaithfulnessReport(
        kept=tuple(f.atom for f in ordered if f.kept),
        broken=tuple(f.atom for f in ordered if not f.kept and not f.found),
        added=tuple(dict.fromkeys(_added(first, second))),
        changed=tuple(Change(f.atom, f.found) for f in ordered if not f.kept and f.found),
    )


@lru_cache(maxsize=16)
def _failing(text: str) -> frozenset[Atom]:
    """What a text fails by itself ("two dogs and a third one"), and is not asked of its rewrite."""
    return frozenset(finding.atom for finding in _findings(read(text), read(text)) if not finding.kept)


def _words(original: str, rewritten: str) -> Iterator[_Finding]:
    bare, quotes = split_quotes(parse_prompt(original).words)
    found = plain(rewritten)
    for word in re.findall(r"(?<![@\w])\w+", plain(bare)):
        yield _Finding(Atom("object", word), word in found)
    for quote in quotes:
        yield _Finding(Atom("text", quote), quote in rewritten)


def _findings(first: Reading, second: Reading) -> Iterator[_Finding]:
    for thing in first.things:
        if thing.negated:
            yield _negation(thing, second)
        elif thing.noun not in lexicon.IGNORED:
            yield _object(thing, second)
            yield from _count(thing, first, second)
            yield from _attributes(thing, first, second)
    for link in first.links:
        yield from _relation(link, first, second)
    for quote in first.quotes:
        yield _quotation(quote, second)
    said = {own: thing for thing in second.things for own in thing.attributes | thing.acts if not thing.negated}
    for word in sorted(first.unwanted):
        shown = next((thing.words for own, thing in said.items() if same_attribute(word, own)), "")
        yield _Finding(Atom("negation", f"not {word}"), not shown and word in second.unwanted, shown)
    for view in sorted(first.views):
        yield _Finding(Atom("attribute", f"view: {view[1:]}"), view in second.views)


def _shown(reading: Reading, noun: str) -> list[Thing]:
    """Things of that noun; those of the very word where there are any: a cat and two kittens are not three."""
    found = [thing for thing in reading.things if not thing.negated and same_noun(noun, thing.noun)]
    return [thing for thing in found if thing.noun == noun] or found


def _object(thing: Thing, second: Reading) -> _Finding:
    said = {own for other in second.things for own in other.attributes | other.acts}
    otherwise = not thing.plural and not thing.exact and any(same_attribute(thing.noun, own) for own in said)
    denied = any(other.negated and same_noun(thing.noun, other.noun) for other in second.things)
    kept = otherwise or bool(_shown(second, thing.noun))
    return _Finding(Atom("object", thing.noun), kept, f"no {thing.noun}" if denied else "")


def _count(thing: Thing, first: Reading, second: Reading) -> Iterator[_Finding]:
    """A number must be found as it is or as the sum of its parts; one must not become several, nor several one."""
    same = [other for other in _shown(first, thing.noun) if not other.part]
    found = [other for other in _shown(second, thing.noun) if not other.part]
    if thing.part or (len(same) > 1 and (thing.count or 2) > 1) or (not found and _object(thing, second).kept):
        return
    most, single = sum(other.count or 1 for other in same), [other for other in found if not other.plural]
    extra = [o for o in found if (o.more and not thing.more) or (o.exact and thing.count and (o.count or 0) > most)]
    if thing.count is None:
        kept = len(found) > len(single) or len(found) > 1
    elif thing.count == 1:
        kept = len(single) == len(found) > 0 if thing.exact else bool(single)
    else:
        kept = any(o.count == thing.count for o in found) or sum(o.count or 0 for o in found) == thing.count
    atom = Atom("count", f"{thing.noun}: {'several' if thing.count is None else thing.count}")
    yield _Finding(atom, kept and not extra, "".join(other.words for other in (extra or found)[:1]))


def _attributes(thing: Thing, first: Reading, second: Reading) -> Iterator[_Finding]:
    found = _shown(second, thing.noun)
    owners = [other for other in found if same_thing(thing, other) and (not thing.part or other.count == thing.count)]
    told = {act for act in _told_by_links(thing, first) if not any(contradiction(act, other) for other in found)}
    denied = {own for other in found for own in other.denied}
    claimed = {own for other in found for own in other.attributes | other.acts}
    for attribute in sorted(thing.attributes | (thing.acts - told)):
        kept = any(has_attribute(attribute, owner, second) for owner in owners)
        kept = kept and not any(same_attribute(attribute, own) for own in denied)
        wrong = next(filter(None, (contradiction(attribute, other) for other in found)), "")
        yield _Finding(Atom("attribute", f"{thing.noun}: {attribute.removeprefix('@')}"), kept, wrong)
    for attribute in sorted(thing.denied):
        said = any(same_attribute(attribute, own) for own in claimed)
        kept = not said and any(same_attribute(attribute, own) for own in denied)
        yield _Finding(Atom("negation", f"{thing.noun}: not {attribute}"), kept, attribute if said else "")


def _told_by_links(thing: Thing, reading: Reading) -> set[str]:
    """Verbs of the thing that a relation checks, and postures that only say where it is."""
    told = {o.relation for o in reading.links if o.subjects[0] is thing and o.object.noun not in lexicon.IGNORED}
    return told | (lexicon.POSTURE if told & set(lexicon.PREPOSITIONS.values()) else set())


def _relation(link: Link, first: Reading, second: Reading) -> Iterator[_Finding]:
    subject, thing = link.subjects[0], link.object
    text = f"{subject.noun} {link.relation} {thing.noun}"
    if any(end.negated or end.noun in lexicon.IGNORED for end in (subject, thing)):
        return
    if not all(_shown(second, end.noun) for end in (subject, thing)):
        if not all(_object(end, second).kept for end in (subject, thing)):
            yield _Finding(Atom("negation", f"not: {text}") if link.negated else Atom("relation", text), link.negated)
        return
    straight = [o for o in second.links if joins(link, o, second)]
    turned = [o for o in second.links if joins(link, o, second, swapped=True)]
    saying = [o for o in straight if implies(o.relation, link.relation, thing.noun)]
    saying += [o for o in turned if any(implies(r, link.relation) for r in lexicon.INVERSE.get(o.relation, ()))]
    saying += [o for o in turned if o.relation in lexicon.HOLDS.get(link.relation, ())]
    claimed = any(not other.negated for other in saying)
    if link.negated:
        yield _Finding(Atom("negation", f"not: {text}"), bool(saying) and not claimed, text if claimed else "")
        return
    wrong = [o for o in straight if {o.relation, link.relation} <= lexicon.FIRM]
    wrong += [o for o in turned if same_attribute(link.relation, o.relation)]
    if link.relation == "with" and not saying:
        wrong += [o for o in second.links if _owned_by_another(o, link, first)]
    found = f"{wrong[0].subjects[0].noun} {wrong[0].relation} {wrong[0].object.noun}" if wrong else ""
    yield _Finding(Atom("relation", text), claimed or (not wrong and _may_be_unsaid(link, second)), found)


def _owned_by_another(found: Link, wanted: Link, first: Reading) -> bool:
    """Whether what the original gives to one of its things belongs to another of them."""
    owner = found.subjects[0].noun
    moved = implies(found.relation, "with") and same_thing(wanted.object, found.object)
    return moved and owner != wanted.subjects[0].noun and any(same_noun(other.noun, owner) for other in first.things)


def _may_be_unsaid(link: Link, second: Reading) -> bool:
    """Whether the rewrite may leave the relation to the reader: loose places, or a verb that stands elsewhere in it."""
    if link.relation in lexicon.PREPOSITIONS.values():
        return link.relation not in lexicon.FIRM
    return any(same_attribute(link.relation, lemma) for lemma in second.lemmas)


def _quotation(quote: str, second: Reading) -> _Finding:
    bare = quote.rstrip(".,")
    kept = any(bare == other.rstrip(".,") for other in second.quotes)
    return _Finding(Atom("text", quote), kept, "" if kept or not second.quotes else second.quotes[0])


def _negation(thing: Thing, second: Reading) -> _Finding:
    atom = Atom("negation", " ".join(["no", *sorted(thing.attributes), thing.noun]))
    shown = [other for other in second.things if not other.negated and same_noun(thing.noun, other.noun)]
    shown = [other for other in shown if all(has_attribute(a, other, second) for a in thing.attributes)]
    if shown:
        return _Finding(atom, False, shown[0].words)
    return _Finding(atom, any(other.negated and same_noun(thing.noun, other.noun) for other in second.things))


def _added(first: Reading, second: Reading) -> Iterator[Atom]:
    for thing in second.things:
        old = [other for other in first.things if other.negated == thing.negated and same_noun(other.noun, thing.noun)]
        if not old and thing.noun not in lexicon.IGNORED:
            yield Atom("negation", f"no {thing.noun}") if thing.negated else Atom("object", thing.noun)
        known = {attribute for other in old for attribute in other.attributes}
        for attribute in sorted(thing.attributes) if old and not thing.negated else ():
            if not any(same_attribute(attribute, other) for other in known):
                yield Atom("attribute", f"{thing.noun}: {attribute.removeprefix('@')}")
    yield from (Atom("text", quote) for quote in second.quotes if quote not in first.quotes)

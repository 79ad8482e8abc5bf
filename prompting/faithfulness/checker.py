"""Does a rewritten prompt still say what the original said? Checked on text alone, atom by atom.

In the manner of DSG (arXiv 2310.18235) and TIFA (arXiv 2303.11897) the original is broken into atoms: objects, counts,
attributes bound to their noun, relations, quoted text, negations. Each is looked for in the rewrite; what the rewrite
says beyond them is reported apart. Rules, a dictionary and small word lists do it, no model: the same texts always give
the same report.

Limits: synonyms that the lists lack ("divan" for "sofa") count as broken; pronouns are resolved by nearness; irony,
idioms and conditions are not understood; attachment is guessed. In other languages than English every word of the
original is looked for as it is. It errs towards "broken", which costs a fallback to the user's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import lexicon
from .matching import contradiction, has_attribute, implies, joins, same_attribute, same_noun, same_thing
from .parsing import Link, Reading, Thing, read
from .words import lemmas, plain, split_quotes


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
    """Every atom of the original is in one of `kept`, `broken` (missing), `changed` (contradicted). `added`: new ones."""

    kept: tuple[Atom, ...]
    broken: tuple[Atom, ...]
    added: tuple[Atom, ...]
    changed: tuple[Change, ...]

    @property
    def faithful(self) -> bool:
        """Nothing is missing and nothing contradicted."""
        return not self.broken and not self.changed


@dataclass(frozen=True)
class _Finding:
    atom: Atom
    kept: bool
    found: str = ""


def check(original: str, rewritten: str) -> FaithfulnessReport:
    """Look for every atom of `original` in `rewritten`."""
    first, second = read(original), read(rewritten)
    if not is_english(original):
        findings = list(_words(original, rewritten))
    else:
        # What the original would fail by itself ("two dogs and a third one") is not asked of the rewrite.
        own = {finding.atom for finding in _findings(first, first) if not finding.kept}
        findings = [finding for finding in _findings(first, second) if finding.atom not in own]
    worst = {f.atom: f for f in sorted(findings, key=lambda f: not f.kept)}  # of equal atoms the broken one counts
    ordered = [worst[atom] for atom in dict.fromkeys(f.atom for f in findings)]
    return FaithfulnessReport(
        kept=tuple(f.atom for f in ordered if f.kept),
        broken=tuple(f.atom for f in ordered if not f.kept and not f.found),
        added=tuple(dict.fromkeys(_added(first, second))),
        changed=tuple(Change(f.atom, f.found) for f in ordered if not f.kept and f.found),
    )


def atoms(text: str) -> tuple[Atom, ...]:
    """Everything that a prompt says, as `check` would look for it."""
    return check(text, text).kept


def is_english(text: str) -> bool:
    """Whether most words are known, or any is an English function word."""
    found = re.findall(r"[^\W\d_]+", plain(split_quotes(text)[0]))
    known = sum(bool(lemmas(word)) or word in lexicon.ENGLISH for word in found)
    return not found or known / len(found) > 0.5 or bool({"the", "of", "with", "and"} & set(found))


def _words(original: str, rewritten: str) -> Iterator[_Finding]:
    bare, quotes = split_quotes(original)
    for word in re.findall(r"\w+", plain(bare)):
        yield _Finding(Atom("object", word), word in plain(rewritten))
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
        if link.certain and link.subjects:
            yield from _relation(link, first, second)
    for quote in first.quotes:
        yield _quotation(quote, second)
    for view in sorted(first.views):
        yield _Finding(Atom("attribute", f"view: {view[1:]}"), view in second.views)


def _shown(reading: Reading, noun: str) -> list[Thing]:
    """Things of that noun; those of the very word where there are any, so that a cat and two kittens are no three."""
    found = [thing for thing in reading.things if not thing.negated and same_noun(noun, thing.noun)]
    return [thing for thing in found if thing.noun == noun] or found


def _object(thing: Thing, second: Reading) -> _Finding:
    atom = Atom("object", thing.noun)
    said_otherwise = any(
        same_attribute(thing.noun, own) for other in second.things for own in other.attributes | other.acts
    )
    if _shown(second, thing.noun) or (said_otherwise and not thing.exact and not thing.plural):
        return _Finding(atom, True)
    denied = any(other.negated and same_noun(thing.noun, other.noun) for other in second.things)
    return _Finding(atom, False, f"no {thing.noun}" if denied else "")


def _count(thing: Thing, first: Reading, second: Reading) -> Iterator[_Finding]:
    """A number must be found as it is or as the sum of its parts; one must not become several, nor several one."""
    if thing.part or (thing.count == 1 and not thing.exact and not thing.plural and _several(first, thing)):
        return
    same = [other for other in _shown(first, thing.noun) if not other.part]
    found = [other for other in _shown(second, thing.noun) if not other.part]
    if not found or (len(same) > 1 and (thing.count or 2) > 1):
        return
    atom = Atom("count", f"{thing.noun}: {'several' if thing.count is None else thing.count}")
    most = sum(other.count or 1 for other in same)
    extra = [o for o in found if (o.more and not thing.more) or (o.exact and thing.count and (o.count or 0) > most)]
    single = [other for other in found if not other.plural]
    if thing.count is None:
        kept = len(single) < max(len(found), 2) if not thing.plural else len(single) < len(found) or len(single) > 1
    elif thing.count == 1:
        kept = len(single) == len(found) if thing.exact else bool(single)
    else:
        kept = any(o.count == thing.count for o in found) or sum(o.count or 0 for o in found) == thing.count
    yield _Finding(atom, kept and not extra, (extra or found)[0].words)


def _several(reading: Reading, thing: Thing) -> bool:
    return any(other.part and other.noun == thing.noun for other in reading.things)


def _attributes(thing: Thing, first: Reading, second: Reading) -> Iterator[_Finding]:
    found = _shown(second, thing.noun)
    twins = len(_shown(first, thing.noun)) > 1
    owners = [other for other in found if same_thing(thing, other) and _fits(thing, other)] if twins else found
    told = {act for act in _told_by_links(thing, first) if not any(contradiction(act, other) for other in found)}
    for attribute in sorted(thing.attributes | (thing.acts - told)):
        kept = any(has_attribute(attribute, owner, second) for owner in owners)
        wrong = "" if twins else next(filter(None, (contradiction(attribute, other) for other in found)), "")
        denied = any(same_attribute(attribute, own) for other in found for own in other.denied)
        yield _Finding(
            Atom("attribute", f"{thing.noun}: {attribute.removeprefix('@')}"),
            kept and not denied,
            "" if kept else wrong,
        )
    for attribute in sorted(thing.denied):
        claimed = any(same_attribute(attribute, own) for other in found for own in other.attributes | other.acts)
        kept = any(same_attribute(attribute, own) for other in found for own in other.denied)
        yield _Finding(
            Atom("negation", f"{thing.noun}: not {attribute}"), kept and not claimed, attribute if claimed else ""
        )


def _fits(thing: Thing, other: Thing) -> bool:
    """Whether a part of several ("one of them green") can be that thing."""
    return not thing.part or (other.count == thing.count and other.plural == thing.plural)


def _told_by_links(thing: Thing, reading: Reading) -> set[str]:
    """Verbs of the thing that a relation checks, and postures that only say where it is."""
    links = [link for link in reading.links if link.subjects[:1] == [thing] and link.object.noun not in lexicon.IGNORED]
    placed = any(link.relation in lexicon.SPATIAL for link in links)
    return {link.relation for link in links} | (lexicon.POSTURE if placed else set())


def _relation(link: Link, first: Reading, second: Reading) -> Iterator[_Finding]:
    ends = (link.subjects[0], link.object)
    if any(end.negated or end.noun in lexicon.IGNORED or not _shown(second, end.noun) for end in ends):
        return
    text = f"{ends[0].noun} {link.relation} {ends[1].noun}"
    straight = [other for other in second.links if joins(link, other, second)]
    turned = [other for other in second.links if joins(link, other, second, swapped=True)]
    saying = [o for o in straight if implies(o.relation, link.relation, ends[1].noun)]
    saying += [o for o in turned if implies(lexicon.INVERSE.get(o.relation, ""), link.relation)]
    saying += [o for o in turned if o.relation in lexicon.HOLDS.get(link.relation, ())]
    if link.negated:
        claimed = any(not other.negated for other in saying)
        yield _Finding(Atom("negation", f"not: {text}"), bool(saying) and not claimed, text if claimed else "")
        return
    wrong = [o for o in straight if o.certain and _rules_out(o, link)]
    if link.relation not in lexicon.SYMMETRIC:
        wrong += [
            o
            for o in turned
            if o.certain and implies(o.relation, link.relation) and o.relation not in lexicon.INVERSE.values()
        ]
        wrong += [o for o in turned if o.certain and o.relation == link.relation]
    if link.relation == "with" and not saying:
        wrong += [o for o in second.links if o.certain and _owned_by_another(o, link, first)]
    kept = any(not other.negated for other in saying) or (not wrong and _unsaid(link, second))
    found = f"{wrong[0].subjects[0].noun} {wrong[0].relation} {wrong[0].object.noun}" if wrong else ""
    yield _Finding(Atom("relation", text), kept, found)


def _owned_by_another(found: Link, wanted: Link, first: Reading) -> bool:
    """Whether what the original gives to one of its things belongs to another of them."""
    if not found.subjects or not implies(found.relation, "with") or not same_thing(wanted.object, found.object):
        return False
    owner = found.subjects[0].noun
    return not same_noun(wanted.subjects[0].noun, owner) and any(same_noun(t.noun, owner) for t in first.things)


def _rules_out(found: Link, wanted: Link) -> bool:
    """Whether a link between the same two things says another place."""
    both = {found.relation, wanted.relation} <= lexicon.FIRM
    return found.relation == lexicon.OPPOSITE.get(wanted.relation) or both


def _unsaid(link: Link, second: Reading) -> bool:
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
        known = {attribute for other in old for attribute in other.attributes | other.maybe}
        for attribute in sorted(thing.attributes) if old and not thing.negated else ():
            if not any(same_attribute(attribute, other) for other in known):
                yield Atom("attribute", f"{thing.noun}: {attribute.removeprefix('@')}")
    yield from (Atom("text", quote) for quote in second.quotes if quote not in first.quotes)

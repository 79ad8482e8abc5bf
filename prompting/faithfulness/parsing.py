"""What a prompt says: things with number and attributes, links between them, quotations, denials. One pass, no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import lexicon
from .words import Word, is_plural, lemmas, singular, split_quotes, tag

_REACH = 12
"""How many things back a verb or "it" can point; it keeps the time linear in the length of the text."""


@dataclass(eq=False)
class Thing:
    """A noun phrase. count: None for "dogs"; exact: said as a number, not by "a"; part: "one of them"; acts: verbs
    that it is the subject of; maybe: attributes and verbs that may be another thing's.
    """

    noun: str
    words: str = ""
    count: int | None = 1
    exact: bool = False
    plural: bool = False
    part: bool = False
    more: bool = False
    negated: bool = False
    attributes: set[str] = field(default_factory=set)
    acts: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)


@dataclass
class Link:
    """subjects RELATION object; the likeliest subject comes first. certain: the grammar leaves no other reading."""

    subjects: list[Thing]
    relation: str
    object: Thing
    negated: bool = False
    certain: bool = True


@dataclass
class Reading:
    """All that was found, in the order of the text; lemmas: of every word, for what the grammar did not find."""

    things: list[Thing] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    quotes: list[str] = field(default_factory=list)
    views: set[str] = field(default_factory=set)
    lemmas: set[str] = field(default_factory=set)


@dataclass
class _Pending:
    """A preposition or verb that waits for its object; fronted: it stands before its subject."""

    relation: str
    subjects: list[Thing]
    negated: bool = False
    fronted: bool = False
    passive: bool = False
    verb: bool = False


def read(text: str) -> Reading:
    """Read an English prompt. Unknown words count as nouns, so that nothing is passed over in silence."""
    bare, quotes = split_quotes(text)
    parser = _Parser(tag(bare))
    parser.out.quotes = quotes
    return parser.run()


class _Parser:
    def __init__(self, words: list[Word]) -> None:
        self.words = words
        self.out = Reading(lemmas={word.lemma for word in words} | {word.text for word in words})
        self.before: list[Thing] = []  # things of the sentence before, for "it" and "they"
        self.start_sentence()

    def start_sentence(self) -> None:
        self.here: list[Thing] = []
        self.free: list[Thing] = []  # those that are no object: what a later verb or adjective is about
        self.pending: _Pending | None = None
        self.last: _Pending | None = None  # whose object came last, for "... and a bag"
        self.verb: _Pending | None = None
        self.waiting: list[_Pending] = []  # fronted places, still without their subject
        self.adjectives: list[str] = []  # before any noun: "moody, a cat"
        self.deny = ""
        self.after_be = False

    def run(self) -> Reading:
        place = 0
        while place < len(self.words):
            step = getattr(self, f"on_{self.words[place].tag}", None)
            if step is None:
                place = self.noun_phrase(place)
            else:
                step(self.words[place], place)
                place += 1
        return self.out

    def on_end(self, word: Word, place: int) -> None:
        self.before = self.here[-_REACH:] or self.before
        self.start_sentence()

    def on_comma(self, word: Word, place: int) -> None:
        self.pending = self.verb = None
        rest = [w for w in self.words[place + 1 : place + 10]]
        stop = next((i for i, w in enumerate(rest) if w.tag not in ("noun", "adj", "comma")), len(rest))
        if not any(w.text in ("or", "nor") for w in rest[stop : stop + 1]):
            self.deny = ""

    def on_conj(self, word: Word, place: int) -> None:
        after = self.words[place + 1]
        if word.text == "nor":
            self.deny = "nor"
        elif not (word.text == "or" or (word.text == "and" and after.tag == "noun")) or after.tag in ("det", "num"):
            self.deny = "" if after.text != "any" else self.deny
        if word.text not in ("and", "or", "&"):
            self.verb = self.last = None
        self.pending, self.after_be = None, False

    def on_adv(self, word: Word, place: int) -> None:
        pass

    def on_quote(self, word: Word, place: int) -> None:
        self.pending = None

    def on_poss(self, word: Word, place: int) -> None:
        self.pending = _Pending("with", self.here[-1:])

    def on_pron(self, word: Word, place: int) -> None:
        if self.pending and word.text in ("it", "them", "him", "her", "itself"):
            for other in [*self.here[-_REACH:-1], *self.before]:
                self.link(self.pending, other, certain=False)
        if word.text != "that" or not self.here:
            self.pending = None

    def on_place(self, word: Word, place: int) -> None:
        if word.text.startswith(("@from", "@mono")):
            self.out.views.add(word.text)
            return
        named = [thing for thing in self.free if thing.noun not in lexicon.IGNORED_NOUNS] or self.here
        if named:
            named[-1].attributes.add(word.text)
        else:
            self.adjectives.append(word.text)
        for thing in self.here[-_REACH:]:
            thing.maybe.add(word.text)
        self.pending = None

    def on_aux(self, word: Word, place: int) -> None:
        self.after_be = word.text in lexicon.BE
        self.pending = _Pending("with", self.subjects()) if word.text in ("has", "have", "had", "having") else None

    def on_neg(self, word: Word, place: int) -> None:
        after = self.words[place + 1].text
        if word.text in ("nobody", "none"):
            self.out.things += [Thing("person", word.text, negated=True)] if word.text == "nobody" else []
        elif not (word.text == "not" and after in ("only", "just")) and not (word.text == "nothing" and after == "but"):
            self.deny = word.text
            self.pending = self.pending if word.text in ("not", "never") else None

    def on_prep(self, word: Word, place: int) -> None:
        relation = lexicon.PREPOSITIONS[word.text]
        if word.text == "by" and self.verb and self.verb.passive and self.verb.subjects:
            self.verb.subjects[0].acts.discard(self.verb.relation)
            self.pending = self.verb
            return
        fronted = not self.here or self.words[place - 1].tag in ("comma", "end", "conj")
        subjects = self.verb.subjects if self.verb and relation != "with" else self.subjects(nearest=True)
        negated = self.deny in ("not", "never")
        self.pending = _Pending(relation, list(subjects or ([] if fronted else self.before)), negated, fronted)
        self.deny = ""

    def on_verb(self, word: Word, place: int) -> None:
        close = word.form in ("ing", "ed") and self.words[place - 1].tag == "noun" and not self.after_be
        subjects = self.subjects(nearest=close) or list(self.before)
        negated = self.deny in ("not", "never")
        passive = word.form == "ed" and (self.after_be or close)
        if (self.pending is not None or not self.waiting) and self.words[place + 1].tag != "quote":
            self.act(subjects, word.lemma, negated)
        self.verb = self.pending = _Pending(word.lemma, subjects, negated, passive=passive, verb=True)
        self.after_be = False
        self.deny = "" if negated else self.deny

    def act(self, subjects: list[Thing], lemma: str, negated: bool) -> None:
        if subjects:
            (subjects[0].denied if negated else subjects[0].acts).add(lemma)
        for thing in subjects[1:] if not negated else ():
            thing.maybe.add(lemma)

    def subjects(self, *, nearest: bool = False) -> list[Thing]:
        """Whom a verb, preposition or adjective may be about, the likeliest first."""
        first = self.here[-1:] if nearest else self.free[-1:]
        return [*first, *(thing for thing in reversed(self.here[-_REACH:]) if thing not in first)]

    def noun_phrase(self, start: int) -> int:
        """Take the noun phrase that starts here, or adjectives without a noun; returns the place behind it."""
        end = self.end_of_phrase(start)
        words = self.words[start:end]
        head = next((i for i in reversed(range(len(words))) if words[i].tag == "noun"), None)
        if head != len(words) - 1 and len(words) > 1 and self.may_be_noun(words[-1]):
            head = len(words) - 1
        if head is None and any(word.tag in ("num", "ord", "det") for word in words):
            self.pronoun_phrase(words)
        elif head is None:
            self.predicate([w.lemma for w in words if w.tag == "adj"])
        else:
            self.add(self.thing(words[: head + 1]))
            self.predicate([word.lemma for word in words[head + 1 :] if word.tag == "adj"])
        return max(end, start + 1)

    def may_be_noun(self, word: Word) -> bool:
        """Whether the adjective that ends a phrase is its noun: "soft evening light"."""
        return word.tag == "adj" and "NOUN" in lemmas(word.text) and word.text not in lexicon.COLOURS and not self.after_be

    def end_of_phrase(self, start: int) -> int:
        """Where the run of determiner, numbers, adjectives and nouns ends; commas inside "foggy, mountain lake"."""
        place, tags = start, ("num", "ord", "adj", "noun")
        adjective = noun = False
        while True:
            word, after = self.words[place], self.words[min(place + 1, len(self.words) - 1)]
            if word.tag == "det" and (place == start or self.words[place - 1].tag == "det"):
                pass
            elif word.tag in tags:
                noun, adjective = noun or word.tag == "noun", adjective or word.tag == "adj"
            elif word.tag == "adv" and after.tag in (*tags, "adv") and not noun:
                pass
            elif not (word.tag in ("comma", "conj") and adjective and not noun and self.inside(word, after, start, place)):
                return place
            place += 1

    def inside(self, word: Word, after: Word, start: int, place: int) -> bool:
        """Whether a comma or "and" goes on with the phrase: "a red and shiny ball", "cute, cat"."""
        if word.tag == "conj":
            more = self.words[place + 2].tag in ("adj", "noun") if place + 2 < len(self.words) else False
            return word.text == "and" and after.tag == "adj" and (more or self.after_be)
        opened = self.words[start].tag == "det" or start == 0 or self.words[start - 1].tag == "comma"
        return after.tag == "adj" or (after.tag == "noun" and opened and not self.after_be)

    def thing(self, words: list[Word]) -> Thing:
        head = words[-1]
        thing = Thing(singular(head.text), " ".join(word.text for word in words), plural=is_plural(head.text))
        thing.count = None if thing.plural else 1
        texts = [word.text for word in words]
        for i, word in enumerate(words[:-1]):
            if word.tag == "det" or word.text in lexicon.SINGLE:
                thing.more = thing.more or word.text in lexicon.MORE
                thing.plural = thing.plural or word.text in lexicon.PLURAL
                thing.exact = thing.exact or word.text in lexicon.SINGLE
                thing.count = 2 if word.text == "both" else None if word.text in lexicon.PLURAL else thing.count
            elif word.tag == "num":
                thing.count, thing.exact, thing.plural = int(word.text), True, int(word.text) > 1
            elif word.tag == "ord":
                thing.more = int(word.text[:-2]) > 1 or thing.more
            elif match := _counted_tag(word.text):
                thing.count, thing.exact = match, True
            elif word.tag in ("adj", "noun") and not (word.text in lexicon.PRAISE | lexicon.SHADES.keys() and texts[i + 1] in lexicon.COLOURS):
                thing.attributes.add(word.lemma)
            elif word.text in lexicon.SHADES:  # of a colour
                thing.attributes.add(lexicon.SHADES[word.text])
        if thing.noun[0].isdecimal() and (match := _counted_tag(thing.noun)):  # booru tags: 1girl, 2boys
            thing.noun = singular(thing.noun.lstrip("0123456789"))
            thing.count, thing.exact = match, True
        thing.attributes -= lexicon.VAGUE_ADJECTIVES
        return thing

    def add(self, thing: Thing) -> None:
        group = self.pending and self.pending.relation == "with" and self.words_of_group()
        if group and (thing.plural or thing.noun == singular(thing.words.split()[-1])):
            self.regroup(thing, self.here.pop())
        if self.deny and not (self.pending and self.pending.negated and not self.pending.verb):
            thing.negated, self.pending = True, None
        self.out.things.append(thing)
        if not thing.negated:
            self.attach(thing)
        self.here.append(thing)
        self.after_be = False
        for adjective in [a for a in thing.attributes if a.endswith(("less", "-free"))]:
            self.missing_part(adjective)

    def words_of_group(self) -> bool:
        """Whether the last thing is a group whose members come now: "a pair of", "a flock of"."""
        of = bool(self.here) and self.here[-1].noun in lexicon.GROUP_OF.keys() | lexicon.COLLECTIVES
        return of and bool(self.out.things) and self.out.things[-1] is self.here[-1]

    def regroup(self, thing: Thing, group: Thing) -> None:
        """The things count, not their group."""
        self.out.things.remove(group)
        self.free = [other for other in self.free if other is not group]
        each = lexicon.GROUP_OF.get(group.noun)
        thing.count = thing.count if thing.exact else each and each * (group.count or 1)
        thing.exact, thing.plural = thing.count is not None, True
        thing.attributes |= group.attributes
        for link in self.out.links:
            link.object = thing if link.object is group else link.object
        was_free = not any(link.object is thing for link in self.out.links)
        self.pending = None if was_free else _Pending("", [])

    def attach(self, thing: Thing) -> None:
        """Link a new thing to what waits for it, or let it be a subject."""
        thing.attributes |= set(self.adjectives)
        self.adjectives = []
        pending, self.pending = self.pending, None
        if pending and pending.fronted:
            self.waiting.append(_Pending(pending.relation, [thing], pending.negated))
            for subject in pending.subjects:
                self.out.links.append(Link([subject], pending.relation, thing, pending.negated, certain=False))
        elif pending and pending.subjects and not (self.waiting and pending.verb):
            self.link(pending, thing)
            self.last = pending
        elif pending is None or pending.verb:
            self.join(thing)

    def link(self, pending: _Pending, thing: Thing, *, certain: bool = True) -> None:
        if not pending.passive:
            self.out.links.append(Link(pending.subjects, pending.relation, thing, pending.negated, certain))
        elif pending.subjects:
            self.out.links.append(Link([thing], pending.relation, pending.subjects[0], pending.negated, certain))

    def join(self, thing: Thing) -> None:
        """A thing that is no object: the subject of fronted places, perhaps one more object of the last verb."""
        self.free.append(thing)
        for item in self.waiting:
            self.out.links.append(Link([thing], item.relation, item.subjects[0], item.negated))
        if self.waiting and self.verb:
            thing.acts.add(self.verb.relation)
        self.waiting = []
        if self.last is not None:
            self.link(self.last, thing, certain=self.last.relation == "between")

    def pronoun_phrase(self, words: list[Word]) -> None:
        """ "one of them green", "a tall one", "the others": some of the things named before."""
        earlier = [thing for thing in (self.free or self.here or self.before) if not thing.part]
        number = next((int(word.text) for word in words if word.tag == "num"), None)
        if not earlier or number is None:
            self.predicate([word.lemma for word in words if word.tag == "adj"])
            return
        part = Thing(earlier[-1].noun, "", number, exact=True, part=True, plural=number > 1)
        part.attributes = {word.lemma for word in words if word.tag == "adj"}
        self.out.things.append(part)
        self.here.append(part)
        self.free.append(part)
        self.pending = None

    def predicate(self, adjectives: list[str]) -> None:
        """Adjectives without a noun say something of the subject, or of the nearest thing."""
        adjectives = [a for a in adjectives if a not in lexicon.VAGUE_ADJECTIVES]
        if not self.here:
            self.adjectives += adjectives
            return
        owners = [t for t in self.subjects(nearest=not self.after_be) if t.noun not in lexicon.IGNORED_NOUNS]
        for adjective in adjectives if owners else ():
            (owners[0].denied if self.deny == "not" else owners[0].attributes).add(adjective)
            for thing in owners[1:]:
                thing.maybe.add(adjective)
            self.missing_part(adjective)
        self.deny = "" if adjectives else self.deny

    def missing_part(self, adjective: str) -> None:
        """ "cloudless" and "car-free" deny a thing."""
        stem = adjective.removesuffix("less").removesuffix("-free")
        if stem != adjective and len(stem) > 2 and adjective not in ("endless", "seamless", "timeless", "countless"):
            self.out.things.append(Thing(singular(stem), adjective, negated=True))


def _counted_tag(token: str) -> int | None:
    digits = len(token) - len(token.lstrip("0123456789"))
    return int(token[:digits]) if digits and token[digits:].isalpha() and token[digits:] not in ("k", "d", "s") else None

"""What a prompt says: things with number and attributes, links between them, quotations, denials. One pass, no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import lexicon
from .words import Word, is_plural, singular, split_quotes, tag

_REACH = 12
"""How many things back a verb or "it" can point; it keeps the time linear in the length of the text."""


@dataclass(eq=False)
class Thing:
    """A noun phrase. count: None for "dogs"; exact: said as a number, not by "a"; part: "one of them"; acts: verbs it
    is the subject of; maybe: attributes and verbs that may be another thing's.
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
    """subjects RELATION object, the likeliest subject first; while parsed, one that waits for its object.

    certain: the grammar leaves no other reading. fronted: it stands before its subject ("under a tree, a cat").
    """

    subjects: list[Thing]
    relation: str
    object: Thing
    negated: bool = False
    certain: bool = True
    fronted: bool = False
    verb: bool = False
    passive: bool = False


@dataclass
class Reading:
    """All that was found, in the order of the text; lemmas: of every word, for what the grammar did not find."""

    things: list[Thing] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    quotes: list[str] = field(default_factory=list)
    views: set[str] = field(default_factory=set)
    lemmas: set[str] = field(default_factory=set)


def read(text: str) -> Reading:
    """Read an English prompt. Unknown words count as nouns, so that nothing is passed over in silence."""
    bare, quotes = split_quotes(text)
    words = tag(bare)
    parser = _Parser(words, Reading(quotes=quotes, lemmas={word.lemma for word in words}))
    place = 0
    while place < len(words):
        step = getattr(parser, f"on_{words[place].tag}", parser.noun_phrase)
        place = max(step(words[place], place) or 0, place + 1)
    return parser.out


_NOTHING = Thing("")


class _Parser:
    """One pass over the tagged words. Each `on_TAG` takes the word there; `noun_phrase` returns the place behind it."""

    def __init__(self, words: list[Word], out: Reading) -> None:
        self.words, self.out = words, out
        self.here: list[Thing] = []  # things of this sentence
        self.on_end(words[0], 0)

    def on_end(self, word: Word, place: int) -> None:
        self.before = self.here[-_REACH:]  # for "it" and "they"
        self.here = []
        self.free: list[Thing] = []  # those that are no object: what a later verb or adjective is about
        self.pending: Link | None = None  # a preposition or verb that waits for its object
        self.last: Link | None = None  # whose object came last, for "... and a bag"
        self.verb: Link | None = None
        self.waiting: list[Link] = []  # fronted places, still without their subject
        self.adjectives: list[str] = []  # before any noun: "moody, a cat"
        self.deny, self.after_be = "", False

    def on_comma(self, word: Word, place: int) -> None:
        self.pending = self.verb = None
        rest = self.words[place + 1 : place + 10]
        if next((w.text for w in rest if w.tag not in ("noun", "adj", "comma")), "") not in ("or", "nor"):
            self.deny = ""

    def on_conj(self, word: Word, place: int) -> None:
        after = self.words[place + 1]
        listed = word.text == "or" or (word.text == "and" and after.tag == "noun")
        self.deny = "nor" if word.text == "nor" else self.deny if listed and after.tag != "num" else ""
        if word.text not in ("and", "or", "&"):
            self.verb = self.last = None
        self.pending, self.after_be = None, False

    def on_adv(self, word: Word, place: int) -> None:
        """Says nothing that is checked."""

    def on_quote(self, word: Word, place: int) -> None:
        self.pending = None

    def on_poss(self, word: Word, place: int) -> None:
        self.pending = Link(self.here[-1:], "with", _NOTHING)

    def on_pron(self, word: Word, place: int) -> None:
        for other in [*self.here[-_REACH:-1], *self.before] if self.pending and word.text in ("it", "them") else ():
            self.link(self.pending, other, certain=False)
        self.pending = None

    def on_place(self, word: Word, place: int) -> None:
        self.pending = None
        if word.text in lexicon.VIEWS:
            self.out.views.add(word.text)
        else:
            self.describe([t for t in self.free if t.noun not in lexicon.IGNORED][-1:] + self.here[::-1], word.text)

    def on_aux(self, word: Word, place: int) -> None:
        self.after_be = word.text in lexicon.BE
        self.pending = Link(self.subjects(), "with", _NOTHING) if word.text in ("has", "have", "had") else None

    def on_neg(self, word: Word, place: int) -> None:
        if word.text == "nobody":
            self.out.things.append(Thing("person", word.text, negated=True))
        elif word.text != "none" and self.words[place + 1].text not in ("only", "just", "but"):
            self.deny = word.text
            self.pending = self.pending if word.text in ("not", "never") else None

    def on_prep(self, word: Word, place: int) -> None:
        if word.text == "by" and self.verb and self.verb.passive and self.verb.subjects:
            self.verb.subjects[0].acts.discard(self.verb.relation)
            self.pending = self.verb
            return
        relation = lexicon.PREPOSITIONS[word.text]
        fronted = not self.here or self.words[place - 1].tag in ("comma", "end", "conj")
        subjects = self.verb.subjects if self.verb and relation != "with" else self.subjects(nearest=True)
        negated = self.deny in ("not", "never")
        self.pending = Link(subjects or ([] if fronted else self.before), relation, _NOTHING, negated, fronted=fronted)
        self.deny = ""

    def on_verb(self, word: Word, place: int) -> None:
        close = word.form in ("ing", "ed") and self.words[place - 1].tag == "noun" and not self.after_be
        subjects = self.subjects(nearest=close) or self.before
        link = Link(subjects, word.lemma, _NOTHING, self.deny in ("not", "never"), verb=True)
        link.passive = word.form == "ed" and (self.after_be or close)
        if (self.pending or not self.waiting) and self.words[place + 1].tag != "quote":
            self.describe(subjects, word.lemma, act=True)
        self.verb = self.pending = link
        self.deny, self.after_be = "" if link.negated else self.deny, False

    def subjects(self, *, nearest: bool = False) -> list[Thing]:
        """Whom a verb, preposition or adjective may be about, the likeliest first."""
        first = self.here[-1:] if nearest else self.free[-1:]
        return [*first, *(thing for thing in self.here[: -_REACH - 1 : -1] if thing not in first)]

    def describe(self, owners: list[Thing], word: str, *, act: bool = False) -> None:
        """Say an adjective or verb of the first owner, perhaps of the others; without any, of the noun to come."""
        if not owners:
            self.adjectives.append(word)
            return
        negated = self.deny in ("not", "never")
        (owners[0].denied if negated else owners[0].acts if act else owners[0].attributes).add(word)
        for thing in owners[1:_REACH] if not negated else ():
            thing.maybe.add(word)

    def noun_phrase(self, _: Word, start: int) -> int:
        """Take the noun phrase that starts here, or adjectives without a noun."""
        end = self.end_of_phrase(start)
        words = [word for word in self.words[start:end] if word.tag in ("det", "num", "ord", "adj", "noun")]
        head = max((i for i, word in enumerate(words) if word.tag == "noun"), default=-1)
        numbers = [int(word.text) for word in words if word.tag == "num"]
        earlier = [thing for thing in (self.free or self.here or self.before) if not thing.part]
        if head >= 0:
            self.add(_thing(words[: head + 1]))
        elif numbers and earlier:  # "one of them green"
            plural = numbers[0] > 1
            self.add(Thing(earlier[-1].noun, "", numbers[0], exact=True, plural=plural, part=True))
        after = [w.lemma for w in words[head + 1 :] if w.tag == "adj" and w.text not in lexicon.VAGUE]
        owners = self.subjects(nearest=not self.after_be)
        for adjective in after:
            self.describe([thing for thing in owners if thing.noun not in lexicon.IGNORED], adjective)
            self.missing_part(adjective)
        self.deny = "" if after else self.deny
        return end

    def end_of_phrase(self, start: int) -> int:
        """Where the run of determiner, numbers, adjectives and nouns ends; commas stand inside "foggy, mountain lake"."""
        place, adjective, noun = start, False, False
        while True:
            word, after = self.words[place], self.words[min(place + 1, len(self.words) - 1)]
            if word.tag in ("num", "ord", "adj", "noun"):
                noun, adjective = noun or word.tag == "noun", adjective or word.tag == "adj"
            elif word.tag == "adv":
                if noun or after.tag not in ("num", "adj", "noun", "adv"):
                    return place
            elif word.tag != "det" or (place > start and self.words[place - 1].tag != "det"):
                if not adjective or noun or self.after_be or not self.inside(start, place):
                    return place
            place += 1

    def inside(self, start: int, place: int) -> bool:
        """Whether a comma or "and" goes on with the adjectives: "a red and shiny ball", "cute, cat"."""
        word, after = self.words[place], self.words[place + 1 : place + 3]
        if word.tag == "conj":
            return word.text == "and" and [w.tag for w in after] in (["adj", "adj"], ["adj", "noun"])
        bare = start > 0 and self.words[start - 1].tag in ("prep", "verb", "adv") and self.words[start].tag != "det"
        return word.tag == "comma" and after[0].tag in ("adj", "noun") and not bare and self.words[start].tag != "num"

    def add(self, thing: Thing) -> None:
        """Put a new thing in its place: denied, object of what waits for one, or subject of what comes."""
        pending, self.pending = self.pending, None
        self.out.things.append(thing)
        self.here.append(thing)
        self.after_be = False
        for adjective in sorted(thing.attributes):
            self.missing_part(adjective)
        if self.deny and not (pending and pending.negated):
            thing.negated = True
            return
        thing.attributes |= set(self.adjectives)
        self.adjectives = []
        if pending and pending.fronted:
            self.waiting.append(Link([], pending.relation, thing, pending.negated))
            self.out.links += [Link([other], pending.relation, thing, certain=False) for other in pending.subjects]
        elif pending and pending.subjects and not (self.waiting and pending.verb):
            self.link(pending, thing)
            self.last = pending
        elif pending is None or pending.verb:
            self.join(thing)

    def link(self, pending: Link, thing: Thing, *, certain: bool = True) -> None:
        subjects, end = ([thing], pending.subjects[0]) if pending.passive else (pending.subjects, thing)
        self.out.links.append(Link(subjects, pending.relation, end, pending.negated, certain))

    def join(self, thing: Thing) -> None:
        """A thing that is no object: the subject of fronted places, perhaps one more object of the last verb."""
        self.free.append(thing)
        for item in self.waiting:
            item.subjects = [thing]
        self.out.links += self.waiting
        if self.waiting and self.verb:
            thing.acts.add(self.verb.relation)
        self.waiting = []
        if self.last:
            self.link(self.last, thing, certain=self.last.relation == "between")

    def missing_part(self, adjective: str) -> None:
        """ "cloudless" and "car-free" deny a thing."""
        stem = adjective.removesuffix("less").removesuffix("-free")
        if stem != adjective and len(stem) > 2 and adjective not in ("endless", "seamless", "timeless", "countless"):
            self.out.things.append(Thing(singular(stem), adjective, negated=True))


def _thing(words: list[Word]) -> Thing:
    """The thing of a noun phrase; its head is the last word."""
    head, texts = words[-1].text, {word.text for word in words[:-1]}
    plural = is_plural(head) or bool(texts & lexicon.SEVERAL)
    thing = Thing(singular(head), " ".join(word.text for word in words), None if plural else 1, plural=plural)
    thing.exact, thing.more = bool(texts & lexicon.SINGLE), bool(texts & lexicon.MORE)
    for word, after in zip(words, words[1:], strict=False):
        if word.tag == "num":
            thing.count, thing.exact, thing.plural = int(word.text), True, int(word.text) > 1
        elif word.tag == "ord":
            thing.more = thing.more or int(word.text[:-2]) > 1
        elif after.text in lexicon.COLOURS and word.text in lexicon.SHADES:
            thing.attributes.add(lexicon.SHADES[word.text])
        elif word.tag in ("adj", "noun") and not (after.text in lexicon.COLOURS and word.text in lexicon.PRAISE):
            thing.attributes.add(word.lemma)
    thing.attributes -= lexicon.VAGUE
    return thing

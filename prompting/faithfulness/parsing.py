"""What a prompt says: things with number and attributes, links between them, quotations, denials. One pass."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from ..prompt_syntax import parse_prompt
from . import lexicon
from .words import Word, singular, split_quotes, tag

_REACH = 12
"""How many things back a verb can point; it keeps the time linear in the length of the text."""


@dataclass(eq=False)
class Thing:
    """A noun phrase. count: None for "dogs"; exact: said as a number, not by "a"; part: "one of them"; more: "another",
    "a third"; acts: verbs it is the subject of; denied: what it is said not to be or do.
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


@dataclass
class Link:
    """subjects RELATION object, the likeliest subject first. While parsed it waits for its object, and if fronted
    ("under a tree, a cat") for its subject.
    """

    subjects: list[Thing]
    relation: str
    object: Thing
    negated: bool = False
    fronted: bool = False
    verb: bool = False
    passive: bool = False


@dataclass
class Reading:
    """All that was found, in the order of the text; lemmas: of every word; unwanted: adjectives among the negatives."""

    things: list[Thing] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    quotes: list[str] = field(default_factory=list)
    views: set[str] = field(default_factory=set)
    lemmas: set[str] = field(default_factory=set)
    unwanted: set[str] = field(default_factory=set)


@lru_cache(maxsize=16)  # a choice of rewrite asks for the same texts again and again
def read(text: str) -> Reading:
    """Read an English prompt, its weights off. Unknown words count as nouns, so that nothing is passed over in silence.

    What `--no` and "Negative prompt:" name is denied.
    """
    prompt = parse_prompt(text)
    denied, unwanted = [], set()
    for item in prompt.negatives:
        tagged = tag(item)
        if any(word.tag == "noun" for word in tagged):
            denied.append(item)
        else:
            unwanted |= {word.lemma for word in tagged if word.tag in ("adj", "verb")}
    bare, quotes = split_quotes(". No ".join([prompt.words, *denied]))
    words = tag(bare)
    parser = _Parser(words, Reading(quotes=quotes, lemmas={word.lemma for word in words}, unwanted=unwanted))
    place = 0
    while place < len(words):
        step = getattr(parser, f"on_{words[place].tag}", parser.noun_phrase)
        place = max(step(words[place], place) or 0, place + 1)
    return parser.out


_UNKNOWN = Thing("")
_LETTERS = {"det": "D", "num": "#", "ord": "O", "adj": "A", "noun": "N", "adv": "R", "comma": ",", "conj": "&"}
_RUN = re.compile(r"D*(?:R*[OA]+&(?=A[AN]))?(?:R*[#OAN])*")  # tags by letter: "a red and very shiny ball"
_LIST = re.compile(r"D*(?:R*[#O]*A+(?:,(?=[AN])|&(?=A[AN])))*(?:R*[#OAN])*")  # "foggy, mountain lake"


class _Parser:
    """One pass over the tagged words: `on_TAG` for closed-class words and verbs, `noun_phrase` for the others."""

    def __init__(self, words: list[Word], out: Reading) -> None:
        self.words, self.out = words, out
        self.tags = "".join(_LETTERS.get(word.tag, ".") for word in words)
        self.on_end(words[0], 0)

    def on_end(self, word: Word, place: int) -> None:
        self.here: list[Thing] = []  # things of this sentence
        self.free: list[Thing] = []  # those that are not an object: what a later verb or adjective is about
        self.pending: Link | None = None  # a preposition or verb that waits for its object
        self.last: Link | None = None  # whose object came last
        self.verb: Link | None = None
        self.waiting: list[Link] = []  # fronted places, still without their subject
        self.adjectives: set[str] = set()  # before any noun: "moody, a cat"
        self.deny, self.after_be = "", False

    def on_comma(self, word: Word, place: int) -> None:
        self.pending = self.verb = None
        rest = self.words[place + 1 : place + 10]
        if next((w.text for w in rest if w.tag not in ("noun", "adj", "comma")), "") not in ("or", "nor"):
            self.deny = ""

    def on_conj(self, word: Word, place: int) -> None:
        listed = word.text == "or" or (word.text == "and" and self.words[place + 1].tag == "noun")
        self.deny = "nor" if word.text == "nor" else self.deny if listed else ""
        self.verb = self.verb if word.text in ("and", "or", "&") else None
        self.pending, self.after_be = None, False

    def on_pron(self, word: Word, place: int) -> None:
        self.pending = None

    on_quote = on_poss = on_pron

    def on_adv(self, word: Word, place: int) -> None:
        """Adverbs say nothing that is checked."""

    def on_place(self, word: Word, place: int) -> None:
        self.pending = None
        if word.text in lexicon.VIEWS:
            self.out.views.add(word.text)
        else:
            self.describe(self.subjects(), word.text)

    def on_aux(self, word: Word, place: int) -> None:
        self.after_be = word.text in lexicon.BE
        self.pending = Link(self.subjects(), "with", _UNKNOWN) if word.text in ("has", "have", "had") else None

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
        self.pending = Link(subjects, relation, _UNKNOWN, self.deny in ("not", "never"), fronted)
        self.deny = ""

    def on_verb(self, word: Word, place: int) -> None:
        close = word.form in ("ing", "ed") and self.words[place - 1].tag == "noun" and not self.after_be
        inverted = self.waiting and not self.free  # "on a hill stands a castle"
        subjects, negated = [] if inverted else self.subjects(nearest=close), self.deny in ("not", "never")
        if self.words[place + 1].tag != "quote":
            self.describe(subjects, word.lemma, act=True)
        passive = word.form == "ed" and (self.after_be or close)
        self.verb = self.pending = Link(subjects, word.lemma, _UNKNOWN, negated, verb=True, passive=passive)
        self.deny, self.after_be = "" if negated else self.deny, False

    def subjects(self, *, nearest: bool = False) -> list[Thing]:
        """Whom a verb, preposition or adjective may be about, the likeliest first."""
        first = self.here[-1:] if nearest else self.free[-1:]
        return [*first, *(thing for thing in self.here[: -_REACH - 1 : -1] if thing not in first)]

    def describe(self, owners: list[Thing], word: str, *, act: bool = False) -> None:
        """Say an adjective or verb of the likeliest owner; without any, of the noun to come."""
        negated = self.deny in ("not", "never")
        if owners:
            (owners[0].denied if negated else owners[0].acts if act else owners[0].attributes).add(word)
        else:
            self.adjectives.add(word)

    def noun_phrase(self, _: Word, start: int) -> int:
        """Take the noun phrase that starts here, or adjectives without a noun; returns the place behind it."""
        end = self.end_of_phrase(start)
        words = [word for word in self.words[start:end] if word.tag in ("det", "num", "ord", "adj", "noun")]
        head = max((i for i, word in enumerate(words) if word.tag == "noun"), default=-1)
        number = next((int(word.text) for word in words if word.tag == "num"), None)
        earlier = [thing for thing in (self.free or self.here) if not thing.part]
        if head >= 0:
            run = self.words[start : self.words.index(words[head], start) + 1]
            self.add(_thing(words[: head + 1], " ".join(word.text for word in run)))
        elif number is not None and earlier:  # "one of them green"
            self.add(Thing(earlier[-1].noun, "", number, exact=True, plural=number > 1, part=True))
        after = [w.lemma for w in words[head + 1 :] if w.tag == "adj" and w.text not in lexicon.VAGUE]
        owners = self.subjects(nearest=not self.after_be)
        for adjective in after:
            self.describe([thing for thing in owners if thing.noun not in lexicon.IGNORED], adjective)
        self.deny = "" if after else self.deny
        return end

    def end_of_phrase(self, start: int) -> int:
        """Where the run of determiner, numbers, adjectives and nouns ends; "foggy, mountain lake" is one run."""
        first, before = self.words[start].tag, self.words[start - 1].tag if start else "end"
        bare = self.after_be or first == "num" or (before in ("prep", "verb", "adv") and first != "det")
        run = (_RUN if bare else _LIST).match(self.tags, start)
        return run.end() if run else start

    def add(self, thing: Thing) -> None:
        """Put a new thing in its place: denied, object of what waits for one, or subject of what comes."""
        pending, self.pending, self.after_be = self.pending, None, False
        self.out.things.append(thing)
        self.here.append(thing)
        for stem in {a.removesuffix("less").removesuffix("-free") for a in thing.attributes} - thing.attributes:
            self.out.things.append(Thing(singular(stem), stem, negated=True))  # "cloudless", "car-free"
        if self.deny and not (pending and pending.negated):
            thing.negated = True
            return
        thing.attributes |= self.adjectives
        self.adjectives = set()
        if pending and pending.fronted:
            self.waiting.append(Link([], pending.relation, thing, pending.negated))
        elif pending and pending.subjects:
            self.link(pending, thing)
        elif pending is None or pending.verb:
            self.free.append(thing)
            for item in self.waiting:
                self.out.links.append(Link([thing], item.relation, item.object, item.negated))
            self.waiting = []
            if self.last and self.last.relation == "between":
                self.link(self.last, thing)

    def link(self, pending: Link, thing: Thing) -> None:
        subjects, end = ([thing], pending.subjects[0]) if pending.passive else (pending.subjects, thing)
        self.out.links.append(Link(subjects, pending.relation, end, pending.negated))
        self.last = pending


def _thing(words: list[Word], text: str) -> Thing:
    """The thing of a noun phrase; its head is the last word."""
    head, texts = words[-1].text, {word.text for word in words[:-1]}
    plural = singular(head) != head or bool(texts & lexicon.SEVERAL)
    thing = Thing(singular(head), text, None if plural else 1, plural=plural)
    thing.exact, thing.more = bool(texts & lexicon.SINGLE), bool(texts & lexicon.MORE)
    for word, after in pairwise(words):
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

"""What a text says of its picture: things with number and attributes, relations between them, quotations, what is
denied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import english_words as words
from .morphology import singular, word_set
from .noun_phrases import Mention, noun_phrase
from .tagging import Word, split_quotes, tag

_LESS = word_set(
    """
    endless seamless timeless countless restless flawless ageless boundless effortless weightless priceless
    """
)
_REACH = 12
"""How many things back a verb, an adjective or "it" can point; it keeps the time linear in the length of the text."""


@dataclass
class Link:
    """`subjects` RELATION `object`, as places in `Reading.mentions`; the likeliest subject comes first."""

    subjects: list[int]
    relation: str
    object: int
    negated: bool = False
    certain: bool = True


@dataclass
class Reading:
    """All that was found, in the order of the text."""

    mentions: list[Mention] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    quotes: list[str] = field(default_factory=list)


def read(text: str) -> Reading:
    """Read English text. Unknown words count as nouns, so that nothing is passed over in silence."""
    plain, quotes = split_quotes(text)
    return _Reader(tag(plain), quotes).run()


@dataclass
class _Pending:
    """A preposition or verb that waits for its object."""

    relation: str
    subjects: list[int]
    negated: bool
    fronted: bool = False
    passive: bool = False


class _Reader:
    """One pass from left to right over the tagged words."""

    def __init__(self, tagged: Sequence[Word], quotes: list[str]) -> None:
        self.words = tagged
        self.out = Reading(quotes=quotes)
        self.steps: dict[str, Callable[[int], int]] = {
            **{"end": self._end, "comma": self._comma, "conj": self._conj, "adv": self._adv, "quote": self._quote},
            **{"poss": self._poss, "pron": self._pron, "place": self._place, "aux": self._aux, "neg": self._neg},
            **{"prep": self._prep, "verb": self._verb},
        }
        self.before: list[int] = []  # mentions of the sentence before, for "it" and "they"
        self._new_sentence()

    def _new_sentence(self) -> None:
        self.here: list[int] = []
        self.free: list[int] = []  # those that are no object: what a later verb or adjective is about
        self.pending: _Pending | None = None
        self.last: _Pending | None = None  # what the latest object belonged to, for "… and a bag"
        self.waiting: list[_Pending | str] = []  # fronted places, still without their subject
        self.deny = ""  # the negating word in force
        self.verb: _Pending | None = None
        self.after_be = False

    def run(self) -> Reading:
        place = 0
        while place < len(self.words):
            step = self.steps.get(self.words[place].tag, self._phrase)
            place = step(place)  # every step returns the place to go on from
        return self.out

    # Words that stand alone

    def _end(self, place: int) -> int:
        if self.here:
            self.before = self.here[-_REACH:]
        self._new_sentence()
        return place + 1

    def _comma(self, place: int) -> int:
        self.pending, self.verb = None, None
        if self.deny and not self._list_goes_on(place + 1):
            self.deny = ""
        return place + 1

    def _conj(self, place: int) -> int:
        text = self.words[place].text
        if text == "nor":
            self.deny = "nor"
        elif self.deny and not (text in ("or", "and") and self._bare(place + 1, adjectives=text == "or")):
            self.deny = ""
        if text not in ("and", "or"):
            self.verb, self.last, self.after_be = None, None, False
        self.pending = None
        return place + 1

    def _adv(self, place: int) -> int:
        return place + 1

    def _quote(self, place: int) -> int:
        self.pending = None
        return place + 1

    def _poss(self, place: int) -> int:
        if self.here:
            self.pending = _Pending("with", [self.here[-1]], False)
        return place + 1

    def _pron(self, place: int) -> int:
        text = self.words[place].text
        if text in ("it", "them", "him", "her", "they", "he", "she") and self.pending and self.pending.subjects != []:
            for other in [*self.here[-_REACH:-1], *self.before]:
                self.out.links.append(Link(self.pending.subjects, self.pending.relation, other, certain=False))
        elif text in ("it", "them", "him") and self.pending:
            self.waiting.append(self.pending)
        self.pending = None
        return place + 1

    def _place(self, place: int) -> int:
        attribute = self.words[place].text
        if self.free or self.here:
            named = [i for i in self.free if self.out.mentions[i].noun not in words.IGNORED_NOUNS]
            owner = named[-1] if named else self.here[-1]
            self.out.mentions[owner].attributes.add(attribute)
            for other in self.here[-_REACH:]:
                self.out.mentions[other].soft.add(attribute)
        else:
            self.waiting.append(attribute)
        self.pending = None
        return place + 1

    def _aux(self, place: int) -> int:
        self.after_be = self.words[place].text in words.BE
        self.pending = (
            _Pending("with", self._subjects(), False) if self.words[place].text in ("has", "have", "had") else None
        )
        return place + 1

    def _neg(self, place: int) -> int:
        text = self.words[place].text
        if text in ("nobody", "none"):
            if text == "nobody":
                self.out.mentions.append(Mention("person", negated=True, words=text))
        elif not (text == "not" and self.words[place + 1].text in ("only", "just")):
            self.deny = text
            if text not in ("not", "never"):
                self.pending = None
        return place + 1

    def _prep(self, place: int) -> int:
        text = self.words[place].text
        relation = words.PREPOSITIONS[text]
        negated = self.deny in ("not", "never")
        if text == "by" and self.verb and self.verb.passive:
            self.pending = self.verb
            return place + 1
        fronted = not self.here or self.words[place - 1].tag in ("comma", "end", "conj")
        subjects = [] if not self.here else list(self.verb.subjects) if self.verb else self._subjects(nearest=True)
        if not subjects and not fronted:
            subjects = list(self.before)
        self.pending = _Pending(relation, subjects, negated, fronted=fronted)
        if not negated:
            self.deny = ""
        return place + 1

    def _verb(self, place: int) -> int:
        word = self.words[place]
        close = word.form in ("ing", "ed", "past") and self.words[place - 1].tag == "noun" and not self.after_be
        subjects = self._subjects(nearest=close) or list(self.before)
        negated = self.deny in ("not", "never")
        passive = word.form in ("ed", "past") and (self.after_be or close)
        if not any(isinstance(item, _Pending) for item in self.waiting) or self.pending is not None:
            self._act(subjects, word.lemma, negated)
        self.verb = self.pending = _Pending(word.lemma, subjects, negated, passive=passive)
        self.after_be = False
        if not negated:
            self.deny = ""
        return place + 1

    def _act(self, subjects: list[int], attribute: str, negated: bool) -> None:
        for order, subject in enumerate(subjects):
            mention = self.out.mentions[subject]
            if not negated:
                (mention.soft if order else mention.attributes).add(attribute)
            elif not order:
                mention.denied.add(attribute)

    def _subjects(self, *, nearest: bool = False) -> list[int]:
        """Whom a verb, preposition or adjective may be about, the likeliest first."""
        first = self.here[-1:] if nearest else self.free[-1:]
        return [*first, *(other for other in reversed(self.here[-_REACH:]) if other not in first)]

    # Noun phrases, and adjectives without a noun

    def _phrase(self, start: int) -> int:
        mention, place, adjectives = noun_phrase(self.words, start)
        if mention is None:
            self._predicate(adjectives)
            return max(place, start + 1)
        mention.words = " ".join(word.text for word in self.words[start:place])
        own = len(self.out.mentions)
        self.out.mentions.append(mention)
        for adjective in list(mention.attributes):
            self._missing_part(adjective)
        self._deny_or_link(own, mention)
        self.here.append(own)
        self.after_be = False
        return place

    def _deny_or_link(self, own: int, mention: Mention) -> None:
        by_verb = self.pending is not None and self.pending.negated
        if self.deny and not (by_verb and self.pending and self.pending.relation in words.PREPOSITIONS.values()):
            mention.negated = True
            self.pending = None
            return
        pending, self.pending = self.pending, None
        if pending is None or (not pending.subjects and not pending.fronted):
            self._join(own)
            return
        if pending.fronted:
            self.waiting.append(_Pending(pending.relation, [own], pending.negated))
        if self.waiting and not pending.fronted and pending is self.verb:
            self._join(own)  # "On a mat sits a cat": what follows the verb is its subject
            return
        if pending.subjects:
            self._link(pending, own)
        self.last = pending

    def _link(self, pending: _Pending, own: int, *, certain: bool = True) -> None:
        certain = certain and not pending.fronted
        if pending.passive:
            if pending is self.verb and pending.subjects:
                self.out.links.append(Link([own], pending.relation, pending.subjects[0], pending.negated, certain))
            return
        self.out.links.append(Link(pending.subjects, pending.relation, own, pending.negated, certain))

    def _join(self, own: int) -> None:
        """A noun phrase that is no object: the subject of fronted places, perhaps one more object of the last verb."""
        self.free.append(own)
        for item in self.waiting:
            if isinstance(item, str):
                self.out.mentions[own].attributes.add(item)
            else:
                for other in item.subjects or self.before:
                    self.out.links.append(Link([own], item.relation, other, item.negated, bool(item.subjects)))
        if self.waiting and self.verb:
            self.out.mentions[own].attributes.add(self.verb.relation)
        self.waiting = []
        if self.last is not None and self.last.subjects:
            between = self.last.relation == "between"
            self._link(self.last, own, certain=between)
            if between:
                self.free.pop()

    def _predicate(self, adjectives: list[str]) -> None:
        """Adjectives without a noun say something of the subject, or of the nearest thing."""
        if self.waiting and not self.here:
            self.waiting += adjectives
            return
        colour_name = self.here and self.out.mentions[self.here[-1]].noun in words.IGNORED_NOUNS
        owners = self._subjects(nearest=not self.after_be) or list(self.before)
        if colour_name and len(self.here) > 1:
            owners = [other for other in owners if other != self.here[-1]]
        for adjective in adjectives:
            self._act(owners, adjective, negated=self.deny == "not")
            self._missing_part(adjective)
        self.deny = "" if adjectives else self.deny

    def _missing_part(self, adjective: str) -> None:
        """ "cloudless" and "car-free" deny a thing."""
        stem = adjective.removesuffix("less").removesuffix("-free")
        if stem != adjective and len(stem) > 2 and adjective not in _LESS:
            self.out.mentions.append(Mention(singular(stem), negated=True, words=adjective))

    def _list_goes_on(self, place: int) -> bool:
        """Whether "no cars, people or buildings" goes on: an "or" is still to come, and no article before it."""
        for word in self.words[place:]:
            if word.text in ("or", "nor"):
                return True
            if word.tag not in ("noun", "adj", "comma"):
                return False
        return False

    def _bare(self, place: int, *, adjectives: bool) -> bool:
        after = self.words[place]
        return after.tag == "noun" or after.text == "any" or (adjectives and after.tag == "adj")

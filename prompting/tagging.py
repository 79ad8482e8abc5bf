"""Text to tagged words: a light part-of-speech tagger of closed-class lists, word endings and one word of context each
side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from . import english_words as words
from .morphology import irregular_forms, is_plural, singular, verb_base, word_set


@dataclass(frozen=True)
class Word:
    """tag: det num adj noun verb prep conj pron aux neg adv place quote poss comma end. `form` of a verb: ing ed past
    s base.
    """

    text: str
    tag: str
    lemma: str
    form: str = ""


_QUOTES = re.compile(
    r"[\"“”„«»]([^\"“”„«»]+)[\"“”„«»]|(?<![\w'])[‘'](?=\S)([^‘’']*(?:['’](?=\w)[^‘’']*)*)(?<=[^\s])[’'](?!\w)"
)
_WRITTEN = re.compile(
    r"\b(?:says?|saying|reads?|reading|labell?ed|titled|spelling|spells|words?|text|inscribed|lettering)\s*:?\s+"
    r"((?:[A-Z0-9][A-Z0-9'!?&-]+)(?:\s+[A-Z0-9][A-Z0-9'!?&-]*)*)"
)
_OF_PICTURE = r"(?:\s+of\s+the\s+(?:image|picture|frame|scene|photo|canvas|composition))"
_SIDE = r"(?:in|on|at|to)\s+the\s+(?:far\s+)?"
_PLACES = (
    (rf"{_SIDE}(?:top|upper)[\s-]+(left|right)(?:[\s-]+corner)?{_OF_PICTURE}?\b", "@top @{}"),
    (rf"{_SIDE}(?:bottom|lower)[\s-]+(left|right)(?:[\s-]+corner)?{_OF_PICTURE}?\b", "@bottom @{}"),
    (
        rf"{_SIDE}(left|right)(?:[\s-]+hand)?(?:\s+side)?(?:{_OF_PICTURE}|(?!\s+of\b)(?=\s*(?:[,.;]|$|and\b|is\b|a\b|an\b|the\b|sits|stands)))",
        "@{}",
    ),
    (rf"{_SIDE}(background|foreground|distance){_OF_PICTURE}?\b", "@{}"),
    (rf"{_SIDE}(?:very\s+)?(top|bottom){_OF_PICTURE}", "@{}"),
)
_LEFT_OF = re.compile(
    r"\b(?:(?:to|on|at)\s+(?:the|its|his|her|their)\s+)?(?:immediate\s+)?(left|right)(?:[\s-]+hand)?(?:\s+side)?\s+of\b"
)
_TOKEN = re.compile(r"@\w+|\d+(?:[.,:]\d+)*[^\W\d_]*|[^\W\d_]+(?:['’-][^\W_]+)*|[^\w\s]", re.UNICODE)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PHRASES = {tuple(phrase.split()): "prep" for phrase in words.PREPOSITIONS if " " in phrase}
_PHRASES |= {tuple(phrase.split()): "neg" for phrase in words.NEGATING_PHRASES}
_PHRASES |= {tuple(phrase.split()): "adv" for phrase in words.ADVERBIAL_PHRASES}
_ADJECTIVES = (
    words.ADJECTIVES | words.SHADES | words.COLOURS.keys() | words.ADJECTIVE_SYNONYMS.keys() - words.ALSO_NOUNS
)
_REQUEST = re.compile(
    r"^\s*(?:please\s+)?(?:draw|paint|create|generate|make|show|render|imagine|design|depict)(?:\s+(?:me|us))?\s+(?=(?:an?|the|some|\d+)\b)"
)
_REACH = 60  # words back that a tag may hang on
_ENDS = ".!?;:—–|\n"
# After these a noun phrase begins or nothing does, so that a verb form before them is a verb.
_AFTER_VERB = frozenset(
    ("det", "prep", "num", "adv", "pron", "comma", "end", "conj", "quote", "place", "neg", "aux", "none")
)
_AFTER_UNKNOWN_VERB = _AFTER_VERB - {"end", "comma", "conj"}
_NOUN_OR_VERB = word_set("set cut split spread rose saw hit shot lit left lay")


def split_quotes(text: str) -> tuple[str, list[str]]:
    """The text with each quotation replaced by a mark, and the quoted strings, exact in every letter."""
    found: list[str] = []

    def take(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        found.append(inside.strip())
        kept = match.group(0)[: match.start(match.lastindex or 1) - match.start(0)] if match.re is _WRITTEN else ""
        return f"{kept} @quote "

    return _WRITTEN.sub(take, _QUOTES.sub(take, text)), found


def tag(text: str) -> list[Word]:
    """Tag a text without quotations (see `split_quotes`); it ends in a word with the tag "end"."""
    lowered = _LEFT_OF.sub(r"\1 of", _REQUEST.sub("", text.lower().replace("’", "'")))
    lowered = _THOUSANDS.sub("", lowered)
    for pattern, place in _PLACES:
        lowered = re.sub(pattern, lambda match, place=place: place.format(*match.groups()), lowered)  # type: ignore[misc]
    return _tagged(_joined(_tokens(lowered)))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for token in _TOKEN.findall(text):
        if token.endswith("n't"):
            tokens += [{"ca": "can", "wo": "will"}.get(token[:-3], token[:-3]), "not"]
        elif token.endswith("'s"):
            tokens += [token[:-2], "'s"]
        elif "-" in token:
            tokens += _hyphenated(token)
        else:
            tokens.append(token)
    return [*tokens, "."]


def _hyphenated(token: str) -> list[str]:
    """ "dark-blue" is two words; "blue-eyed", "twenty-five" and "t-shirt" are one."""
    parts = token.split("-")
    if all(part in words.NUMBERS for part in parts):
        return [token]
    known = [part in words.COLOURS or part in words.SHADES or part in words.ADJECTIVES for part in parts]
    if parts[-1] in ("colored", "coloured"):
        return parts[:-1]
    if parts[-1].endswith("ed") and not known[-1]:
        return [token]
    return parts if any(known) and all(len(part) > 2 for part in parts) else [token]


def _joined(tokens: list[str]) -> list[tuple[str, str]]:
    """Tokens with the tag that their list gives them; phrases of several words become one."""
    joined: list[tuple[str, str]] = []
    i = 0
    while i < len(tokens):
        value, length = _number_of_several_words(tokens[i:])
        if length > 1:
            joined.append((str(value), "num"))
            i += length
            continue
        for length in range(5, 1, -1):
            phrase = tuple(tokens[i : i + length])
            if phrase in _PHRASES:
                joined.append((" ".join(phrase), _PHRASES[phrase]))
                i += length
                break
        else:
            joined.append((tokens[i], _closed(tokens[i])))
            i += 1
    return joined


def _number_of_several_words(tokens: Sequence[str]) -> tuple[int, int]:
    """The number that the tokens begin with, and how many of them it takes: "two hundred and five cats" -> (205, 4);
    (…, 0 or 1) where it is none, or one word."""
    total = part = length = 0
    below = 0  # right behind "hundred" and "thousand" a number goes on with less than these
    for i, token in enumerate(tokens):
        if token in words.SCALES and part:
            part *= words.SCALES[token]
            total, part = (total + part, 0) if token == "thousand" else (total, part)
            length, below = i + 1, 0 if token == "dozen" else words.SCALES[token]
        elif token == "and" and below:
            continue
        elif token in ("both", "twin") or token in words.SCALES or (value := number(token)) is None:
            break
        elif (
            i == 0
            or value < below
            or (tokens[i - 1] in words.NUMBERS and part % 100 in range(20, 100, 10) and 0 < value < 10)
        ):
            part, length, below = part + value, i + 1, 0
        else:
            break
    return total + part, length


def _closed(token: str) -> str:
    """The tag of a closed-class word, or "" for an open one."""
    if token == "@quote" or token.startswith("@"):
        return "quote" if token == "@quote" else "place"
    if token in _ENDS:
        return "end"
    if not any(character.isalnum() for character in token):
        return "poss" if token == "'s" else "comma"
    tables = (
        ("neg", words.NEGATORS),
        ("num", words.NUMBERS),
        ("prep", words.PREPOSITIONS),
        ("det", words.DETERMINERS | words.VAGUE),
        ("pron", words.PRONOUNS),
        ("aux", words.AUXILIARIES),
        ("conj", words.CONJUNCTIONS),
        ("adv", words.ADVERBS),
    )
    if token == "'s":
        return "poss"
    for name, table in tables:
        if token in table:
            return name
    if token[-1].isdecimal() or (token.split("-")[0] in words.NUMBERS and token.split("-")[-1] in words.NUMBERS):
        return "num"
    return "adv" if token.endswith("ly") and len(token) > 4 and token not in words.LY_NOT_ADVERBS else ""


def number(token: str) -> int | None:
    """The value of a number word or of digits: "twenty-five" -> 25."""
    if token.isdecimal():
        return int(token)
    parts = [words.NUMBERS.get(part) for part in token.split("-")]
    return sum(part for part in parts if part is not None) if None not in parts else None


def is_adjective(token: str) -> bool:
    """Whether a word is an adjective by list, ending or form ("blue-eyed")."""
    if token in _ADJECTIVES:
        return True
    if "-" in token and token.endswith(("ed", "ing", "free", "like", "old", "shaped", "sized")):
        return True
    return token.endswith(words.ADJECTIVE_ENDINGS) and len(token) > 5 and token not in words.NOT_ADJECTIVES


def verb_form(token: str) -> str:
    """Which form of a verb the word could be: ing, ed, past, s, base, or "" for none."""
    if token in irregular_forms():
        return "ing" if token.endswith("ing") else "past"
    if token in words.VERBS:
        return "base"
    known = verb_base(token, words.VERBS) in words.VERBS
    if token.endswith("ing") and len(token) > 4 and (known or token not in words.ING_NOUNS):
        return "ing"
    if token.endswith("ed") and len(token) > 3 and token not in words.ED_NOT_VERBS and "-" not in token:
        return "ed"
    return "s" if token.endswith("s") and not token.endswith("ss") and len(token) > 3 else ""


def _tagged(tokens: list[tuple[str, str]]) -> list[Word]:
    tagged: list[Word] = []
    for i, (token, closed) in enumerate(tokens):
        after = tokens[i + 1] if i + 1 < len(tokens) else (".", "end")
        if closed == "aux" and token in ("looks", "seems") and after[1] == "prep":
            closed = ""
        if token == "that" and tagged and tagged[-1].tag == "noun":
            closed = "pron"
        if closed:
            tagged.append(Word(token, closed, token))
            continue
        form = verb_form(token)
        kind = _verb_or_adjective(token, form or "base", tagged, after)
        if kind == "verb":
            tagged.append(Word(token, "verb", verb_base(token, words.VERBS), form))
        elif kind == "adj" and not is_adjective(token):
            tagged.append(Word(token, "adj", verb_base(token, words.VERBS)))
        elif is_adjective(token):
            tagged.append(Word(token, "adj", token))
        else:
            tagged.append(Word(token, "noun", singular(token)))
    return tagged


def _verb_or_adjective(token: str, form: str, before: Sequence[Word], after: tuple[str, str]) -> str:
    """ "verb", "adj" (a participle before its noun), or "" for neither."""
    words_before = [word for word in before[-_REACH:] if word.tag != "adv"]
    previous = words_before[-1] if words_before else Word("", "end", "")
    following = after[1] or "open"
    if previous.text == "to":
        return "verb" if form == "base" else ""
    if previous.tag in ("aux", "pron") or (previous.tag == "neg" and previous.text in ("not", "never")):
        return "verb" if form != "base" or previous.text not in words.BE else ""
    if form in ("ing", "ed", "past"):
        return _participle(token, form, previous, following, words_before)
    sentence = _sentence(words_before)
    has_noun, has_verb = (any(word.tag == kind for word in sentence) for kind in ("noun", "verb"))
    known = verb_base(token, words.VERBS) in words.VERBS
    if token in words.ING_NOUNS:
        return "verb" if previous.tag == "noun" and following == "det" else ""
    if previous.tag == "noun":
        if form == "base":
            joint = known and any(word.text == "and" for word in sentence)
            many = is_plural(previous.text) and not _one_thing(sentence)
            return "verb" if (many or joint) and following in (_AFTER_VERB if known else _AFTER_UNKNOWN_VERB) else ""
        if is_plural(previous.text):
            return ""
        return "verb" if (_one_thing(sentence) and following in _AFTER_UNKNOWN_VERB) or known else ""
    if form == "s" and known and has_noun and following in ("det", "prep", "adv", "pron", "num"):
        in_colour = previous.tag == "adj" and len(sentence) > 1 and sentence[-2].tag == "prep"
        return (
            "verb" if previous.tag in ("comma", "place") or in_colour or (previous.tag == "conj" and has_verb) else ""
        )
    return ""


def _participle(token: str, form: str, previous: Word, following: str, before: Sequence[Word]) -> str:
    if form == "past" and token in _NOUN_OR_VERB and not (previous.tag == "noun" and is_plural(previous.text)):
        return "adj" if following == "open" and previous.tag in ("det", "adj", "num") and token == "lit" else ""
    if previous.tag in ("det", "num", "adj", "poss"):
        in_colour = previous.tag == "adj" and len(before) > 1 and before[-2].tag in ("prep", "noun", "aux")
        return "adj" if following == "open" else "verb" if in_colour else ""
    if previous.tag == "noun":
        return "verb"
    if following != "open":
        return "verb"
    inside = previous.tag in ("conj", "comma") and any(word.tag == "noun" for word in _sentence(before))
    return "verb" if inside and verb_base(token, words.VERBS) in words.VERBS else "adj"


def _one_thing(sentence: Sequence[Word]) -> bool:
    """Whether the last noun phrase began as a singular ("a", "one")."""
    starts = [word.text for word in sentence if word.tag in ("det", "num")]
    return bool(starts) and starts[-1] in words.ONE


def _sentence(before: Sequence[Word]) -> Sequence[Word]:
    start = max((i for i, word in enumerate(before) if word.tag == "end"), default=-1)
    return before[start + 1 :]

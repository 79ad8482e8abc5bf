"""Text to tagged words. Lemmas and parts of speech: lemminflect's dictionary; numbers in words: text2num."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from ..prompt_syntax.sections import QUOTES
from . import lexicon


class Word(NamedTuple):
    """tag: det num ord adj noun verb prep conj pron aux neg adv place quote poss comma end. form: ing ed s base."""

    text: str
    tag: str
    lemma: str
    form: str = ""


_WRITTEN = re.compile(  # a sign that says STOP
    r"\b(?:says?|saying|reads?|reading|labell?ed|titled|spelling|spells|words?|text|inscribed|lettering)\s*:?\s+"
    r"((?:[A-Z0-9][A-Z0-9'!?&-]+)(?:\s+[A-Z0-9][A-Z0-9'!?&-]*)*)"
)
_BRACKETS = re.compile(r"[()\[\]{}]")
_SIDE = r"\b(?:in|on|at|to)\s+the\s+(?:far\s+|very\s+)?"
_PICTURE = r"(?:\s+of\s+the\s+(?:image|picture|frame|scene|photo|canvas|composition))"
_MARKS = (
    (r"^\s*(?:please\s+)?(?:draw|paint|create|make|show|imagine)(?:\s+(?:me|us))?\s+(?=(?:an?|the|\d+)\b)", ""),
    (r"\bno one\b", "nobody"),
    (rf"{_SIDE}(?:top|upper)[\s-]+(left|right)(?:[\s-]+corner)?{_PICTURE}?\b", r"@top @\1"),
    (rf"{_SIDE}(?:bottom|lower)[\s-]+(left|right)(?:[\s-]+corner)?{_PICTURE}?\b", r"@bottom @\1"),
    (rf"{_SIDE}(left|right)(?:[\s-]+hand)?(?:\s+side)?(?:{_PICTURE}|(?!\s+of\b|\s+\w+ing\b)\b)", r"@\1"),
    (rf"{_SIDE}(background|foreground|distance){_PICTURE}?\b", r"@\1"),
    (rf"{_SIDE}(top|bottom){_PICTURE}", r"@\1"),
    (r"\bfrom\s+(above|below|behind|afar)\b(?!\s+(?:an?|the)\b)", r"@from-\1"),
    (r"\b(?:overhead|aerial|bird'?s[- ]eye|top-down)\s+(?:view|shot)\b", "@from-above"),
    (r"\b(?:black[ -]and[ -]white|monochrome|gr[ae]yscale)(?=\s*(?:[.,;]|$|photo|film|image|picture))", "@monochrome"),
    (r"\b(?:(?:to|on|at)\s+(?:the|its|his|her|their)\s+)?(left|right)(?:[\s-]+hand)?(?:\s+side)?\s+of\b", r"\1 of"),
    (rf"\b(?:{'|'.join(sorted(lexicon.PHRASES, key=len, reverse=True))})\b", lambda match: match[0].replace(" ", "-")),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"(?<=\w)-(?=\w)", "\u2010"),  # numbers inside "three-legged" stay words
    (r"(ty)\u2010(?=(?:one|two|three|four|five|six|seven|eight|nine)\b(?!\u2010))", r"\1 "),
)
_COUNTS = (
    ("\u2010", "-"),
    (r"\b(?:a )?dozen\b", "12"),
    (r"\bboth\b", "2"),
    (r"\b(?:a )?(?:pairs?|couples?|duos?) of\b", "2"),
    (r"\b(\d+) (2|12|100|1000|1000000)\b", lambda match: str(int(match[1]) * int(match[2]))),
    (rf"\b(?:an? )?(?:\w+ )?(?:{lexicon.COLLECTIVES}) of(?= (?:\w+ )?\w+(?:s|en|ople|ice|eese)\b)", "several"),
    (r"\b(\d+)(?!st\b|nd\b|rd\b|th\b)([a-z]{3,})\b", r"\1 \2"),  # 2girls
)
_TOKEN = re.compile(r"@[\w-]+|#?\d+(?:[.:]\d+)*[^\W\d_]*(?:-[^\W\d_]+)*|[^\W\d_]+(?:['’-][^\W_]+)*|[^\w\s]")
_SUFFIXES = ("ful", "less", "ous", "ish", "ible", "able", "esque", "like", "free", "shaped", "sized", "realistic")


def split_quotes(text: str) -> tuple[str, list[str]]:
    """The text with "@quote" for each quotation, and the quoted strings, exact in every letter."""
    found: list[str] = []

    def take(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        found.append(inside.strip())
        kept = match.group(0)[: match.start(1) - match.start(0)] if match.re is _WRITTEN else ""
        return f"{kept} @quote "

    return _WRITTEN.sub(take, QUOTES.sub(take, text)), found


def plain(text: str) -> str:
    """Lower case, without brackets, places and numbers as marks."""
    from text_to_num import alpha2digit

    text = _BRACKETS.sub(" ", f" {text}").lower().replace("’", "'")
    text = alpha2digit(_substituted(text, _MARKS), "en", 0)
    return _substituted(text, _COUNTS)


def _substituted(text: str, patterns: Iterable[tuple[str, Any]]) -> str:
    for pattern, instead in patterns:
        text = re.sub(pattern, instead, text)
    return text


@lru_cache(maxsize=16384)
def lemmas(word: str) -> dict[str, str]:
    """Part of speech (NOUN, VERB, ADJ, ADV) -> lemma, for all that the word may be; {} for an unknown word."""
    import lemminflect

    found = {kind: forms[0] for kind, forms in lemminflect.getAllLemmas(word).items()}
    return found | ({"NOUN": lexicon.LEMMAS[word]} if word in lexicon.LEMMAS else {})


@lru_cache(maxsize=16384)
def singular(word: str) -> str:
    """The singular of a noun: "wolves" -> "wolf"; of an unknown one by rule."""
    import lemminflect

    if lemmas(word) or not word.endswith("s") or word.endswith(("ss", "us")) or len(word) < 4:
        return lemmas(word).get("NOUN", word)
    return str(lemminflect.getAllLemmasOOV(word, "NOUN")["NOUN"][0])


def verb(word: str) -> tuple[str, str]:
    """(lemma, form) of what may be a verb, ("", "") for what is none. Unknown words in -ing and -ed may be."""
    known = lemmas(word)
    regular = not known and len(word) > 5 and "-" not in word and word.endswith(("ing", "ed"))
    lemma = known.get("VERB", word.removesuffix("ing").removesuffix("ed") if regular else "")
    form = "base" if lemma == word else "ing" if word.endswith("ing") else "s" if word.endswith("s") else "ed"
    return lemma, form if lemma else ""


def is_adjective(word: str) -> bool:
    """Whether a word may be an adjective: by list, dictionary or ending ("blue-eyed")."""
    if word in lexicon.KNOWN_ADJECTIVES or "ADJ" in lemmas(word):
        return True
    return not lemmas(word) and (word.endswith(_SUFFIXES) or ("-" in word and word.endswith(("ed", "ing", "old"))))


def tag(text: str) -> list[Word]:
    """Tag a text without quotations (see `split_quotes`); it ends in a word with the tag "end"."""
    tokens = [part for token in _TOKEN.findall(plain(text)) for part in _split(token)] + ["."]
    tagged: list[Word] = []
    for i, token in enumerate(tokens):
        closed = "pron" if token == "that" and tagged and tagged[-1].tag == "noun" else _closed(token)
        tagged.append(Word(token, closed, token) if closed else _open(token, tagged[-40:], tokens[i + 1]))
        if len(tagged) > 1 and tagged[-1].tag == "verb" and _may_be_noun(tagged[-2]):
            tagged[-2] = Word(tagged[-2].text, "noun", singular(tagged[-2].text))  # "a husky" before its verb
    return tagged


def _split(token: str) -> list[str]:
    """ "isn't" and "dark-blue" are two words; "blue-eyed" and "t-shirt" are one."""
    parts = token.split("-")
    if token.endswith("n't"):
        return [token[:-3], "not"]
    if token.endswith("'s"):
        return [token[:-2], "'s"]
    whole = _closed(token) or token in lexicon.KNOWN_ADJECTIVES or parts[-1].endswith("ed") or len(parts) != 2
    return [token] if whole or not all(is_adjective(part) and len(part) > 2 for part in parts) else parts


def _closed(token: str) -> str:
    """The tag of a closed-class word, or "" for an open one."""
    if token.startswith("@"):
        return "quote" if token == "@quote" else "place"
    if token in lexicon.CLOSED:
        return lexicon.CLOSED[token]
    if not any(character.isalnum() for character in token):
        return "end" if token in ".!?;:—–|" else "comma"
    if token[0].isdecimal():
        return "num" if token.isdecimal() else "ord" if re.fullmatch(r"\d+(?:st|nd|rd|th)", token) else ""
    return "adv" if token.endswith("ly") and not {"NOUN", "ADJ"} & set(lemmas(token)) and lemmas(token) else ""


def _open(token: str, before: list[Word], after: str) -> Word:
    """A noun, adjective or verb, by dictionary and the words on both sides."""
    previous = next((word for word in before[::-1] if word.tag != "adv"), Word("", "end", ""))
    following, known = _closed(after), lemmas(token)
    lemma, form = ("", "") if token in lexicon.NOT_VERBS and following not in ("det", "num") else verb(token)
    if form and _acts(token, lemma, form, previous, following, before):
        return Word(token, "verb", lemma, form)
    told = (token in lexicon.KNOWN_ADJECTIVES and token != "light") or previous.tag == "aux" or not following
    adjective = is_adjective(token) and (told or "NOUN" not in known)
    if adjective or (form in ("ing", "ed") and not ("NOUN" in known and following)):
        return Word(token, "adj", token if adjective else lemma)
    return Word(token, "noun", singular(token))


def _may_be_noun(word: Word) -> bool:
    return word.tag == "adj" and "NOUN" in lemmas(word.text) and word.text not in lexicon.KNOWN_ADJECTIVES


def _acts(token: str, lemma: str, form: str, previous: Word, following: str, before: list[Word]) -> bool:
    """Whether what may be a verb is one here."""
    start = max((i for i, word in enumerate(before) if word.tag == "end"), default=-1)
    tags = [word.tag for word in before[start + 1 :]]
    known = lemma in lexicon.VERBS or "NOUN" not in lemmas(token)
    plural = singular(previous.text) != previous.text
    noun = previous.tag == "noun" or (form == "s" and _may_be_noun(previous))
    if previous.tag in ("aux", "pron") or previous.text in ("not", "never", "to"):
        return form != "base" or known
    if form in ("ing", "ed"):
        return noun or (bool(following) and previous.tag not in ("det", "num", "ord", "poss"))
    if form == "base":
        return known and noun and (plural or "conj" in tags[-5:]) and following not in ("", "conj")
    if noun and not plural:
        begun = following in ("det", "prep", "num", "adv", "pron") and "verb" not in tags and "det" in tags
        return known or begun
    joined = previous.tag in ("comma", "conj", "place", "quote") and "noun" in tags
    return known and following in ("det", "prep", "adv", "pron", "num") and (joined or noun)

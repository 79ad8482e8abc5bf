"""Text to tagged words. Lemmas and parts of speech: lemminflect (its own dictionary); numbers: text2num."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from . import lexicon


@dataclass(frozen=True)
class Word:
    """tag: det num ord adj noun verb prep conj pron aux neg adv place quote poss comma end. form of a verb: ing ed s
    base.
    """

    text: str
    tag: str
    lemma: str
    form: str = ""


_QUOTES = re.compile(
    r"[\"“”„«»]([^\"“”„«»]+)[\"“”„«»]|(?<![\w'])[‘'](?=\S)([^‘’']*(?:['’](?=\w)[^‘’']*)*)(?<=[^\s])[’'](?!\w)"
)
_WRITTEN = re.compile(  # a sign that says STOP
    r"\b(?:says?|saying|reads?|reading|labell?ed|titled|spelling|spells|words?|text|inscribed|lettering)\s*:?\s+"
    r"((?:[A-Z0-9][A-Z0-9'!?&-]+)(?:\s+[A-Z0-9][A-Z0-9'!?&-]*)*)"
)
_FLAG = re.compile(r"\s--(\w+)(?:\s+((?:(?!\s--).)*))?")
_WEIGHTS = (  # (red:1.4) ((two)) [bald] {{angry}} red++ sun::2 <lora:style:0.8>
    (re.compile(r"<\w+:[^<>]*>"), " "),
    (re.compile(r"::?\s*-?\d*\.\d+|::\s*-?\d*|:\s*-?\d+(?=\s*[)\]}])"), " "),
    (re.compile(r"[()\[\]{}]|(?<=\w)(?:\++|-{2,})(?=\s|[,.)]|$)"), " "),
    (re.compile(r"\bBREAK\b"), ","),
)
_REQUEST = re.compile(
    r"^\s*(?:please\s+)?(?:draw|paint|create|generate|make|show|render|imagine|design|depict)(?:\s+(?:me|us))?\s+(?=(?:an?|the|some|\d+)\b)"
)
_SIDE = r"\b(?:in|on|at|to)\s+the\s+(?:far\s+|very\s+)?"
_PICTURE = r"(?:\s+of\s+the\s+(?:image|picture|frame|scene|photo|canvas|composition))"
_PLACES = (
    (rf"{_SIDE}(?:top|upper)[\s-]+(left|right)(?:[\s-]+corner)?{_PICTURE}?\b", r"@top @\1"),
    (rf"{_SIDE}(?:bottom|lower)[\s-]+(left|right)(?:[\s-]+corner)?{_PICTURE}?\b", r"@bottom @\1"),
    (
        rf"{_SIDE}(left|right)(?:[\s-]+hand)?(?:\s+side)?(?:{_PICTURE}|(?!\s+of\b)(?=\s*(?:[,.;]|$|and\b|is\b|an?\b|the\b|sits|stands)))",
        r"@\1",
    ),
    (rf"{_SIDE}(background|foreground|distance){_PICTURE}?\b", r"@\1"),
    (rf"{_SIDE}(top|bottom){_PICTURE}", r"@\1"),
    (r"\bfrom\s+(above|below|behind|afar)\b(?!\s+(?:an?|the)\b)", r"@from-\1"),
    (r"\b(?:overhead|aerial|bird'?s[- ]eye|top-down)\s+(?:view|shot)\b", "@from-above"),
    (r"\b(?:low[- ]angle|worm'?s[- ]eye)\s+(?:view|shot)\b", "@from-below"),
    (r"\b(?:black[ -]and[ -]white|monochrome|gr[ae]yscale)\b(?=\s*(?:[.,;]|$|photo|film|image|picture|portrait|drawing))", "@monochrome"),
    (r"\b(?:(?:to|on|at)\s+(?:the|its|his|her|their)\s+)?(?:immediate\s+)?(left|right)(?:[\s-]+hand)?(?:\s+side)?\s+of\b", r"\1 of"),
)  # fmt: skip
_TOKEN = re.compile(r"@[\w-]+|#?\d+(?:[.:]\d+)*[^\W\d_]*(?:-[^\W\d_]+)*|[^\W\d_]+(?:['’-][^\W_]+)*|[^\w\s]")
_PHRASES = re.compile(rf"\b(?:{'|'.join(sorted(lexicon.PHRASES, key=len, reverse=True))})\b")
_ENDS = ".!?;:—–|\n"
_SUFFIXES = ("ful", "less", "ous", "ish", "ible", "able", "esque", "like", "free", "shaped", "sized", "punk", "realistic")
_LEMMAS = {"people": "person", "leaves": "leaf", "woods": "woods", "clothes": "clothes", "glasses": "glasses"}
_LEMMAS |= {"sunglasses": "sunglasses", "jeans": "jeans", "trousers": "trousers", "lit": "light", "blossoms": "blossom"}


def split_quotes(text: str) -> tuple[str, list[str]]:
    """The text with "@quote" for each quotation, and the quoted strings, exact in every letter."""
    found: list[str] = []

    def take(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        found.append(inside.strip())
        kept = match.group(0)[: match.start(1) - match.start(0)] if match.re is _WRITTEN else ""
        return f"{kept} @quote "

    return _WRITTEN.sub(take, _QUOTES.sub(take, text)), found


def plain(text: str) -> str:
    """Lower case, without weights and flags (`--no people` becomes ", no people"), places and numbers as marks."""
    from text_to_num import alpha2digit

    def flag(match: re.Match[str]) -> str:
        items = (match[2] or "").split(",") if match[1] == "no" else []
        return "".join(f", no {item.strip()}" for item in items if item.strip())

    text = _FLAG.sub(flag, f" {text}")
    for pattern, instead in _WEIGHTS:
        text = pattern.sub(instead, text)
    text = _REQUEST.sub("", " ".join(text.lower().replace("’", "'").split(" ")))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", re.sub(r"\bno one\b", "nobody", text))
    for place, mark in _PLACES:
        text = re.sub(place, mark, text)
    text = _PHRASES.sub(lambda match: match[0].replace(" ", "-"), text)
    text = re.sub(r"(?<=\w)-(?=\w)", "\u2010", text)  # numbers inside "three-legged" stay words
    text = re.sub(r"\b(\w+)\u2010(?=(?:one|two|three|four|five|six|seven|eight|nine)\b(?!\u2010))", r"\1 ", text)
    text = alpha2digit(text, "en", 0).replace("\u2010", "-")
    text = re.sub(r"\b(?:a )?dozen\b", "12", text)
    return re.sub(r"\b(\d+) (12|100|1000|1000000)\b", lambda match: str(int(match[1]) * int(match[2])), text)


@lru_cache(maxsize=16384)
def lemmas(word: str) -> dict[str, str]:
    """Part of speech (NOUN, VERB, ADJ, ADV) -> lemma, for all that the word may be; {} for an unknown word."""
    import lemminflect

    found = {kind: forms[0] for kind, forms in lemminflect.getAllLemmas(word).items()}
    if word in _LEMMAS:
        found["VERB" if word == "lit" else "NOUN"] = _LEMMAS[word]
    return found


@lru_cache(maxsize=16384)
def singular(word: str) -> str:
    """The singular of a noun: "wolves" -> "wolf"; of an unknown one by rule."""
    known = lemmas(word)
    if known or not word.endswith("s") or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return known.get("NOUN", word)
    import lemminflect

    return str(lemminflect.getAllLemmasOOV(word, "NOUN")["NOUN"][0])


def is_plural(word: str) -> bool:
    """Whether the form is a plural; "sheep" and "glasses" count as neither."""
    return singular(word) != word


def verb(word: str) -> tuple[str, str]:
    """(lemma, form) of what may be a verb, ("", "") for what is none."""
    known = lemmas(word)
    lemma = known.get("VERB", "")
    if known and not lemma:
        return "", ""
    if not lemma:
        regular = word.endswith(("ing", "ed")) and len(word) > 5 and "-" not in word
        return (word.removesuffix("ing").removesuffix("ed"), "ing" if word.endswith("ing") else "ed") if regular else ("", "")
    form = "ing" if word.endswith("ing") and lemma != word else "base" if lemma == word else "s" if word.endswith("s") else "ed"
    return lemma, form


def is_adjective(word: str) -> bool:
    """Whether a word may be an adjective: by dictionary, list or ending ("blue-eyed")."""
    if word in lexicon.COLOURS or word in lexicon.ADJECTIVES or "ADJ" in lemmas(word):
        return True
    unknown = not lemmas(word)
    return unknown and (word.endswith(_SUFFIXES) or ("-" in word and word.endswith(("ed", "ing", "old", "haired"))))


def tag(text: str) -> list[Word]:
    """Tag a text without quotations (see `split_quotes`); it ends in a word with the tag "end"."""
    tokens = _tokens(plain(text))
    tagged: list[Word] = []
    for i, token in enumerate(tokens):
        closed = _closed(token)
        if token == "that" and tagged and tagged[-1].tag == "noun":
            closed = "pron"
        tagged.append(Word(token, closed, token) if closed else _open(token, tagged, tokens[i + 1 : i + 2]))
    return tagged


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for token in _TOKEN.findall(text):
        if token.endswith("n't"):
            tokens += [{"ca": "can", "wo": "will"}.get(token[:-3], token[:-3]), "not"]
        elif token.endswith("'s"):
            tokens += [token[:-2], "'s"]
        elif "-" in token and token[0] != "@" and not _closed(token):
            tokens += _hyphenated(token)
        else:
            tokens.append(token)
    return [*tokens, "."]


def _hyphenated(token: str) -> list[str]:
    """ "dark-blue" is two words; "blue-eyed" and "t-shirt" are one."""
    parts = token.split("-")
    if parts[-1] in ("colored", "coloured"):
        return parts[:-1]
    if token in lexicon.ADJECTIVES or token in lexicon.COLOURS or parts[-1].endswith("ed") or len(parts) > 2:
        return [token]
    return parts if all(len(part) > 2 and (is_adjective(part) or part in lexicon.SHADES) for part in parts) else [token]


_CLOSED = {"adv": lexicon.ADVERBS, "conj": lexicon.CONJUNCTIONS, "aux": lexicon.AUXILIARIES, "pron": lexicon.PRONOUNS}
_CLOSED |= {"det": lexicon.DETERMINERS, "prep": frozenset(lexicon.PREPOSITIONS) - {"front", "left", "right"}}
_CLOSED["neg"] = lexicon.NEGATING
_BY_WORD = {word: name for name, table in _CLOSED.items() for word in table}


def _closed(token: str) -> str:
    """The tag of a closed-class word, or "" for an open one."""
    if token.startswith("@"):
        return "quote" if token == "@quote" else "place"
    if token in _BY_WORD:
        return _BY_WORD[token]
    if not any(character.isalnum() for character in token):
        return "end" if token in _ENDS else "comma"
    if token == "'s":
        return "poss"
    if token[0].isdecimal():
        return "num" if token.isdecimal() else "ord" if re.fullmatch(r"\d+(?:st|nd|rd|th)", token) else ""
    known = lemmas(token)
    return "adv" if token.endswith("ly") and token not in lexicon.NOT_ADVERBS and not {"NOUN", "ADJ"} & set(known) else ""


def _open(token: str, before: list[Word], after: list[str]) -> Word:
    """A noun, adjective or verb, by dictionary and the words on both sides."""
    previous = next((word for word in reversed(before[-8:]) if word.tag != "adv"), Word("", "end", ""))
    if previous.tag == "adj" and "NOUN" in lemmas(previous.text) and len(before) > 1 and before[-2].tag in ("det", "adj", "noun"):
        previous = Word(previous.text, "noun", previous.lemma) if previous.text not in lexicon.COLOURS else previous
    following = _closed(after[0]) if after else "end"
    lemma, form = ("", "") if token in lexicon.NOT_VERBS and following not in ("det", "num") else verb(token)
    nominal = "NOUN" in lemmas(token) or not lemmas(token)
    if form and _acts(token, lemma, form, nominal, previous, following, before):
        return Word(token, "verb", lemma, form)
    told = token in lexicon.KNOWN_ADJECTIVES or previous.tag == "aux" or not following
    if is_adjective(token) and (told or "NOUN" not in lemmas(token)):
        return Word(token, "adj", token)
    if form in ("ing", "ed") and not ("NOUN" in lemmas(token) and following):
        return Word(token, "adj", lemma, form)
    return Word(token, "noun", singular(token))


def _acts(token: str, lemma: str, form: str, nominal: bool, previous: Word, following: str, before: list[Word]) -> bool:
    """Whether what may be a verb is one here."""
    if previous.tag in ("aux", "pron") or previous.text in ("not", "never", "to"):
        return form != "base" or not nominal or previous.text != "to" or lemma in lexicon.VERBS
    if form in ("ing", "ed"):
        if token in ("left", "set", "cut", "rose", "saw", "lit") and previous.tag != "noun":
            return False
        if previous.tag in ("det", "num", "ord", "poss") or (previous.tag == "adj" and not following):
            return False
        return previous.tag == "noun" or bool(following) or (previous.tag == "comma" and lemma in lexicon.VERBS and _has_noun(before) and not is_adjective(token))
    if previous.tag not in ("noun", "comma", "conj", "place", "quote"):
        return False
    known = lemma in lexicon.VERBS or not nominal
    if form == "base":
        plural = previous.tag == "noun" and (is_plural(previous.text) or any(w.text == "and" for w in before[-6:]))
        return known and plural and following not in ("", "conj")
    if previous.tag == "noun":
        if is_plural(previous.text):
            return lemma in lexicon.VERBS and following in ("det", "prep", "adv") and _in_phrase(before)
        return known or (following in ("det", "prep", "num", "adv", "pron") and not _verb_before(before) and _begins_singular(before))
    return known and following in ("det", "prep", "adv", "pron", "num") and _has_noun(before)


def _sentence(before: list[Word]) -> list[Word]:
    start = max((i for i, word in enumerate(before[-40:]) if word.tag == "end"), default=-1)
    return before[-40:][start + 1 :]


def _has_noun(before: list[Word]) -> bool:
    return any(word.tag == "noun" for word in _sentence(before))


def _in_phrase(before: list[Word]) -> bool:
    """Whether the last noun belongs to a phrase behind another: "a cat with blue eyes"."""
    tags = [word.tag for word in _sentence(before)]
    return "prep" in tags and "noun" in tags[: tags.index("prep")]


def _verb_before(before: list[Word]) -> bool:
    return any(word.tag == "verb" for word in _sentence(before))


def _begins_singular(before: list[Word]) -> bool:
    starts = [word.text for word in _sentence(before) if word.tag in ("det", "num")]
    return bool(starts) and (starts[-1] in ("a", "an", "the", "1", "this", "that") or starts[-1] in lexicon.SINGLE)

"""The phrases of a caption: what it is about, and each preposition, verb or side clause with what belongs to it.

"a man in a blue shirt is walking near stairs while others watch" is about "a man"; its phrases are "in a blue shirt",
"walking", "near stairs" and "while others watch".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from .faithfulness import lexicon
from .faithfulness.words import Word, lemmas, split_quotes, tag

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_PAIRS = re.compile(
    r"\b(?:an?|the) pair of (?=(?:\w+ )?(?:jeans|shorts|pants|trousers|glasses|goggles|sunglasses|skis|boots|shoes))",
    re.I,
)
_COVERED = re.compile(
    r"\b(\w+) (covered|filled|shaped|colou?red|lined|topped)(?= [a-z]+)(?! (?:in|with|by|on)\b)", re.I
)
_TRUNCATED = frozenset(
    ["of", "and", "or", "with", "in", "at", "to", "a", "an", "the", "while", "as", "for", "from", "near"]
)
_WHOSE = frozenset(["its", "his", "her", "their"])
_CLAUSES = frozenset(["while", "as", "because", "who", "whom", "which", "that", "where", "when", "so"])


@dataclass(frozen=True)
class Phrase:
    """kind: "place" (begins with a preposition), "act" (a verb), "clause". text: ready for behind a comma: the verb
    is a participle, and it ends with a noun; "" for any other. lead: its preposition or verb, as it stands in the text;
    first: the lemma of that. nouns, others: lemmas of its nouns; of its verbs and adjectives. of_subject: it directly
    follows the subject. after: lemma of another noun that it follows, which it may be about.
    """

    kind: str
    text: str
    lead: str
    first: str
    nouns: tuple[str, ...]
    others: tuple[str, ...]
    of_subject: bool
    after: str


@dataclass(frozen=True)
class CaptionParts:
    """text: as a sentence without its full stop. subject: the words that it begins with; head: lemma of their noun;
    plural: whether that is several. verb: lemma of the first verb, "" for none."""

    text: str
    subject: str
    head: str
    plural: bool
    verb: str
    phrases: tuple[Phrase, ...]


@lru_cache(maxsize=256)
def caption_parts(caption: str) -> CaptionParts:
    """The parts of one caption."""
    text = tidy(caption)
    words = [word for word in tag(split_quotes(readable(text))[0]) if word.text != "."]
    cases = {token.lower(): token for token in re.findall(r"[^\W\d_]+", text[1:]) if token[:1].isupper()}
    starts = _starts(words)
    subject = words[: starts[0]] if starts else words
    while subject and subject[-1].tag in ("aux", "adv", "comma", "conj"):
        subject = subject[:-1]
    head = next((word for word in reversed(subject) if word.tag == "noun"), None)
    phrases = [
        _phrase(words[start:end], cases, before=words[start - 1], of_subject=start == starts[0])
        for start, end in pairwise([*starts, len(words)])
    ]
    return CaptionParts(
        text=text,
        subject=_written(subject, cases),
        head=head.lemma if head else "",
        plural=head is not None and (head.text != head.lemma or any(word.tag == "num" for word in subject)),
        verb=next((one.first for one in phrases if one.kind == "act"), ""),
        phrases=tuple(one for one in phrases if one is not None and one.text),
    )


def readable(text: str) -> str:
    """The text with "snow-covered" for "snow covered" and "jeans" for "a pair of jeans", as the tagger reads them."""
    return re.sub(r"\brock (?=climb)", "rock-", _COVERED.sub(r"\1-\2", _PAIRS.sub("", text)))


def tidy(caption: str) -> str:
    """One line, without a full stop, spaces before punctuation, or a dangling last word."""
    text = re.sub(r"\s+([.,;:!?'’])", r"\1", " ".join(caption.split()))
    text = re.sub(r"(['’]) s\b", r"\1s", text).strip(" .!,;")
    text = re.sub(r"\"\s*([^\"]*?)[\s.]*\"", r'"\1"', text) if text.count('"') % 2 == 0 else text.replace('"', "")
    words = text.split()
    while words and words[-1].lower() in _TRUNCATED:
        words.pop()
    return " ".join(words)


def with_article(text: str) -> str:
    """ "a old man" -> "an old man"."""
    return re.sub(
        r"\b(a)n?(?= ([a-z]+)\b)",
        lambda match: (
            match[1] + ("n" if match[2][0] in "aeiou" and not re.match(r"uni|use|one\b|eu", match[2]) else "")
        ),
        text,
        flags=re.I,
    )


def _starts(words: Sequence[Word]) -> list[int]:
    """Where each phrase begins."""
    found: list[int] = []
    inside_clause = False
    for place, word in enumerate(words):
        if inside_clause and word.tag not in ("comma", "end"):
            continue
        inside_clause = word.text in _CLAUSES and word.tag in ("conj", "pron")
        starts = inside_clause or word.tag == "verb"
        whose = place + 1 < len(words) and words[place + 1].text in _WHOSE and found and words[found[-1]].text == "with"
        starts = starts or (word.tag == "prep" and word.text != "of" and not whose)  # "with a stick in its mouth"
        if starts and place:
            found.append(place)
    return found


def _phrase(words: Sequence[Word], cases: dict[str, str], *, of_subject: bool, before: Word) -> Phrase:
    first = words[0]
    kind = "act" if first.tag == "verb" else "place" if first.tag == "prep" else "clause"
    words = _trimmed(words)
    told = [*words]
    if kind == "act" and words:
        told[0] = Word(_participle(first), "verb", first.lemma, "ing")
    return Phrase(
        kind,
        _written(told, cases) if _is_whole(told) else "",
        _written(told[:1], cases),
        lexicon.PREPOSITIONS.get(first.text, first.lemma),
        tuple(word.lemma for word in words if word.tag == "noun"),
        tuple(word.lemma for word in words[1:] if word.tag in ("adj", "verb")),
        of_subject,
        before.lemma if before.tag == "noun" and not of_subject else "",
    )


def _is_whole(words: Sequence[Word]) -> bool:
    """Whether it ends with a noun, and no verb was taken for one ("in white dribbles the ball", "in red rides")."""
    tags = [word.tag for word in words]
    if not words or tags[-1] not in ("noun", "place") or ("noun", "det") in pairwise(tags):
        return False
    last = words[-1]
    may_act = "VERB" in lemmas(last.text)
    acts = may_act and last.text.endswith("s") and last.text != last.lemma and len(words) > 2
    return not (acts and tags[-2] in ("noun", "adj")) and not (may_act and tags[-2:-1] == ["conj"])


def _trimmed(words: Sequence[Word]) -> Sequence[Word]:
    """As far as the next comma, auxiliary or pronoun, and without what leads to the next phrase."""
    end = len(words)
    while end and words[end - 1].tag in ("conj", "comma", "aux", "adv", "end", "det", "pron", "neg"):
        end -= 1
    clause = words[0].text in _CLAUSES
    stop = next(
        (p for p in range(1, end) if words[p].tag in ("comma", "end", *(() if clause else ("aux", "pron")))), end
    )
    return words[:stop] if stop == end else _trimmed(words[:stop])


def _participle(word: Word) -> str:
    import lemminflect

    if word.form in ("ing", "") or word.form == "ed":
        return word.text
    forms = lemminflect.getInflection(word.lemma, "VBG")
    return forms[0] if forms else word.text


def _written(words: Sequence[Word], cases: dict[str, str]) -> str:
    out: list[str] = []
    for word in words:
        text = word.text
        if text.startswith("@"):
            text = {"@background": "in the background", "@foreground": "in the foreground", "@quote": ""}.get(
                text, f"on the {text[1:]}" if text in ("@left", "@right") else ""
            )
        elif word.tag == "num" and text.isdecimal() and int(text) < len(_NUMBERS):
            text = _NUMBERS[int(text)]
        elif word.tag == "prep":
            text = text.replace("-", " ")
        if text in ("'s", "s") and out and (word.tag == "poss" or out[-1] == "'"):
            out[-1] = f"{out[-1]}'s" if out[-1] != "'" else out[-1]
            continue
        out.append(cases.get(text, text))
    return with_article(" ".join(text for text in out if text and text != "'"))


def known_word(word: str) -> bool:
    """Whether the dictionary has it: no misspelling."""
    return bool(lemmas(word)) or word in lexicon.CLOSED

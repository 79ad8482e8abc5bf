"""Sanitise untrusted text (descriptions, questions) before it enters a prompt: one line, no markers, quoted, bounded.

Prompt injection cannot be recognised by its words, so "ignore the above" stays, as quoted text in its own field.
Removed is every way out of that field: line breaks, the template's field names before a colon, special tokens of
language models, double quotes, invisible characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

MAX_CHARS = 2000
"""Limit per description: 75 words of De-Diffusion take about 500, five joined captions about 300."""

# Homoglyphs that NFKC leaves alone; one to one, so that indices agree.
_LOOKALIKES = str.maketrans(
    "асеорхуіѕԁһјԛԝАВСЕНІЈКМОРЅТХαοικνρτυΑΒΕΗΙΚΜΝΟΡΤΧΥıɡ꞉∶ː։׃˸",
    "aceopxyisdhjqwABCEHIJKMOPSTXaoiknptuABEHIKMNOPTXYig::::::",
)
_SPECIAL_TOKENS = re.compile(
    r"<\|[^<>|]{0,40}\|>|<｜[^<>]{0,40}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk|mask|sep|cls|image)>|\[(?:SOS|EOS|CLS|SEP|PAD|MASK|UNK)\]",
    re.IGNORECASE,
)
_DOUBLE_QUOTES = re.compile("[\"“”„‟«»″‶❝❞〝〞＂]|''|``")
_JOINERS = "\u200c\u200d"  # they shape Persian words and emoji
_BRACKETS = "<>[]"
_SEPARATORS = ":=>→–—-"
_ROUNDS = 8
_SEPARATOR = r"(?::|=|->|→|[–—]|\s-\s)[=>\s]*"


def one_line(text: str) -> str:
    """The text on one line, without control characters, invisible characters and special tokens; all words stay."""
    plain = text.isascii() and text.isprintable()  # most texts are, and hold nothing to look for letter by letter
    seen = text if plain else "".join(_visible(character) for character in text)
    return _without(" ".join(seen.split()), _SPECIAL_TOKENS, _BRACKETS)


def _visible(character: str) -> str:
    """The character, a space for any kind of blank, or nothing."""
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    return character if category[0] != "C" or character in _JOINERS else ""


def clean(text: str, *, fields: Sequence[str] = (), max_chars: int = MAX_CHARS) -> str:
    """Text from outside, fit to stand behind a field name of a prompt.

    fields: the template's field names, taken away with what makes them one ("Short answer:", in any case or
    look-alike letters).
    max_chars: a longer text is cut between words and ends in "…".
    """
    head = unicodedata.normalize("NFKC", text[: 8 * max_chars])[: 8 * max_chars]
    line = one_line(head.replace("\u200c", "").replace("\u200d", ""))
    pattern = _markers(tuple(fields))
    if pattern is not None:
        line = one_line(_without(line, pattern, _SEPARATORS))
    return _limited(line, max_chars)


def has_markers(text: str, *, fields: Sequence[str] = ()) -> bool:
    """Whether any field name or special token stands in the text."""
    pattern = _markers(tuple(fields))
    found = pattern is not None and pattern.search(text.translate(_LOOKALIKES))
    return bool(found or _SPECIAL_TOKENS.search(text))


def quoted(text: str) -> str:
    """The text in double quotes, inner ones made single; "" for an empty text."""
    inside = _DOUBLE_QUOTES.sub("'", text)
    return f'"{inside}"' if inside else ""


@lru_cache(maxsize=64)
def _markers(fields: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches any field name with its label and separator."""
    found = []
    for field in fields:
        words = r"[\W_]*".join(re.escape(word) for word in field.split())
        found.append(rf"(?<![^\W_]){words}\s*(?:\([^()]*\)\s*)?{_SEPARATOR}")
    return re.compile("|".join(found), re.IGNORECASE) if found else None


def _without(text: str, pattern: re.Pattern[str], needed: str) -> str:
    """Remove every match, again and again: removing one may join the parts of another.

    needed: characters of which every match has one; all of them are removed if `_ROUNDS` rounds are not enough.
    """
    for _ in range(_ROUNDS):
        pieces, end = [], 0
        for match in pattern.finditer(text.translate(_LOOKALIKES)):
            pieces.append(text[end : match.start()])
            end = match.end()
        if not end:
            return text
        text = " ".join(" ".join([*pieces, text[end:]]).split())
    return " ".join("".join(" " if sign.translate(_LOOKALIKES) in needed else sign for sign in text).split())


def _limited(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    head = text[: max_chars - 1]
    return f"{head.rsplit(' ', 1)[0]}…"

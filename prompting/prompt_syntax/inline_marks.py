r"""Syntax inside a prompt's text: weights, networks, schedules, choices, separators.

Automatic1111 (wiki, "Features", "Attention/emphasis", "Prompt editing", "Composable diffusion"): `(red:1.4)`,
`((red))`, `[red]`, `[cat:dog:0.5]`, `[cat|dog]`, `\(`, `<lora:name:0.8>`, BREAK, AND. ComfyUI:
`embedding:name`, `{a|b}`. InvokeAI and compel (https://github.com/damian0815/compel, doc/syntax.md): `red++`,
`(red car)--`, `(red car)1.3`, `("a", "b").blend(1, 0.5)`, `cat.swap(dog)`. Midjourney: `sun::2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .sections import QUOTES, hidden

MarkKind = Literal["weight", "escaped", "network", "embedding", "schedule", "choice", "function", "separator", "quote"]
STRUCTURE = frozenset({"schedule", "choice", "function", "separator"})
"""What decides how the parts of a prompt work together: no rewrite can be given it back."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_OPEN, _CLOSE = "([{", ")]}"
WEIGHTED = re.compile(rf"^(?P<words>.*?)\s*:\s*(?P<weight>{_NUMBER})\s*$", re.DOTALL)
_SUFFIX = re.compile(r"\++(?!\w)|-+(?![\w-])|(?:\d+\.\d+|\.\d+|\d)(?![\w:.])")
_FUNCTION = re.compile(r"\.(?:and|blend|swap)\([^()]*\)", re.IGNORECASE)
_TOKENS = re.compile(
    r"(?P<network><[^<>\s][^<>]*>)"
    rf"|(?P<embedding>(?<![\w:])embedding:[\w.\\/-]*\w(?::{_NUMBER})?|__[\w/*-]+__)"
    r"|(?P<function>(?<!\w)[\w-]*\w\.swap\([^()]*\))"
    r"|(?P<weight>[^\W_][\w'’-]*?(?:\++|-+)(?![\w+-]))"
    rf"|(?P<separator>\bBREAK\b|\bAND\b|\||::[ \t]*(?:{_NUMBER})?)",
)
_ESCAPED = re.compile(r"\\[(\[{]([^\\\n]*)\\[)\]}]")
_AND_WEIGHT = re.compile(rf"\s*(?<!:):\s*{_NUMBER}(?=\s*(?:\bAND\b|$))")


@dataclass(frozen=True)
class Mark:
    """One piece of syntax. text: as written; parts: the text inside without it, several for schedules and choices;
    weight: what it multiplies by, None where it has none.
    """

    kind: MarkKind
    start: int
    text: str
    parts: tuple[str, ...] = ()
    weight: float | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def inline_marks(text: str) -> list[Mark]:
    """All outermost syntax of a text without sections, in order."""
    masked = hidden(text)
    closing, found, place = _pairs(masked), list[Mark](), 0
    shouted = not any(letter.islower() for letter in masked)  # AND in a prompt of capitals is a word
    tokens = [token for token in _TOKENS.finditer(masked) if not (shouted and token[0] in ("AND", "BREAK"))]
    if any(token[0] == "AND" for token in tokens):
        tokens = sorted([*tokens, *_AND_WEIGHT.finditer(masked)], key=lambda token: token.start())
    openings = iter(sorted(closing))
    events = sorted([(start, None) for start in openings] + [(token.start(), token) for token in tokens], key=_first)
    for start, token in events:
        if start >= place:
            mark = _bracket(text, masked, start, closing[start]) if token is None else _token(text, token)
            found.append(mark)
            place = mark.end
    quotes = [Mark("quote", m.start(), m[0], (m[0][1:-1],)) for m in QUOTES.finditer(text)]
    escaped = [Mark("escaped", m.start(), m[0], (m[1],)) for m in _ESCAPED.finditer(text)]
    for mark in [*quotes, *escaped]:
        if not any(other.start <= mark.start < other.end for other in found):
            found.append(mark)
    return sorted(found, key=lambda mark: mark.start)


def _first(event: tuple[int, object]) -> int:
    return event[0]


def has_open_bracket(text: str) -> bool:
    """Whether a bracket is not closed, so that what is added behind it would be inside."""
    masked = hidden(text)
    opened = [place for place, letter in enumerate(masked) if letter in _OPEN]
    return len(_pairs(masked)) < len(opened)


def words_of(text: str) -> str:
    """The plain words of a text without sections: no weights, brackets or networks; quotations as they are.

    A text without syntax comes back as it is.
    """
    for _ in range(8):  # what is taken away may leave other syntax behind, in broken prompts
        bare = _without_marks(text)
        if bare == text:
            break
        text = bare
    return text


def _without_marks(text: str) -> str:
    pieces, place = list[str](), 0
    for mark in inline_marks(text):
        if mark.kind != "quote":
            joint = ", " if mark.kind == "separator" else " "
            pieces += [text[place : mark.start], joint, ", ".join(mark.parts), joint]
            place = mark.end
    joined = "".join([*pieces, text[place:]])
    escapes = re.sub(r"\\([()\[\]{}\\:|<>])", " ", joined)
    masked = hidden(escapes)
    free = "".join(" " if sign in _OPEN + _CLOSE else letter for letter, sign in zip(escapes, masked, strict=True))
    return text if free == text else _tidied(free)


def _tidied(text: str) -> str:
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +(?=[,.;!?](?:\s|$))", "", text)
    text = re.sub(r"(?:,\s*)+(?=[,.;!?](?:\s|$))", "", text)
    return re.sub(r"^[\s,]+|[\s,]+$", "", text)


def _pairs(masked: str) -> dict[int, int]:
    """Opening bracket -> its closing one, for all that are closed."""
    pairs, waiting = dict[int, int](), list[int]()
    for place, letter in enumerate(masked):
        if letter in _OPEN:
            waiting.append(place)
        elif letter in _CLOSE:
            opening = _OPEN[_CLOSE.index(letter)]
            match = next((i for i in range(len(waiting) - 1, -1, -1) if masked[waiting[i]] == opening), None)
            if match is not None:
                pairs[waiting[match]] = place
                del waiting[match:]
    return pairs


def _bracket(text: str, masked: str, start: int, end: int) -> Mark:
    inside, behind = text[start + 1 : end], end + 1
    if function := _FUNCTION.match(masked, behind):
        return Mark("function", start, text[start : function.end()], (words_of(inside),))
    if masked[start] == "(":
        suffix = _SUFFIX.match(masked, behind)
        weighted = WEIGHTED.match(inside)
        words, weight = (weighted["words"], float(weighted["weight"])) if weighted else (inside, 1.1)
        if suffix:
            weight, behind = _suffix_weight(suffix[0]), suffix.end()
        return _weight(start, text[start:behind], words, weight)
    parts = list(_parts(inside, masked[start + 1 : end], masked[start]))
    if len(parts) > 1 or (parts and parts[0] != inside):
        kind: MarkKind = "schedule" if masked[start] == "[" else "choice"
        return Mark(kind, start, text[start:behind], tuple(words for part in parts if (words := words_of(part))))
    return _weight(start, text[start:behind], inside, 1 / 1.1 if masked[start] == "[" else 1.05)


def _weight(start: int, text: str, words: str, weight: float) -> Mark:
    inner = [mark for mark in inline_marks(words) if mark.kind != "quote"]
    if len(inner) == 1 and inner[0].kind == "weight" and inner[0].text == words.strip() and inner[0].weight:
        return Mark("weight", start, text, inner[0].parts, weight * inner[0].weight)  # ((red))
    kind: MarkKind = "schedule" if any(mark.kind in STRUCTURE for mark in inner) else "weight"
    return Mark(kind, start, text, (words_of(words),), weight)


def _suffix_weight(suffix: str) -> float:
    """Of compel: + is 1.1, - is 0.9, each once more for each sign."""
    if suffix[0] in "+-":
        return float((1.1 if suffix[0] == "+" else 0.9) ** len(suffix))
    return float(suffix)


def _parts(inside: str, masked: str, opening: str) -> Iterator[str]:
    """What [from:to:0.5], [one|other] and {one|other} choose from."""
    cuts = [place for place in _outside(masked) if masked[place] == "|"]
    if not cuts and opening == "[" and re.search(rf":\s*{_NUMBER}\s*$", masked):
        cuts = [place for place in _outside(masked) if masked[place] == ":"][-2:]
        inside = inside[: cuts[-1]] if cuts else inside
        cuts = cuts[:-1]
    for start, end in zip([-1, *cuts], [*cuts, len(inside)], strict=True):
        yield inside[start + 1 : end]


def _outside(masked: str) -> list[int]:
    """Places outside of inner brackets."""
    inner = _pairs(masked)
    return [p for p in range(len(masked)) if not any(start <= p <= end for start, end in inner.items())]


def _token(text: str, token: re.Match[str]) -> Mark:
    kind = token.lastgroup or "separator"  # the weight of a part of AND has no name
    written = text[token.start() : token.end()]
    if kind == "weight":
        words = written.rstrip("+-")
        return Mark("weight", token.start(), written, (words,), _suffix_weight(written[len(words) :]))
    if kind == "function":
        words, _, other = written.partition(".swap(")
        return Mark("function", token.start(), written, (words, other.rstrip(")")))
    known: MarkKind = "network" if kind == "network" else "embedding" if kind == "embedding" else "separator"
    return Mark(known, token.start(), written)

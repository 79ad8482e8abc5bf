"""A prompt in the form of one image generator: what has an equivalent is converted, the rest stays or is named."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from .inline_marks import WEIGHTED, Mark, inline_marks
from .parsed_prompt import ParsedPrompt, parse_prompt
from .sections import hidden

Form = Literal["plain", "a1111", "midjourney"]
FORMS = get_args(Form)

_LEFT = "{} (left as written)"
_SENTENCE_END = re.compile(r"\s*[.;](?:\s+|$)|\s*\n\s*")
_COMPEL = re.compile(r"(?:[+-]+|\d*\.?\d+)$")


@dataclass(frozen=True)
class FormattedPrompt:
    """prompt: without its negatives for a1111, with all flags for midjourney, as written for plain. negative: what the
    prompt denies. dropped: what the form cannot say; "(left as written)" behind it where it still stands there.
    """

    prompt: str
    negative: str = ""
    dropped: tuple[str, ...] = ()


def formatted(text: str, form: Form) -> FormattedPrompt:
    """Write a prompt as Automatic1111 or Midjourney reads it; "plain" leaves it as it is."""
    prompt = parse_prompt(text)
    if form == "a1111":
        return _a1111(prompt)
    if form == "midjourney":
        return _midjourney(prompt)
    return FormattedPrompt(text, ", ".join(prompt.negatives))


@dataclass
class _Writer:
    """Rewrites the marks of one text; `dropped` collects what cannot be said."""

    dropped: list[str] = field(default_factory=list)

    def text(self, text: str, convert: dict[str, str]) -> str:
        """convert: mark kind -> name of the method that writes it; other marks stay."""
        pieces, place = list[str](), 0
        for mark in inline_marks(text):
            method = convert.get(mark.kind, "")
            pieces += [text[place : mark.start], getattr(self, method)(mark) if method else mark.text]
            place = mark.end
        return "".join([*pieces, text[place:]])

    def left(self, mark: Mark) -> str:
        self.dropped.append(_LEFT.format(mark.text.strip()))
        return mark.text

    def gone(self, mark: Mark) -> str:
        self.dropped.append(mark.text.strip())
        return " "

    def bare(self, mark: Mark) -> str:
        """The words without their weight. Single brackets stay: elsewhere they are mere text."""
        inside = mark.text[1:-1]
        if mark.text[0] + mark.text[-1] == "()" and not WEIGHTED.match(inside) and mark.weight == 1.1:
            return f"({self.text(inside, _TO_MIDJOURNEY)})"
        self.dropped.append(mark.text.strip())
        return mark.parts[0]

    def unescaped(self, mark: Mark) -> str:
        return f"({mark.parts[0]})"

    def a1111_weight(self, mark: Mark) -> str:
        if mark.text[0] == "[" or (mark.text[0] == "(" and mark.text[-1] == ")"):
            return mark.text
        bare = _COMPEL.sub("", mark.text)
        inside = bare[1:-1] if bare[0] in "({" else bare
        return f"({self.text(inside, _TO_A1111)}:{round(mark.weight or 1, 3):g})"

    def a1111_embedding(self, mark: Mark) -> str:
        name, _, weight = mark.text.removeprefix("embedding:").partition(":")
        return f"({name}:{weight})" if weight else name

    def a1111_network(self, mark: Mark) -> str:
        return mark.text if ":" in mark.text else mark.text.strip("<>")

    def a1111_separator(self, mark: Mark) -> str:
        weight = mark.text.removeprefix("::").strip()
        if not mark.text.startswith("::"):
            return self.left(mark) if mark.text == "|" else mark.text
        return f" :{weight} AND " if weight else " AND "

    def midjourney_separator(self, mark: Mark) -> str:
        if mark.text == "BREAK":
            return f",{self.gone(mark)}"
        if mark.text == "AND":
            return ":: "
        return self.left(mark) if mark.text == "|" else f"::{mark.text.strip(' :')} "


_TO_A1111 = {
    "weight": "a1111_weight",
    "embedding": "a1111_embedding",
    "network": "a1111_network",
    "separator": "a1111_separator",
    "function": "left",
    "choice": "left",
}
_TO_MIDJOURNEY = {
    "weight": "bare",
    "escaped": "unescaped",
    "embedding": "gone",
    "network": "gone",
    "separator": "midjourney_separator",
    "function": "left",
    "choice": "left",
    "schedule": "left",
}


def _a1111(prompt: ParsedPrompt) -> FormattedPrompt:
    writer = _Writer()
    text = _with_commas(writer.text(prompt.text, _TO_A1111))
    text = re.sub(r"\s*\bAND\s*$", "", text) if "::" in prompt.text else text
    negatives = [part.value for part in prompt.sections if part.kind in ("no", "negative")]
    negative = ", ".join(filter(None, (_tidy(writer.text(value, _TO_A1111)) for value in negatives)))
    writer.dropped += [part.text.strip() for part in prompt.sections if part.kind in ("flag", "lead", "settings")]
    return FormattedPrompt(_tidy(text), negative, tuple(writer.dropped))


def _midjourney(prompt: ParsedPrompt) -> FormattedPrompt:
    writer = _Writer()
    text = writer.text(prompt.text, _TO_MIDJOURNEY)
    text = _tidy(re.sub(r"\s*::([\d.-]+) ::", r"::\1", re.sub(r"\s+::", "::", text)))
    leads = [part.text.strip() for part in prompt.sections if part.kind == "lead"]
    addresses = [lead for lead in leads if lead.startswith("http")]
    flags = [part.text for part in prompt.sections if part.kind == "flag"]
    for part in prompt.sections:
        if part.kind in ("no", "negative"):
            marks = (mark for mark in inline_marks(part.value) if mark.kind in ("weight", "network", "embedding"))
            writer.dropped += [mark.text for mark in marks]
    denied = ", ".join(prompt.negatives)
    writer.dropped += [lead for lead in leads if lead not in addresses]
    writer.dropped += [part.text.strip() for part in prompt.sections if part.kind == "settings"]
    pieces = [*addresses, text, *flags, *([f"--no {denied}"] if denied else [])]
    return FormattedPrompt(" ".join(filter(None, pieces)), denied, tuple(writer.dropped))


def _with_commas(text: str) -> str:
    """Sentences and lines as parts between commas, outside of brackets and quotations."""
    taken = [(mark.start, mark.end) for mark in inline_marks(text)]
    pieces, place = list[str](), 0
    for match in _SENTENCE_END.finditer(hidden(text)):
        if not any(start <= match.start() < end for start, end in taken):
            pieces += [text[place : match.start()].rstrip(" ,"), ", "]
            place = match.end()
    return "".join([*pieces, text[place:]])


def _tidy(text: str) -> str:
    """Without doubled blanks and commas, outside of quotations; brackets keep theirs."""
    quoted = [mark for mark in inline_marks(text) if mark.kind == "quote"]
    pieces, place = list[str](), 0
    for quote in [*quoted, None]:
        part = text[place : quote.start if quote else len(text)]
        part = re.sub(r"\s+", " ", part)
        part = re.sub(r" +,", ",", part)
        pieces += [re.sub(r",(?:\s*,)+", ",", part), quote.text if quote else ""]
        place = quote.end if quote else place
    return "".join(pieces).strip(" ,")

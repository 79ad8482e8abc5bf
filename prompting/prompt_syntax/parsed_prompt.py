"""A prompt taken apart: the words that a check reads, what is kept as written, what it denies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from .inline_marks import STRUCTURE, Mark, has_open_bracket, inline_marks, words_of
from .sections import Section, hidden, sections

_OPEN_ENDS = (",", ".", "!", "?", ";", ":", "|", "BREAK", "AND", "。", "，", "、")
_SPOKEN = 6
"""Of a long "Negative prompt:", what a language model is told; the check reads all of it."""
_AND_WEIGHT_AT_END = re.compile(r"\s*(?<!:):\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*$")


@dataclass(frozen=True)
class ParsedPrompt:
    """sections: joined, they are the original."""

    original: str
    sections: tuple[Section, ...]

    @cached_property
    def text(self) -> str:
        """What is drawn, as written: no flags, no negatives."""
        return " ".join(part.text.strip() for part in self.sections if part.kind == "text" and part.text.strip())

    @cached_property
    def words(self) -> str:
        """`text` without weights, brackets and networks; as it is where there are none."""
        return words_of(self.text)

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """The syntax inside `text`, and its quotations."""
        return tuple(inline_marks(self.text))

    @cached_property
    def negatives(self) -> tuple[str, ...]:
        """What --no and "Negative prompt:" name, one by one, without weights."""
        denied = (part.value for part in self.sections if part.kind in ("no", "negative"))
        items = (words_of(item.strip()).strip(" .;") for value in denied for item in _items(value))
        return tuple(dict.fromkeys(item for item in items if item and re.search(r"\w", item)))

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """Everything that must stand in a result letter by letter."""
        outside = [part.text.strip() for part in self.sections if part.kind != "text"]
        return (*(mark.text.strip() for mark in self.marks), *outside)

    @property
    def has_syntax(self) -> bool:
        """Whether it is more than plain text with quotations."""
        return any(part.kind != "text" for part in self.sections) or any(mark.kind != "quote" for mark in self.marks)

    @property
    def has_structure(self) -> bool:
        """Whether parts of the text depend on their place: schedules, choices, BREAK, AND, |, ::."""
        return any(mark.kind in STRUCTURE for mark in self.marks)

    @property
    def spoken(self) -> str:
        """The prompt as a language model is asked about it: "a lake, no people"; as it is where there is no syntax."""
        if not self.has_syntax:
            return self.original
        return "".join([self.words.rstrip(" ,"), *(f", no {item}" for item in self.negatives[:_SPOKEN])])

    def extended(self, addition: str, joint: str = ", ") -> str:
        """The prompt with something more behind its text: in front of its flags, outside of its negatives.

        With an open bracket, nothing is added: it would stand inside.
        """
        head, tail = self._ends
        if not addition or not head.strip() or has_open_bracket(self.text):
            return self.original
        weight = _AND_WEIGHT_AT_END.search(head) if re.search(r"\bAND\b", hidden(head)) else None
        if weight:  # the weight of the last part of AND stands at its end
            head, tail = head[: weight.start()], weight[0].rstrip() + tail
        joint = " " if head.endswith(_OPEN_ENDS) else joint
        return f"{head}{joint}{addition.strip(' ,;')}{tail}"

    def replaced(self, text: str) -> str:
        """The prompt with another text; flags, negatives and settings as they were."""
        _, tail = self._ends
        first = next(place for place, part in enumerate(self.sections) if part.kind == "text" and part.text.strip())
        lead = "".join(part.text for part in self.sections[:first])
        own = self.sections[first].text
        more = [part for part in self.sections[first + 1 :] if part.kind == "text" and part.text.strip()]
        if more:  # text behind flags: the flags alone stay
            rest = [part.text.strip() for part in self.sections[first + 1 :] if part not in more and part.text.strip()]
            tail = " ".join(["", *rest])
        return lead + own[: len(own) - len(own.lstrip())] + text.strip() + tail

    @cached_property
    def _ends(self) -> tuple[str, str]:
        """The prompt up to the end of its first stretch of text, and the rest."""
        place = 0
        for part in self.sections:
            place += len(part.text)
            if part.kind == "text" and part.text.strip():
                place -= len(part.text) - len(part.text.rstrip())
                return self.original[:place], self.original[place:]
        return "", self.original

    def restored(self, rewrite: str) -> str | None:
        """A rewrite's text with the syntax of this prompt put back; None where it has no place for it.

        Weights go around the same words, networks to the end. The rewrite's own flags and negatives are left out.
        """
        text = parse_prompt(rewrite).text
        if not self.text or not text:
            return None
        networks = list[str]()
        for mark in self.marks:
            if mark.text.strip() in text:
                continue
            if mark.kind == "quote" and (quote := _same_quote(text, mark.parts[0])):
                text = text[: quote.start()] + mark.text + quote["stop"] + text[quote.end() :]
                continue
            if mark.kind == "network":
                networks.append(mark.text)
            elif mark.kind == "embedding":
                networks.append(f", {mark.text}" if text[-1] not in ",;" else mark.text)
            elif mark.kind in ("weight", "escaped") and (place := _place(text, mark.parts[0])):
                text = text[: place[0]] + mark.text + text[place[1] :]
            else:
                return None
        whole = self.replaced(" ".join([text, *networks]).replace(" ,", ",") if networks else text)
        return whole if all(whole.count(piece) >= self.original.count(piece) for piece in self.kept) else None


@lru_cache(maxsize=64)
def parse_prompt(text: str) -> ParsedPrompt:
    """Take a prompt apart. Any text is a prompt: what is no syntax is text."""
    return ParsedPrompt(text, tuple(sections(text)))


def _items(value: str) -> list[str]:
    """A list cut at commas outside of quotations and brackets."""
    masked, depth, cuts = hidden(value), 0, [-1]
    for place, letter in enumerate(masked):
        depth += (letter in "([{") - (letter in ")]}")
        if letter in ",\n" and depth <= 0:
            cuts.append(place)
    return [value[start + 1 : end] for start, end in zip(cuts, [*cuts[1:], len(value)], strict=True)]


def _same_quote(text: str, words: str) -> re.Match[str] | None:
    """The same letters in other quotation marks; a comma or stop may stand inside."""
    return re.search(rf"[\"“”„«»‘']{re.escape(words)}(?P<stop>[.,]?)[\"“”«»’']", text)


def _place(text: str, words: str) -> tuple[int, int] | None:
    """Where the words stand in a text outside of its quotations and brackets, in any case."""
    taken = [(mark.start, mark.end) for mark in inline_marks(text)]
    words = words.strip()
    if not words:
        return None
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    for match in re.finditer(rf"(?<![\w-]){pattern}(?![\w-])", text, re.IGNORECASE):
        if not any(start < match.end() and match.start() < end for start, end in taken):
            return match.span()
    return None

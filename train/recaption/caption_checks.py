"""Checks of captions: what makes one unfit to train on. They flag, and never drop."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ...errors import InputError, check_range
from ...input_files import read_text
from .part_file import CUT_OFF, KEEP, REASONS, SIMILARITY, Row

EXPLAINED = {
    "failed": "no caption was written",
    "empty": "the caption is blank",
    "denied": "has a word or phrase of the deny list",
    "repeated": "says a word or phrase twice in a row, or the same ten words twice",
    "cut_off": "was cut off at the length limit, or ends in the middle of a phrase",
    "constant": "is the caption of so many images that it says nothing of this one",
    "below_original": "is less similar to the image, by CLIP, than the original captions are on average",
}
_RUN = 10  # words in a row that do not come twice

# A caption that ends with one of these goes on: articles, prepositions that need an object, conjunctions, "to be".
_OPEN_ENDS = frozenset(
    """a an the and or but nor with of to for from at by into onto as than that which who whose while is are was were
    its his her their my your our this these those very""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Checks:
    """Settings of the checks. max_same: share of the images that may have one caption (ten may always)."""

    deny: Sequence[str] = ()
    max_same: float = 0.01

    def __post_init__(self) -> None:
        check_range("max_same", self.max_same, 0, 1)

    @cached_property
    def denied(self) -> Callable[[str], bool]:
        """Whether a text has a word or phrase of the list: whole words, in any case and spacing."""
        phrases = sorted({" ".join(map(re.escape, phrase.split())) for phrase in self.deny}, key=len, reverse=True)
        if not phrases:
            return lambda text: False
        either = "|".join(phrase.casefold().replace(" ", r"\s+") for phrase in phrases)
        pattern = re.compile(rf"(?<!\w)(?:{either})(?!\w)")
        return lambda text: pattern.search(text.casefold()) is not None

    def limit(self, rows: int) -> int:
        """How many of `rows` images may have the same caption."""
        return max(10, int(self.max_same * rows))


@dataclass(frozen=True)
class Flagger:
    """Fills in `keep_` and `reasons_` of rows. constant: style -> captions (`plain`) of too many images."""

    styles: Sequence[str]
    checks: Checks
    constant: Mapping[str, Collection[str]] = field(default_factory=dict)

    def flag(self, row: Row) -> Row:
        """The row with its flags."""
        flags: Row = {}
        for style in self.styles:
            found = self.reasons(row, style)
            flags |= {KEEP + style: not found, REASONS + style: found}
        return {**row, **flags}

    def reasons(self, row: Row, style: str) -> list[str]:
        text = row[style]
        if text is None:
            return ["failed"]
        if not text.strip():
            return ["empty"]
        found = {
            "denied": self.checks.denied(text),
            "repeated": repeats(text),
            "cut_off": is_cut_off(text, row[CUT_OFF + style]),
            "constant": plain(text) in self.constant.get(style, ()),
            "below_original": _below_original(row, style),
        }
        return [reason for reason, holds in found.items() if holds]


def read_deny_list(path: Path) -> tuple[str, ...]:
    """One word or phrase a line. Raises `InputError` for a file that cannot be read, or has none."""
    try:
        lines = read_text(path).splitlines()
    except InputError as error:
        raise InputError(f"--deny {error}, one word a line") from error
    found = tuple(dict.fromkeys(" ".join(line.split()).casefold() for line in lines if line.strip()))
    if not found:
        raise InputError(f"--deny {path} has no words; expected one word or phrase a line")
    return found


def plain(text: str) -> str:
    """The words alone: captions that differ in case, spacing and punctuation are the same."""
    return " ".join(_words(text))


def repeats(text: str) -> bool:
    """Whether a word or phrase follows itself at once, or the same ten words come twice."""
    words = _words(text)
    for length in range(1, len(words) // 2 + 1):
        same = 0  # words in a row that are equal to those `length` before them
        for before, word in zip(words, words[length:], strict=False):
            same = same + 1 if before == word else 0
            if same == length:
                return True
    runs = [tuple(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)]
    return len(set(runs)) < len(runs)


def is_cut_off(text: str, known: bool | None) -> bool:
    """known: what the encoder says; where it cannot tell, the last word decides."""
    if known is not None:
        return known
    words = _words(text)
    return text.rstrip().endswith((",", "-", ":", ";", "(")) or bool(words and words[-1] in _OPEN_ENDS)


def _below_original(row: Row, style: str) -> bool:
    own, originals = row.get(SIMILARITY + style), row.get(SIMILARITY + "original") or ()
    return own is not None and len(originals) > 0 and own < sum(originals) / len(originals)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.casefold())

"""A prompt's sections: its text, Midjourney's flags, negatives, and what stands in front of the text.

Flags: https://docs.midjourney.com (parameter list). "Negative prompt:" and "Steps: …" are how Automatic1111 writes its
settings below a picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

QUOTES = re.compile(
    r"[\"“”„«»]([^\"“”„«»]+)[\"“”„«»]|(?<![\w'])[‘'](?=\S)([^‘’']*(?:['’](?=\w)[^‘’']*)*)(?<=[^\s])[’'](?!\w)"
)
HIDDEN = "\x00"
"""Stands for a letter of a quotation or an escaped bracket, where no syntax is looked for."""

Kind = Literal["text", "flag", "no", "negative", "settings", "lead"]

_ONE_VALUE = """
ar aspect v version s stylize c chaos q quality seed sameseed iw sw sv ow cw stop style niji weird w exp repeat r
motion profile p w h width height steps cfg"""
_SWITCHES = "tile raw fast relax turbo draft video hd test testp creative upbeta uplight stealth public"
ONE_VALUE, SWITCHES = frozenset(_ONE_VALUE.split()), frozenset(_SWITCHES.split())
_DASHED = "|".join(sorted(ONE_VALUE | SWITCHES | {"no", "sref", "cref", "oref"}, key=len, reverse=True))
_MARKS = re.compile(
    r"(?P<negative>(?:(?<!\w)negative[ _]prompts?|^[ \t]*negative)[ \t]*:)"
    r"|(?P<settings>^[ \t]*steps[ \t]*:[ \t]*\d)"
    r"|(?P<lead>\A\s*/imagine(?:\s+prompt[ \t]*:)?|^[ \t]*(?:positive[ _])?prompt[ \t]*:|(?<!\S)https?://\S+)"
    rf"|(?<!\S)(?:--(?=[^\W\d_])|[—–](?=(?:{_DASHED})(?!\S)))(?P<flag>[\w-]+)",
    re.IGNORECASE | re.MULTILINE,
)
_VALUE = re.compile(r"[ \t]+[^\s,]+")


@dataclass(frozen=True)
class Section:
    """text: as written; joined, the sections of a prompt are the prompt. name, value: of a flag or negative."""

    kind: Kind
    text: str
    name: str = ""
    value: str = ""


def hidden(text: str) -> str:
    """The text, as long as it was, with `HIDDEN` for all letters inside quotations and for escaped characters."""
    text = re.sub(r"\\[()\[\]{}\\:|<>]", HIDDEN * 2, text)
    return QUOTES.sub(lambda match: match[0][0] + HIDDEN * (len(match[0]) - 2) + match[0][-1], text)


def sections(text: str) -> list[Section]:
    """Cut a prompt at its flags, negatives and settings."""
    masked, found, kind, place = hidden(text), list[Section](), "text", 0
    for mark in _MARKS.finditer(masked):
        if mark.start() < place:  # inside the value of a flag, such as the address behind --sref
            continue
        found += _stretch(kind, text[place : mark.start()])
        place = mark.start()
        if mark["flag"]:
            section = _flag(text, masked, mark)
            found.append(section)
            place += len(section.text)
        elif mark["lead"]:
            found.append(Section("lead", mark[0]))
            place, kind = mark.end(), "text"
        else:
            kind = "negative" if mark["negative"] else "settings"
    return found + _stretch(kind, text[place:])


def _stretch(kind: str, text: str) -> list[Section]:
    if not text:
        return []
    if kind == "negative":
        return [Section("negative", text, "negative", text.partition(":")[2].strip())]
    return [Section("settings" if kind == "settings" else "text", text)]


def _flag(text: str, masked: str, mark: re.Match[str]) -> Section:
    """The flag with its value: none, one word, or for --no, --sref and unknown flags the rest of the line."""
    name = mark["flag"].lower()
    if name in SWITCHES:
        stop = mark.end()
    elif name in ONE_VALUE:
        value = _VALUE.match(masked, mark.end())
        stop = value.end() if value and not value[0].lstrip().startswith("--") else mark.end()
    else:
        line = masked.find("\n", mark.end())
        stop = _next_flag(masked, mark.end(), line if line >= 0 else len(text))
    written = text[mark.start() : stop].rstrip()
    value_text = written[mark.end() - mark.start() :].strip()
    return Section("no" if name == "no" else "flag", written, name, value_text)


def _next_flag(masked: str, start: int, end: int) -> int:
    """Where the next flag or negative begins; addresses belong to the value."""
    following = (mark for mark in _MARKS.finditer(masked, start, end) if not mark["lead"])
    return next((mark.start() for mark in following), end)

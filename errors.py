"""Errors that are the caller's to mend. The command line prints them without a traceback and exits with 2."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # part of words and emoji


class TextlensError(Exception):
    """Base of every error that textlens raises on purpose: says what was got, what was expected, and the fix."""


class InputError(TextlensError, ValueError):
    """An argument, a file or a setting cannot be used as it is."""


def encoding_error(text: str, name: str = "the prompt") -> str | None:
    """Why a text cannot be encoded as UTF-8, for an error message that calls it `name`; None if it can.

    Half a surrogate pair has no encoding; broken JSON and undecodable command line arguments contain such.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        return f"{name} cannot be sent: character {error.start + 1}, {half}, is half of a surrogate pair; leave it out"
    return None


def check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    """Raise `InputError` unless `low` <= `value` <= `high` (None: no upper limit)."""
    if not low <= value <= (value if high is None else high):
        raise InputError(f"{name} is {value}; expected {low} {'or more' if high is None else f'to {high}'}")


def shortened(error: BaseException | str, limit: int = 600) -> str:
    """An error's message on one line, cut at `limit` characters; the error's class where it says nothing."""
    message = " ".join(str(error).split()) or ("" if isinstance(error, str) else type(error).__name__)
    return message if len(message) <= limit else message[:limit] + " ..."


def reason(error: BaseException, limit: int = 300) -> str:
    """`shortened` for a message that names the file already: errors of the system without their path."""
    return shortened(error.strerror if isinstance(error, OSError) and error.strerror else error, limit)


def escaped(text: str, *, keep: str = "") -> str:
    """The text with every sign that moves a cursor, starts a line, hides or reorders text as its escape, "\\x1b".

    For names, errors and words on a terminal, where they could forge output. keep: signs that stay, such as "\\n".
    """
    if text.isprintable():
        return text
    return "".join(sign if sign in keep or _is_shown(sign) else ascii(sign)[1:-1] for sign in text)


def _is_shown(sign: str) -> bool:
    return sign in _JOINERS or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")

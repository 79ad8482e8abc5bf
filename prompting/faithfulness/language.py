"""Is a text in English, the one language that the check reads? By script and by function words."""

from __future__ import annotations

import re
import unicodedata

from ..prompt_syntax import parse_prompt
from . import lexicon
from .words import lemmas, plain, split_quotes

_UNREAD_SHARE = 0.2
"""Of words in another script: one name in Japanese letters does not make a prompt Japanese."""
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_LETTERS_A_WORD = 2


def is_english(text: str) -> bool:
    """Whether the script is Latin, and English function words outnumber foreign ones or most words are known.

    Quotations and the syntax of image generators do not count.
    """
    found = re.findall(r"(?<![@\w])[^\W\d_]+", plain(split_quotes(parse_prompt(text).words)[0]))
    unread = sum(_size(word) for word in found if script(word[0]) != "LATIN")
    if unread > _UNREAD_SHARE * sum(map(_size, found)):
        return False
    latin = [word for word in found if script(word[0]) == "LATIN"]
    known = sum(bool(lemmas(word)) or word in lexicon.CLOSED for word in latin)
    english = sum(word in lexicon.FUNCTION_WORDS for word in latin)
    foreign = sum(word in lexicon.FOREIGN for word in latin)
    if foreign > english and (foreign > 1 or known < len(latin) / 2):
        return False
    return known >= len(latin) / 2 or english > 0


def script(letter: str) -> str:
    """LATIN, CYRILLIC, CJK, HIRAGANA, …: the first word of the character's name; "" for what is no letter."""
    return unicodedata.name(letter, "").split(" ")[0].split("-")[0] if letter.isalpha() else ""


def scripts(text: str) -> frozenset[str]:
    """The scripts of all letters."""
    return frozenset(map(script, text)) - {""}


def has_spaces(letter: str) -> bool:
    """Whether the letter's script parts words by spaces."""
    return script(letter) not in _WITHOUT_SPACES


def _size(word: str) -> float:
    """How many words a run of letters is; Chinese or Thai is written without spaces."""
    return 1 if has_spaces(word[0]) else max(1, len(word) / _LETTERS_A_WORD)

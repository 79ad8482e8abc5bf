"""Sanitise untrusted text (descriptions, questions) before it enters a prompt: one line, no markers, quoted, bounded.

Prompt injection cannot be recognised by its words, so "ignore the above" stays, as quoted text in its own field.
Removed is every way out of that field: line breaks, the template's field names before a colon, special tokens of
language models, double quotes, invisible characters.

Special tokens are known by their shape, not by a list: whatever stands between two of `<>[]|` without a blank may be
one token of some tokenizer, so blanks are put inside: "[sic]" becomes "[ sic ]", "<tool_call>" "< tool_call >".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

MAX_CHARS = 2000
"""Limit per description: 75 words of De-Diffusion take about 500, five joined captions about 300."""

# What looks like a letter or colon and is left alone by NFKC: Cyrillic, Greek, Armenian, Cherokee, Lisu, small capitals
# and digits (after Unicode's confusables.txt).
_ALIKE = {
    "a": "аαɑᴀ4", "b": "вβʙ", "c": "сϲᴄ", "d": "ԁᴅ", "e": "еεᴇ3", "f": "ꜰ", "g": "ɡɢ", "h": "һհʜн", "i": "іιıɪ1",
    "j": "јᴊ", "k": "κкᴋ", "l": "ӏʟ", "m": "мᴍ", "n": "νηпոɴ", "o": "оοօᴏ0", "p": "рρᴘ", "q": "ԛ", "r": "гʀ",
    "s": "ѕꜱ5", "t": "тτᴛ7", "u": "υսᴜ", "v": "ѵᴠ", "w": "ԝωᴡ", "x": "х", "y": "уγʏ", "z": "ᴢ",
    "A": "АΑᎪꓮ", "B": "ВΒᏴꓐ", "C": "СᏟꓚ", "D": "Ꭰꓓ", "E": "ЕΕᎬꓰ", "F": "ꓝ", "G": "Ꮐꓖ", "H": "НΗᎻꓧ", "I": "ІΙᎥꓲ",
    "J": "ЈᎫꓙ", "K": "КΚᏦꓗ", "L": "Ꮮꓡ", "M": "МΜᎷꓟ", "N": "Νꓠ", "O": "ОΟꓳ", "P": "РΡᏢꓑ", "R": "ᏒЯꓣ", "S": "ЅᏚꓢ",
    "T": "ТΤᎢꓔ", "U": "ꓴ", "V": "Ꮩꓦ", "W": "Ꮃꓪ", "X": "ХΧꓫ", "Y": "ΥҮꓬ", "Z": "Ꮓꓜ",
    ":": "꞉∶ː։׃˸ꓽ⁚፡᛬܃܄᠃᠉ः", "=": "꞊",
}  # fmt: skip
_LOOKALIKES = {ord(one): ord(letter) for letter, several in _ALIKE.items() for one in several}
_DIGITS = {code: letter for code, letter in _LOOKALIKES.items() if code < 128}
_LOOKALIKES |= {first + n: ord("A") + n for first in (0x1F150, 0x1F170, 0x1F1E6) for n in range(26)}  # in boxes
# What no text needs, also where a single word stands between the brackets.
_SPECIAL_TOKENS = re.compile(
    r"<\|[^<>|]{0,40}\|>|<｜[^<>]{0,40}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk|mask|sep|cls|image)>|\[(?:SOS|EOS|CLS|SEP|PAD|MASK|UNK)\]"
    r"|</?(?:think|tool_call|tool_response)>|\[/?(?:TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]",
    re.IGNORECASE,
)
_BRACKETS = "<>[]"
_SIGNS = r"<>\[\]|＜＞［］｜﹤﹥"
# A letter or digit between two signs, and no blank. Each match ends before its closing sign, which may open the next.
_TOKEN_SHAPE = re.compile(rf"([{_SIGNS}])(?=[^\s{_SIGNS}]{{0,99}}[^\W_])([^\s{_SIGNS}]{{1,100}})(?=[{_SIGNS}])")
_DOUBLE_QUOTES = re.compile(
    '["“”„‟«»″‶‴‷⁗❝❞〝〞〟〃＂ʺˮ״˝˵˶᳓🙶🙷🙸⹂\u030b]|[\u0027`´‘’‛′‵ʹʻʼˈˊˋ]{2,}|(?: ?[\u0300\u0301]){2,}'
)
_JOINERS = "\u200c\u200d\ufe0f"  # they shape Persian words and emoji
_NO_JOINERS = {ord(joiner): None for joiner in _JOINERS}
# Characters without a picture that are neither controls nor blanks to Unicode's categories.
_INVISIBLE = re.compile("[\u034f\u180b-\u180d\u180f\ufe00-\ufe0e\U00016fe4\U000e0100-\U000e01ef]")
_BLANKS = re.compile("[\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc\U0001d159]")
_SEPARATORS = ":=>→–—-"
_ROUNDS = 8
_SEPARATOR = r"(?::|=|->|→|[–—]|\s-\s)[=>\s]*"
_BETWEEN = r"[\W_]{0,3}"  # what may stand between the letters of a field name: "S h o r t", "S.h.o.r.t"


def one_line(text: str) -> str:
    """The text on one line, without control characters, invisible characters and special tokens; all words stay."""
    plain = text.isascii() and text.isprintable()  # most texts are, and hold nothing to look for letter by letter
    seen = text if plain else "".join(map(_visible, text))
    return _TOKEN_SHAPE.sub(r"\1 \2 ", _without(" ".join(seen.split()), _SPECIAL_TOKENS, _BRACKETS))


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    """The character, a space for any kind of blank, or nothing."""
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp", "Zs") or _BLANKS.match(character):
        return " "
    if character in _JOINERS:
        return character
    return "" if category[0] == "C" or _INVISIBLE.match(character) else character


def clean(text: str, *, fields: Sequence[str] = (), max_chars: int = MAX_CHARS) -> str:
    """Text from outside, fit to stand behind a field name of a prompt.

    fields: the template's field names, taken away with what makes them one ("Short answer:", in any case or
    look-alike letters).
    max_chars: a longer text is cut between words and ends in "…".
    """
    head = unicodedata.normalize("NFKC", text[: 8 * max_chars])[: 8 * max_chars]
    line = one_line(head.translate(_NO_JOINERS))
    pattern = _markers(tuple(fields))
    if pattern is not None:
        line = one_line(_without(line, pattern, _SEPARATORS))
    return _limited(line, max_chars)


def has_markers(text: str, *, fields: Sequence[str] = ()) -> bool:
    """Whether any field name or special token stands in the text."""
    pattern = _markers(tuple(fields))
    found = pattern is not None and pattern.search(_folded(text))
    return bool(found or _SPECIAL_TOKENS.search(text))


def quoted(text: str) -> str:
    """The text in double quotes, inner ones made single; "" for an empty text."""
    inside = _DOUBLE_QUOTES.sub("'", text)
    return f'"{inside}"' if inside else ""


def quote_untrusted(text: str, *, max_chars: int = 300) -> str:
    """Any text from outside (a file's name, a server's words) as it stands in a message to a language model, or in an
    error that may become one: one short line in double quotes, which it cannot leave.
    """
    return quoted(clean(text, max_chars=max_chars)) or '""'


def told(message: str) -> str:
    """An error as a language model may read it, whatever it holds: one line, which can be encoded."""
    return clean(message.encode(errors="backslashreplace").decode())


def apart(text: str, tokens: Iterable[str]) -> str:
    """The text with a blank inside each of these tokens: the served tokenizer's own, where it is known."""
    for token in tokens:
        while token in text:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


@lru_cache(maxsize=64)
def _markers(fields: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches any field name with its label and separator, in folded text."""
    found = []
    for field in fields:
        words = r"[\W_]*".join(_BETWEEN.join(map(re.escape, _folded(word))) for word in field.split())
        found.append(words)
    ending = rf"\s*(?:[(\[{{][^()\[\]{{}}]{{0,80}}[)\]}}]\s*)?{_SEPARATOR}"
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(found)}){ending}") if found else None


def _folded(text: str) -> str:
    """The text in small Latin letters that look like its own, as long as it."""
    return text.lower().translate(_DIGITS) if text.isascii() else "".join(map(_letter, text))


@lru_cache(maxsize=4096)
def _letter(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character.translate(_LOOKALIKES))[:1]  # without its accent
    return plain.translate(_LOOKALIKES).lower()[:1]


def _without(text: str, pattern: re.Pattern[str], needed: str) -> str:
    """Remove every match, again and again: removing one may join the parts of another.

    needed: characters of which every match has one; all of them are removed if `_ROUNDS` rounds are not enough.
    """
    for _ in range(_ROUNDS):
        pieces, end = [], 0
        for match in pattern.finditer(_folded(text) if needed is _SEPARATORS else text):
            pieces.append(text[end : match.start()])
            end = match.end()
        if not end:
            return text
        text = " ".join(" ".join([*pieces, text[end:]]).split())
    return " ".join("".join(" " if _letter(sign) in needed else sign for sign in text).split())


def _limited(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    head = text[: max_chars - 1]
    return f"{head.rsplit(' ', 1)[0]}…"

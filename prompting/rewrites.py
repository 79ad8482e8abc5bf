"""Choose the prompt to send on: the rewrite if it is faithful and fits, else the original with the rewrite's additions.

The user's own words are never lost; an original that is itself over the token limit comes back whole, with a flag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from .faithfulness import FaithfulnessReport, check
from .faithfulness.matching import same_noun
from .faithfulness.parsing import read
from .upsampling import MAX_WORDS, MIN_WORDS

MAX_PROMPT_CHARS = 4000
"""Comparing two texts takes time proportional to the product of their lengths."""

TokenCounter = Callable[[str], int]

FLAGS = {
    "fell_back": "the rewrite broke the prompt: this is the original with the rewrite's additions",
    "failed": "there was no usable rewrite: this is the original",
    "shortened": "cut to the token limit between clauses; everything of the original is in it",
    "over_limit": "the original alone is longer than the token limit; it was not cut",
    "word_count": f"not within {MIN_WORDS} to {MAX_WORDS} words",
}

_CLAUSE_ENDS = re.compile(r"(?<=[.;!?,])\s+")
_FLAG = re.compile(r"\s+--\w")  # a lake --ar 16:9 --no people
_ARTICLES = re.compile(r"^(?:(?:the|a|an|its|his|her|their|this|that|these|those|some)\s+)+")


@dataclass(frozen=True)
class Upsampled:
    """The chosen prompt and how it came about.

    prompt: what to send on. added: what it says beyond the original. changed: what the model lost or altered of the
    original ("attribute car: red -> blue"). flags: keys of `FLAGS`. error: why there was no rewrite.
    """

    original: str
    prompt: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    error: str | None = None


def select_rewrite(
    original: str,
    rewritten: str | None,
    *,
    error: str | None = None,
    count_tokens: TokenCounter | None = None,
    max_tokens: int | None = None,
) -> Upsampled:
    """Choose the rewrite, the original with its additions, or the original alone.

    rewritten: the parsed rewrite; None, with `error`, if the request or the parsing failed.
    count_tokens, max_tokens: the limit in tokens of the image generator (77 less 2 for CLIP).
    Raises `InputError` for an empty or overlong original and for half a limit.
    """
    fits = _limit(count_tokens, max_tokens)
    if not original.strip():
        raise InputError("the prompt is empty; expected a few words that describe a picture")
    if len(original) > MAX_PROMPT_CHARS:
        raise InputError(f"the prompt has {len(original)} characters; expected at most {MAX_PROMPT_CHARS}")
    too_long = [] if fits(original) else ["over_limit"]
    if rewritten is None or not rewritten.strip() or len(rewritten) > 2 * MAX_PROMPT_CHARS:
        error = error or ("the rewrite is far too long" if rewritten and rewritten.strip() else "the rewrite is empty")
        return Upsampled(original, original, flags=("failed", *too_long), error=error)
    report = check(original, rewritten)
    flags = [] if MIN_WORDS <= len(rewritten.split()) <= MAX_WORDS else ["word_count"]
    prompt = _shortened(original, rewritten, fits) if report.faithful else None
    if prompt is None:
        prompt = fallback(
            original, safe_additions(original, rewritten), count_tokens=count_tokens, max_tokens=max_tokens
        )
        flags = ["fell_back", *too_long]
    elif prompt != rewritten:
        flags = ["shortened"]
    added = tuple(f"{atom.kind} {atom.text}" for atom in check(original, prompt).added)
    return Upsampled(original, prompt, added, _changed(report), tuple(flags))


def fallback(
    original: str,
    additions: Sequence[str],
    *,
    count_tokens: TokenCounter | None = None,
    max_tokens: int | None = None,
) -> str:
    """The original word for word, then the additions that fit the limit and break nothing of it, then its flags
    (`--ar 16:9`).
    """
    fits = _limit(count_tokens, max_tokens)
    first_flag = _FLAG.search(original)
    text, flags = (original[: first_flag.start()], original[first_flag.start() :]) if first_flag else (original, "")
    text = text.rstrip()
    for addition in filter(None, map(str.strip, additions)):
        joint = " " if text.endswith((".", "!", "?", ",")) else ", "
        if fits(f"{text}{joint}{addition}{flags}") and check(original, f"{text}{joint}{addition}{flags}").faithful:
            text += joint + addition
    return text + flags


def safe_additions(original: str, rewritten: str, *, limit: int = 8) -> tuple[str, ...]:
    """Noun phrases of the rewrite about light, setting, mood and style: nothing that the original names, denies or
    counts, no person or animal, and not the rewrite's main subject, so that they cannot contradict it.
    """
    named = {thing.noun for thing in read(original).things}
    things = read(rewritten).things
    found = []
    for thing in things[1:] if things and not _knows(named, things[0].noun) else things:
        phrase = _ARTICLES.sub("", thing.words).replace(" ,", ",")
        described = " " in phrase and not thing.negated and not thing.exact and not thing.more
        if described and not _knows(named | {"person", "animal"}, thing.noun) and not thing.acts:
            found.append(phrase)
    return tuple(dict.fromkeys(found))[:limit]


def _knows(named: set[str], noun: str) -> bool:
    return any(same_noun(name, noun) or same_noun(noun, name) for name in named)


def _shortened(original: str, rewritten: str, fits: Callable[[str], bool]) -> str | None:
    """The longest beginning of the rewrite that fits and still says all of the original; None where there is none."""
    return next((text for text in _beginnings(rewritten) if fits(text) and check(original, text).faithful), None)


def _beginnings(text: str) -> Iterator[str]:
    yield text
    clauses = _CLAUSE_ENDS.split(text)
    for length in range(len(clauses) - 1, 0, -1):
        yield " ".join(clauses[:length]).rstrip(",;")


def _limit(count_tokens: TokenCounter | None, max_tokens: int | None) -> Callable[[str], bool]:
    if (count_tokens is None) != (max_tokens is None):
        raise InputError(
            "a token limit needs both max_tokens and count_tokens, the target's own tokenizer; got one of them"
        )
    if count_tokens is None or max_tokens is None:
        return lambda text: True
    if max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens}; expected 1 or more")
    return lambda text: count_tokens(text) <= max_tokens


def _changed(report: FaithfulnessReport) -> tuple[str, ...]:
    lost = [f"{atom.kind} {atom.text} -> missing" for atom in report.broken]
    return (*(f"{c.atom.kind} {c.atom.text} -> {c.found}" for c in report.changed), *lost)

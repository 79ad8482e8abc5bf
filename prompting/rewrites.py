"""What becomes of a rewritten prompt: checked against the original, cut to the target's limit, or put aside for the
original.

The user's own words are never lost: a rewrite that breaks one gives way to the original with the rewrite's
additions behind it, and an original that is itself too long comes back whole, with a flag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from .faithfulness import FaithfulnessReport, check
from .faithfulness.parsing import read
from .faithfulness.matching import same_noun
from .upsampling import MAX_WORDS, MIN_WORDS

MAX_PROMPT_CHARS = 4000
"""Prompts may come from strangers, and comparing two texts takes time by the product of their lengths."""

TokenCounter = Callable[[str], int]

FLAGS = {
    "fell_back": "the rewrite broke the prompt: this is the original with the rewrite's additions",
    "failed": "there was no usable rewrite: this is the original",
    "shortened": "cut to the token limit between clauses; everything of the original is in it",
    "over_limit": "the original alone is longer than the token limit; it was not cut",
    "word_count": f"not within {MIN_WORDS} to {MAX_WORDS} words",
}

_CLAUSE_ENDS = re.compile(r"(?<=[.;!?,])\s+")
_ARTICLES = re.compile(r"^(?:(?:the|a|an|its|his|her|their|this|that|these|those|some)\s+)+")


@dataclass(frozen=True)
class Upsampled:
    """prompt: what to send on. added, changed: in words, what `prompt` says beyond the original, and what the model
    had lost or altered of it ("car: red -> blue"). flags: keys of `FLAGS`. error: why there was no rewrite.
    """

    original: str
    prompt: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    error: str | None = None


def settle(
    original: str,
    rewritten: str | None,
    *,
    error: str | None = None,
    count_tokens: TokenCounter | None = None,
    max_tokens: int | None = None,
) -> Upsampled:
    """Decide between rewrite, original with additions, and original.

    rewritten: the model's text as parsed; None, with `error`, where the service failed or its answer could not be
    parsed.
    count_tokens, max_tokens: the limit, in the tokens of the image generator that reads the prompt (77 less 2 for
    CLIP).
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
    """The original, untouched, and behind it those additions that fit the limit and break nothing of it."""
    fits = _limit(count_tokens, max_tokens)
    text = original.rstrip()
    for addition in additions:
        joint = " " if text.endswith((".", "!", "?", ",")) else ", "
        longer = f"{text}{joint}{addition.strip()}"
        if addition.strip() and fits(longer) and check(original, longer).faithful:
            text = longer
    return text


def safe_additions(original: str, rewritten: str, *, limit: int = 8) -> tuple[str, ...]:
    """Noun phrases of the rewrite about things that the original does not name, so that they cannot contradict it."""
    named = [mention.noun for mention in read(original).things]
    found: list[str] = []
    for mention in read(rewritten).things:
        phrase = _ARTICLES.sub("", mention.words)
        known = any(same_noun(noun, mention.noun) or same_noun(mention.noun, noun) for noun in named)
        if " " in phrase and not known and not mention.negated and (mention.count or 1) == 1 and phrase not in found:
            found.append(phrase)
    return tuple(found[:limit])


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

"""Choose the prompt to send on: the rewrite if it is faithful and fits, else the original with the rewrite's additions.

The user's own words are never lost, nor the syntax of image generators (weights, networks, flags, negatives) or quoted
text; an original that is itself over the token limit comes back whole, with a flag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..errors import InputError
from .faithfulness import FaithfulnessReport, check
from .faithfulness.additions import continuation, is_about_another, safe_additions
from .faithfulness.language import has_spaces, is_english, scripts
from .prompt_syntax import ParsedPrompt, parse_prompt
from .prompt_syntax.prompt_formats import FORMS, Form, formatted
from .upsampling import MAX_WORDS, MIN_WORDS

MAX_PROMPT_CHARS = 4000
"""Comparing two texts takes time proportional to the product of their lengths."""

TokenCounter = Callable[[str], int]
Mode = Literal["rewrite", "append"]
MODES = get_args(Mode)

_REST = "this is the original, with what of the rewrite can stand behind it"
FLAGS = {
    "fell_back": f"the rewrite broke the prompt: {_REST}",
    "kept_syntax": f"the rewrite has no place for the prompt's weights, parts or quotations: {_REST}",
    "other_subject": "the rewrite is about something else: nothing of it was added",
    "nothing_added": "nothing of the rewrite was added",
    "unchecked_language": "the check reads English alone: the original's words were kept as they are",
    "failed": "there was no usable rewrite: this is the original",
    "shortened": "cut to the token limit between clauses; everything of the original is in it",
    "over_limit": "the original alone is longer than the token limit; it was not cut",
    "word_count": f"not within {MIN_WORDS} to {MAX_WORDS} words",
}

_MOST_CUTS = 12
_CLAUSE_ENDS = re.compile(r"(?<=[.;!?,])\s+|(?<=[。；！？，、])")


@dataclass(frozen=True)
class Upsampled:
    """The chosen prompt and how it came about.

    prompt: what to send on. negative: what it denies (--no, "Negative prompt:"), once more apart; in the form a1111 it
    stands here alone.
    added: what it says beyond the original. changed: what the model lost or altered of the original
    ("attribute car: red -> blue"). dropped: syntax that the form asked for cannot say. flags: keys of `FLAGS`.
    error: why there was no rewrite.
    """

    original: str
    prompt: str
    negative: str = ""
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    error: str | None = None


def select_rewrite(
    original: str,
    rewritten: str | None,
    *,
    error: str | None = None,
    mode: Mode = "rewrite",
    count_tokens: TokenCounter | None = None,
    max_tokens: int | None = None,
) -> Upsampled:
    """Choose the rewrite, the original with its additions, or the original alone.

    rewritten: the parsed rewrite; None, with `error`, if the request or the parsing failed.
    mode: "append" keeps the original word for word and puts details behind it, before its flags.
    count_tokens, max_tokens: the limit in tokens of the image generator (77 less 2 for CLIP).
    Raises `InputError` for an empty or overlong original, for one of flags alone, and for half a limit.
    """
    fits, prompt = _limit(count_tokens, max_tokens), _checked(original, mode)
    text = parse_prompt(rewritten).text if rewritten and len(rewritten) <= 2 * MAX_PROMPT_CHARS else ""
    too_long = [] if fits(original) else ["over_limit"]
    if not text:
        error = error or ("the rewrite is far too long" if rewritten and rewritten.strip() else "the rewrite is empty")
        return _chosen(prompt, original, ["failed", *too_long], error=error)
    if _letters(text) == _letters(prompt.words):  # capitals and spaces alone are no change
        return _chosen(prompt, original, ["nothing_added", *too_long])
    if not is_english(prompt.words):
        made = _continued(prompt, text, lambda whole: fits(whole))
        nothing = [] if made else ["nothing_added"]
        return _chosen(prompt, made or original, ["unchecked_language", *nothing, *too_long])
    restored = prompt.restored(text)
    report = check(original, restored or prompt.replaced(text))
    if mode == "rewrite" and restored and report.faithful and (made := _shortened(prompt, text, fits)):
        odd = [] if MIN_WORDS <= len(text.split()) <= MAX_WORDS else ["word_count"]
        return _chosen(prompt, made, ["shortened"] if made != restored else odd)

    def is_kept(whole: str) -> bool:
        return fits(whole) and check(original, whole).faithful

    made = _continued(prompt, text, is_kept) or fallback(
        original, safe_additions(original, text), count_tokens=count_tokens, max_tokens=max_tokens
    )
    kept = report.faithful and restored is None
    why = [] if mode == "append" else ["kept_syntax"] if kept else ["fell_back"]
    if made == original:
        why.append("other_subject" if is_about_another(original, text) else "nothing_added")
    return _chosen(prompt, made, [*why, *too_long], changed=_changed(report))


def in_form(made: Upsampled, form: Form) -> Upsampled:
    """The prompt as one image generator reads it; `dropped` says what it cannot say. Raises `InputError`."""
    if form not in FORMS:
        raise InputError(f"the format is {form!r}; expected one of: {', '.join(FORMS)}")
    written = formatted(made.prompt, form)
    return replace(made, prompt=written.prompt, negative=written.negative, dropped=written.dropped)


def fallback(
    original: str,
    additions: Sequence[str],
    *,
    count_tokens: TokenCounter | None = None,
    max_tokens: int | None = None,
) -> str:
    """The original word for word, then the additions that fit the limit and break nothing of it, then its flags and
    negatives (`--ar 16:9`).
    """
    fits, text = _limit(count_tokens, max_tokens), original
    additions = [addition for given in additions if (addition := given.strip(" ,;"))]

    def suits(whole: str) -> bool:
        return fits(whole) and check(original, whole).faithful

    if suits(whole := parse_prompt(original).extended(", ".join(additions))):
        return whole  # most often; one check is quicker than eight
    for addition in additions:
        if suits(longer := parse_prompt(text).extended(addition)):
            text = longer
    return text


def _checked(original: str, mode: str) -> ParsedPrompt:
    if mode not in MODES:
        raise InputError(f"the mode is {mode!r}; expected one of: {', '.join(MODES)}")
    if not original.strip():
        raise InputError("the prompt is empty; expected a few words that describe a picture")
    if len(original) > MAX_PROMPT_CHARS:
        raise InputError(f"the prompt has {len(original)} characters; expected at most {MAX_PROMPT_CHARS}")
    prompt = parse_prompt(original)
    if not prompt.words.strip(" ,.;:|"):
        raise InputError("the prompt holds flags, negatives or networks alone; expected words that describe a picture")
    return prompt


def _chosen(
    prompt: ParsedPrompt, made: str, flags: Sequence[str], *, changed: tuple[str, ...] = (), error: str | None = None
) -> Upsampled:
    original, negative = prompt.original, ", ".join(prompt.negatives)
    added = () if made == original else _added(prompt, made)
    return Upsampled(original, made, negative, added, changed, flags=tuple(flags), error=error)


def _added(prompt: ParsedPrompt, made: str) -> tuple[str, ...]:
    if is_english(prompt.words):
        return tuple(f"{atom.kind} {atom.text}" for atom in check(prompt.original, made).added)
    return (continuation(prompt.text, parse_prompt(made).text).strip(" ,，、"),)


def _letters(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,。")


def _continued(prompt: ParsedPrompt, text: str, suits: Callable[[str], bool]) -> str | None:
    """The original, and what the rewrite says behind its very words: as much of it as suits. None for nothing."""
    behind = continuation(prompt.words, text)
    readable = is_english(prompt.words) or scripts(behind) <= scripts(prompt.words)
    if not re.search(r"\w", behind) or not readable:
        return None
    cut = behind[0] in ",;.，、。"
    joint = (", " if cut else " ") if has_spaces(prompt.words.strip(" ,.")[-1]) else "，" if cut else ""
    wholes = (prompt.extended(part.strip(" ,;.，、。"), joint) for part in _beginnings(behind))
    return next((whole for whole in wholes if whole != prompt.original and suits(whole)), None)


def _shortened(prompt: ParsedPrompt, rewritten: str, fits: Callable[[str], bool]) -> str | None:
    """The longest beginning of the rewrite that fits and still says all of the original; None where there is none."""
    wholes = (whole for text in _beginnings(rewritten) if (whole := prompt.restored(text)) and fits(whole))
    return next((whole for whole in wholes if check(prompt.original, whole).faithful), None)


def _beginnings(text: str) -> Iterator[str]:
    yield text
    ends = [match.start() for match in _CLAUSE_ENDS.finditer(text)]
    step = -(-len(ends) // _MOST_CUTS) or 1  # each is checked, which takes time with hundreds of words
    for end in ends[::-1][::step]:
        if text[:end].strip(" ,;."):
            yield text[:end].rstrip(" ,;")


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

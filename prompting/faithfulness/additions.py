"""What of a rewrite can stand behind the original without breaking it."""

from __future__ import annotations

import re

from ..prompt_syntax import parse_prompt
from . import lexicon
from .language import has_spaces, is_english
from .matching import same_attribute, same_noun
from .parsing import Thing, read

_ARTICLES = re.compile(r"^(?:(?:the|a|an|its|his|her|their|this|that|these|those|some)\s+)+")


def safe_additions(original: str, rewritten: str, *, limit: int = 8) -> tuple[str, ...]:
    """Noun phrases of the rewrite about light, setting, mood and style: nothing that the original names, denies or
    counts, no person or animal, and not the rewrite's main subject, so that they cannot contradict it.

    None of a rewrite about another subject or in another language.
    """
    if is_about_another(original, rewritten) or not is_english(rewritten):
        return ()
    named = {thing.noun for thing in read(original).things}
    things = read(parse_prompt(rewritten).text).things
    found = []
    for thing in things[1:] if things and not _knows(named, things[0].noun) else things:
        phrase = re.sub(r"\s+(?=[,.;])", "", _ARTICLES.sub("", thing.words)).strip(" ,;.")
        described = " " in phrase and not thing.negated and not thing.exact and not thing.more
        if described and not _knows(named | {"person", "animal"}, thing.noun) and not thing.acts:
            found.append(phrase)
    return tuple(dict.fromkeys(found))[:limit]


def is_about_another(original: str, rewritten: str) -> bool:
    """Whether the rewrite lacks the original's main subject, its first noun.

    A rewrite that begins with another of its nouns and has half of them is about the same.
    """
    wanted, found = _shown(original), _shown(rewritten)
    if not wanted:
        return False
    kept = [thing for thing in wanted if _is_shown(thing, found)]
    same_start = bool(found) and any(same_noun(thing.noun, found[0].noun) for thing in wanted)
    return wanted[0] not in kept and not (same_start and len(kept) >= len(wanted) / 2)


def continuation(words: str, rewritten: str) -> str:
    """What the rewrite says behind the original's very words (in any case), joint included; "" where it lacks them."""
    pattern = r"\s+".join(re.escape(word) for word in words.strip(" ,.").split())
    if not pattern:
        return ""
    first, last = (r"(?<![\w-])", r"(?![\w-])") if has_spaces(words.strip(" ,.")[-1]) else ("", "")
    match = re.search(rf"{first}{pattern}{last}", rewritten, re.IGNORECASE)
    return rewritten[match.end() :].rstrip() if match else ""


def _shown(text: str) -> list[Thing]:
    frames = lexicon.IGNORED | lexicon.FRAMES
    return [thing for thing in read(text).things if not thing.negated and thing.noun not in frames]


def _is_shown(thing: Thing, found: list[Thing]) -> bool:
    said = {own for other in found for own in other.attributes | other.acts}
    return _knows({other.noun for other in found}, thing.noun) or any(same_attribute(thing.noun, own) for own in said)


def _knows(named: set[str], noun: str) -> bool:
    return any(same_noun(name, noun) or same_noun(noun, name) for name in named)

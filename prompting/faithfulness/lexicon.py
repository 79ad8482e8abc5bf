"""The word lists of `lexicon.toml`, ready for use.

Lemmas, parts of speech and numbers come from lemminflect and text2num; only what those do not know is listed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

_LISTS = tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


def groups(text: str) -> dict[str, str]:
    """ "big large; small little" -> each word to the first of its group. Raises ValueError for a word in two groups."""
    table: dict[str, str] = {}
    for words in (group.split() for group in text.split(";")):
        if repeated := table.keys() & set(words):
            raise ValueError(f"{sorted(repeated)} stand in two groups, the second is that of {words[0]!r}")
        table |= dict.fromkeys(words, words[0])
    return table


def relations(text: str) -> dict[str, frozenset[str]]:
    """ "in: wear fill; on: ride" -> each word to those behind it."""
    parts = (part.split(":") for part in text.split(";"))
    return {name.strip(): frozenset(words.split()) for name, words in parts}


SETS = {name: frozenset(text.split()) for name, text in _LISTS["sets"].items()}
COLOURS, ADJECTIVES, NOUNS, VERB_GROUPS, PREPOSITIONS = (
    groups(_LISTS["groups"][name]) for name in ("COLOURS", "ADJECTIVES", "NOUNS", "VERB_GROUPS", "PREPOSITIONS")
)
IMPLIED_BY, INVERSE, HOLDS, KINDS = (
    relations(_LISTS["relations"][name]) for name in ("IMPLIED_BY", "INVERSE", "HOLDS", "KINDS")
)
SHADES = {"dark": "dark-shaded", "deep": "dark-shaded", "light": "light-shaded", "pale": "light-shaded"}
"""Of a colour, so that a dark blue car is no light blue one, and its shade is none of its other attributes."""
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
LEMMAS = {"people": "person", "leaves": "leaf", "woods": "woods", "glasses": "glasses", "sunglasses": "sunglasses"}
"""Singulars that the dictionary gives otherwise."""
BE, SINGLE, SEVERAL, MORE = SETS["BE"], SETS["SINGLE"], SETS["SEVERAL"], SETS["MORE"]
VIEWS, VAGUE, IGNORED, PRAISE = SETS["VIEWS"], SETS["VAGUE"], SETS["IGNORED"], SETS["PRAISE"]
MATERIALS, CLOTHES, POSTURE, FIRM = SETS["MATERIALS"], SETS["CLOTHES"], SETS["POSTURE"], SETS["FIRM"]
OPEN_PLACES, NO_COMPOUNDS, NOT_VERBS = SETS["OPEN_PLACES"], SETS["NO_COMPOUNDS"], SETS["NOT_VERBS"]
FUNCTION_WORDS, FOREIGN, FRAMES = SETS["FUNCTION_WORDS"], SETS["FOREIGN"], SETS["FRAMES"]
COLLECTIVES = "|".join(sorted(SETS["COLLECTIVES"]))
EXCLUSIVE = frozenset(tuple(pair.split("/")) for pair in SETS["EXCLUSIVE"])
VERBS = VERB_GROUPS.keys() | SETS["VERBS"]
KNOWN_ADJECTIVES = ADJECTIVES.keys() | COLOURS.keys() | SHADES.keys() | PRAISE | {w for pair in EXCLUSIVE for w in pair}
KNOWN_ADJECTIVES -= SETS["ADJECTIVE_NOUNS"]
_TAGS = {"adv": "ADVERBS", "conj": "CONJUNCTIONS", "aux": "AUXILIARIES", "pron": "PRONOUNS", "det": "DETERMINERS"}
CLOSED = {word: tag for tag, name in _TAGS.items() for word in SETS[name]} | dict.fromkeys(BE, "aux")
CLOSED |= dict.fromkeys(PREPOSITIONS.keys() - {"front", "left", "right"}, "prep")
CLOSED |= dict.fromkeys(SETS["NEGATORS"], "neg") | {"'s": "poss"}
"""Closed-class words to their tag."""
PHRASES = [word.replace("-", " ") for word in CLOSED if "-" in word] + ["ice cream", "low poly", "pixel art"]
"""Of several words; they are read as one word, with hyphens."""

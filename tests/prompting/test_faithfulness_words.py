from __future__ import annotations

import subprocess
import sys

import pytest
from textlens.prompting.faithfulness import lexicon
from textlens.prompting.faithfulness.parsing import read
from textlens.prompting.faithfulness.words import plain, singular, split_quotes, tag


def tags(text: str) -> str:
    return " ".join(word.tag for word in tag(text) if word.tag != "end")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat sits on a mat", "det noun verb prep det noun"),
        ("a woman in a red dress stands on a cliff", "det noun prep det adj noun verb prep det noun"),
        ("two dogs lounge beside a painting", "num noun verb prep det noun"),
        ("children painting a wall", "noun verb det noun"),
        ("a sleeping dragon", "det adj noun"),
        ("a husky bounds through snow", "det noun verb prep noun"),
    ],
)
def test_words_are_tagged_by_their_neighbours(text: str, expected: str) -> None:
    assert tags(text) == expected


@pytest.mark.parametrize(
    ("plural", "noun"),
    [("wolves", "wolf"), ("people", "person"), ("businessmen", "businessman"), ("corgis", "corgi"), ("bus", "bus")],
)
def test_singulars_of_known_and_unknown_nouns(plural: str, noun: str) -> None:
    assert singular(plural) == noun


@pytest.mark.parametrize(
    ("text", "number"),
    [("two hundred and five", 205), ("3,500", 3500), ("two dozen", 24), ("10 thousand", 10_000), ("twenty-five", 25)],
)
def test_numbers_in_words_become_digits(text: str, number: int) -> None:
    assert plain(f"{text} cats").split()[0] == str(number)


def test_quotations_are_exact_in_every_letter() -> None:
    text, quotes = split_quotes('a sign that says "Don\'t Walk" and a mug that says HELLO')
    assert quotes == ["Don't Walk", "HELLO"]
    assert "Walk" not in text


def test_links_name_who_does_what() -> None:
    links = read("a ship chased by a kraken, under a bridge a boat").links
    assert [(link.subjects[0].noun, link.relation, link.object.noun) for link in links] == [
        ("kraken", "chase", "ship"),
        ("boat", "under", "bridge"),
    ]


def test_a_word_in_two_groups_is_refused() -> None:
    assert lexicon.groups("big large; small") == {"big": "big", "large": "big", "small": "small"}
    with pytest.raises(ValueError, match="large"):
        lexicon.groups("big large; huge large")


def test_dictionaries_are_loaded_at_the_first_check_alone() -> None:
    code = "import sys, textlens.prompting.rewrites; print({'lemminflect', 'text_to_num', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

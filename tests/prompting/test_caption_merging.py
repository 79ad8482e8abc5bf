"""Several captions made into a short and a descriptive one: what is told, once, and what is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from textlens.errors import InputError
from textlens.prompting.caption_merging import descriptive_caption, short_caption
from textlens.prompting.caption_phrases import caption_parts, tidy, with_article
from textlens.prompting.faithfulness.content_words import caption_words

DOG = [
    "A dog runs on the beach .",
    "A brown dog runs on the beach near a city .",
    "a large dog running along the beach",
    "The dog with a red collar is running on the sand .",
    "A dog runs .",
]


def test_phrases_of_a_caption():
    parts = caption_parts("A man in a blue shirt is walking near two stairs while others watch .")
    assert (parts.subject, parts.head, parts.plural, parts.verb) == ("a man", "man", False, "walk")
    found = [(phrase.kind, phrase.text, phrase.nouns) for phrase in parts.phrases]
    assert found == [("place", "in a blue shirt", ("shirt",)), ("place", "near two stairs", ("stair",))]
    assert caption_parts("Two boys jump").plural
    assert caption_parts("A dog carries a stick in its mouth").phrases[0].text == "carrying a stick"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  a dog 's  owner , running . ", "a dog's owner, running"),
        ('A sign that says " free dinner " .', 'A sign that says "free dinner"'),
        ('A sign saying " free', "A sign saying  free".replace("  ", " ")),
        ("a man standing on a", "a man standing on"),
    ],
)
def test_tidy(raw, expected):
    assert tidy(raw) == expected


def test_articles():
    assert (
        with_article("a old man and an young uniformed boy on a hour")
        == "an old man and a young uniformed boy on a hour"
    )


def test_descriptive_tells_what_all_say_once():
    merged = descriptive_caption(DOG)
    words = caption_words(merged.text)
    assert {"dog", "run", "brown", "large", "collar", "city"} <= words.content
    assert len({"sand", "beach"} & words.nouns) == 1  # two names of one thing
    assert merged.text.lower().count("dog") == 1
    assert merged.text == "The large brown dog with a red collar is running on the sand, near a city."
    assert DOG[merged.base].startswith("The dog with a red collar")


def test_phrases_go_where_they_belong():
    captions = ["A boy jumps into a pool .", "A boy wearing a red hat jumps into a pool .", "A boy jumps off a board ."]
    text = descriptive_caption([captions[0], captions[0], captions[1]]).text
    assert text == "A boy wearing a red hat jumps into a pool."
    behind = descriptive_caption(
        [*["A boy is sitting on a bench ."] * 2, "The boy is sitting near a large tree ."]
    ).text
    assert behind == "A boy is sitting on a bench, near a large tree."


def test_contradictions_are_left_out():
    red, blue = "A man in a red shirt walks a dog .", "A man in a blue shirt walks a dog ."
    assert "red" in descriptive_caption([red, red, blue]).text
    tied = descriptive_caption([red, blue])
    assert "red" not in tied.text
    assert "blue" not in tied.text
    assert "shirt" in tied.text
    two, three = "Two dogs run in the snow .", "Three dogs run in the deep snow ."
    assert descriptive_caption([two, two, three]).text.startswith("Two dogs")
    both = "A black and white dog on a red and green rug ."
    assert descriptive_caption([both, "A dog on a rug ."]).text == "A black and white dog on a red and green rug."


def test_another_person_does_not_lend_what_it_wears():
    text = descriptive_caption(
        ["A girl sits on a bench .", "A girl sits on a bench beside a man in a black hat ."] * 2
    ).text
    assert "girl in a black hat" not in text
    young = descriptive_caption(
        ["A man sits on the sidewalk by a tree .", "Little boy sitting on the sidewalk ."] * 2
    ).text
    assert "little man" not in young.lower()


def test_a_limit_on_words():
    long = [
        *DOG,
        "A dog runs on the beach in front of a tall building .",
        "A dog runs on the beach under a cloudy sky .",
    ]
    assert len(descriptive_caption(long, max_words=40).text.split()) > len(
        descriptive_caption(long, max_words=13).text.split()
    )
    assert len(descriptive_caption(long, max_words=13).text.split()) <= 16  # a base may be longer, adjectives are added


def test_short_is_the_shortest_that_others_confirm():
    assert short_caption([*DOG[:4], "An aeroplane ."]).text == "A dog runs on the beach."
    assert short_caption(["Brown dog on beach .", *DOG[1:4]]).text == "A brown dog on beach."
    assert short_caption(DOG).support == 1
    wrong = short_caption(["A cat sleeps .", "Two trains pass a station ."])
    assert wrong.support == 0


def test_support_says_how_much_is_confirmed():
    assert descriptive_caption(["A red kite .", "A boy eats an apple ."]).support == 0
    assert descriptive_caption(["A boy eats an apple .", "The child is eating an apple ."]).support == 1


@pytest.mark.parametrize("captions", [[], ["", " . "], ["dog"]])
def test_nothing_to_merge(captions):
    with pytest.raises(InputError, match="two words"):
        descriptive_caption(captions)
    with pytest.raises(InputError, match="two words"):
        short_caption(captions)


@pytest.mark.parametrize(
    "text",
    [
        "!!! ???",
        "狗 在 跑",
        "@ # $ %",
        "of of of of",
        "a" * 500 + " b",
        "\x00 \x01",
        "dogs, dogs, dogs",
        "Two dogs, one red and one of them blue",
    ],
)
def test_odd_captions_are_no_error(text):
    for captions in ([text, "A dog runs ."], [text, text]):
        try:
            assert descriptive_caption(captions).text
            assert short_caption(captions).text
        except InputError:
            assert len(tidy(text).split()) < 2


def test_the_order_of_sets_decides_nothing():
    code = f"from textlens.prompting.caption_merging import *; print(descriptive_caption({DOG}), short_caption({DOG}))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert "large brown dog" in runs[0]
    assert len(set(runs)) == 1

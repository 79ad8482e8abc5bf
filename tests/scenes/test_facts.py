"""Facts: parsing is the inverse of every true caption, reads free wording, and the floor is what one text can reach."""

import itertools
import random
import subprocess
import sys

import pytest
from textlens.errors import InputError
from textlens.scenes.captions import CLEAN_STYLES, STYLES, captions
from textlens.scenes.evals.tables import facts_table
from textlens.scenes.facts import (
    KINDS,
    Facts,
    constant_text_floor,
    facts_of,
    parse_facts,
    score_facts,
    score_texts,
)
from textlens.scenes.scene import scene_at

SOME = 300
SCENES = [scene_at(index, "test", seed=11) for index in range(SOME)]
# What each style always states; the others may leave it out, and none but `web` may state anything that is wrong.
COMPLETE = {
    "short": ("noun", "colour", "pair"),
    "descriptive": KINDS,
    "spoken": ("noun", "colour", "place", "pair", "triple"),
    "listed": ("noun", "colour", "place", "background", "pair", "triple"),
    "located": KINDS,
    "loose": ("background",),
}


@pytest.mark.parametrize("style", CLEAN_STYLES)
def test_captions_are_true_and_as_complete_as_their_style(style):
    for index, scene in enumerate(SCENES):
        text = captions(scene, style, random.Random(index))
        stated, true = parse_facts(text), facts_of(scene)
        unbound = KINDS[:5] if style == "loose" else KINDS  # scattered words bind to the wrong noun at times
        for kind in unbound:
            assert getattr(stated, kind) <= getattr(true, kind), (kind, text)
        for kind in COMPLETE[style]:
            assert getattr(stated, kind) == getattr(true, kind), (kind, text)


def test_web_captions_are_wrong_or_silent_at_times():
    scores = score_texts([captions(scene, "web", random.Random(i)) for i, scene in enumerate(SCENES)], SCENES)
    assert scores["colour"].precision < 0.95
    assert scores["noun"].recall < 0.7


def test_captions_are_pure_and_styles_vary():
    for style in STYLES:
        assert captions(SCENES[0], style, random.Random(4)) == captions(SCENES[0], style, random.Random(4))
    assert len({captions(SCENES[0], "spoken", random.Random(seed)) for seed in range(20)}) > 10


def test_unknown_style_lists_the_valid_ones():
    with pytest.raises(InputError, match="descriptive"):
        captions(SCENES[0], "poem", random.Random(0))


STAR, CAT = ("star", "red", "top left"), ("cat", "blue", "center")


@pytest.mark.parametrize(
    ("text", "triples"),
    [
        ("a red star in the top left", {STAR}),
        ("Upper-left: one big RED star; middle: a tiny blue cat.", {STAR, CAT}),
        ("red star top left blue cat middle", {STAR, CAT}),
        ("top left red star center blue cat", {STAR, CAT}),
        ("the star is red and sits at the left top, the violet K is in the centre", {STAR, ("k", "purple", "center")}),
        (
            "two pink mice, one in the top right and one in the bottom left",
            {("mouse", "pink", "top right"), ("mouse", "pink", "bottom left")},
        ),
        ("2 green stars in the center", {("star", "green", "center")}),
        ("green number 2 in the center", {("2", "green", "center")}),
        ("a star in the center", set()),
        ("red red red", set()),
    ],
)
def test_bound_facts_in_free_wording(text, triples):
    assert parse_facts(text).triple == triples


def test_words_in_any_order_keep_their_unbound_facts():
    words = ("star", "red", "large", "center", "mint")
    for order in itertools.permutations(words):
        stated = parse_facts(" ".join(order))
        assert (stated.noun, stated.colour, stated.place) == ({"star"}, {"red"}, {"center"})
        assert stated.triple == {("star", "red", "center")}
        assert stated.background == {"mint"}


def test_article_and_pronoun_are_no_letters():
    assert parse_facts("I see it's a photo of a i o").noun == set()


def test_endless_text_is_parsed():
    assert parse_facts("red star top left " * 3000).triple >= {("star", "red", "top left")}
    assert parse_facts("") == Facts()


def test_scores_are_micro_averages():
    stated = [Facts(noun=frozenset("bcd")), Facts(noun=frozenset("b"))]
    true = [Facts(noun=frozenset("bc")), Facts(noun=frozenset("k"))]
    score = score_facts(stated, true)["noun"]
    assert (score.precision, score.recall) == (2 / 4, 2 / 3)
    assert score.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert score_facts(stated, true)["colour"].f1 == 0


def test_floor_is_the_best_of_all_constant_sets():
    true = [Facts(colour=frozenset(colours)) for colours in ("ab", "ac", "a", "cd", "b")]
    every = itertools.chain.from_iterable(itertools.combinations("abcd", size) for size in range(5))
    best = max(score_facts([Facts(colour=frozenset(fixed))] * 5, true)["colour"].f1 for fixed in every)
    assert constant_text_floor(true)["colour"].f1 == best


def test_naming_everything_has_recall_but_no_f1():
    floor = constant_text_floor([facts_of(scene) for scene in SCENES])
    assert floor["background"].recall > 0.8
    assert floor["background"].f1 < 0.3
    assert "| floor |" in facts_table({"floor": floor})


def test_facts_need_no_torch():
    code = "import sys; from textlens.scenes import *; assert parse_facts; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

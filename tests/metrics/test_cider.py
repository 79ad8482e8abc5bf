"""CIDEr-D with its own document frequencies, against pycocoevalcap's, and by hand."""

from __future__ import annotations

import math

import pytest
from pycocoevalcap.cider.cider_scorer import CiderScorer
from textlens.metrics.cider import CiderD

REFERENCES = [
    ["a dog runs over the grass", "the brown dog is running", "a dog a dog"],
    ["two men play football", "men in red and blue play a game on the grass"],
    ["a child climbs the stairs", "a child in a pink dress", "a girl going into a wooden building"],
]
WRITTEN = ["a brown dog runs over a field of grass", "two men play a game on the grass", "a man"]


def split(texts: list[str]) -> list[list[str]]:
    return [text.split() for text in texts]


def test_scores_are_those_of_pycocoevalcap():
    scorer = CiderScorer(n=4, sigma=6.0)
    for written, references in zip(WRITTEN, REFERENCES, strict=True):
        scorer += (written, references)
    _, expected = scorer.compute_score()
    cider = CiderD(split(texts) for texts in REFERENCES)
    found = [cider.scores([w.split()], split(r))[0] for w, r in zip(WRITTEN, REFERENCES, strict=True)]
    assert found == pytest.approx(expected.tolist())
    assert found[0] > found[2] == pytest.approx(0.0, abs=0.2)


def test_frequencies_stay_what_they_were_whatever_is_scored():
    cider = CiderD(split(texts) for texts in REFERENCES)
    alone = cider.scores([WRITTEN[0].split()], split(REFERENCES[0]))
    assert cider.scores(split(WRITTEN), split(REFERENCES[0]))[0] == alone[0]
    assert alone[0] > cider.scores([WRITTEN[0].split()], split(REFERENCES[1]))[0]


def test_a_perfect_caption_by_hand():
    # Each n-gram occurs in one image of two, so all weigh log 2 and every cosine is 1: 10, of which longer n-grams than
    # the text has give nothing.
    cider = CiderD([[["red", "car"]], [["blue", "boat"]]])
    assert cider.scores([["red", "car"]], [["red", "car"]]) == pytest.approx([10 * 2 / 4])
    # One word more: cosine 1 / sqrt 2 of words and of pairs, and the penalty on length.
    longer = cider.scores([["red", "car", "new"]], [["red", "car"]])
    single, pair = 2 / math.sqrt(2 * 3), 1 / math.sqrt(1 * 2)
    assert longer == pytest.approx([10 * (single + pair) / 4 * math.exp(-1 / 72)])


def test_what_every_image_says_is_worth_nothing():
    cider = CiderD([[["a", "car"]], [["a", "boat"]]])
    assert cider.scores([["a"], []], [["a", "car"]]) == [0.0, 0.0]

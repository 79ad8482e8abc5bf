import math

import pytest
import torch
from textlens.metrics.bm25 import bm25

DOCUMENTS = [["a", "dog", "runs"], ["a", "cat", "sits"], ["a", "dog", "and", "a", "cat"]]


def test_scores_by_hand():
    score = bm25([["dog"]], DOCUMENTS)[0]
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean = 11 / 3
    expected = [idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * length / mean)) for length in (3, 5)]
    assert score.tolist() == pytest.approx([expected[0], 0, expected[1]])


def test_a_rare_word_counts_more_than_a_common_one_and_repetition_for_nothing():
    common, rare, twice, unknown = bm25([["a"], ["runs"], ["runs", "runs"], ["whale"]], DOCUMENTS)
    assert rare[0] > common[0] > 0
    assert torch.equal(twice, rare)
    assert not unknown.any()

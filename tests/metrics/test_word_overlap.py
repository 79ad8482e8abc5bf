import pytest
from textlens.metrics.word_overlap import Overlap, overlap


def test_overlap_is_micro_averaged():
    made = overlap([{"dog", "ball"}, {"cat"}], [{"dog", "grass", "park"}, {"dog"}])
    assert (made.precision, made.recall, made.f1) == pytest.approx((100 / 3, 25, 200 / 7))


def test_blank_texts_have_nothing():
    assert overlap([set()], [{"dog"}]) == Overlap(0.0, 0.0, 0.0)

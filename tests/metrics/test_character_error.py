from __future__ import annotations

import pytest
from textlens.metrics.character_error import character_error_rate, edit_distance


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "same", 0)],
)
def test_edit_distance(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_the_rate_is_over_all_characters() -> None:
    assert character_error_rate(["abcdefgh", "xy"], ["abcdefgh", "x"]) == 0.1
    assert character_error_rate(["abc", "de"], ["", ""]) == 1.0

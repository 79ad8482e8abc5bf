import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from textlens.errors import InputError
from textlens.metrics.vqa_accuracy import (
    answers_from_counts,
    normalize_answer,
    results_format,
    vqa_accuracy,
    vqa_accuracy_from_scores,
)

# Each worked out by hand from the rules of the original, vqaEval.py.
NORMALIZED = [
    ("", ""),
    ("Yes", "yes"),
    ("  on   the  table ", "on table"),
    ("the", ""),
    ("The End", "end"),
    ("a an the", ""),
    ("theme", "theme"),
    ("a1", "a1"),
    ("A.", ""),  # the stop goes before the article does
    ("two", "2"),
    ("Ten dogs", "10 dogs"),
    ("eleven", "eleven"),
    ("twenty-two", "twenty 2"),
    ("none", "0"),
    ("no one", "no 1"),
    ("zero.", "0"),
    # full stops
    ("yes.", "yes"),
    ("u.s.", "us"),
    ("U.S.A", "usa"),
    ("3.5", "3.5"),
    (".5", ".5"),
    ("no.5", "no.5"),
    ("3.", "3"),  # the misspelt lookbehind never keeps a stop
    ("3.a", "3a"),
    ("...", ""),
    ("." * 33, "."),  # 32 at most
    # punctuation
    ("t-shirt", "t shirt"),
    ("black - white", "black white"),
    ("t-shirt - red", "tshirt red"),  # a hyphen beside a space: all hyphens are deleted
    ("red, white", "red white"),
    ("red,white", "red white"),
    ("red,white, blue", "redwhite blue"),
    ("red/white, blue", "red white blue"),  # each mark by itself
    ("x-/y-z", "x y z"),  # spaces of the text itself count, not those that marks before became
    ("x/-y-z", "x y z"),
    ("1,000", "1000"),
    ("$1,000", "$1000"),
    ("1,000-2,000", "10002000"),  # a number with comma: all marks are deleted
    ("1, 000", "1 000"),
    ("yes!", "yes"),
    ("-yes", "yes"),
    ("what?!no", "what no"),
    ("(left)", "left"),
    ("{[<a>]}", ""),
    ("x_y@z=1+2", "x y z 1 2"),
    ("a\\b`c", "b c"),  # the "a" left over is an article
    ('"stop"', "stop"),
    ("10:30", "10:30"),  # neither colon nor apostrophe is a mark
    ("dog's", "dog's"),
    ("50%", "50%"),
    ("red & white", "red & white"),
    ("well\u2014known", "well\u2014known"),
    # white space
    ("red\nwhite\tblue", "red white blue"),
    ("\nyes\t", "yes"),
    ("t-shirt\n-red", "tshirt red"),  # a new line counts as a space
    ("t-shirt-\n", "t shirt"),  # stripped first, so no hyphen is beside a space
    ("a-\rb", "b"),  # \r is no space for the marks, but splits words
    # contractions
    ("dont", "don't"),
    ("don't", "don't"),
    ("DONT", "don't"),
    ("cant.", "can't"),
    ("oclock", "o'clock"),
    ("couldntve", "couldntve"),  # one apostrophe is put back, not two
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("yall'd've", "y'all'd've"),
    ("'ows'at", "'ow's'at"),
    ("somebody'd", "somebodyd"),  # the wrong way round in the original
    ("somebodyd", "somebodyd"),
    ("im", "im"),  # written "Im" in the original, after lower case: never found
    ("ive", "ive"),
    ("shes", "shes"),
    ("lets", "lets"),
    ("hes", "he's"),
    ("wont", "won't"),
    ("its", "its"),
    ("don\u2019t", "don\u2019t"),
    # beyond ASCII
    ("CAF\u00c9", "caf\u00e9"),
    ("\u0661,\u0662", "\u0661 \u0662"),  # digits are 0 to 9
    ("\u0661.\u0662", "\u0661\u0662"),
]


@pytest.mark.parametrize(("text", "expected"), NORMALIZED)
def test_normalized_answer(text, expected):
    assert normalize_answer(text) == expected


SCORED = [
    # all annotators agree: the strings as they are
    ("yes", {"yes": 10}, 1.0),
    ("Yes", {"yes": 10}, 0.0),
    ("yes.", {"yes": 10}, 0.0),
    ("yes.", {"yes.": 10}, 1.0),
    ("the dog", {"dog": 10}, 0.0),
    ("2", {"two": 10}, 0.0),
    ("dont", {"don't": 10}, 0.0),
    (" yes\n", {"yes": 10}, 1.0),
    ("t\tshirt", {"t shirt": 10}, 1.0),
    ("yes", {"yes": 5, "yes ": 5}, 1.0),  # stripped before they are compared
    ("Yes", {"yes": 5, "yes ": 5}, 0.0),
    # one disagrees: normalised
    ("Yes.", {"yes": 9, "no": 1}, 1.0),
    ("the dog", {"dog": 9, "cat": 1}, 1.0),
    ("two", {"2": 9, "3": 1}, 1.0),
    ("dont", {"don't": 4, "no": 6}, 1.0),
    ("YES", {"yes": 5, "Yes": 5}, 1.0),
    ("T-Shirt", {"t shirt": 3, "shirt": 7}, 0.9),
    ("tshirt", {"t shirt": 3, "shirt": 7}, 0.0),
    ("no", {"yes": 9, "no": 1}, 0.3),
    ("no", {"yes": 8, "no": 2}, 0.6),
    ("two", {"2": 1, "two": 1, "Two.": 1, "3": 7}, 0.9),
    ("2", {"2": 1, "two": 1, "Two.": 1, "the 2": 1, "3": 6}, 1.0),
    ("", {"the": 4, "cat": 6}, 1.0),
    ("", {"dog": 4, "cat": 6}, 0.0),
    # other numbers of annotators
    ("The dog.", {"dog": 1}, 1.0),
    ("cat", {"dog": 1}, 0.0),
    ("dog", {"dog": 2}, 1 / 3),
    ("dog", {"dog": 1, "cat": 1}, 1 / 6),
    ("dog", {"dog": 3}, 2 / 3),
    ("dog", {"dog": 4}, 1.0),
    ("dog", {"dog": 3, "cat": 2}, 4 / 5),  # (2/3 + 2/3 + 2/3 + 1 + 1) / 5
    ("dog", {"dog": 3, "cat": 17}, 19 / 20),
]


@pytest.mark.parametrize(("prediction", "counts", "expected"), SCORED)
def test_accuracy(prediction, counts, expected):
    assert vqa_accuracy(prediction, answers_from_counts(counts)) == expected


FROM_SCORES = [
    ("racing", {"racing": 1, "motocross": 0.667, "riding": 0.667}, 1.0),
    ("Riding.", {"racing": 1, "motocross": 0.667, "riding": 0.667}, 0.6),
    ("walking", {"racing": 1, "motocross": 0.667, "riding": 0.667}, 0.0),
    ("a", {"x": 0.333, "y": 1}, 0.0),
    ("x", {"x": 0.333, "y": 1}, 0.3),
    ("x", {"x": 0.33, "y": 1}, 0.3),
    ("x", {"x": 2 / 3, "y": 1}, 0.6),
    ("x", {"x": 0.3, "y": 1}, 0.3),
    ("x", {"x": 0.6, "y": 1}, 0.6),
    ("x", {"x": 0.9, "y": 1}, 0.9),
    ("x", {"x": 0, "y": 1}, 0.0),
    ("2", {"two": 0.3, "2": 0.6, "3": 1}, 0.9),  # one answer and two
    ("2", {"two": 0.667, "2": 0.667, "3": 0.667}, 1.0),  # two and two
    ("yes", {"yes": 1}, 1.0),
    ("Yes", {"yes": 1}, 1.0),  # whether all agree is not known
    ("Yes", {"yes": 0.667}, 0.6),  # the others gave answers that are not listed
]


@pytest.mark.parametrize(("prediction", "scores", "expected"), FROM_SCORES)
def test_accuracy_from_scores(prediction, scores, expected):
    assert vqa_accuracy_from_scores(prediction, scores) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vqa_accuracy("yes", []), "no answers"),
        (lambda: vqa_accuracy_from_scores("yes", {}), "no scores"),
        (lambda: vqa_accuracy_from_scores("yes", {"yes": 0.5}), "'yes' is 0.5"),
        (lambda: vqa_accuracy_from_scores("yes", {"yes": 10}), "'yes' is 10"),
        (lambda: vqa_accuracy_from_scores("yes", {"yes": float("nan")}), "nan"),
        (lambda: answers_from_counts({"yes": -1}), "negative"),
    ],
)
def test_bad_input_is_a_clear_error(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_answers_from_counts():
    assert answers_from_counts({"yes": 2, "maybe": 0, "no": 1}) == ["yes", "yes", "no"]


def test_results_format():
    results = results_format({1: "yes", 2: "2"})
    assert json.loads(json.dumps(results)) == [{"question_id": 1, "answer": "yes"}, {"question_id": 2, "answer": "2"}]
    assert results_format({"q7": "a dog"}) == [{"question_id": "q7", "answer": "a dog"}]


PIECES = [
    "yes",
    "No",
    "two",
    "2",
    "the",
    "a",
    "dont",
    "don't",
    "1,000",
    "3.5",
    " ",
    "\n",
    "\t",
    ".",
    ",",
    "-",
    "'",
    ":",
]
texts = st.lists(st.sampled_from(PIECES), max_size=5).map("".join) | st.text(max_size=8)


@given(texts, st.lists(texts, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_texts_give_a_score_that_ignores_the_order(prediction: str, answers: list[str], order: random.Random):
    score = vqa_accuracy(prediction, answers)
    shuffled = list(answers)
    order.shuffle(shuffled)
    assert 0 <= score <= 1
    assert vqa_accuracy(prediction, shuffled) == score


@given(st.integers(0, 9), st.permutations(range(10)))
def test_number_of_matches_gives_the_published_levels(matches: int, order: list[int]):
    answers = ["dog"] * matches + ["cat"] * (10 - matches)
    score = vqa_accuracy("The dog", [answers[place] for place in order])
    assert score == (0.0, 0.3, 0.6, 0.9, 1.0)[min(4, matches)]


@given(texts, st.lists(texts, min_size=10, max_size=10))
def test_accuracy_is_the_mean_over_annotators_left_out(prediction: str, answers: list[str]):
    """The definition, annotator by annotator; the last answer is made another, so that all are normalised."""
    answers = [*answers[:9], "something else"]
    wanted = normalize_answer(prediction)
    others = [[normalize_answer(other) for other in answers[:i] + answers[i + 1 :]] for i in range(10)]
    mean = sum(min(1, rest.count(wanted) / 3) for rest in others) / 10
    assert vqa_accuracy(prediction, answers) == pytest.approx(mean)


@given(texts, st.lists(st.sampled_from(["yes", "Yes.", "no", "2", "two"]), min_size=10, max_size=10))
@example("yes.", ["yes"] * 10)
def test_scores_and_counts_agree(prediction: str, answers: list[str]):
    """But where all annotators agree, which scores cannot tell: answers are normalised there, and by counts are not."""
    counts = {answer: answers.count(answer) for answer in answers}
    scores = {answer: (0.0, 0.3, 0.6, 0.9, 1.0)[min(4, count)] for answer, count in counts.items()}
    for text in (prediction, *counts):
        by_counts = vqa_accuracy(text, answers_from_counts(counts))
        if len(counts) == 1:
            by_counts = float(normalize_answer(text) == normalize_answer(answers[0]))
        assert vqa_accuracy_from_scores(text, scores) == by_counts

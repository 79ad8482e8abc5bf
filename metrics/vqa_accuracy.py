"""The official VQA accuracy of short answers (Antol et al. 2015, arXiv 1505.00468), with its normalisation.

The protocol, its word lists included, is that of `PythonEvaluationTools/vqaEvaluation/vqaEval.py` in
github.com/GT-Vision-Lab/VQA (BSD-2-Clause, commit a013f00 of 2021), which VQAv2, OK-VQA, TextVQA and VizWiz report. Its
oddities are kept, so that figures compare with published ones; each is named where it stands below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..errors import InputError

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # neither apostrophe nor colon; full stops have a rule of their own
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d", re.ASCII)
# The original writes `(?!<=\d)` before the stop, a misspelt lookbehind that never fails, so "3." loses its stop too.
_FULL_STOP = re.compile(r"\.(?!\d)", re.ASCII)
_MAX_FULL_STOPS = 32  # the original passes re.UNICODE, which is 32, where `sub` takes the count

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(value) for value, word in enumerate(_WORDS)}
_ARTICLES = frozenset(("a", "an", "the"))

_ENDINGS = {  # the words that the protocol knows before each ending; "she's", "I'm" and others are not among them
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who you y'all",
    "'ll": "how it somebody someone something they what who why you y'all",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
}


def _contractions() -> Iterator[tuple[str, str]]:
    """(misspelt, corrected): each contraction with exactly one of its apostrophes left out."""
    words = [stem + ending for ending, stems in _ENDINGS.items() for stem in stems.split()]
    for word in [*words, "ma'am", "o'clock", "'ow's'at", "'twas", "y'all"]:
        for apostrophe in re.finditer("'", word):
            yield word[: apostrophe.start()] + word[apostrophe.end() :], word
    yield "somebody'd", "somebodyd"  # the wrong way round in the original


_CONTRACTIONS = dict(_contractions())

_ACCURACIES = (0.0, 0.3, 0.6, 0.9, 1.0)  # of an answer that 0, 1, 2, 3, 4 or more of ten annotators gave
# Published soft scores and the number of annotators they stand for. Thirds are min(1, annotators / 3), without leaving
# one out; 1 is read as four or more, and so stays 1.
_SCORES = ((0.0, 0), (0.3, 1), (1 / 3, 1), (0.6, 2), (2 / 3, 2), (0.9, 3), (1.0, 4))
_SCORE_TOLERANCE = 0.005  # 0.33, 0.333, 0.67 and 0.667 are thirds


def normalize_answer(text: str) -> str:
    """`text` as the protocol compares it: without punctuation and articles, lower case, number words up to ten as
    digits, missing apostrophes put back. "None" becomes "0"; "The" becomes "".
    """
    words = (_NUMBERS.get(word, word) for word in _strip_punctuation(_clean(text)).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Official accuracy of `prediction`, 0 to 1, against the `answers` of all annotators of the question, usually ten.

    Each annotator in turn is left out: min(1, matches among the others / 3), averaged. Of ten annotators, 1, 2, 3, 4 or
    more matches give 0.3, 0.6, 0.9, 1.0, exactly. Where all annotators agree, the strings are compared as they are,
    case and punctuation included; otherwise after `normalize_answer`.

    Any number of answers is scored by the same rule; two can give 1/3 at most, three 2/3. A single answer cannot be
    left out: 1 if it equals the prediction after `normalize_answer`, else 0. No answers: `InputError`.
    """
    if not answers:
        raise InputError("got no answers to compare with; expected those of the annotators, usually ten")
    if len(answers) == 1:
        return float(normalize_answer(prediction) == normalize_answer(answers[0]))
    counts = Counter(map(_clean, answers))
    matches = _matches(prediction, counts, unanimous=len(counts) == 1)
    others = len(answers) - matches
    thirds = matches * min(3, matches - 1) + others * min(3, matches)  # left out: a matching annotator, another
    return thirds / (3 * len(answers))


def answers_from_counts(counts: Mapping[str, int]) -> list[str]:
    """The list of answers that `vqa_accuracy` takes, from the number of annotators who gave each answer."""
    if wrong := {answer: count for answer, count in counts.items() if count < 0}:
        raise InputError(f"numbers of annotators are negative: {wrong}; expected 0 or more")
    return [answer for answer, count in counts.items() for _ in range(count)]


def vqa_accuracy_from_scores(prediction: str, scores: Mapping[str, float]) -> float:
    """Official accuracy of `prediction`, 0 to 1, from data that gives a soft score for each answer of ten annotators.

    scores: 0, 0.3, 0.6, 0.9 or 1, or rounded thirds, as OK-VQA has them in PICa: 1/3 is read as 0.3 and 2/3 as 0.6;
    1 is kept, also where the thirds hide an official 0.9. Others, or none at all: `InputError`.

    Whether all annotators agreed is not known (answers given once are left out of such data), so both sides are always
    normalised, which the official script does where they differ.
    Answers that normalise to the same are counted together, as official: 0.3 and 0.6 make 0.9.
    """
    if not scores:
        raise InputError("got no scores to compare with; expected a score for each answer of the annotators")
    counts: Counter[str] = Counter()
    for answer, score in scores.items():
        counts[_clean(answer)] += _annotators(answer, score)
    matches = _matches(prediction, counts, unanimous=False)
    return _ACCURACIES[min(4, matches)]


def results_format(answers: Mapping[int | str, str]) -> list[dict[str, int | str]]:
    """Question id -> answer, as the list that the official evaluation and its server read from a JSON file."""
    return [{"question_id": question, "answer": answer} for question, answer in answers.items()]


def _matches(prediction: str, counts: Mapping[str, int], *, unanimous: bool) -> int:
    """How many annotators answered `prediction`; `counts` has cleaned answers."""
    if unanimous:
        return counts.get(_clean(prediction), 0)
    wanted = normalize_answer(prediction)
    return sum(count for answer, count in counts.items() if normalize_answer(answer) == wanted)


def _annotators(answer: str, score: float) -> int:
    for level, annotators in _SCORES:
        if abs(score - level) <= _SCORE_TOLERANCE:
            return annotators
    raise InputError(f"the score of {answer!r} is {score}; expected 0, 0.3, 0.6, 0.9, 1 or a third, rounded or not")


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _strip_punctuation(text: str) -> str:
    """Marks become spaces, but a mark is deleted if it stands beside a space anywhere in the text, and every mark is if
    the text has a number such as "1,000"; then full stops that no digit follows are deleted.
    """
    has_number = _DIGIT_COMMA_DIGIT.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_space or has_number else " ")
    return _FULL_STOP.sub("", result, count=_MAX_FULL_STOPS)

"""VQA accuracy as the official script computes it, oddities included (Antol et al. 2015, arXiv 1505.00468;
github.com/GT-Vision-Lab/VQA, vqaEval.py of the second version of the data)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ..errors import InputError

_PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')  # neither apostrophe nor colon
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0", **{word: str(i) for i, word in enumerate(_WORDS)}}
_ARTICLES = frozenset(("a", "an", "the"))
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")  # meant as a look-behind; read as written, it drops "." before no digit
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIODS_DROPPED = int(re.UNICODE)  # 32: the script passes this flag where `sub` takes a count
# Lower-cased words never match the keys with capitals; the protocol has them all the same.
_CONTRACTIONS = dict(
    pair.split(" ")
    for pair in """\
aint ain't|arent aren't|cant can't|couldve could've|couldnt couldn't|couldn'tve couldn't've|
couldnt've couldn't've|didnt didn't|doesnt doesn't|dont don't|hadnt hadn't|hadnt've hadn't've|
hadn'tve hadn't've|hasnt hasn't|havent haven't|hed he'd|hed've he'd've|he'dve he'd've|hes he's|howd how'd|
howll how'll|hows how's|Id've I'd've|I'dve I'd've|Im I'm|Ive I've|isnt isn't|itd it'd|itd've it'd've|
it'dve it'd've|itll it'll|let's let's|maam ma'am|mightnt mightn't|mightnt've mightn't've|
mightn'tve mightn't've|mightve might've|mustnt mustn't|mustve must've|neednt needn't|notve not've|
oclock o'clock|oughtnt oughtn't|ow's'at 'ow's'at|'ows'at 'ow's'at|'ow'sat 'ow's'at|shant shan't|
shed've she'd've|she'dve she'd've|she's she's|shouldve should've|shouldnt shouldn't|shouldnt've shouldn't've|
shouldn'tve shouldn't've|somebody'd somebodyd|somebodyd've somebody'd've|somebody'dve somebody'd've|
somebodyll somebody'll|somebodys somebody's|someoned someone'd|someoned've someone'd've|
someone'dve someone'd've|someonell someone'll|someones someone's|somethingd something'd|
somethingd've something'd've|something'dve something'd've|somethingll something'll|thats that's|thered there'd|
thered've there'd've|there'dve there'd've|therere there're|theres there's|theyd they'd|theyd've they'd've|
they'dve they'd've|theyll they'll|theyre they're|theyve they've|twas 'twas|wasnt wasn't|wed've we'd've|
we'dve we'd've|weve we've|werent weren't|whatll what'll|whatre what're|whats what's|whatve what've|
whens when's|whered where'd|wheres where's|whereve where've|whod who'd|whod've who'd've|who'dve who'd've|
wholl who'll|whos who's|whove who've|whyll why'll|whyre why're|whys why's|wont won't|wouldve would've|
wouldnt wouldn't|wouldnt've wouldn't've|wouldn'tve wouldn't've|yall y'all|yall'll y'all'll|y'allll y'all'll|
yall'd've y'all'd've|y'alld've y'all'd've|y'all'dve y'all'd've|youd you'd|youd've you'd've|you'dve you'd've|
youll you'll|youre you're|youve you've""".replace("\n", "").split("|")
)
# Scores of data that rounds 2/3: two matches of ten are 0.6 by the official average over nine.
_ROUNDED = {0.667: 0.6, 0.67: 0.6, 0.333: 0.3, 0.33: 0.3}


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """min(1, matches / 3), averaged over leaving out each of the answers in turn: with ten answers 0, 0.3, 0.6, 0.9, 1.

    answers: of all annotators. With fewer than ten the rule is the same, so that two equal answers give 1/3; a single
    one, which cannot be left out, is compared exactly. Answers are normalised if they differ from one another, the
    prediction too; an answer that all agree on is compared as it stands. Raises `InputError` for no answers.
    """
    if not answers:
        raise InputError("no answers to compare with; expected those of ten annotators")
    written = " ".join(re.split(r"[\n\t]", prediction)).strip()
    if len(answers) == 1:
        return float(normalize_answer(written) == normalize_answer(answers[0]))
    true = [*answers]
    if len(set(true)) > 1:
        written, true = normalize_answer(written), [normalize_answer(one) for one in true]
    matches = sum(one == written for one in true)
    return sum(min(1.0, (matches - (one == written)) / 3) for one in true) / len(true)


def vqa_accuracy_from_scores(prediction: str, scores: Mapping[str, float]) -> float:
    """Of data that gives the score of each answer. 0.667 (also 0.67) and 0.333 (0.33) are rounded fractions and read as
    the official 0.6 and 0.3. Whether all annotators agreed is not known, so all is normalised. Raises `InputError` for
    no answers, and for a score that is not from 0 to 1.
    """
    if not scores:
        raise InputError("no answers to compare with; expected answers and their scores")
    if wrong := [score for score in scores.values() if not 0 <= score <= 1]:
        raise InputError(f"a score of an answer is {wrong[0]}; expected 0 to 1")
    known: dict[str, float] = {}
    for answer, score in scores.items():
        name = normalize_answer(answer)
        known[name] = max(known.get(name, 0.0), _ROUNDED.get(score, score))
    return known.get(normalize_answer(" ".join(re.split(r"[\n\t]", prediction)).strip()), 0.0)


def answers_from_counts(counts: Mapping[str, int]) -> list[str]:
    """Answer -> how many annotators gave it, as a list of answers."""
    return [answer for answer, count in counts.items() for _ in range(count)]


def normalize_answer(text: str) -> str:
    """Punctuation, then number words, articles and contractions. Text that is already stripped."""
    return _without_articles(_without_punctuation(text))


def _without_punctuation(text: str) -> str:
    """A mark goes if it stands beside a space anywhere in the text, or if the text has such as "1,000"; otherwise a
    space comes in its place."""
    written, number = text, _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        written = written.replace(mark, "" if beside_space or number else " ")
    return _PERIOD.sub("", written, count=_PERIODS_DROPPED)


def _without_articles(text: str) -> str:
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def official_results(answers: Mapping[Hashable, str]) -> list[dict[str, Any]]:
    """Question id -> answer, as the evaluation server takes it."""
    return [{"question_id": key, "answer": answer} for key, answer in answers.items()]

"""Every expected number is worked out by hand beside it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from textlens.errors import InputError
from textlens.metrics.caption_metrics import (
    _ptb_tokenize,
    best_constant,
    bleu,
    caption_scores,
    java_runs,
    plain_tokenize,
)

needs_java = pytest.mark.skipif(not java_runs(), reason="needs Java")


def test_the_reference_itself_scores_highest() -> None:
    texts = ["a red cat sits on the mat", "two dogs run over green grass"]
    result = caption_scores(texts, [[text] for text in texts], java=False)
    assert result.scores["BLEU-4"] == pytest.approx(1)
    assert result.scores["ROUGE-L"] == pytest.approx(1)
    assert result.scores["CIDEr-D"] == pytest.approx(10)  # the scale of CIDEr-D: ten times a cosine of 1


def test_bleu() -> None:
    # Of 5 words all 5 are in the reference, of 4 bigrams 3 (a cat, sits on, on mats: not "cat sits"). No word too few.
    result = caption_scores(["a cat sits on mats"], [["a cat and dogs sits on mats"]], java=False)
    # 5 words for 7: brevity penalty exp(1 - 7/5).
    brevity = math.exp(1 - 7 / 5)
    assert result.scores["BLEU-1"] == pytest.approx(brevity * 5 / 5)
    assert result.scores["BLEU-2"] == pytest.approx(brevity * math.sqrt(1 * 3 / 4))
    assert result.scores["BLEU-3"] == pytest.approx(brevity * (1 * 3 / 4 * 1 / 3) ** (1 / 3))  # "sits on mats" alone


def test_bleu_clips_repeats_and_takes_the_closest_length() -> None:
    # "the" counts twice at most (as often as in one reference); the reference of 4 words is as long: no penalty.
    result = caption_scores(["the the the the"], [["the cat the mat", "a dog"]], java=False)
    assert result.scores["BLEU-1"] == pytest.approx(2 / 4)


def test_rouge_l() -> None:
    # Longest common subsequence "a cat on mat" = 4 words: precision 4/5, recall 4/6, beta 1.2.
    result = caption_scores(["a cat on big mat"], [["a cat sits on the mat"]], java=False)
    precision, recall = 4 / 5, 4 / 6
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert result.scores["ROUGE-L"] == pytest.approx(expected)


def test_cider_d() -> None:
    # Two images with one reference each. Words in both references ("a") weigh log(2/2) = 0, all others log 2.
    # Image 1: "a cat" for "a dog": no weighty word shared, cosine 0 for every n.
    # Image 2: "a red bird" for "a red fish": unigrams share "red" of two words each: cosine 1/2; bigrams share "a red"
    # of two: 1/2; trigrams and longer share none. Equal lengths: no penalty. Mean over n = 1..4, times 10.
    result = caption_scores(["a cat", "a red bird"], [["a dog"], ["a red fish"]], java=False)
    # A candidate's n-grams that no reference has weigh log 2 - log(max(1, 0)) = log 2 as well.
    assert result.per_image["CIDEr-D"] == pytest.approx([0, 10 * (1 / 2 + 1 / 2) / 4])
    assert result.scores["CIDEr-D"] == pytest.approx(1.25)


def test_cider_d_penalises_length_counted_in_bigrams() -> None:
    # "red bird" against "red bird red bird": bigrams 1 and 3, so the penalty is exp(-(1-3)^2 / (2 * 6^2)).
    # Unigrams (clipped): sum over words of min(1, 2) * 2 = 4 over norms sqrt(2) * sqrt(8) = 4: 1.
    # Bigrams: {red bird: 1} against {red bird: 2, bird red: 1}: min(1, 2) * 2 / (1 * sqrt(5)).
    penalty = math.exp(-((1 - 3) ** 2) / (2 * 6**2))
    result = caption_scores(["red bird", "x"], [["red bird red bird"], ["y z"]], java=False)
    expected = 10 * penalty * (1 + 2 / math.sqrt(5)) / 4
    assert result.per_image["CIDEr-D"][0] == pytest.approx(expected)


def test_the_result_says_what_was_left_out() -> None:
    result = caption_scores(["A cat."], [["a cat"]], java=False)
    assert not result.ptb_tokenized
    assert set(result.left_out) == {"METEOR", "SPICE"}
    assert "not PTB-tokenised" in str(result)
    assert "METEOR left out" in str(result)
    assert result.scores["BLEU-1"] == pytest.approx(1)  # case and full stop do not count


@needs_java
def test_with_java_the_scores_are_those_of_the_official_protocol() -> None:
    """One test, because METEOR takes seconds to start."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    rng = random.Random(1)
    words = ["a", "the", "dog's", "cat,", "red-brown", "(big)", "isn't", "3.5", "mat.", 'says "hi"', "café", "runs"]
    make = lambda: " ".join(rng.choices(words, k=rng.randint(3, 9)))  # noqa: E731
    predictions, references = [make() for _ in range(20)], [[make() for _ in range(3)] for _ in range(20)]
    predictions += ["A man's dog.", "..."]
    references += [["a man 's dog"], ["two dogs"]]
    tokenize = PTBTokenizer().tokenize
    written = tokenize({i: [{"caption": text}] for i, text in enumerate(predictions)})
    true = tokenize({i: [{"caption": text} for text in texts] for i, texts in enumerate(references)})
    ours = caption_scores(predictions, references)
    assert ours.ptb_tokenized
    assert set(ours.left_out) == {"SPICE"}
    assert ours.scores["CIDEr-D"] == pytest.approx(Cider().compute_score(true, written)[0])
    assert ours.scores["BLEU-4"] == pytest.approx(Bleu(4).compute_score(true, written, verbose=0)[0][3])
    assert ours.per_image["BLEU-1"][-2:] == pytest.approx([1, 0], abs=1e-6)  # "man's" became "man 's"
    assert ours.per_image["METEOR"][-2] > 0.9 > 0.1 > ours.per_image["METEOR"][-1]


@pytest.mark.parametrize("tokenize", [plain_tokenize, pytest.param(_ptb_tokenize, marks=needs_java)])
def test_odd_texts_do_not_shift_the_others(tokenize: Callable[[list[str]], list[str]]) -> None:
    assert tokenize(["", "Two\u2028dogs\n", "...", "a cat"]) == ["", "two dogs", "", "a cat"]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="2 predictions and 1 sets"):
        caption_scores(["a", "b"], [["a"]], java=False)
    with pytest.raises(InputError, match="0 predictions"):
        caption_scores([], [], java=False)
    for bad in ([], [" "], "a cat"):
        with pytest.raises(InputError, match="image 0 has references"):
            caption_scores(["a"], [bad], java=False)


def test_the_best_constant_says_what_most_references_say() -> None:
    references = [["a dog runs on grass", "a dog plays"], ["a dog runs on grass", "one dog"], ["a cat sleeps all day"]]
    candidates = ["a cat sleeps all day", "the blue boat", "a dog runs on grass"]
    assert best_constant(candidates, references) == "a dog runs on grass"
    with pytest.raises(InputError, match="0 predictions"):
        best_constant([], references)


def test_the_error_of_bleu_is_of_the_corpus_score():
    rng = random.Random(3)
    words = ["a", "b", "c", "d"]
    references = [[" ".join(rng.choices(words, k=rng.randint(4, 9))) for _ in range(3)] for _ in range(200)]
    texts = [" ".join(rng.choices(words, k=rng.randint(4, 9))) for _ in references]
    whole = caption_scores(texts, references, java=False)
    for order in (1, 2, 3, 4):
        found = float(bleu(whole.bleu_counts.sum(0), order))
        assert found == pytest.approx(whole.scores[f"BLEU-{order}"], rel=1e-6)
    parts = [
        caption_scores(texts[i : i + 50], references[i : i + 50], java=False).scores["BLEU-4"]
        for i in (0, 50, 100, 150)
    ]
    spread = (sum((part - sum(parts) / 4) ** 2 for part in parts) / 3) ** 0.5  # of a quarter of the images
    assert spread / 6 < whole.stderr("BLEU-4") < spread

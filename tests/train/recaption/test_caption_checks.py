import pytest
from textlens.errors import InputError
from textlens.train.recaption.caption_checks import Checks, Flagger, is_cut_off, plain, read_deny_list, repeats


def row(text, *, cut_off=False, **similarity):
    return {"short": text, "cut_off_short": cut_off, **similarity}


@pytest.mark.parametrize(
    "text",
    [
        "a dog a dog",
        "the the dog",
        "A cat, a cat.",
        "on the left of a tree on the left of a tree",
        "a dog and a dog and a b",
    ],
)
def test_repeats(text):
    assert repeats(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "dog", "a dog and a cat", "a red car next to a red bus",
        "a small blue letter r in the top left and a small blue letter r in the bottom right",
    ],
)  # fmt: skip
def test_lists_of_like_things_are_no_repeats(text):
    assert not repeats(text)


def test_a_sentence_that_comes_again_is_a_repeat():
    sentence = "a man in a dark blue coat walks along the beach"
    assert repeats(f"{sentence}. The sky is grey. {sentence}.")


@pytest.mark.parametrize(("text", "known", "expected"), [
    ("a man holding a", None, True), ("a man on a horse,", None, True), ("a man on a horse", None, False),
    ("a man on a horse", True, True), ("what a man is holding on to", False, False), ("", None, False),
])  # fmt: skip
def test_cut_offs(text, known, expected):
    assert is_cut_off(text, known) is expected


def test_denied_words_are_whole_words_in_any_case(tmp_path):
    file = tmp_path / "deny.txt"
    file.write_text("Ass\n\nstock   photo\nC++\n")
    denied = Checks(read_deny_list(file)).denied
    assert all(map(denied, ["an ASS", "a Stock\nphoto of", "code in c++."]))
    assert not any(map(denied, ["grass", "a photo of stock", "assess", "c", ""]))


def test_a_deny_list_without_words_is_an_error(tmp_path):
    (tmp_path / "deny.txt").write_text("\n \n")
    with pytest.raises(InputError, match="has no words"):
        read_deny_list(tmp_path / "deny.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_deny_list(tmp_path / "missing.txt")


def test_reasons_are_all_named():
    flagger = Flagger(["short"], Checks(["dog"]), {"short": {plain("A dog a dog.")}})
    assert flagger.reasons(row("a dog, a dog", cut_off=True), "short") == ["denied", "repeated", "cut_off", "constant"]
    assert flagger.reasons(row(None), "short") == ["failed"]
    assert flagger.reasons(row(" \n"), "short") == ["empty"]
    flagged = flagger.flag(row("a cat"))
    assert (flagged["keep_short"], flagged["reasons_short"]) == (True, [])


def test_similarity_is_held_against_the_mean_of_the_originals():
    flagger = Flagger(["short"], Checks())
    for own, originals, expected in ((0.2, [0.1, 0.4], True), (0.3, [0.1, 0.4], False), (0.1, [], False)):
        similar = {"similarity_short": own, "similarity_original": originals}
        assert (flagger.reasons(row("a cat", **similar), "short") == ["below_original"]) is expected


def test_the_limit_of_equal_captions():
    assert [Checks(max_same=0.01).limit(n) for n in (5, 1000, 5000)] == [10, 10, 50]
    with pytest.raises(InputError, match="max_same"):
        Checks(max_same=2)

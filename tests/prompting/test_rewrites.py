from __future__ import annotations

import time

import pytest
from textlens.errors import InputError
from textlens.prompting.faithfulness import check
from textlens.prompting.rewrites import FLAGS, Upsampled, fallback, in_form, safe_additions, select_rewrite

from .faithfulness_pairs import HELD_OUT_BROKEN, TUNED_BROKEN

GOOD = (
    "Three playful dogs chase each other in a leafy city park on a bright spring morning, long shadows across the "
    "grass, soft golden light, crisp detail."
)


def count_words(text: str) -> int:
    return len(text.split())


def test_a_faithful_rewrite_is_taken_as_it_is() -> None:
    settled = select_rewrite("three dogs in a park", GOOD)
    assert (settled.original, settled.prompt, settled.flags, settled.changed) == ("three dogs in a park", GOOD, (), ())
    assert "object grass" in settled.added


@pytest.mark.parametrize(("original", "rewritten"), [*TUNED_BROKEN, *HELD_OUT_BROKEN])
def test_whatever_the_model_broke_the_settled_prompt_keeps_the_original(original: str, rewritten: str) -> None:
    assert check(original, select_rewrite(original, rewritten).prompt).faithful


def test_a_broken_rewrite_gives_way_to_the_original_with_its_additions() -> None:
    settled = select_rewrite(
        "a red car", "A blue car on a winding coastal road under soft evening light, waves below and gulls above."
    )
    assert settled.prompt.startswith("a red car, ")
    assert "soft evening light" in settled.prompt
    assert "fell_back" in settled.flags
    assert settled.changed == ("attribute car: red -> blue",)


def test_additions_never_touch_what_the_original_names_or_denies() -> None:
    additions = safe_additions(
        "a red car, no people", "A blue car, two tall men, a green car, a busy crowd, warm evening light."
    )
    assert additions == ("warm evening light",)
    assert (
        fallback("a street without people", ["a smiling woman", "wet stones"]) == "a street without people, wet stones"
    )
    assert fallback("A street at dawn.", ["wet stones"]) == "A street at dawn. wet stones"


def test_a_limit_cuts_between_clauses_and_says_so() -> None:
    settled = select_rewrite("three dogs in a park", GOOD, count_tokens=count_words, max_tokens=20)
    assert settled.prompt == "Three playful dogs chase each other in a leafy city park on a bright spring morning"
    assert settled.flags == ("shortened",)


def test_a_cut_that_would_lose_a_word_of_the_user_is_not_made() -> None:
    rewritten = "A quiet park at dawn with wet grass and long soft shadows, where three dogs sleep."
    settled = select_rewrite("three dogs in a park", rewritten, count_tokens=count_words, max_tokens=14)
    assert settled.prompt.startswith("three dogs in a park")
    assert count_words(settled.prompt) <= 14
    assert settled.flags == ("fell_back",)


def test_the_limit_counts_in_the_targets_tokens() -> None:
    by_letter = select_rewrite("three dogs in a park", GOOD, count_tokens=len, max_tokens=90)
    assert len(by_letter.prompt) <= 90
    assert by_letter.flags == ("shortened",)


def test_an_original_over_the_limit_comes_back_whole_and_flagged() -> None:
    original = "three dogs in a park " * 3
    for rewritten in (GOOD, None):
        settled = select_rewrite(original, rewritten, count_tokens=count_words, max_tokens=5)
        assert settled.prompt.strip() == original.strip()
        assert "over_limit" in settled.flags


def test_a_service_failure_returns_the_original_flagged() -> None:
    settled = select_rewrite("three dogs", None, error="503 from the server")
    assert (settled.prompt, settled.flags, settled.error) == ("three dogs", ("failed",), "503 from the server")
    assert select_rewrite("three dogs", "  ").flags == ("failed",)


def test_a_rewrite_of_odd_length_is_flagged() -> None:
    assert select_rewrite("three dogs", "Three small dogs.").flags == ("word_count",)
    assert "word_count" in FLAGS


def test_capitals_and_stops_alone_are_no_change() -> None:
    chosen = select_rewrite("Three Dogs", "three dogs.")
    assert (chosen.prompt, chosen.added, chosen.changed) == ("Three Dogs", (), ())
    assert chosen.flags == ("nothing_added",)


def test_endless_texts_are_refused() -> None:
    with pytest.raises(InputError, match="5000 characters; expected at most 4000"):
        select_rewrite("x " * 2500, GOOD)
    assert select_rewrite("a dog", "a dog " * 2000).flags == ("failed",)


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        select_rewrite(" ", GOOD)
    with pytest.raises(InputError, match="needs both"):
        select_rewrite("a dog", GOOD, max_tokens=77)
    with pytest.raises(InputError, match="1 or more"):
        select_rewrite("a dog", GOOD, max_tokens=0, count_tokens=len)


def test_additions_stand_before_the_flags_of_the_prompt() -> None:
    rewritten = "A lynx in the snow, golden light, a mossy log."
    chosen = select_rewrite("a lynx in a forest --ar 3:2 --no snow", rewritten)
    assert chosen.prompt == "a lynx in a forest, golden light, mossy log --ar 3:2 --no snow"
    assert chosen.negative == "snow"


def test_nothing_is_added_of_a_rewrite_about_another_subject() -> None:
    rewritten = "A green cube in the top left, on a pale plain surface, very soft even light."
    chosen = select_rewrite("a teapot", rewritten)
    assert (chosen.prompt, chosen.flags) == ("a teapot", ("fell_back", "other_subject"))
    assert select_rewrite("a photo of a cat", "A photo of a dog on a mat, soft light.").prompt == "a photo of a cat"


def test_a_main_subject_of_its_own_is_no_addition() -> None:
    chosen = select_rewrite("two teapots", "A green cube and a teapot on a pale plain surface, very soft even light.")
    assert chosen.prompt == "two teapots, pale plain surface, soft even light"


@pytest.mark.parametrize(
    ("original", "rewritten", "expected"),
    [
        ("一只猫", "一只猫坐在窗边，柔和的光线", "一只猫坐在窗边，柔和的光线"),
        ("一只猫", "A cat sits by a window, soft light", "一只猫"),
        ("красный кот", "Красный кот у окна, мягкий свет", "красный кот у окна, мягкий свет"),
        ("ein roter Hund im Park", "A blue dog in a park, soft light", "ein roter Hund im Park"),
        ("ein roter Hund im Park", "Ein roter Hund im Park bei Nacht", "ein roter Hund im Park bei Nacht"),
        ("un chat noir sur une table", "A white cat on a table, soft light", "un chat noir sur une table"),
    ],
)
def test_a_language_that_the_check_cannot_read_keeps_its_words(original: str, rewritten: str, expected: str) -> None:
    for mode in ("rewrite", "append"):
        chosen = select_rewrite(original, rewritten, mode=mode)
        assert chosen.prompt == expected
        assert "unchecked_language" in chosen.flags
        assert ("nothing_added" in chosen.flags) == (chosen.added == ()) == (expected == original)


def test_names_do_not_make_a_prompt_foreign() -> None:
    rewritten = "A stop sign in front of the Café de Paris at night, wet stones, warm light, calm mood, fine detail."
    assert select_rewrite("a stop sign in front of the Café de Paris", rewritten).prompt == rewritten
    mug = select_rewrite("a mug that says “猫”", f"A mug that says “猫” on a shelf, {GOOD}")
    assert "unchecked_language" not in mug.flags


def test_append_keeps_the_prompt_word_for_word() -> None:
    original = "three (small:1.2) dogs in a park --ar 3:2 --no people"
    chosen = select_rewrite(original, "Three tiny dogs in a park, soft golden light, people.", mode="append")
    assert chosen.prompt == "three (small:1.2) dogs in a park, soft golden light --ar 3:2 --no people"
    assert (chosen.negative, chosen.flags) == ("people", ())
    verbatim = select_rewrite("three dogs in a park", "Three dogs in a park at dawn, long shadows.", mode="append")
    assert verbatim.prompt == "three dogs in a park at dawn, long shadows"
    assert select_rewrite("three dogs", "A cube on a table.", mode="append").flags == ("other_subject",)


def test_negatives_are_denials() -> None:
    for negative in ("--no people", "\nNegative prompt: people", "\nNegative prompt: (people:1.3), blurry"):
        original = f"a lake {negative}"
        chosen = select_rewrite(original, "A lake with people, soft golden light.")
        assert chosen.prompt == original.replace("lake", "lake, soft golden light", 1)
        assert chosen.changed == ("negation no person -> people",)
    blurry = select_rewrite("a cat\nNegative prompt: blurry", "A blurry cat in soft golden light.")
    assert blurry.changed == ("negation not blurry -> a blurry cat",)


def test_three_hundred_words_take_seconds() -> None:
    things = ["barn", "horse", "lake", "fence", "tree", "cloud", "hill", "road", "boat", "bridge"]
    colours = ["red", "white", "blue", "green", "grey", "old", "small", "wooden", "quiet", "round"]
    pairs = list(zip(things, things[::-1], strict=True))
    parts = [f"a {colour} {thing} near a {other}" for colour in colours for thing, other in pairs]
    original = " ".join(", ".join(parts).split()[:300])
    start = time.process_time()
    assert select_rewrite(original, f"{original.replace('red', 'blue')}, soft light, {GOOD * 3}").prompt
    assert select_rewrite(original, f"{original}, in the morning mist").prompt.endswith("morning mist")
    assert time.process_time() - start < 20  # about 2 on a quiet machine


def test_a_prompt_of_flags_alone_is_refused() -> None:
    for prompt in ("--ar 16:9", "<lora:ink:0.7>", "Negative prompt: dogs"):
        with pytest.raises(InputError, match="flags, negatives or networks alone"):
            select_rewrite(prompt, GOOD)
    with pytest.raises(InputError, match="expected one of: rewrite, append"):
        select_rewrite("a dog", GOOD, mode="prepend")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected one of: plain, a1111, midjourney"):
        in_form(Upsampled("a dog", "a dog"), "dalle")  # type: ignore[arg-type]

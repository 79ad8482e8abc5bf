"""Prompts of Automatic1111, ComfyUI, InvokeAI and Midjourney: what is read as words, what is kept, what is denied."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textlens.prompting.prompt_syntax import parse_prompt
from textlens.prompting.prompt_syntax.inline_marks import inline_marks
from textlens.prompting.rewrites import fallback, select_rewrite

A1111 = [  # prompt, words, kept
    ("a (red:1.4) car", "a red car", ["(red:1.4)"]),
    ("a (red) car", "a red car", ["(red)"]),
    ("((word)) and (((more)))", "word and more", ["((word))", "(((more)))"]),
    ("a man with a [bald] head", "a man with a bald head", ["[bald]"]),
    ("[[dark]] forest", "dark forest", ["[[dark]]"]),
    ("(red hair, blue eyes:1.2), girl", "red hair, blue eyes, girl", ["(red hair, blue eyes:1.2)"]),
    ("(a ((big) dog:1.1):0.9)", "a big dog", ["(a ((big) dog:1.1):0.9)"]),
    ("(two:1.3)dogs", "two dogs", ["(two:1.3)"]),
    ("(red:.8) car", "red car", ["(red:.8)"]),
    ("a [cat:dog:0.5] in a hat", "a cat, dog in a hat", ["[cat:dog:0.5]"]),
    ("a [hat:0.25] man", "a hat man", ["[hat:0.25]"]),
    ("a [hat::0.25] man", "a hat man", ["[hat::0.25]"]),
    ("a [(red:1.2):blue:10] car", "a red, blue car", ["[(red:1.2):blue:10]"]),
    ("[cat|dog] in a field", "cat, dog in a field", ["[cat|dog]"]),
    ("a cat BREAK a dog", "a cat, a dog", ["BREAK"]),
    ("a cat AND a dog", "a cat, a dog", ["AND"]),
    ("a cat :1.2 AND a dog :0.8", "a cat, a dog", [":1.2", "AND", ":0.8"]),
    ("chun-li \\(street fighter\\)", "chun-li street fighter", ["\\(street fighter\\)"]),
    ("(chun-li \\(street fighter\\):1.1)", "chun-li street fighter", ["(chun-li \\(street fighter\\):1.1)"]),
    ("a cat <lora:ink:0.7>", "a cat", ["<lora:ink:0.7>"]),
    ("<lora:ink:0.7>, a cat, <hypernet:x:1>", "a cat", ["<lora:ink:0.7>", "<hypernet:x:1>"]),
    ("<lyco:My Style_v2:0.5:0.3> a cat", "a cat", ["<lyco:My Style_v2:0.5:0.3>"]),
    ("masterpiece, best quality, 1girl", "masterpiece, best quality, 1girl", []),
    ("a {blue} vase", "a blue vase", ["{blue}"]),
    ("A CAT AND A DOG", "A CAT AND A DOG", []),  # a word among capitals
    ("a cat | a dog", "a cat, a dog", ["|"]),
]
COMFY = [
    ("embedding:easy, a cat", "a cat", ["embedding:easy"]),
    ("embedding:easy:1.2 a cat", "a cat", ["embedding:easy:1.2"]),
    ("(embedding:easy:1.2) a cat", "a cat", ["(embedding:easy:1.2)"]),
    ("a {cat|dog|fox} asleep", "a cat, dog, fox asleep", ["{cat|dog|fox}"]),
    ("a __animal__ asleep", "a asleep", ["__animal__"]),
]
COMPEL = [
    ("red+++ car", "red car", ["red+++"]),
    ("red+ car", "red car", ["red+"]),
    ("a cat, rain--", "a cat, rain", ["rain--"]),
    ("a (red car)++ here", "a red car here", ["(red car)++"]),
    ("a (red car)-- here", "a red car here", ["(red car)--"]),
    ("a (red car)1.3 here", "a red car here", ["(red car)1.3"]),
    ("a (red car)0.5, tree", "a red car, tree", ["(red car)0.5"]),
    ('("a cat", "a dog").blend(0.5, 0.5)', '"a cat", "a dog"', ['("a cat", "a dog").blend(0.5, 0.5)']),
    ('("a cat", "a dog").and()', '"a cat", "a dog"', ['("a cat", "a dog").and()']),
    ("a cat.swap(dog) asleep", "a cat, dog asleep", ["cat.swap(dog)"]),
    ("a <my-style> cat", "a cat", ["<my-style>"]),
    ("a man with blue+ eyes-", "a man with blue eyes", ["blue+", "eyes-"]),
]
MIDJOURNEY = [
    ("a lake --ar 16:9", "a lake", ["--ar 16:9"]),
    ("a lake --ar 16:9 --v 6 --tile", "a lake", ["--ar 16:9", "--v 6", "--tile"]),
    ("a lake --no people, cars", "a lake", ["--no people, cars"]),
    ("a lake --no people --ar 3:2", "a lake", ["--no people", "--ar 3:2"]),
    ("--ar 16:9 a lake", "a lake", ["--ar 16:9"]),
    ("a lake --tile at dawn", "a lake at dawn", ["--tile"]),
    ("a cat —ar 3:2", "a cat", ["—ar 3:2"]),
    ("hot::2 dog::1", "hot, dog", ["::2", "::1"]),
    ("hot:: dog", "hot, dog", ["::"]),
    ("a cat::-0.5", "a cat", ["::-0.5"]),
    ("https://a.b/c.png a cat --iw 2", "a cat", ["https://a.b/c.png", "--iw 2"]),
    ("a cat --sref https://x.y/z https://x.y/w --sw 50", "a cat", ["--sref https://x.y/z https://x.y/w", "--sw 50"]),
    ("/imagine prompt: a cat --chaos 20", "a cat", ["/imagine prompt:", "--chaos 20"]),
]
PLAIN = [
    ("a clock at 10:30", "a clock at 10:30", []),
    ("a well-known man -- old", "a well-known man -- old", []),
    ("a man's dog, it's a dog's life", "a man's dog, it's a dog's life", []),
    ('a sign that says "(OPEN) --no"', 'a sign that says "(OPEN) --no"', ['"(OPEN) --no"']),
    ("a sign that says 'Back at 5'", "a sign that says 'Back at 5'", ["'Back at 5'"]),
    ("a “red:1.2” label", "a “red:1.2” label", ["“red:1.2”"]),
    ("a (red car", "a red car", []),
    ("a cat :)", "a cat :", []),
    ("three dogs, 2 cats", "three dogs, 2 cats", []),
    ("一只猫", "一只猫", []),
]


@pytest.mark.parametrize(("prompt", "words", "kept"), [*A1111, *COMFY, *COMPEL, *MIDJOURNEY, *PLAIN])
def test_words_are_read_and_the_rest_is_kept(prompt: str, words: str, kept: list[str]) -> None:
    parsed = parse_prompt(prompt)
    assert parsed.words == words
    assert sorted(parsed.kept) == sorted(kept)
    assert parse_prompt(words).words == words
    assert "".join(part.text for part in parsed.sections) == prompt


@pytest.mark.parametrize(
    ("prompt", "text", "negatives"),
    [
        ("a lake --no people, red cars --ar 1:1", "a lake", ("people", "red cars")),
        ("a cat\nNegative prompt: blurry, (worst quality:1.4)", "a cat", ("blurry", "worst quality")),
        ("a cat. negative prompt: dogs", "a cat.", ("dogs",)),
        ("a cat\nNegative: [dogs], <lora:x:1>", "a cat", ("dogs",)),
        ("Negative prompt: dogs\nPrompt: a cat", "a cat", ("dogs",)),
        ("a cat\nNegative prompt: a dog,\nrain\nSteps: 20, Sampler: Euler, CFG scale: 7", "a cat", ("a dog", "rain")),
        ("a cat --no dogs --no rain", "a cat", ("dogs", "rain")),
        ("a negative space drawing", "a negative space drawing", ()),
    ],
)
def test_negatives_are_read_apart(prompt: str, text: str, negatives: tuple[str, ...]) -> None:
    parsed = parse_prompt(prompt)
    assert (parsed.text, parsed.negatives) == (text, negatives)


def test_weights_are_numbers() -> None:
    marks = inline_marks("(a:1.4) ((b)) [c] d++ (e)-- (f)1.3 {g}")
    expected = [1.4, 1.21, 1 / 1.1, 1.21, 0.81, 1.3, 1.05]
    assert [mark.weight for mark in marks] == pytest.approx(expected)
    assert [mark.parts for mark in marks] == [(letter,) for letter in "abcdefg"]


@pytest.mark.parametrize(
    ("prompt", "extended"),
    [
        ("a lake --ar 16:9 --no people", "a lake, mist --ar 16:9 --no people"),
        ("a cat\nNegative prompt: dogs\nSteps: 20", "a cat, mist\nNegative prompt: dogs\nSteps: 20"),
        ("a cat AND a dog :1.2", "a cat AND a dog, mist :1.2"),
        ("a cat,  --tile", "a cat, mist  --tile"),
        ("A cat.", "A cat. mist"),
        ("--ar 1:1 a cat", "--ar 1:1 a cat, mist"),
        ("a (red cat", "a (red cat"),  # it would stand inside the bracket
    ],
)
def test_additions_stand_before_flags_and_outside_of_negatives(prompt: str, extended: str) -> None:
    assert parse_prompt(prompt).extended("mist") == extended


@pytest.mark.parametrize(
    ("prompt", "rewrite", "restored"),
    [
        ("a (red:1.4) car", "A Red car in rain.", "A (red:1.4) car in rain."),
        ("red+++ car --ar 2:1", "A red car in rain. --ar 1:1 --no dogs", "A red+++ car in rain. --ar 2:1"),
        ("<lora:x:1> a car", "A car, in rain", "A car, in rain <lora:x:1>"),
        ('a sign "Open"', "A sign “Open.” in rain", 'A sign "Open". in rain'),
        ("a (red:1.4) car", "A crimson car.", None),
        ("a cat BREAK a dog", "A cat and a dog.", None),
        ("a [cat:dog:0.5]", "A cat, a dog.", None),
        ("a [cat:dog:0.5]", "A [cat:dog:0.5] in rain.", "A [cat:dog:0.5] in rain."),
        ("a (red:1.4) car", 'A "red" car.', None),  # not inside of quoted text
    ],
)
def test_a_rewrite_gets_the_syntax_back(prompt: str, rewrite: str, restored: str | None) -> None:
    assert parse_prompt(prompt).restored(rewrite) == restored


PIECES = [
    "(red:1.4)", "((big))", "[old]", "car", "a dog", "<lora:x:0.8>", "hat+++", "(blue sky)--", '"Open (5)"',
    "[cat:dog:0.5]", "BREAK", "AND", "{fox|hen}", "tree::2", "\\(film\\)", ",", "two", "embedding:neat", "soft light.",
]  # fmt: skip
TAILS = ["", " --ar 16:9", " --no people, boats", " --tile --no rain --v 6", "\nNegative prompt: fog, (ugly:1.2)"]
REWRITES = [
    "A red car and a dog in a wide field, soft light, gentle mist --no birds --ar 9:9",
    "Two cats on a roof. Negative prompt: dogs",
    "A big old red car with a dog, a hat under a blue sky, a tree, calm mood.",
]
MADE = st.tuples(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(" ".join), st.sampled_from(TAILS))


@settings(max_examples=60, deadline=None)
@given(MADE, st.sampled_from(REWRITES), st.sampled_from(["rewrite", "append"]))
@example(("AND tree::2", ""), REWRITES[2], "append")  # the weight of Midjourney's part, none of AND
def test_whatever_a_model_writes_the_syntax_stays(made: tuple[str, str], rewritten: str, mode: str) -> None:
    prompt = "".join(made)
    parsed = parse_prompt(prompt)
    if not parsed.words.strip(" ,.;:|"):
        return
    chosen = select_rewrite(prompt, rewritten, mode=mode).prompt  # type: ignore[arg-type]
    assert all(chosen.count(piece) >= prompt.count(piece) for piece in parsed.kept)
    assert chosen.endswith(made[1])  # nothing stands behind flags and negatives but what was there
    assert parse_prompt(chosen).negatives == parsed.negatives
    assert chosen.count(" ,") <= prompt.count(" ,")


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('ab ,.:|()[]{}<>+-"\\1\n') | st.characters(codec="utf-8"), max_size=40))
def test_any_text_can_be_parsed(text: str) -> None:
    parsed = parse_prompt(text)
    assert "".join(part.text for part in parsed.sections) == text
    assert parse_prompt(text) == parsed
    assert all(piece in text for piece in parsed.kept if "\n" not in piece)
    fallback(text or "a", ["soft light"])


@settings(max_examples=60, deadline=None)
@given(MADE)
def test_words_hold_no_more_syntax(made: tuple[str, str]) -> None:
    words = parse_prompt("".join(made)).words
    assert parse_prompt(words).words == words

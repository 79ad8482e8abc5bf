"""What one image generator's prompt becomes for another, and what is said to be lost."""

from __future__ import annotations

import pytest
from textlens.prompting.prompt_syntax.prompt_formats import FORMS, formatted
from textlens.prompting.rewrites import in_form, select_rewrite

CASES = [  # prompt, a1111, negative, dropped
    ("A (red:1.4) car. Soft light. --ar 2:1", "A (red:1.4) car, Soft light", "", ("--ar 2:1",)),
    ("red+++ car, (blue sky)--", "(red:1.331) car, (blue sky:0.81)", "", ()),
    ("(old [tree])1.3", "(old [tree]:1.3)", "", ()),
    ("hot::2 dog::1 --v 6", "hot :2 AND dog :1", "", ("--v 6",)),
    ("a cat BREAK rain <lora:x:0.8> --no dogs, fog", "a cat BREAK rain <lora:x:0.8>", "dogs, fog", ()),
    ("a cat\nNegative prompt: (bad:1.4), fog", "a cat", "(bad:1.4), fog", ()),
    ("embedding:foo:1.2, <my-style> hat", "(foo:1.2), my-style hat", "", ()),
    ('a sign "A. b,  ,c"; rain', 'a sign "A. b,  ,c", rain', "", ()),
    ('("a", "b").blend(1, 1)', '("a", "b").blend(1, 1)', "", ('("a", "b").blend(1, 1) (left as written)',)),
]
MIDJOURNEY = [
    ("A (red:1.4) car. Soft light. --ar 2:1 --no dogs", "A red car. Soft light. --ar 2:1 --no dogs", ("(red:1.4)",)),
    ("a cat AND a dog :1.2", "a cat:: a dog::1.2", ()),
    ("hot::2 dog::1 --v 6", "hot::2 dog::1 --v 6", ()),
    ("a cat BREAK rain <lora:x:0.8>", "a cat, rain", ("BREAK", "<lora:x:0.8>")),
    ("a cat\nNegative prompt: (bad:1.4), fog\nSteps: 20", "a cat --no bad, fog", ("(bad:1.4)", "Steps: 20")),
    ("chun-li \\(film\\), (big) hat", "chun-li (film), (big) hat", ()),
    ("a [cat:dog:0.5]", "a [cat:dog:0.5]", ("[cat:dog:0.5] (left as written)",)),
    ("/imagine prompt: https://a.b/c.png a cat --tile", "https://a.b/c.png a cat --tile", ("/imagine prompt:",)),
    ('a sign "a  b,,c"', 'a sign "a  b,,c"', ()),
]


@pytest.mark.parametrize(("prompt", "written", "negative", "dropped"), CASES)
def test_for_automatic1111(prompt: str, written: str, negative: str, dropped: tuple[str, ...]) -> None:
    made = formatted(prompt, "a1111")
    assert (made.prompt, made.negative, made.dropped) == (written, negative, dropped)
    assert formatted(written, "a1111").prompt == written


@pytest.mark.parametrize(("prompt", "written", "dropped"), MIDJOURNEY)
def test_for_midjourney(prompt: str, written: str, dropped: tuple[str, ...]) -> None:
    made = formatted(prompt, "midjourney")
    assert (made.prompt, made.dropped) == (written, dropped)
    assert formatted(written, "midjourney").prompt == written


def test_plain_is_as_it_came() -> None:
    prompt = "a (red:1.4) car --ar 2:1 --no dogs"
    made = formatted(prompt, "plain")
    assert (made.prompt, made.negative, made.dropped) == (prompt, "dogs", ())


def test_a_chosen_prompt_is_written_in_any_form() -> None:
    chosen = select_rewrite("a (red:1.4) car --no dogs", "A red car on a road, soft light.")
    written = {form: in_form(chosen, form) for form in FORMS}  # type: ignore[arg-type]
    assert written["plain"].prompt == "A (red:1.4) car on a road, soft light. --no dogs"
    assert (written["a1111"].prompt, written["a1111"].negative) == ("A (red:1.4) car on a road, soft light", "dogs")
    assert written["midjourney"].prompt == "A red car on a road, soft light. --no dogs"
    assert written["midjourney"].original == "a (red:1.4) car --no dogs"

"""With words that hold the answer, and a model that reads them, accuracy is full; without words it is the floor."""

from __future__ import annotations

import re

import pytest
from textlens.agent.models.base import Completion
from textlens.errors import InputError
from textlens.evals.question_answering import ALL, BLANK, as_table, draw_shots, evaluate, images_of
from textlens.evals.question_files import Question, QuestionSplit

COLOURS = ("red", "green", "blue", "black")


def question(number: int, split: str) -> Question:
    return Question(f"{split}-{number}.png", "which colour is it", (COLOURS[number % 4],), split)


DATA = QuestionSplit([question(i, "test") for i in range(40)], [question(i, "train") for i in range(30)] * 2)


class Reader:
    """Says the last word of the query's context, "red" without one, and nothing that parses about "unreadable"."""

    spec = "reader"

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def complete(self, prompts, **settings):
        self.prompts += prompts
        answers = []
        for prompt in prompts:
            context = prompt.rpartition("Image context")[2].partition("\nImage question")[0]
            words = re.findall(r"\w+", context.partition(":")[2])
            answers.append(" " + (words[-1] if words else "red") if "unreadable" not in context else "")
        return [Completion(text, "stop", 5, 1, prompt) for text, prompt in zip(answers, prompts, strict=True)]


def words_of(*counts: int) -> dict[str, dict[str, str]]:
    images = images_of(DATA, {count: draw_shots(DATA.candidates, count, 0) for count in counts})
    truth = {one.image: one.answer for one in (*DATA.asked, *DATA.candidates)}
    return {
        "good": {name: f"a thing that is {truth[name]}" for name in images},
        "bad": dict.fromkeys(images, "unreadable"),
    }


def test_accuracy_by_context_with_paired_differences():
    model, log = Reader(), []
    rows = {
        (row["context"], row["num_fewshot"]): row
        for row in evaluate(DATA, words_of(0, 2), model, [0, 2], log=log.append)
    }
    assert rows["constant: red", 0]["accuracy"] == pytest.approx(25)
    for count in (0, 2):
        assert rows[BLANK, count]["accuracy"] == pytest.approx(25)
        assert rows["good", count]["accuracy"] == pytest.approx(100)
        assert rows["good", count]["above_blank"] == pytest.approx(75)
        assert 6 < rows["good", count]["above_blank_stderr"] < 8  # sqrt(0.75 * 0.25 / 39) = 6.9
        assert rows["bad", count]["accuracy"] == 0
        assert rows["bad", count]["failures"] == 40
        assert rows[ALL, count]["failures"] == 40
    assert "above_blank" not in rows[BLANK, 0]
    assert len(log) == 2 * 4 * 40
    assert {entry["right"] for entry in log if entry["context"] == "good"} == {True}
    assert as_table(list(rows.values())).count("\n") == 2 + 1 + 2 * 4 - 1


def test_shots_are_drawn_from_different_images_and_fewer_are_the_first_of_more():
    four, eight = draw_shots(DATA.candidates, 4, 7), draw_shots(DATA.candidates, 8, 7)
    assert eight[:4] == four
    assert len({shot.image for shot in eight}) == 8
    assert draw_shots(DATA.candidates, 4, 8) != four
    assert {shot.image for shot in draw_shots(DATA.candidates, 0, 7)} == {""}
    with pytest.raises(InputError, match="only 30 images"):
        draw_shots(DATA.candidates, 31, 7)


def test_queries_share_the_shots_and_shots_have_words():
    model = Reader()
    evaluate(DATA, words_of(2), model, [2])
    good = [prompt for prompt in model.prompts if "a thing" in prompt and "unreadable" not in prompt]
    assert len(good) == 40
    first = [prompt[: prompt.rindex("Image context")] for prompt in good]
    assert len(set(first)) == 1
    assert first[0].count("a thing that is") == 2
    blank = [prompt for prompt in model.prompts if "a thing" not in prompt and "unreadable" not in prompt]
    assert len(blank) == 40
    assert blank[0].count("Image context:\n") == 3
    both = [prompt for prompt in model.prompts if "a thing" in prompt and "unreadable" in prompt]
    assert both[0].count("(good): ") == both[0].count("(bad): ") == 3

"""A prompt as text and as messages: the same content, whatever copies it."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from textlens.prompting.captioning import CaptionTemplate
from textlens.prompting.classification import ClassificationTemplate
from textlens.prompting.messages import Message, Prompt, messages_of
from textlens.prompting.templates import Context, Shot, Template
from textlens.prompting.upsampling import UpsampleTemplate
from textlens.prompting.vqa import VQATemplate

SHOTS = [Shot((Context("red star"),), "What is it?", "star"), Shot((Context("blue moon"),), "What color?", "moon")]
QUERY = Shot((Context("a moon"),), "What is this?", "the truth")
TEMPLATES: list[Template] = [
    VQATemplate(),
    VQATemplate.paper(),
    CaptionTemplate(),
    ClassificationTemplate(labels=("star", "moon")),
    ClassificationTemplate(labels=("star", "moon"), induction=False),
    UpsampleTemplate(),
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_messages_are_instruction_shots_and_query(template: Template) -> None:
    prompt = template.render(QUERY, SHOTS)
    system = [Message("system", template.head)] if template.head else []
    assert prompt.messages[: len(system)] == tuple(system)
    turns = prompt.messages[len(system) :]
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [turn.text for turn in turns[1::2]] == ["star", "moon"]  # without stop marks
    places = [prompt.index(turn.text) for turn in turns[::2]]
    assert places == sorted(places)
    assert prompt.endswith(turns[-1].text)
    assert "the truth" not in repr(prompt.messages)


def test_an_answer_with_field_names_in_it_is_cleaned_as_in_the_text() -> None:
    (_, answer) = VQATemplate().prefix([Shot(question="x", answer='red Short answer: "blue"')]).messages[1:]
    assert answer.text == 'red "blue"'


def test_copies_keep_the_messages() -> None:
    prompt = VQATemplate().render(QUERY, SHOTS)
    for made in (copy.deepcopy(prompt), pickle.loads(pickle.dumps(prompt))):
        assert (made, made.messages) == (prompt, prompt.messages)
    assert json.loads(json.dumps(prompt)) == prompt


def test_a_plain_text_is_one_message() -> None:
    assert messages_of("a red star") == messages_of(Prompt("a red star")) == (Message("user", "a red star"),)

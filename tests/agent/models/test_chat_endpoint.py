"""Servers that have /chat/completions alone, and servers that do not hold answers to choices."""

from __future__ import annotations

from typing import Any

import pytest
from textlens.agent.models.base import Request
from textlens.agent.models.endpoints import chosen
from textlens.agent.models.registry import load_language_model
from textlens.agent.models.server import ServerModel, ServerSettings
from textlens.agent.reader.reading import read
from textlens.prompting.classification import ClassificationTemplate
from textlens.prompting.templates import Context, Shot
from textlens.prompting.vqa import VQATemplate

from .chat_server import chat_server

GREEDY: dict[str, Any] = {"temperature": 0.0, "seed": 0}
TEMPLATE = VQATemplate()
SHOT, QUERY = Shot((Context("red star"),), "What color?", "red"), Shot((Context("blue moon"),), "What is it?")
MESSAGES = [
    {"role": "system", "content": "Answer the question given the context."},
    {"role": "user", "content": 'Image context: "red star"\nImage question: What color?\nShort answer:'},
    {"role": "assistant", "content": "red"},
    {"role": "user", "content": 'Image context: "blue moon"\nImage question: What is it?\nShort answer:'},
]
CHOICES = (" star", " moon")


def answers(model, request=None, number=1):
    request = request or Request(8, TEMPLATE.stop, 0.0, 0)
    return read(model, TEMPLATE, [QUERY] * number, [[SHOT]] * number, request)


def test_prompts_go_to_the_chat_endpoint_as_messages():
    with chat_server() as server:
        model = load_language_model(f"chat+{server.address}")
        assert model.spec == f"chat+{server.address}"
        (reading,) = answers(model)
    assert (reading.answer, reading.error) == ("red", None)
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked == [
        {"messages": MESSAGES, "model": "chatty", "max_tokens": 8, "temperature": 0.0, "seed": 0, "stop": ["\n"]}
    ]
    assert reading.completion.parameters["endpoint"] == "/chat/completions"
    assert (reading.completion.prompt_tokens, reading.completion.completion_tokens) == (4, 1)


def test_a_server_without_completions_is_found_out_and_said_once(capsys):
    with chat_server() as server:
        model = ServerModel(server.address, settings=ServerSettings(concurrency=1))
        readings = answers(model, number=3)
        readings += answers(model)
    assert [one.answer for one in readings] == ["red"] * 4
    assert server.paths == ["/v1/completions", *["/v1/chat/completions"] * 4]
    told = capsys.readouterr().err
    assert told == f"note: {server.address} has no /completions: prompts go to /chat/completions as messages\n"


def test_an_answer_without_text_is_an_error_of_its_own():
    with chat_server(lambda messages: "\n" if "moon" in messages[-1]["content"] else "red") as server:
        model = ServerModel(server.address, chat=True)
        (reading,) = answers(model)
    assert reading.answer is None
    assert "holds no text" in reading.error


@pytest.mark.parametrize(
    ("knows", "refuses", "requests"),
    [
        (["structured_outputs"], [], 1),
        (["guided_choice"], [], 2),
        (["response_format"], [], 3),
        (["response_format"], ["structured_outputs", "guided_choice"], 3),
    ],
)
def test_answers_are_held_to_choices_in_the_way_that_a_server_knows(knows, refuses, requests, capsys):
    with chat_server(lambda messages: "the moon, of course", knows=knows, refuses=refuses) as server:
        model = ServerModel(server.address, chat=True, settings=ServerSettings(attempts=1))
        (first,) = model.complete(["a"], max_tokens=1, choices=CHOICES, **GREEDY)
        assert len(server.asked) == requests
        (second,) = model.complete(["a"], max_tokens=1, choices=CHOICES, **GREEDY)
    assert len(server.asked) == requests + 1  # later prompts begin with what worked
    assert [one.text for one in (first, second)] == [" moon"] * 2
    assert (first.error, capsys.readouterr().err) == (None, "")


def test_a_server_that_knows_no_choices_is_read_strictly_and_that_is_said_once(capsys):
    template = ClassificationTemplate(labels=("star", "moon"))
    written = iter(["the moon"] * 4 + [' "Moon."\n', "moons", "star or moon"])
    with chat_server(lambda messages: next(written)) as server:
        model = ServerModel(server.address, chat=True)
        request = Request(4, template.stop, 0.0, 0, CHOICES)
        found = [read(model, template, [QUERY], [[]], request)[0] for _ in range(4)]
    assert [one.answer for one in found] == [None, "moon", None, None]
    assert "none of the choices" in found[0].error
    assert len(server.asked) == 7
    assert server.asked[-1]["stop"] == ["\n"]
    told = capsys.readouterr().err
    assert told.count("does not hold answers to choices") == 1


def test_another_fault_than_an_unknown_field_leaves_choices_as_they_are():
    with chat_server(knows=["structured_outputs"], refuses=["seed"]) as server:
        model = ServerModel(server.address, chat=True, settings=ServerSettings(attempts=1))
        (made,) = model.complete(["a"], max_tokens=1, choices=CHOICES, **GREEDY)
        assert "Unrecognized request argument supplied: seed" in made.error
        server.refuses = []
        (made,) = model.complete(["a"], max_tokens=1, choices=CHOICES, **GREEDY)
    assert (made.text, made.error) == (" moon", None)
    assert "structured_outputs" in server.asked[-1]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (" mint", " mint"),
        ("Mint\n", " mint"),
        (' "mint." ', " mint"),
        ('{"answer": "mint"}', " mint"),
        ("mint and thyme", None),
        ("", None),
        ('{"answer": 3}', None),
        ("[]", None),
    ],
)
def test_what_counts_as_a_choice(text, choice):
    assert chosen(text, [" mint", " thyme"]) == choice


def test_a_text_that_might_be_two_choices_is_none():
    assert chosen("MINT", ["mint", "Mint"]) is None
    assert chosen("Mint", ["mint", "Mint"]) == "Mint"

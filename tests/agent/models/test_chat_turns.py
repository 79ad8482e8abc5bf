"""Instruct models in this process: prompts are the turns of their own chat template."""

from __future__ import annotations

from pathlib import Path

import pytest
from textlens.agent.models.base import Request
from textlens.agent.models.chat_turns import as_turns, turn_end
from textlens.agent.models.registry import load_language_model
from textlens.agent.models.transformers import InProcessModel
from textlens.agent.reader.reading import read
from textlens.errors import InputError
from textlens.prompting.templates import Context, Shot
from textlens.prompting.vqa import VQATemplate
from transformers import AutoModelForCausalLM, AutoTokenizer

from ...language_models import CHAT_TEMPLATE

TEMPLATE = VQATemplate(end="$")  # as `CHAT_TEMPLATE` ends a turn
CONTEXTS = [(Context(f"a {colour} star on a white background"),) for colour in ("red", "blue", "green")]
SHOTS = [Shot(CONTEXTS[0], "What color is the star?", "red"), Shot(CONTEXTS[1], "What is there?", "star")]
QUERIES = [Shot(context, "What color is the star?") for context in CONTEXTS]
REFUSES_SYSTEM = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system role') }}"
    "{% else %}<{{ message.role }}>{{ message.content }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def instruct(language_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small language model, whose tokenizer names a chat template."""
    folder = tmp_path_factory.mktemp("instruct")
    AutoModelForCausalLM.from_pretrained(language_model_folder).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(language_model_folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("choices", [None, (" red", " blue", " green", " green star")])
def test_a_chat_that_renders_the_same_text_has_the_same_answers(instruct, choices):
    request = Request(6, TEMPLATE.choice_stop, 0.0, 0, choices)
    chat, text = (load_language_model(f"{how}hf:{instruct}") for how in ("", "text+"))
    assert (chat.chat, text.chat) == (True, False)
    turns, plain = (read(one, TEMPLATE, QUERIES, [SHOTS] * 3, request) for one in (chat, text))
    assert [one.answer for one in turns] == [one.answer for one in plain] == ["red", "blue", "green"]
    prompt = TEMPLATE.render(QUERIES[0], SHOTS)
    assert turns[0].completion.prompt == "<s>" + prompt  # as sent
    assert turns[0].completion.prompt_tokens == chat.count_tokens(prompt)


def test_a_base_model_writes_on_unless_it_is_told_to_chat(language_model_folder):
    assert not load_language_model(f"hf:{language_model_folder}").chat
    with pytest.raises(InputError, match="no chat template"):
        load_language_model(f"chat+hf:{language_model_folder}")


def test_a_template_without_system_role_gets_the_instruction_in_the_first_turn(instruct):
    tokenizer = AutoTokenizer.from_pretrained(instruct)
    tokenizer.chat_template = REFUSES_SYSTEM
    prompt = TEMPLATE.render(QUERIES[0], SHOTS[:1])
    system, question, answer, query = (message.text for message in prompt.messages)
    assert as_turns(tokenizer, prompt) == f"<user>{system}\n\n{question}<assistant>{answer}<user>{query}"


def test_a_prompt_that_the_template_refuses_loses_no_other(instruct):
    model = InProcessModel.from_pretrained(instruct, device="cpu")
    model.tokenizer.chat_template = (
        "{% for message in messages %}{% if 'blue' in message.content %}{{ raise_exception('no blue') }}{% endif %}"
        "{{ message.content }}{% endfor %}"
    )
    first, second = model.complete(["a red", "a blue"], max_tokens=2, temperature=0.0, seed=0)
    assert first.error is None
    assert second.error == "the model's chat template refuses the prompt: no blue"
    assert second.prompt == "a blue"


def test_the_end_of_a_turn_ends_the_text(instruct):
    model = InProcessModel.from_pretrained(instruct, device="cpu")
    assert turn_end(model.tokenizer) == "$"
    model.model.generation_config.eos_token_id = model.tokenizer.eos_token_id  # as of a model with other turns
    (made,) = read(model, TEMPLATE, QUERIES[:1], [SHOTS], Request(6, ("never written",), 0.0, 0))
    assert (made.completion.text, made.completion.finish_reason) == (" red", "stop")

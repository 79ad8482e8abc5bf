"""A prompt's messages as the text that a chat model was trained on, by its tokenizer's chat template."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from ...errors import InputError
from ...prompting.messages import messages_of


def as_turns(tokenizer: Any, prompt: str) -> str:
    """The text up to where the model's turn begins. tokenizer: of transformers, with a chat template.

    A template without a system role gets the instruction at the head of the user's first turn.
    Raises `InputError` where the template refuses that, too.
    """
    turns = [{"role": message.role, "content": message.text} for message in messages_of(prompt)]
    try:
        return _rendered(tokenizer, turns)
    except TemplateError as error:
        if turns[0]["role"] != "system" or len(turns) < 2:
            raise InputError(f"the model's chat template refuses the prompt: {error}") from error
        first = {**turns[1], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
    try:
        return _rendered(tokenizer, [first, *turns[2:]])
    except TemplateError as error:
        raise InputError(f"the model's chat template refuses the prompt: {error}") from error


def takes_turns(tokenizer: Any, chat: bool | None, spec: str) -> bool:
    """Whether prompts are sent as turns. chat: by default where the tokenizer has a chat template, as of instruct
    models. Raises `InputError` where it is asked for, and there is none.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not has_template:
        raise InputError(f"{spec} has no chat template; expected an instruct model, or no --chat and no chat+")
    return has_template if chat is None else chat


def turn_end(tokenizer: Any) -> str:
    """What a chat template writes after the model's text: the mark that ends its turn."""
    mark = "textlens"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    rendered = str(tokenizer.apply_chat_template(turns, tokenize=False))
    return rendered.rpartition(mark)[2].strip()


def _rendered(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

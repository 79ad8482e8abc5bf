"""The two endpoints of OpenAI-compatible servers that write text, and the ways in which they hold an answer to choices.

No way to constrain answers is known to all servers, and most ignore what they do not know: so each is tried in turn,
and what comes back is compared with the choices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...prompting.messages import messages_of

if TYPE_CHECKING:
    from openai import OpenAI


@dataclass(frozen=True)
class Reply:
    """What a server wrote. Tokens are 0 where it does not count them."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: how it takes a prompt, and how its answer is read."""

    path: str
    send: Callable[[OpenAI, Mapping[str, Any]], Any]  # (client, what the request's body holds)
    asked: Callable[[str], dict[str, Any]]  # prompt -> its part of the body
    written: Callable[[Any], str | None]  # first choice -> text
    constraints: Sequence[str]  # ways to hold an answer to choices, the best first

    def reply(self, response: Any) -> Reply:
        """What a response says."""
        choice, usage = response.choices[0], response.usage
        counted = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Reply(self.written(choice) or "", str(choice.finish_reason or "stop"), *counted)


def _chat_messages(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": message.role, "content": message.text} for message in messages_of(prompt)]}


COMPLETIONS = Endpoint(
    "/completions",
    send=lambda client, body: client.completions.create(**body),
    asked=lambda prompt: {"prompt": str(prompt)},
    written=lambda choice: choice.text,
    constraints=("structured_outputs", "guided_choice", "none"),
)
CHAT = Endpoint(
    "/chat/completions",
    send=lambda client, body: client.chat.completions.create(**body),
    asked=_chat_messages,
    written=lambda choice: choice.message.content,
    constraints=("structured_outputs", "guided_choice", "response_format", "none"),
)


def constrained(kind: str, choices: Sequence[str]) -> dict[str, Any]:
    """What a request says to get one of the choices: vLLM's field, that of vLLM before 0.12, a JSON schema as OpenAI,
    llama.cpp and Ollama take it, or nothing."""
    if kind == "structured_outputs":
        return {"extra_body": {"structured_outputs": {"choice": list(choices)}}}
    if kind == "guided_choice":
        return {"extra_body": {"guided_choice": list(choices)}}
    if kind == "response_format":
        schema = {
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": list(choices)}},
            "required": ["answer"],
            "additionalProperties": False,
        }
        return {
            "response_format": {
                "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}
            }
        }  # fmt: skip
    return {}


def chosen(text: str, choices: Sequence[str]) -> str | None:
    """The choice that a text is, but for case, space around it, quotes and a full stop; None if it is none, or might
    be several. {"answer": CHOICE} is read too.
    """
    if text in choices:
        return text
    try:
        inside = json.loads(text)["answer"]
    except (ValueError, TypeError, KeyError):
        inside = text
    plain = _plain(inside) if isinstance(inside, str) else ""
    found = [choice for choice in choices if _plain(choice) == plain]
    return found[0] if len(found) == 1 else None


def _plain(text: str) -> str:
    return text.strip().strip("\"'“”").removesuffix(".").strip().casefold()

"""A prompt in both forms that language models take: one text to write on, and the messages of a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    text: str


class Prompt(str):
    """The text of a prompt, with the same content as messages.

    Models that write on see the text alone, chat models the messages. Prompts with the same text are equal.
    """

    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Iterable[Message] = ()) -> Prompt:
        made = super().__new__(cls, text)
        made.messages = tuple(messages)
        return made

    def changed(self, change: Callable[[str], str]) -> Prompt:
        """The prompt with a change to its text, and to that of each message."""
        return Prompt(change(str(self)), (Message(one.role, change(one.text)) for one in self.messages))

    def then(self, other: Prompt) -> Prompt:
        """Both, one after the other."""
        return Prompt(str(self) + str(other), (*self.messages, *other.messages))


def messages_of(prompt: str) -> tuple[Message, ...]:
    """The messages of a prompt; a plain text is a single one of the user."""
    messages = prompt.messages if isinstance(prompt, Prompt) else ()
    return messages or (Message("user", prompt),)

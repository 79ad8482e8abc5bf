"""The language model interface: the `LanguageModel` protocol, its `Request` and its `Completion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from ...errors import InputError, encoding_error


@dataclass(frozen=True)
class Completion:
    """What a language model wrote after one prompt, and what it was sent."""

    text: str  # without the stop string that ended it
    finish_reason: str  # "stop", "length" (cut off at max_tokens), "error", or a server's own reason
    prompt_tokens: int
    completion_tokens: int  # with the end token and the stop string
    prompt: str
    parameters: Mapping[str, Any] = field(default_factory=dict)  # as sent
    error: str | None = None

    @property
    def cut_off(self) -> bool:
        """Whether the text ended at `max_tokens`."""
        return self.finish_reason == "length"

    @classmethod
    def failed(cls, error: str, prompt: str, parameters: Mapping[str, Any], *, prompt_tokens: int = 0) -> Completion:
        """The completion of a prompt that failed."""
        return cls("", "error", prompt_tokens, 0, prompt, parameters, error)

    def as_json(self) -> dict[str, Any]:
        """All but prompt and error, which the command line prints beside it."""
        return {key: value for key, value in asdict(self).items() if key not in ("prompt", "error")}


class LanguageModel(Protocol):
    """Text in, text out."""

    @property
    def spec(self) -> str:
        """The model's name in results, such as "tiny"."""
        ...

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        temperature: float,
        seed: int,
        choices: Sequence[str] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order. A failed prompt has a `Completion` with its error.

        stop: strings that end the text. temperature: 0 is greedy. choices: the text is exactly one of these;
        `max_tokens` is then ignored. Raises `InputError` for invalid settings.
        """
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A language model with a tokenizer, so that shots can be dropped from a prompt that is too long."""

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together; None for no limit."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a prompt, special tokens included. Raises `InputError` for text that cannot be encoded."""
        ...


@dataclass(frozen=True)
class Request:
    """The settings of `LanguageModel.complete`, validated."""

    max_tokens: int
    stop: Sequence[str]  # kept as a tuple, as `choices` are
    temperature: float
    seed: int
    choices: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str) or isinstance(self.choices, str):
            raise InputError("stop and choices are lists of texts; got a single text")
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "choices", None if self.choices is None else tuple(self.choices))
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}; expected 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}; expected 0 (greedy) or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")
        if not all(self.stop):
            raise InputError("a stop string is empty; expected one character or more")
        for text in (*self.stop, *(self.choices or ())):
            if reason := encoding_error(text, "a stop string or choice"):
                raise InputError(reason)
        if self.choices is not None and (
            not self.choices or not all(self.choices) or len(set(self.choices)) < len(self.choices)
        ):
            raise InputError(f"choices are {list(self.choices)}; expected one or more different texts, none empty")

    @property
    def parameters(self) -> dict[str, Any]:
        """The keyword arguments of `complete`."""
        return asdict(self)

    @property
    def max_answer_tokens(self) -> int:
        """Tokens to reserve: `max_tokens`, or enough for every choice (a token is at least one byte)."""
        return self.max_tokens if self.choices is None else 1 + max(len(choice.encode()) for choice in self.choices)

    def before_stop(self, text: str) -> str | None:
        """The text before the first stop string; None if it contains none."""
        ends = [place for string in self.stop if (place := text.find(string)) >= 0]
        return text[: min(ends)] if ends else None

"""What language models in this process have in common: a prompt they cannot take gets its error and loses no other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ...errors import InputError, encoding_error
from ...prompting.messages import Prompt
from ...prompting.sanitize import apart, one_line
from .base import Completion, Request
from .chat_turns import as_turns, turn_end


class LocalModel(ABC):
    """`complete` by `_generate`, which sees only prompts that fit. tokenizer: of transformers.

    chat: whether prompts are sent as the turns of the tokenizer's chat template.
    """

    spec: str
    tokenizer: Any
    chat: bool = False

    @property
    @abstractmethod
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together; None for no limit."""

    @abstractmethod
    def _generate(self, prompts: list[str], encoded: list[list[int]], request: Request) -> list[Completion]:
        """One completion per prompt, in order. encoded: the prompts' token ids."""

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
        """One completion per prompt, in order; see `LanguageModel`."""
        request = Request(max_tokens, stop, temperature, seed, choices)
        prompts, refused = self._all_as_sent(prompts)
        encoded = [[] if encoding_error(prompt) else self._encode(prompt) for prompt in prompts]
        reserve = self._max_answer_tokens(request)
        errors = [
            refused.get(i) or self._prompt_error(prompt, len(encoded[i]), reserve) for i, prompt in enumerate(prompts)
        ]
        valid = [i for i, error in enumerate(errors) if error is None]
        completions = iter(self._generate([prompts[i] for i in valid], [encoded[i] for i in valid], request))
        return [
            Completion.failed(error, prompt, request.parameters, prompt_tokens=len(ids)) if error else next(completions)
            for prompt, ids, error in zip(prompts, encoded, errors, strict=True)
        ]

    def count_tokens(self, text: str) -> int:
        """Tokens of a prompt, special tokens included. Raises `InputError` for text that cannot be encoded."""
        if reason := encoding_error(text, "the text"):  # the tokenizer's own error says nothing
            raise InputError(reason)
        return len(self._encode(self._as_sent(text)))

    def _all_as_sent(self, prompts: Sequence[str]) -> tuple[list[str], dict[int, str]]:
        """The texts that are sent, and place -> why a prompt cannot be."""
        sent, refused = list(prompts), {}
        for i, prompt in enumerate(prompts):
            if not encoding_error(prompt):
                try:
                    sent[i] = self._as_sent(prompt)
                except InputError as error:
                    refused[i] = str(error)
        return sent, refused

    def _as_sent(self, prompt: str) -> str:
        if any(token in prompt for token in self._own_tokens):
            whole = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
            prompt = whole.changed(lambda text: apart(text, self._own_tokens))
        return as_turns(self.tokenizer, prompt) if self.chat else prompt

    @cached_property
    def _own_tokens(self) -> tuple[str, ...]:
        """Added tokens that do not have the shape of one, such as "/nothink", so that templates let them pass. Not bare
        words and signs, which may be text.
        """
        added: dict[str, int] = getattr(self.tokenizer, "get_added_vocab", dict)()
        kinds = [(token, {sign.isalnum() for sign in token.strip()}) for token in added]
        return tuple(token for token, kind in kinds if len(kind) == 2 and one_line(token) == token)

    def _encode(self, text: str) -> list[int]:
        # verbose=False: no warning about long texts before our error. A chat template writes the special tokens itself.
        made = self.tokenizer(text, truncation=False, verbose=False, add_special_tokens=not self.chat)
        return list(made["input_ids"])

    def _plain(self, text: str) -> list[int]:
        """Its token ids, without special ones around them."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _turn_end(self) -> str:
        return turn_end(self.tokenizer)

    def _max_answer_tokens(self, request: Request) -> int:
        return request.max_answer_tokens

    def _prompt_error(self, prompt: str, length: int, reserve: int) -> str | None:
        """Why a prompt of `length` tokens cannot be completed; None if it can."""
        limit = self.context_length
        if not length:
            return encoding_error(prompt) or "the prompt is empty, and the model has no begin token; expected some text"
        if limit is not None and length + reserve > limit:
            return (
                f"the prompt takes {length} tokens and the answer up to {reserve}, but {self.spec} holds {limit}; "
                "use fewer shots or shorter descriptions"
            )
        return None

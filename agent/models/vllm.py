"""vLLM in this process. Imports neither open_clip nor torchvision, which vLLM's environment on a CPU lacks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, encoding_error
from .base import Completion, Request

_LARGEST_SEED = 2**63 - 1  # a larger one breaks the engine


class VllmEngine:
    """`complete` by a `vllm.LLM`, which batches and shares prefixes by itself."""

    def __init__(self, engine: Any, *, spec: str = "vllm") -> None:
        self.engine, self.spec = engine, spec
        self._failure: str | None = None

    @classmethod
    def from_pretrained(cls, source: str | Path, *, spec: str | None = None, **settings: Any) -> VllmEngine:
        """Load a hub id or a folder; `settings` go to `vllm.LLM`.

        Raises `InputError` where vLLM is not installed, or the model does not load.
        """
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for results alone
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            from vllm import LLM
            from vllm.exceptions import VLLMError
            from vllm.platforms import current_platform
        except ImportError as error:
            raise InputError(
                f"vLLM does not import ({error}); install it with `pip install textlens[vllm]`, or name a server: "
                "http://localhost:8000/v1"
            ) from error
        if current_platform.is_cpu():
            # Its own choices there: prefixes shared in blocks of 128 tokens, and most of the memory for the cache.
            settings = {"block_size": 32, "kv_cache_memory_bytes": 2 << 30, **settings}
        try:
            return cls(LLM(model=str(source), **settings), spec=spec or f"vllm:{source}")
        except (OSError, ValueError, RuntimeError, VLLMError) as error:
            raise InputError(f"vLLM cannot load {str(source)!r}: {' '.join(str(error).split())[:600]}") from error

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
        """One completion per prompt, in their order; see `LanguageModel`."""
        request = Request.of(max_tokens, stop, temperature, seed, choices)
        encoded = [[] if encoding_error(prompt) else self._encode(prompt) for prompt in prompts]
        # vLLM refuses a whole batch for one prompt that it cannot take.
        outcomes: list[Any] = [
            self._refusal(prompt, len(ids), request) for prompt, ids in zip(prompts, encoded, strict=True)
        ]
        fitting = [i for i, refusal in enumerate(outcomes) if refusal is None]
        for i, outcome in zip(fitting, self._generate([encoded[i] for i in fitting], request), strict=True):
            outcomes[i] = outcome
        return [
            _completion(outcome, prompt, len(ids), request)
            for outcome, prompt, ids in zip(outcomes, prompts, encoded, strict=True)
        ]

    def _generate(self, encoded: list[list[int]], request: Request) -> list[Any]:
        """vLLM's outputs, or for each the error of them all.

        An engine that broke once keeps what it did not finish, and would wait for it forever: it is not asked again.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError, VLLMError
        from vllm.sampling_params import StructuredOutputsParams

        sampling: dict[str, Any] = {"temperature": request.temperature, "seed": request.seed}
        if request.choices is None:
            sampling["stop"] = list(request.stop)
        else:  # the choice is the end: a stop mark might cut it
            sampling["structured_outputs"] = StructuredOutputsParams(choice=list(request.choices))
        prompts = [{"prompt_token_ids": ids} for ids in encoded]
        if self._failure is None:
            try:
                parameters = SamplingParams(max_tokens=request.longest_answer, **sampling)
                return list(self.engine.generate(prompts, parameters, use_tqdm=False))
            except (ValueError, VLLMClientError) as error:
                return [_said(error)] * len(prompts)
            except (RuntimeError, VLLMError) as error:
                self._failure = _said(error)
        return [self._failure] * len(prompts)

    def _refusal(self, prompt: str, length: int, request: Request) -> str | None:
        """Why a prompt of `length` tokens cannot be taken; None where it can."""
        limit, room = self.context_length, request.longest_answer
        if not length:
            return encoding_error(prompt) or "the prompt is empty, and the tokenizer has no begin token; expected some text"
        if limit is not None and length + room > limit:
            return f"the prompt takes {length} tokens and the answer up to {room}, but {self.spec} holds {limit}"
        return f"seed is {request.seed}; vLLM takes up to {_LARGEST_SEED}" if request.seed > _LARGEST_SEED else None

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together."""
        return int(self.engine.llm_engine.model_config.max_model_len)

    def count_tokens(self, text: str) -> int:
        """The length of a prompt, special tokens included. Raises `InputError` for a text that cannot be encoded."""
        if reason := encoding_error(text, "the text"):  # the tokenizer's own error says nothing
            raise InputError(reason)
        return len(self._encode(text))

    def _encode(self, text: str) -> list[int]:
        # verbose: its warning of long texts would come before our error.
        return list(self.engine.get_tokenizer()(text, truncation=False, verbose=False)["input_ids"])


def _completion(outcome: Any, prompt: str, prompt_tokens: int, request: Request) -> Completion:
    """outcome: vLLM's output, or why there is none."""
    if isinstance(outcome, str):
        return Completion.failed(outcome, prompt, request.parameters, prompt_tokens=prompt_tokens)
    first, error = outcome.outputs[0], None
    if request.choices is not None and first.text not in request.choices:
        error = f"vLLM wrote {first.text[:80]!r}, which is none of the choices"
    reason = "error" if error else first.finish_reason or "stop"
    return Completion(first.text, reason, prompt_tokens, len(first.token_ids), prompt, request.parameters, error)


def _said(error: Exception) -> str:
    return f"vLLM: {' '.join(str(error).split())[:600]}"

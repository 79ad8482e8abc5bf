"""vLLM in this process. Imports neither open_clip nor torchvision, which vLLM's CPU environment lacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...errors import InputError, shortened
from .base import Completion, Request
from .chat_turns import takes_turns
from .local import LocalModel

MAX_SEED = 2**63 - 1  # a larger one breaks the engine


class VllmEngine(LocalModel):
    """`complete` by a `vllm.LLM`, which batches prompts and shares prefixes by itself.

    chat: by default where the tokenizer has a chat template, as of instruct models.
    """

    def __init__(self, engine: Any, *, chat: bool | None = None, spec: str = "vllm") -> None:
        self.engine, self.tokenizer, self.spec = engine, engine.get_tokenizer(), spec
        self.chat = takes_turns(self.tokenizer, chat, spec)
        self._failure: str | None = None

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, chat: bool | None = None, spec: str | None = None, **settings: Any
    ) -> VllmEngine:
        """Load a hub id or a folder; `settings` go to `vllm.LLM`.

        Raises `InputError` if vLLM is not installed or the model does not load.
        """
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for results
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
            # vLLM's CPU defaults: prefixes shared in blocks of 128 tokens, most of the memory for the cache.
            settings = {"block_size": 32, "kv_cache_memory_bytes": 2 << 30, **settings}
        try:
            engine = LLM(model=str(source), **settings)
        except (OSError, ValueError, RuntimeError, VLLMError) as error:
            raise InputError(f"vLLM cannot load {str(source)!r}: {shortened(error)}") from error
        return cls(engine, chat=chat, spec=spec or f"vllm:{source}")

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        return int(self.engine.llm_engine.model_config.max_model_len)

    def _generate(self, prompts: list[str], encoded: list[list[int]], request: Request) -> list[Completion]:
        choices = self._choices(request)
        outputs = self._outputs(encoded, request, list(choices))
        completions = []
        for i, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True)):
            if isinstance(outputs, str):
                completions.append(Completion.failed(outputs, prompt, request.parameters, prompt_tokens=len(ids)))
                continue
            output, error = outputs[i].outputs[0], None
            text = choices.get(output.text, output.text)
            if request.choices is not None and text not in request.choices:
                error = f"vLLM wrote {output.text[:80]!r}, which is none of the choices"
            reason = "error" if error else output.finish_reason or "stop"
            written = len(output.token_ids)
            completions.append(Completion(text, reason, len(ids), written, prompt, request.parameters, error))
        return completions

    def _choices(self, request: Request) -> dict[str, str]:
        """Choice as it is written -> choice. A turn of a chat begins without the space behind a field's colon."""
        return {one.strip() if self.chat else one: one for one in request.choices or ()}

    def _outputs(self, encoded: list[list[int]], request: Request, choices: list[str]) -> list[Any] | str:
        """vLLM's outputs, or the error of the whole batch.

        After an engine error no more requests are sent: vLLM would wait for its unfinished ones forever.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError, VLLMError
        from vllm.sampling_params import StructuredOutputsParams

        if request.seed > MAX_SEED:
            return f"seed is {request.seed}; vLLM takes up to {MAX_SEED}"
        sampling: dict[str, Any] = {"temperature": request.temperature, "seed": request.seed}
        if request.choices is None:
            sampling["stop"] = list(request.stop)
            sampling["stop_token_ids"] = self._plain(self._turn_end)[:1] if self.chat else []
        else:  # without stop strings, which could cut a choice
            sampling["structured_outputs"] = StructuredOutputsParams(choice=choices)
        if self._failure is not None:
            return self._failure
        try:
            parameters = SamplingParams(max_tokens=request.max_answer_tokens, **sampling)
            prompts = [{"prompt_token_ids": ids} for ids in encoded]
            return list(self.engine.generate(prompts, parameters, use_tqdm=False))
        except (ValueError, RuntimeError, VLLMError) as error:
            message = f"vLLM: {shortened(error)}"
            if not isinstance(error, ValueError | VLLMClientError):
                self._failure = message
            return message

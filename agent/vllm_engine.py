"""vLLM in this process. Imports neither open_clip nor torchvision, which vLLM's environment on a CPU lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .language_model import Completion, Request


class VllmEngine:
    """`complete` by a `vllm.LLM`, which batches and shares prefixes by itself."""

    def __init__(self, engine: Any, *, spec: str = "vllm") -> None:
        self.engine, self.spec = engine, spec

    @classmethod
    def from_pretrained(cls, source: str | Path, *, spec: str | None = None, **settings: Any) -> VllmEngine:
        """Load a hub id or a folder; `settings` go to `vllm.LLM`.

        Raises `InputError` where vLLM is not installed, or the model does not load.
        """
        try:
            from vllm import LLM
        except ImportError as error:
            raise InputError(
                f"vLLM does not import ({error}); install it with `pip install textlens[vllm]`, or name a server: "
                "http://localhost:8000/v1"
            ) from error
        try:
            return cls(LLM(model=str(source), **settings), spec=spec or f"vllm:{source}")
        except (OSError, ValueError, RuntimeError) as error:
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
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        request = Request.of(max_tokens, stop, temperature, seed, choices)
        limit = self.engine.llm_engine.model_config.max_model_len
        room = request.longest_answer
        sampling: dict[str, Any] = {"max_tokens": room, "temperature": temperature, "seed": seed}
        if request.choices is None:
            sampling["stop"] = list(request.stop)
        else:
            sampling["structured_outputs"] = StructuredOutputsParams(choice=list(request.choices))
        # vLLM refuses a whole batch for one prompt that is too long.
        lengths = [self.count_tokens(prompt) for prompt in prompts]
        fitting = [i for i, length in enumerate(lengths) if length + room <= limit]
        outputs = self.engine.generate([prompts[i] for i in fitting], SamplingParams(**sampling), use_tqdm=False)
        made = {i: _completion(output, request) for i, output in zip(fitting, outputs, strict=True)}
        return [
            made[i] if i in made else _too_long(prompt, lengths[i], limit, request) for i, prompt in enumerate(prompts)
        ]

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together."""
        return int(self.engine.llm_engine.model_config.max_model_len)

    def count_tokens(self, text: str) -> int:
        """The length of a prompt, special tokens included."""
        return len(self.engine.get_tokenizer()(text)["input_ids"])


def _completion(output: Any, request: Request) -> Completion:
    first, prompt_tokens = output.outputs[0], len(output.prompt_token_ids)
    error = None
    if request.choices is not None and first.text not in request.choices:
        error = f"vLLM wrote {first.text[:80]!r}, which is none of the choices"
    reason = "error" if error else first.finish_reason or "stop"
    return Completion(first.text, reason, prompt_tokens, len(first.token_ids), output.prompt, request.parameters, error)


def _too_long(prompt: str, length: int, limit: int, request: Request) -> Completion:
    error = (
        f"the prompt takes {length} tokens and the answer up to {request.longest_answer}, but the model holds {limit}"
    )
    return Completion.failed(error, prompt, request.parameters, prompt_tokens=length)

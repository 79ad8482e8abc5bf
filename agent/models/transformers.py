"""A transformers language model in this process: batched, with a key-value cache, the shared prefix computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...encoders.saved_models import shortened
from ...errors import InputError, encoding_error
from .base import Completion, Request
from .cached_batch import CachedBatch, CachedModel, Prefix, shared_length

_ANCHOR = 4  # tokens of the prompt that are decoded along, so that a word's leading space is not lost
_TAIL = 32  # characters of the prompt that decide how a choice after it falls into tokens


class InProcessModel:
    """`complete` by a transformers causal language model.

    Sampling follows from `seed` and the prompt alone, not from what else is in the batch, and no setting of the model's
    own generation config has a part in it but its end tokens. batch_size: rows per forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 16,
        share_prefix: bool = True,
        spec: str = "hf",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected 1 or more")
        self.model, self.tokenizer, self.batch_size, self.spec = model.eval(), tokenizer, batch_size, spec
        pad_id = tokenizer.pad_token_id
        self._cached = CachedModel(model, 0 if pad_id is None else int(pad_id))
        self.share_prefix = share_prefix and self._cached.shares_prefixes

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None, **settings: Any
    ) -> InProcessModel:
        """Load a hub id or a folder, safetensors only; `settings` go to the constructor.

        dtype: by default float32 on a CPU, else what the checkpoint is saved in.
        Raises `InputError` where nothing loads, or weights are missing.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind: Any = dtype or (torch.float32 if device == "cpu" else "auto")
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=kind, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise InputError(f"{str(source)!r} does not load as a language model: {shortened(error)}") from error
        model, info = loaded
        if lacking := [*info["missing_keys"], *info["mismatched_keys"]]:
            raise InputError(
                f"the weights of {str(source)!r} lack or misfit {len(lacking)} tensors, such as {lacking[0]}"
            )
        settings.setdefault("spec", f"hf:{source}")
        return cls(model.to(device), tokenizer, **settings)

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and completion together; None where the model knows no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def count_tokens(self, text: str) -> int:
        """The length of a prompt, special tokens included. Raises `InputError` for a text that cannot be encoded."""
        if reason := encoding_error(text, "the text"):  # the tokenizer's own error says nothing
            raise InputError(reason)
        return len(self._encode(text))

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
        """One completion per prompt, in their order; see `LanguageModel`.

        With `choices` the likeliest one is taken (or one drawn, at a temperature), each scored together with the
        first stop mark behind it, so that a choice that begins another is no likelier for being shorter.
        """
        request = Request.of(max_tokens, stop, temperature, seed, choices)
        encoded = [[] if encoding_error(prompt) else self._encode(prompt) for prompt in prompts]
        reserve = self._longest_choice(request) if request.choices else max_tokens
        refused = (self._refused(prompts[i], ids, reserve, request) for i, ids in enumerate(encoded))
        done = dict(enumerate(refused))
        todo = [i for i in done if done[i] is None]
        shared = shared_length([encoded[i] for i in todo]) if self.share_prefix else 0
        prefix = Prefix(self._cached, encoded[todo[0]][:shared] if shared else [])
        rows = max(1, self.batch_size // len(request.choices)) if request.choices else self.batch_size
        todo.sort(key=lambda i: len(encoded[i]))  # prompts of like length need little padding
        for start in range(0, len(todo), rows):
            places = todo[start : start + rows]
            batch = CachedBatch(self._cached, [encoded[i] for i in places], prefix)
            work = self._choose if request.choices else self._generate
            made = work(batch, [prompts[i] for i in places], [encoded[i] for i in places], request)
            done.update(zip(places, made, strict=True))
        return [one for i in range(len(prompts)) if (one := done[i]) is not None]

    def _encode(self, text: str) -> list[int]:
        # verbose: its warning of long texts would come before our error.
        return list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def _refused(self, prompt: str, ids: list[int], reserve: int, request: Request) -> Completion | None:
        """A completion with an error where the prompt cannot be taken; None where it can."""
        limit, error = self.context_length, None
        if not ids:
            error = (
                encoding_error(prompt) or "the prompt is empty, and the tokenizer has no begin token; expected some text"
            )
        elif limit is not None and len(ids) + reserve > limit:
            error = (
                f"the prompt takes {len(ids)} tokens and the answer up to {reserve}, but {self.spec} holds {limit}; "
                "use fewer shots or shorter descriptions"
            )
        return Completion.failed(error, prompt, request.parameters, prompt_tokens=len(ids)) if error else None

    def _generate(
        self, batch: CachedBatch, prompts: list[str], encoded: list[list[int]], request: Request
    ) -> list[Completion]:
        noise = [_generator(request.seed, prompt) for prompt in prompts] if request.temperature else []
        written: list[list[int]] = [[] for _ in prompts]
        done: dict[int, Completion] = {}
        running = list(range(len(prompts)))
        for count in range(1, request.max_tokens + 1):
            tokens = _draw(batch.logits, request.temperature, [noise[i] for i in running] if noise else [])
            going_on = []
            for row, (i, token) in enumerate(zip(running, tokens.tolist(), strict=True)):
                written[i].append(token)
                finished = self._finished(prompts[i], encoded[i], written[i], request, last=count == request.max_tokens)
                if finished:
                    done[i] = finished
                else:
                    going_on.append(row)
            if not going_on:
                break
            if len(going_on) < len(running):
                batch.select(going_on)
            running = [running[row] for row in going_on]
            batch.step(tokens[going_on])
        return [done[i] for i in range(len(prompts))]

    def _finished(
        self, prompt: str, encoded: list[int], written: list[int], request: Request, *, last: bool
    ) -> Completion | None:
        """The completion where it is at its end, by stop mark, end token or length."""
        ended = written[-1] in self._end_ids
        text = self._text(encoded, written[:-1] if ended else written)
        before = request.before_stop(text)
        if before is None and not ended and not last:
            return None
        reason = "length" if before is None and not ended else "stop"
        kept = text if before is None else before
        return Completion(kept, reason, len(encoded), len(written), prompt, request.parameters)

    def _choose(
        self, batch: CachedBatch, prompts: list[str], encoded: list[list[int]], request: Request
    ) -> list[Completion]:
        choices = request.choices or ()
        ids = [[self._continuation(prompt, choice, request) for choice in choices] for prompt in prompts]
        columns = max(1, self.batch_size // len(prompts))
        parts = [
            batch.score([row[start : start + columns] for row in ids]) for start in range(0, len(choices), columns)
        ]
        noise = [_generator(request.seed, prompt) for prompt in prompts] if request.temperature else []
        best = _draw(torch.cat(parts, dim=1), request.temperature, noise).tolist()
        return [
            Completion(choices[k], "stop", len(encoded[i]), len(ids[i][k]), prompts[i], request.parameters)
            for i, k in enumerate(best)
        ]

    def _continuation(self, prompt: str, choice: str, request: Request) -> list[int]:
        """The tokens of a choice behind the prompt, with the first stop mark as its end."""
        text = choice + "".join(request.stop[:1])
        tail = prompt[-_TAIL:]
        before, whole = self._plain(tail), self._plain(tail + text)
        # Where the choice melts into the prompt's last token, it is taken by itself.
        return whole[len(before) :] if whole[: len(before)] == before else self._plain(text)

    def _longest_choice(self, request: Request) -> int:
        return max(len(self._plain(choice + "".join(request.stop[:1]))) for choice in request.choices or ())

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, prompt: list[int], written: list[int]) -> str:
        anchor = prompt[-_ANCHOR:]
        return self._decode([*anchor, *written])[len(self._decode(anchor)) :]

    def _decode(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)  # one row of ids
        return text

    @cached_property
    def _end_ids(self) -> set[int]:
        config, ids = self.model.generation_config, {self.tokenizer.eos_token_id}
        for value in (getattr(config, "eos_token_id", None), self.model.config.get_text_config().eos_token_id):
            ids.update(value if isinstance(value, list) else [value])
        return {i for i in ids if i is not None}


def _generator(seed: int, prompt: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{prompt}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _draw(scores: Tensor, temperature: float, noise: list[torch.Generator]) -> Tensor:
    """(B, N) -> (B,): the greatest, or one drawn from softmax(scores / temperature), each row by its generator."""
    if not noise:
        return scores.argmax(-1)
    # Gumbel's trick: the greatest of log p - log(exponential) is distributed as p.
    drawn = torch.stack([torch.empty(scores.shape[-1]).exponential_(generator=own) for own in noise])
    return (scores / temperature - drawn.to(scores.device).log()).argmax(-1)

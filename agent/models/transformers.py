"""A transformers language model in this process: batched, with a key-value cache, the shared prefix computed once."""

from __future__ import annotations

import hashlib
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...encoders.loading.size_limit import folder_shapes, no_larger_than
from ...encoders.saved_models import without_bars
from ...errors import InputError, shortened
from .base import Completion, Request
from .cached_batch import CachedBatch, CachedModel, Prefix, shared_length
from .chat_turns import takes_turns
from .local import LocalModel

_ANCHOR = 4  # prompt tokens decoded along with the text, so that a word's leading space is kept
_CHOICES = 50  # scored in one forward pass, if there is one prompt; as many as the tools take
_TAIL = 32  # prompt characters that decide how a choice after them is tokenized


class InProcessModel(LocalModel):
    """`complete` by a transformers causal language model.

    Samples depend on `seed` and the prompt alone, not on the rest of the batch. Of the model's generation config only
    the end tokens are used. With `choices` the likeliest one is taken (or one sampled, at a temperature), each scored
    with the first stop string after it, or the end of a chat's turn: a choice that begins another is no likelier for
    being shorter.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 16,  # rows per forward pass
        share_prefix: bool = True,
        chat: bool | None = None,  # by default where the tokenizer has a chat template, as of instruct models
        spec: str = "hf",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected 1 or more")
        self.model, self.tokenizer, self.batch_size, self.spec = model.eval(), tokenizer, batch_size, spec
        pad_id = tokenizer.pad_token_id
        self._cached = CachedModel(model, 0 if pad_id is None else int(pad_id))
        self.share_prefix = share_prefix
        self.chat = takes_turns(tokenizer, chat, spec)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **settings: Any,
    ) -> InProcessModel:
        """Load a hub id or a folder, safetensors only; `settings` go to the constructor.

        dtype: by default float32 on a CPU, else the checkpoint's. tokenizer: by default the checkpoint's.
        Raises `InputError` if nothing loads or weights are missing.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind: Any = dtype or (torch.float32 if device == "cpu" else "auto")
        try:
            with without_bars(source, logging), no_larger_than(folder_shapes(source), source, packed=True):
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    source, dtype=kind, use_safetensors=True, output_loading_info=True
                )
            if tokenizer is None:
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
        """Tokens of prompt and completion together; None if the model has no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def _generate(self, prompts: list[str], encoded: list[list[int]], request: Request) -> list[Completion]:
        length = shared_length(encoded) if self.share_prefix else 0
        padded = self._cached.masks_padding
        if not padded and 2 * length * len(prompts) < sum(map(len, encoded)):
            length, padded = 0, True  # batches of one length are smaller: not worth it for a short prefix
        prefix = Prefix(self._cached, encoded[0][:length] if length else [])
        rows = max(1, self.batch_size // len(request.choices)) if request.choices else self.batch_size
        completions: dict[int, Completion] = {}
        for places in _batches([len(ids) for ids in encoded], rows, padded=padded):
            batch = CachedBatch(self._cached, [encoded[i] for i in places], prefix)
            complete = self._choose if request.choices else self._write
            made = complete(batch, [prompts[i] for i in places], [encoded[i] for i in places], request)
            completions.update(zip(places, made, strict=True))
        return [completions[i] for i in range(len(prompts))]

    def _write(
        self, batch: CachedBatch, prompts: list[str], encoded: list[list[int]], request: Request
    ) -> list[Completion]:
        generators = _generators(prompts, request)
        written: list[list[int]] = [[] for _ in prompts]
        done: dict[int, Completion] = {}
        running = list(range(len(prompts)))
        for count in range(1, request.max_tokens + 1):
            tokens = _sample(batch.logits, request.temperature, [generators[i] for i in running])
            unfinished = []
            for row, (i, token) in enumerate(zip(running, tokens.tolist(), strict=True)):
                written[i].append(token)
                finished = self._finished(prompts[i], encoded[i], written[i], request, last=count == request.max_tokens)
                if finished:
                    done[i] = finished
                else:
                    unfinished.append(row)
            if not unfinished:
                break
            if len(unfinished) < len(running):
                batch.select(unfinished)
            running = [running[row] for row in unfinished]
            batch.step(tokens[unfinished])
        return [done[i] for i in range(len(prompts))]

    def _finished(
        self, prompt: str, encoded: list[int], written: list[int], request: Request, *, last: bool
    ) -> Completion | None:
        """The completion if it has ended, by stop string, end token or length."""
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
        columns = max(1, max(self.batch_size, _CHOICES) // len(prompts))
        scores = [
            batch.score([row[start : start + columns] for row in ids]) for start in range(0, len(choices), columns)
        ]
        best = _sample(torch.cat(scores, dim=1), request.temperature, _generators(prompts, request)).tolist()
        return [
            Completion(choices[k], "stop", len(encoded[i]), len(ids[i][k]), prompts[i], request.parameters)
            for i, k in enumerate(best)
        ]

    def _continuation(self, prompt: str, choice: str, request: Request) -> list[int]:
        """The tokens of a choice after the prompt, ended by the first stop string."""
        text = self._closed(choice, request)
        tail = prompt[-_TAIL:]
        before, whole = self._plain(tail), self._plain(tail + text)
        # If the choice merges with the prompt's last token, it is tokenized by itself.
        return whole[len(before) :] if whole[: len(before)] == before else self._plain(text)

    def _max_answer_tokens(self, request: Request) -> int:
        if request.choices is None:
            return request.max_tokens
        return max(len(self._plain(self._closed(choice, request))) for choice in request.choices)

    def _closed(self, choice: str, request: Request) -> str:
        """A choice with what ends it."""
        return choice.strip() + self._turn_end if self.chat else choice + "".join(request.stop[:1])

    def _text(self, prompt: list[int], written: list[int]) -> str:
        anchor = prompt[-_ANCHOR:]
        return self._decode([*anchor, *written])[len(self._decode(anchor)) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @cached_property
    def _end_ids(self) -> set[int]:
        config, ids = self.model.generation_config, {self.tokenizer.eos_token_id}
        for value in (getattr(config, "eos_token_id", None), self.model.config.get_text_config().eos_token_id):
            ids.update(value if isinstance(value, list) else [value])
        if self.chat:
            ids.update(self._plain(self._turn_end)[:1])
        return {i for i in ids if i is not None}


def _batches(lengths: list[int], rows: int, *, padded: bool) -> list[list[int]]:
    """Places of prompts, at most `rows` a batch, by length: so they need little padding, or, not `padded`, none."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    groups = [order] if padded else [list(same) for _, same in groupby(order, key=lambda i: lengths[i])]
    return [group[start : start + rows] for group in groups for start in range(0, len(group), rows)]


def _generators(prompts: list[str], request: Request) -> list[torch.Generator | None]:
    """A random generator per prompt; None for greedy decoding."""
    if not request.temperature:
        return [None] * len(prompts)
    digests = [hashlib.blake2b(f"{request.seed}/{prompt}".encode(), digest_size=8).digest() for prompt in prompts]
    return [torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1) for digest in digests]


def _sample(scores: Tensor, temperature: float, generators: list[torch.Generator | None]) -> Tensor:
    """(B, N) -> (B,): the argmax, or a sample of softmax(scores / temperature), each row by its generator."""
    if not temperature:
        return scores.argmax(-1)
    # Gumbel trick: argmax(log p - log(exponential noise)) is a sample of p.
    noise = torch.stack([torch.empty(scores.shape[-1]).exponential_(generator=generator) for generator in generators])
    return (scores / temperature - noise.to(scores.device).log()).argmax(-1)

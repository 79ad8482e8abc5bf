"""A batch of prompts with a shared prefix, in one key-value cache of a transformers model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ...encoders.decoding import cache_argument

SPARE = 32  # tokens


class _PreallocatedLayer(DynamicLayer):
    """Keys and values (B, H, L, D) with spare room: `DynamicLayer` copies the whole cache for every token."""

    def __init__(self) -> None:
        super().__init__()
        self._buffers: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        self.keys = self._grown("keys", self.keys, key_states)
        self.values = self._grown("values", self.values, value_states)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        keys, values = self.keys, self.values
        if keys is None or values is None or len(keys) != 1:
            super().batch_repeat_interleave(repeats)
        else:  # a view of one row; the next `update` copies it, once
            self.keys, self.values = keys.expand(repeats, -1, -1, -1), values.expand(repeats, -1, -1, -1)

    def _grown(self, name: str, old: Tensor, new: Tensor) -> Tensor:
        before = old.shape[-2] if old.numel() else 0
        length, buffer = before + new.shape[-2], self._buffers.get(name)
        if (
            buffer is None
            or buffer.data_ptr() != old.data_ptr()  # rows were repeated or selected: `old` is another tensor
            or len(buffer) != len(new)
            or buffer.shape[-2] < length
        ):
            buffer = new.new_empty(*new.shape[:-2], length + SPARE, new.shape[-1])
            if before:
                buffer[:, :, :before] = old
            self._buffers[name] = buffer
        buffer[:, :, before:length] = new
        return buffer[:, :, :length]


class Prefix:
    """Token ids that all prompts begin with, and their keys and values, computed once."""

    def __init__(self, model: CachedModel, ids: Sequence[int]) -> None:
        self.length, self._cache = len(ids), model.new_cache()
        if ids:
            rows = torch.tensor([ids], device=model.device)
            model.forward(rows, torch.ones_like(rows), torch.arange(len(ids), device=model.device)[None], self._cache)

    def cache(self, rows: int) -> DynamicCache:
        """A copy for a batch of `rows`."""
        cache = copy.deepcopy(self._cache)
        if self.length:
            cache.batch_repeat_interleave(rows)
        return cache


class CachedModel:
    """A causal language model, called with the arguments that its class takes."""

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self.model, self.pad_id, self.device = model, pad_id, model.device
        self._takes = set(inspect.signature(model.forward).parameters)

    def new_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        cache.layers = [_PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        return cache

    @cached_property
    def masks_padding(self) -> bool:
        """Whether all layers have full attention, where padding between prefix and prompt can be masked. In a sliding
        window it takes the place of tokens: prompts after a shared prefix must be equally long."""
        return all(type(layer) is _PreallocatedLayer for layer in self.new_cache().layers)

    @torch.inference_mode()
    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, *, last_only: bool = True
    ) -> Tensor:
        """ids (B, L), mask (B, cached + L), positions (B, L) -> logits (B, 1, V), or (B, L, V); the cache grows."""
        settings: dict[str, Any] = {"attention_mask": mask, cache_argument(self.model): cache, "use_cache": True}
        if "position_ids" in self._takes:
            settings["position_ids"] = positions
        if last_only and "logits_to_keep" in self._takes:
            settings["logits_to_keep"] = 1
        logits = self.model(input_ids=ids, **settings).logits.float()
        return logits[:, -1:] if last_only else logits


class CachedBatch:
    """A batch of prompts, padded on the left, between the shared prefix and their own tokens.

    logits: of the next token of each row, (B, V) float32.
    """

    def __init__(self, model: CachedModel, prompts: Sequence[Sequence[int]], prefix: Prefix) -> None:
        own = [list(ids[prefix.length :]) for ids in prompts]
        width, device = max(map(len, own)), model.device
        pads = [width - len(ids) for ids in own]
        rows = torch.tensor([[model.pad_id] * p + ids for p, ids in zip(pads, own, strict=True)], device=device)
        mask = torch.tensor([[0] * p + [1] * len(ids) for p, ids in zip(pads, own, strict=True)], device=device)
        self._model, self._cache = model, prefix.cache(len(own))
        self._mask = torch.cat((mask.new_ones(len(own), prefix.length), mask), dim=1)
        self._next_position = torch.tensor([len(ids) for ids in prompts], device=device)
        positions = prefix.length + (mask.cumsum(1) - 1).clamp(min=0)
        self.logits = model.forward(rows, self._mask, positions, self._cache)[:, -1]

    def step(self, tokens: Tensor) -> None:
        """Feed one token per row, (B,) int64."""
        self._mask = torch.cat((self._mask, self._mask.new_ones(len(tokens), 1)), dim=1)
        self.logits = self._model.forward(tokens[:, None], self._mask, self._next_position[:, None], self._cache)[:, -1]
        self._next_position = self._next_position + 1

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows."""
        kept = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(kept)
        self._mask, self._next_position, self.logits = self._mask[kept], self._next_position[kept], self.logits[kept]

    def score(self, continuations: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """Log probability of each of a row's C continuations, (B, C) float32. Does not change the batch."""
        count = len(continuations[0])
        flat = [list(ids) for row in continuations for ids in row]  # (B * C) lists
        width, device = max(map(len, flat)), self._mask.device
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in flat], device=device)
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in flat], device=device)
        logits = self.logits.repeat_interleave(count, dim=0)[:, None]  # (B * C, 1, V)
        if width > 1:
            cache = copy.deepcopy(self._cache)
            cache.batch_repeat_interleave(count)
            mask = torch.cat((self._mask.repeat_interleave(count, dim=0), real[:, :-1]), dim=1)
            positions = self._next_position.repeat_interleave(count)[:, None] + torch.arange(width - 1, device=device)
            later = self._model.forward(ids[:, :-1], mask, positions, cache, last_only=False)
            logits = torch.cat((logits, later), dim=1)  # (B * C, L, V)
        each = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
        return (each * real).sum(1).unflatten(0, (len(continuations), count))


def shared_length(prompts: Sequence[list[int]]) -> int:
    """Length of the common prefix, leaving each prompt at least one token of its own; 0 for a single prompt."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # in lexicographic order these two differ first
    limit = min(len(first), len(last)) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)

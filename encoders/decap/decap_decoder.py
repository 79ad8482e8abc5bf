"""DeCap's decoder: a small GPT-2 that reads a CLIP embedding as a one-token prefix and writes the caption."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from ...errors import check_range
from ..decoding import Hypothesis, Search, cache_argument, search
from .projection import check_finite


class DecapDecoder(nn.Module):
    """Linear prefix and GPT-2, trained from scratch on text (Li et al., ICLR 2023, arXiv 2303.03032).

    end_id: the end token. The start token is predicted like any other, as in the official code.
    """

    def __init__(self, embed_dim: int, gpt2: GPT2Config, end_id: int) -> None:
        super().__init__()
        self.prefix = nn.Linear(embed_dim, gpt2.n_embd)
        self.decoder = GPT2LMHeadModel(gpt2)
        self.end_id = end_id

    @property
    def device(self) -> torch.device:
        return self.prefix.weight.device

    def forward(self, embeddings: Tensor, ids: Tensor, counted: Tensor | None = None) -> Tensor:
        """(B, D) unit embeddings and (B, T) ids -> (B, T, V): logits of each id given the embedding and earlier ids.

        counted: (B, T) bool; compute the (K, V) logits of these K places alone, since the head is most of the work.
        """
        prefix = self.prefix(embeddings)[:, None]  # (B, 1, W)
        words = self.decoder.transformer.wte(ids[:, :-1])
        inputs = torch.cat([prefix, words.to(prefix.dtype)], dim=1)  # (B, T, W)
        hidden = self.decoder.transformer(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return self.decoder.lm_head(hidden if counted is None else hidden[counted])

    @torch.inference_mode()
    def generate(self, embeddings: Tensor, *, max_tokens: int = 30, num_beams: int = 1) -> list[Hypothesis]:
        """(B, D) embeddings -> B captions, by greedy or beam search. Call in eval mode.

        max_tokens: start and end token included; `ids` begin with the start token if the model wrote one.
        Raises `InputError` for NaN embeddings and settings out of range.

        `search`, not `GPT2LMHeadModel.generate`, which for the small DeCap's same words takes, greedy and with 3 beams,
        1.7 to 1.8 and 2.0 to 2.2 times as long at batch 32, but only 1.2 and 1.3 to 1.4 times at batch 1 (one thread,
        two runs of `python benchmarks/decap.py generate --repeats 9`).
        """
        check_range("max_tokens", max_tokens, 1, self.decoder.config.n_positions)
        check_range("num_beams", num_beams, 1)
        check_finite(embeddings)
        prefix = self.prefix(embeddings.to(self.device, self.prefix.weight.dtype))
        steps = _Steps(self.decoder, prefix.repeat_interleave(num_beams, dim=0), num_beams)
        settings = Search(bos_id=0, end_ids=(self.end_id,), max_tokens=max_tokens, num_beams=num_beams)
        return search(steps, len(embeddings), settings, self.device)


class _Steps:
    """A `StepDecoder` whose first step reads the prefix, (R, W), instead of a token."""

    def __init__(self, decoder: GPT2LMHeadModel, prefix: Tensor, num_beams: int) -> None:
        self.decoder, self.num_beams = decoder, num_beams
        self.prefix: Tensor | None = prefix
        self.cache = DynamicCache(config=decoder.config)
        self.cache_name = cache_argument(decoder.transformer)

    def step(self, tokens: Tensor) -> Tensor:
        inputs = self.decoder.transformer.wte(tokens) if self.prefix is None else self.prefix
        self.prefix = None
        cache: dict[str, Any] = {self.cache_name: self.cache, "use_cache": True}
        output = self.decoder.transformer(inputs_embeds=inputs[:, None], **cache)
        return self.decoder.lm_head(output.last_hidden_state[:, -1])

    def select_images(self, images: Tensor) -> None:
        beams = torch.arange(self.num_beams, device=images.device)
        self.cache.batch_select_indices((images[:, None] * self.num_beams + beams).flatten())

    def select_beams(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)

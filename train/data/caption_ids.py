"""Captions as token ids to learn to write: start, words, end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...encoders.clip.caption_text import CaptionText
from ...errors import InputError

IGNORED = -100  # label of what lies past the end of a caption


def caption_ids(texts: Sequence[str], text: CaptionText, max_tokens: int) -> tuple[Tensor, Tensor]:
    """ids (N, max_tokens) int64, lengths (N,), start and end included. Long captions are cut in front of the end."""
    ids = text.tokenizer(list(texts), context_length=max_tokens)
    return ids, (ids == text.eos_id).int().argmax(dim=1) + 1


def shortened(texts: Sequence[str], text: CaptionText, max_tokens: int, batch_size: int = 4096) -> int:
    """How many of the captions are longer than `max_tokens`."""
    number = 0
    for start in range(0, len(texts), batch_size):
        # No token is less than one byte: most short captions need no tokenizer.
        doubtful = [text for text in texts[start : start + batch_size] if len(text.encode()) > max_tokens - 2]
        if doubtful:
            number += int((caption_ids(doubtful, text, max_tokens + 1)[1] > max_tokens).sum())
    return number


def padded(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """ids and labels, both (B, T), T the longest of the batch; labels are `IGNORED` past the end.

    A caption ends by its length: the id that pads may be a word's or the end's.
    """
    ids = ids[:, : int(lengths.max())]
    past_end = torch.arange(ids.shape[1]) >= lengths[:, None]
    return ids.masked_fill(past_end, 0), ids.masked_fill(past_end, IGNORED)


def check_max_tokens(text: CaptionText, max_tokens: int) -> None:
    """Raises `InputError` for captions longer than the CLIP reads, and a tokenizer without an end token."""
    if max_tokens > text.context_length:
        raise InputError(f"max_tokens is {max_tokens}, but CLIP {text.name!r} reads {text.context_length}; lower it")
    if text.eos_id is None:
        raise InputError(f"the tokenizer of CLIP {text.name!r} has no end token; DeCap cannot learn where to stop")


def vocabulary_size(text: CaptionText) -> int:
    """How many ids the tokenizer has a text for."""
    inner = getattr(text.tokenizer, "tokenizer", None)
    return len(inner) if inner is not None else int(text.tokenizer.vocab_size)

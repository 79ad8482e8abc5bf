"""Prompts as tensors, and the Llama that is asked for nothing but the logits of counted positions.

A batch is sorted by length and split into parts of nearly equal lengths, padded on the right: attention is then plainly
causal, needs no mask, and little time goes to padding. All else in the model runs over the tokens of all parts at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...train.engine.attention import Parts, causal_attention_in_parts
from .pieces import BOS_ID, EOS_ID
from .prompts import Example

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaForCausalLM

IGNORED = -100
_ATTENTION = "textlens_parts"
_PROMPT_STRIDE = 4  # the logits of every token of a prompt would take a third of a step
_FILLED = 0.75  # how short a prompt may be beside the longest of its part

Part = dict[str, Tensor]
"""ids, labels, weights, answers: (B, T). labels hold the next id where it is counted, else `IGNORED`; answers: whether
it is one of an answer that is counted."""


class AnswerModel(nn.Module):
    """A Llama over the parts of a batch."""

    def __init__(self, llama: LlamaForCausalLM, *, compile_layers: bool = False) -> None:
        from transformers import AttentionInterface

        super().__init__()
        self.llama = llama
        AttentionInterface.register(_ATTENTION, causal_attention_in_parts)
        llama.set_attn_implementation(_ATTENTION)
        if compile_layers:
            for layer in llama.model.layers:
                layer.compile(dynamic=True)

    def forward(self, parts: Sequence[Part]) -> Tensor:
        """(K, V), K the counted positions of all parts in order. One call for the whole batch, as DDP wants it."""
        ids, labels = (torch.cat([part[name].flatten() for part in parts]) for name in ("ids", "labels"))
        shapes = [(rows, tokens) for rows, tokens in (part["ids"].shape for part in parts)]
        places = [torch.arange(tokens, device=ids.device).repeat(rows) for rows, tokens in shapes]
        embedded = self.llama.model.embed_tokens(ids)
        if torch.is_autocast_enabled(ids.device.type):  # or all that is added to it stays in float32
            embedded = embedded.to(torch.get_autocast_dtype(ids.device.type))
        found = self.llama.model(
            inputs_embeds=embedded[None], position_ids=torch.cat(places)[None], use_cache=False, parts=Parts(shapes)
        )
        return self.llama.lm_head(found.last_hidden_state[0, labels != IGNORED])


def encode(pieces: SentencePieceProcessor, example: Example, *, shots: bool, prompt_weight: float = 0.0) -> Part:
    """One prompt with its answer and </s>: ids, labels, weights, answers, all (T,). shots: count their answers too.
    prompt_weight: of one token in `_PROMPT_STRIDE` of the rest.

    The parts of the prompt are encoded one by one, which gives the ids of the whole text: each ends where a token does.
    """
    ids, weights, answers = [BOS_ID], [0.0], [False]
    first = len(example.query) % _PROMPT_STRIDE  # not the same places in all prompts
    for text, counted in example.segments(shots=shots):
        found = pieces.encode(text)
        ids += found
        answers += [counted] * len(found)
        for place in range(len(weights), len(ids)):
            rest = prompt_weight if place % _PROMPT_STRIDE == first else 0.0
            weights.append(len(found) ** -0.5 if counted else rest)
    ids, weights, answers = [*ids, EOS_ID], [*weights, weights[-1]], [*answers, True]
    each = torch.tensor(weights[1:])
    labels = torch.tensor(ids[1:]).masked_fill(each == 0, IGNORED)
    return {"ids": torch.tensor(ids[:-1]), "labels": labels, "weights": each, "answers": torch.tensor(answers[1:])}


def split_by_length(rows: Sequence[Part]) -> list[Part]:
    """Rows (T,) of a batch, padded into parts (B, T); within a part none is much shorter than the longest."""
    return [padded([rows[i] for i in numbers]) for numbers in by_length(rows)]


def by_length(rows: Sequence[Part], max_tokens: int | None = None) -> Iterator[list[int]]:
    """The numbers of the rows, sorted into parts, the longest first. max_tokens: of a part, padding included."""
    lengths = [len(row["ids"]) for row in rows]
    part: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -lengths[i]):
        longest = lengths[part[0]] if part else 0
        if part and (lengths[i] < _FILLED * longest or (max_tokens and longest * (len(part) + 1) > max_tokens)):
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def padded(rows: Sequence[Part]) -> Part:
    """Rows (T,) -> (B, T)."""
    fill = {"ids": EOS_ID, "labels": IGNORED, "weights": 0, "answers": False}
    pad = nn.utils.rnn.pad_sequence
    return {name: pad([row[name] for row in rows], batch_first=True, padding_value=fill[name]) for name in fill}


def counted(parts: Sequence[Part], name: str) -> Tensor:
    """(K,) in the order of `AnswerModel`."""
    return torch.cat([part[name][part["labels"] != IGNORED] for part in parts])

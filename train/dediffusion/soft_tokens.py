"""Soft tokens: mixtures of words that carry a gradient, and how they enter a frozen text encoder at its *input*.

Gumbel-softmax: Jang et al. 2017, arXiv 1611.01144; Maddison et al. 2017, arXiv 1611.00712. De-Diffusion
(arXiv 2311.00618) anneals its temperature exponentially, 2.0 -> 0.3, over the whole schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..engine.randomness import sample_seed


def temperature_at(step: int, steps: int, start: float = 2.0, end: float = 0.3) -> float:
    """Temperature of step number `step` of `steps`: exponential from `start` to `end`, which the last step reaches."""
    return float(start * (end / start) ** min(1.0, step / max(1, steps - 1)))


def gumbel_noise(
    shape: Sequence[int], seed: int, indices: Sequence[int], *, stream: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard Gumbel noise, (len(indices), *shape) float32; row i follows from `seed`, `stream`, `indices[i]`.

    Drawn on `device`, as it is as large as the logits: kinds of device differ in their draws, runs do not.
    """
    noise = torch.empty(len(indices), *shape, device=device)
    for row, index in zip(noise, indices, strict=True):
        generator = torch.Generator(device).manual_seed(sample_seed(seed, index, stream))
        row.uniform_(generator=generator)  # and two logarithms: on a CPU a quarter of the time of `exponential_`
    return noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_().neg_().log_().neg_()


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float, *, hard: bool = False) -> Tensor:
    """logits, noise (..., V) -> probabilities (..., V) float32 (float64 for such logits).

    hard: straight-through, exactly one-hot values with the gradient of the soft ones. torch's own draws its noise
    from the global generator; ours is keyed by sample, whatever the split of the batch.
    """
    kept = logits if logits.dtype == torch.float64 else logits.float()
    soft = ((kept + noise) / temperature).softmax(-1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return one_hot + (soft - soft.detach())  # the bracket is exactly 0, so that the values stay exactly one-hot


def sample_words(logits: Tensor, noise: Tensor) -> Tensor:
    """Exact draws from softmax(logits) by the Gumbel-max trick: logits, noise (..., V) -> (...) int64."""
    return (logits.float() + noise).argmax(-1)


def mix(probabilities: Tensor, words: Tensor) -> Tensor:
    """probabilities (B, N, V) @ words (V, D) -> (B, N, D); of one-hot probabilities exactly the rows of `words`.

    Not under autocast: bf16 would round rows that a look-up leaves alone.
    """
    with torch.autocast(words.device.type, enabled=False):
        return probabilities.to(words.dtype) @ words


def padded_ids(tokenizer: Any, ids: Tensor) -> Tensor:
    """ids (B, N) of words -> (B, L): framed and padded as the tokenizer does with padding="max_length".

    Raises `InputError` where N words with start and end do not fit.
    """
    length = tokenizer.model_max_length
    frame = tokenizer("", padding="max_length", max_length=length, truncation=True).input_ids  # start, end, padding
    if frame[:2] != [tokenizer.bos_token_id, tokenizer.eos_token_id]:
        raise InputError(f"the tokenizer writes an empty text as {frame[:3]} ...; expected start, end, then padding")
    rows, words = ids.shape
    if words > length - 2:
        raise InputError(
            f"{words} words do not fit the text encoder's {length} positions with start and end; expected at most "
            f"{length - 2}: lower num_queries"
        )
    edge = torch.tensor(frame, device=ids.device).expand(rows, -1)  # (B, L)
    return torch.cat([edge[:, :1], ids, edge[:, 1 : length - words]], dim=1)


@contextmanager
def soft_embeddings(text_encoder: nn.Module, embeddings: Tensor) -> Iterator[None]:
    """Within the block the text encoder reads `embeddings` (B, N, D) at positions 1 to N, whatever ids stand there.

    A hook on the token embedding (`CLIPTextModel` takes no `inputs_embeds`), removed at the end, errors or not.
    """

    def replace(module: nn.Module, inputs: tuple[Tensor, ...], looked_up: Tensor) -> Tensor:
        after = 1 + embeddings.shape[1]
        return torch.cat([looked_up[:, :1], embeddings.to(looked_up.dtype), looked_up[:, after:]], dim=1)

    handle = token_embedding(text_encoder).register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def token_embedding(text_encoder: nn.Module) -> nn.Embedding:
    """The token embedding of a transformers text model, or of an open_clip text tower."""
    module: Any = text_encoder
    found = module.get_input_embeddings() if hasattr(module, "get_input_embeddings") else module.token_embedding
    if not isinstance(found, nn.Embedding):
        raise InputError(f"{type(module).__name__} has a {type(found).__name__} as token embedding; expected Embedding")
    return found

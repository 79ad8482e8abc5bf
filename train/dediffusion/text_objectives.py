"""Objectives and figures of the encoder's words, beside the decoder's loss; and the policy gradient of drawn texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.distributed import gather_with_grad

IGNORED = -100  # as in `torch.nn.functional.cross_entropy`


def entropy(probabilities: Tensor) -> Tensor:
    """(..., V) -> (...): in nats."""
    # At 0 the slope is infinite, and a softmax that has come down to 0 would make no number of it.
    return torch.special.entr(probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)).sum(-1)


def usage_entropy(probabilities: Tensor) -> Tensor:
    """(B, N, V) -> (): entropy of each position's word distribution averaged over the batch, mean over positions.

    Low where a position writes the same word for every image. Rewarding it counters that collapse, and leaves a text's
    own certainty alone. The batch is that of all processes, which have B each.
    """
    return entropy(gather_with_grad(probabilities.mean(0, keepdim=True)).mean(0)).mean()


def mutual_information(probabilities: Tensor) -> Tensor:
    """(B, N, V) -> (): of a position's word and which image of the batch it describes, in nats, mean over positions.

    Rewarding it makes positions whose words are random still say something about the image.
    """
    return usage_entropy(probabilities) - entropy(probabilities).mean()


def expected_repeats(probabilities: Tensor) -> Tensor:
    """(B, N, V) -> (): expected number of equal pairs per word in texts of N words, drawn independently.

    The decoder's gradient pulls all positions towards the same best word, and a word said twice takes another's place.
    """
    together = probabilities.sum(1).square().sum(-1)  # (B,): each word with all, itself included
    alone = probabilities.square().sum((1, 2))
    return ((together - alone) / probabilities.shape[1]).mean()


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """(B, K) -> (B, K): how much better each of K texts of one image is than the mean of the others.

    Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!".
    """
    texts = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (texts / (texts - 1))


def policy_loss(logits: Tensor, words: Tensor, rewards: Tensor) -> Tensor:
    """A scalar whose gradient is that of the negative mean expected reward (REINFORCE).

    logits (B, N, V); words (B, K, N) numbers drawn from softmax(logits); rewards (B, K) of those texts.
    """
    per_word = logits.float().log_softmax(-1).unsqueeze(1).expand(-1, words.shape[1], -1, -1)  # (B, K, N, V)
    log_probability = per_word.gather(-1, words.unsqueeze(-1)).squeeze(-1).sum(-1)  # (B, K)
    return -(leave_one_out_advantages(rewards).detach() * log_probability).mean()


@torch.no_grad()
def word_figures(probabilities: Tensor) -> dict[str, Tensor]:
    """Of softmax(logits), (B, N, V): mean entropy in nats, mean highest probability, and the share of a text's
    arg-max words that are distinct.
    """
    highest, words = probabilities.max(-1)
    repeated = words.sort(1).values.diff(dim=1).eq(0)
    return {
        "entropy": entropy(probabilities).mean(),
        "max_probability": highest.mean(),
        "distinct": 1 - repeated.sum(1).float().mean() / words.shape[1],
    }


def word_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of (B, N, V) logits with (B, N) word numbers, mean over those that are not `IGNORED`; 0 of none."""
    total = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / targets.ne(IGNORED).sum().clamp(min=1)

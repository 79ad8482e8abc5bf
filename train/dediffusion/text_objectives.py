"""What De-Diffusion training makes of the encoder's logits beside the decoder's loss: figures, a reward against
collapse, and the policy gradient for texts that are drawn rather than mixed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """(..., V) -> (...): in nats."""
    # At 0 the slope is infinite, and a softmax that has come down to 0 would make no number of it.
    return torch.special.entr(probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)).sum(-1)


def usage_entropy(probabilities: Tensor) -> Tensor:
    """(B, N, V) -> (): the entropy of each position's word use averaged over the batch, mean over positions.

    Low where a position writes the same word for every image. To reward it counters that collapse and leaves a text's
    own certainty alone.
    """
    return entropy(probabilities.mean(0)).mean()


def information(probabilities: Tensor) -> Tensor:
    """(B, N, V) -> (): what a position's word tells about which image of the batch it describes, in nats, mean over
    positions: the mutual information of image and word, which is `usage_entropy` less the words' own entropy.

    To reward it makes positions that are of no use yet, and draw their words by lot, say something of the image.
    """
    return usage_entropy(probabilities) - entropy(probabilities).mean()


def expected_repeats(probabilities: Tensor) -> Tensor:
    """(B, N, V) -> (): how often a text, its N words drawn independently, says a word that another of its words has
    said already: the expected number of equal pairs for each word, mean over texts.

    The decoder's gradient pulls all positions towards the same best word, and a word said twice takes the place of
    another that would tell more.
    """
    together = probabilities.sum(1).square().sum(-1)  # (B,): each word with all, itself included
    alone = probabilities.square().sum((1, 2))
    return ((together - alone) / probabilities.shape[1]).mean()


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """(B, K) -> (B, K): how much better each of K texts of one image is than the mean of the others (Kool et al. 2019,
    "Buy 4 REINFORCE samples, get a baseline for free!").
    """
    texts = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (texts / (texts - 1))


def policy_loss(logits: Tensor, words: Tensor, rewards: Tensor) -> Tensor:
    """A scalar whose gradient is that of the mean expected reward, with the sign turned, by REINFORCE.

    logits (B, N, V); words (B, K, N) numbers drawn from softmax(logits); rewards (B, K) of those texts.
    """
    per_word = logits.float().log_softmax(-1).unsqueeze(1).expand(-1, words.shape[1], -1, -1)  # (B, K, N, V)
    log_probability = per_word.gather(-1, words.unsqueeze(-1)).squeeze(-1).sum(-1)  # (B, K)
    return -(leave_one_out_advantages(rewards).detach() * log_probability).mean()


@torch.no_grad()
def text_figures(probabilities: Tensor) -> dict[str, Tensor]:
    """Of softmax(logits), (B, N, V): mean entropy in nats, mean highest probability, and the share of a text's
    arg-max words that are distinct.
    """
    highest, words = probabilities.max(-1)
    return {
        "entropy": entropy(probabilities).mean(),
        "max_probability": highest.mean(),
        "distinct": share_distinct(words),
    }


def share_distinct(words: Tensor) -> Tensor:
    """(B, N) word numbers -> (): distinct words of a text per position, mean over texts."""
    ordered = words.sort(1).values
    new = ordered[:, 1:] != ordered[:, :-1]
    return ((new.sum(1) + 1) / words.shape[1]).mean()


def word_loss(logits: Tensor, targets: Tensor, ignored: int = -100) -> Tensor:
    """Cross-entropy of (B, N, V) logits with (B, N) word numbers, mean over those that are not `ignored`."""
    counted = targets.ne(ignored).sum().clamp(min=1)
    total = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=ignored, reduction="sum")
    return total / counted

"""Image-text retrieval: how often the right one is among the K nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RANKS = (1, 5, 10)


def recall_at(similarity: Tensor, right: Tensor, ranks: Sequence[int] = RANKS) -> dict[int, float]:
    """similarity (Q, C) of queries and candidates; right (Q, C) bool, one or more candidates of each query.

    Recall at K: share of queries with a right candidate among the K most similar, in percent. With five captions a
    photo this is the protocol of Flickr and COCO (Karpathy & Fei-Fei 2015, arXiv 1412.2306).
    """
    best = similarity.masked_fill(~right, -torch.inf).amax(1, keepdim=True)  # (Q, 1)
    rank = (similarity > best).sum(1)  # of the first right candidate, from 0
    return {k: 100 * float((rank < k).float().mean()) for k in ranks}


def image_text_recall(images: Tensor, texts: Tensor, owner: Tensor, ranks: Sequence[int] = RANKS) -> dict[str, float]:
    """images (N, D) and texts (M, D), unit length; owner (M,) the image of each text -> figures both ways."""
    similarity = images.float() @ texts.float().T  # (N, M)
    right = owner[None, :] == torch.arange(len(images), device=owner.device)[:, None]
    both = {
        "image_to_text": recall_at(similarity, right, ranks),
        "text_to_image": recall_at(similarity.T, right.T, ranks),
    }
    return {f"{way}_r{k}": value for way, figures in both.items() for k, value in figures.items()}


def own_hits(similarity: Tensor, ranks: Sequence[int] = RANKS) -> dict[int, Tensor]:
    """similarity (N, N) of queries and candidates, of which candidate i alone is right for query i -> (N,) for each K:
    1 where it is among the K most similar, else 0. Candidates of equal similarity are taken in random order, in
    expectation, so that a blank query is chance.
    """
    own = similarity.diagonal()[:, None]  # (N, 1)
    above, tied = (similarity > own).sum(1), (similarity == own).sum(1)  # tied: with itself
    return {k: ((k - above) / tied).clamp(0, 1) for k in ranks}


def own_recall(similarity: Tensor, ranks: Sequence[int] = RANKS) -> dict[int, float]:
    """Means of `own_hits`, in percent."""
    return {k: 100 * float(hits.mean()) for k, hits in own_hits(similarity, ranks).items()}

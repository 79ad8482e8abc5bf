"""Okapi BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"): texts searched by words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def bm25(
    queries: Sequence[Sequence[str]], documents: Sequence[Sequence[str]], *, k1: float = 1.2, b: float = 0.75
) -> Tensor:
    """Words of queries and documents -> (Q, D) scores; k1 and b as in Lucene, whose idf is never negative.

    A word that stands twice in a query counts once.
    """
    counts = [Counter(words) for words in documents]
    frequency = Counter(word for count in counts for word in count)
    lengths = torch.tensor([float(len(words)) for words in documents])
    damped = k1 * (1 - b + b * lengths / lengths.mean().clamp(min=1))  # (D,)
    weights: dict[str, Tensor] = {}
    for word in {word for words in queries for word in words} & frequency.keys():
        idf = math.log(1 + (len(documents) - frequency[word] + 0.5) / (frequency[word] + 0.5))
        times = torch.tensor([float(count[word]) for count in counts])
        weights[word] = idf * times * (k1 + 1) / (times + damped)
    blank = torch.zeros(len(documents))
    return torch.stack([sum((weights.get(word, blank) for word in set(words)), blank) for words in queries])

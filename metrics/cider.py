"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726) of single captions, with document frequencies that are counted once.

Ours, because `pycocoevalcap`, which scores evaluations here, counts them anew in whatever it scores: as a reward a
caption would be worth something else in every batch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

_ORDERS = (1, 2, 3, 4)  # lengths of n-grams
_SIGMA = 6.0  # of the penalty on a length that differs, in words
Words = Sequence[str]


class CiderD:
    """references: of each image its captions, each a list of words. They may be read once alone."""

    def __init__(self, references: Iterable[Sequence[Words]]) -> None:
        self._images = 0
        self._frequency: Counter[Words] = Counter()  # n-gram -> images whose captions have it
        for captions in references:
            self._images += 1
            self._frequency.update({gram for caption in captions for gram in _grams(caption)})

    def scores(self, written: Sequence[Words], references: Sequence[Words]) -> list[float]:
        """Of each caption against all references of its one image: 0 to 10."""
        true = [self._vectors(words) for words in references]
        return [self._score(self._vectors(words), true) for words in written]

    def _vectors(self, words: Words) -> tuple[dict[Words, float], list[float], int]:
        """tf-idf of every n-gram, the norm by length of n-gram, and the number of words."""
        vector = {
            gram: count * (math.log(self._images) - math.log(max(1, self._frequency[gram])))
            for gram, count in _grams(words).items()
        }
        squares = [0.0] * len(_ORDERS)
        for gram, value in vector.items():
            squares[len(gram) - 1] += value * value
        return vector, [math.sqrt(square) for square in squares], len(words)

    def _score(
        self,
        written: tuple[dict[Words, float], list[float], int],
        references: Sequence[tuple[dict[Words, float], list[float], int]],
    ) -> float:
        vector, norms, length = written
        total = 0.0
        for other, other_norms, other_length in references:
            similar = [0.0] * len(_ORDERS)
            for gram in vector.keys() & other.keys():
                similar[len(gram) - 1] += min(vector[gram], other[gram]) * other[gram]
            cosines = (s / (a * b) for s, a, b in zip(similar, norms, other_norms, strict=True) if a and b)
            total += sum(cosines) * math.exp(-((length - other_length) ** 2) / (2 * _SIGMA**2))
        return 10 * total / len(_ORDERS) / len(references)


def _grams(words: Words) -> Counter[Words]:
    """How often each n-gram occurs."""
    return Counter(tuple(words[i : i + n]) for n in _ORDERS for i in range(len(words) - n + 1))

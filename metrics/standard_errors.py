"""Standard errors of means and of paired differences (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000


def mean_and_error(values: Sequence[float], groups: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """The mean and its standard error; of differences of two models on the same items, the paired one.

    groups: of each value, such as the photograph that a question is about: values of one group are not taken as
    independent (clustered standard error). The error of a single group is not known: NaN.
    """
    mean = sum(values) / len(values)
    sums: dict[Hashable, float] = defaultdict(float)
    for group, value in zip(range(len(values)) if groups is None else groups, values, strict=True):
        sums[group] += value - mean
    if len(sums) < 2:
        return mean, float("nan")
    correction = len(sums) / (len(sums) - 1)
    return mean, sqrt(correction * sum(one * one for one in sums.values())) / len(values)


def bootstrap_error(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], counts: NDArray[np.float64], seed: int = 0
) -> float:
    """Standard error of a corpus metric that is computed from sums over items (Koehn 2004, W04-3250).

    statistic: (R, K) sums -> (R,) scores. counts: of each item, (N, K). The error of a single item is not known: NaN.
    """
    if len(counts) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=RESAMPLES)  # (R, N) times
    return float(np.std(statistic(drawn @ counts), ddof=1))

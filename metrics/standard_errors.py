"""Standard errors of means and of paired differences (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import sqrt


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

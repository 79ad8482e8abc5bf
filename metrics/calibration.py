"""Calibration: whether what is said with a chance of 0.7 is right 7 times in 10."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bin:
    """The predictions whose chance lies in one interval."""

    low: float  # above this, or from it on where it is 0
    high: float  # to this
    number: int
    chance: float  # mean
    right: float  # share


def reliability(chances: Tensor, right: Tensor, bins: int = 15) -> list[Bin]:
    """chances (N,) from 0 to 1, right (N,) bool -> the bins of equal width that are not empty, lowest first."""
    place = (chances * bins).ceil().long().sub(1).clamp(0, bins - 1)
    return [
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            number=int((place == i).sum()),
            chance=float(chances[place == i].mean()),
            right=float(right[place == i].float().mean()),
        )
        for i in torch.unique(place).tolist()
    ]


def expected_calibration_error(chances: Tensor, right: Tensor, bins: int = 15) -> float:
    """Mean distance of chance and share right over the bins, weighted by their numbers: 0 is perfect.

    Source: Naeini et al., AAAI 2015; Guo et al. 2017, arXiv 1706.04599. chances (N,), right (N,), N > 0.
    """
    return sum(one.number * abs(one.chance - one.right) for one in reliability(chances, right, bins)) / len(chances)

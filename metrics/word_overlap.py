"""Precision, recall and F1 of sets of words."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """Over all pairs of sets: micro-averaged, each in percent."""

    precision: float
    recall: float
    f1: float


def overlap(written: Sequence[Set[str]], true: Sequence[Set[str]]) -> Overlap:
    """Share of the written words that are true, share of the true words that are written, and their harmonic mean."""
    both = sum(len(one & other) for one, other in zip(written, true, strict=True))
    total, wanted = sum(map(len, written)), sum(map(len, true))
    f1 = 200 * both / (total + wanted) if total + wanted else 0.0
    return Overlap(100 * both / total if total else 0.0, 100 * both / wanted if wanted else 0.0, f1)

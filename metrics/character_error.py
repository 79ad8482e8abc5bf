"""Character error rate of read text, as in OCR and speech recognition."""

from __future__ import annotations

from collections.abc import Sequence


def edit_distance(one: str, other: str) -> int:
    """Fewest characters to insert, delete or replace to make one text the other (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def character_error_rate(truths: Sequence[str], readings: Sequence[str]) -> float:
    """Edit distances of all pairs by the characters of all truths: 0 is perfect, blank readings have 1."""
    distance = sum(edit_distance(truth, reading) for truth, reading in zip(truths, readings, strict=True))
    return distance / sum(map(len, truths))

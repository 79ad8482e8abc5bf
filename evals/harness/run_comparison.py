"""Whether two evaluations differ: paired differences of the same rows on the same documents (Miller 2024, arXiv
2411.00640)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...metrics.caption_metrics import bleu
from ...metrics.standard_errors import bootstrap_error, mean_and_error
from ..aligned_table import aligned, number
from .saved_results import Sample, read_results, read_samples


@dataclass(frozen=True)
class Difference:
    """Second minus first, x100, of one row. p: two-sided, by the normal approximation; None where all are equal."""

    task: str
    context: str
    num_fewshot: int | None
    metric: str
    first: float
    second: float
    difference: float
    stderr: float | None
    p: float | None
    n: int


def compare(first: Path, second: Path) -> list[Difference]:
    """Rows that both have, on the documents that both have.

    Where a row of the two folders differs in its context's name alone (each has one context that is no floor), these
    two are compared too. Raises `InputError` for folders that share no rows.
    """
    found, tasks = [], [set(read_results(folder).task_names) for folder in (first, second)]
    for task in sorted(tasks[0] & tasks[1]):
        one, other = (_by_row(read_samples(folder, task)) for folder in (first, second))
        for row in one:
            if row in other:
                found += _differences(task, row[0], row[1], one[row], other[row])
        found += _single_contexts(task, one, other)
    if not found:
        raise InputError(f"{first} and {second} share no rows; expected the same task, context and number of shots")
    return found


Rows = Mapping[tuple[str, int | None], Mapping[str, Sample]]
_FLOORS = ("none", "other image", "truth")


def _by_row(samples: Iterable[Sample]) -> Rows:
    rows: dict[tuple[str, int | None], dict[str, Sample]] = {}
    for sample in samples:
        rows.setdefault((sample.context, sample.num_fewshot), {})[sample.id] = sample
    return rows


def _single_contexts(task: str, one: Rows, other: Rows) -> list[Difference]:
    names = [{context for context, _ in rows if context not in _FLOORS} for rows in (one, other)]
    if any(len(own) != 1 for own in names) or names[0] == names[1]:
        return []
    mine, theirs = names[0].pop(), names[1].pop()
    shots = [count for context, count in one if context == mine and (theirs, count) in other]
    label = f"{mine} -> {theirs}"
    return [d for n in shots for d in _differences(task, label, n, one[mine, n], other[theirs, n])]


def _differences(
    task: str,
    context: str,
    num_fewshot: int | None,
    one: Mapping[str, Sample],
    other: Mapping[str, Sample],
) -> list[Difference]:
    shared = [key for key in one if key in other]
    made = []
    for metric in one[shared[0]].scores if shared else ():
        values = [(one[key].scores.get(metric), other[key].scores.get(metric)) for key in shared]
        pairs = [(a, b) for a, b in values if a is not None and b is not None]
        if len(pairs) < len(values):
            continue
        groups = [one[key].image or key for key in shared]
        first, second = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        _, error = mean_and_error([b - a for a, b in pairs], groups)
        made.append(_difference((task, context, num_fewshot, metric), first, second, error, len(pairs)))
    counts = [(one[key].bleu_counts, other[key].bleu_counts) for key in shared]
    if found := [[*a, *b] for a, b in counts if a and b]:
        both = np.array(found)  # (N, 20)
        first, second = (float(bleu(sums, 4)) for sums in np.split(both.sum(0), 2))
        error = bootstrap_error(lambda sums: bleu(sums[..., 10:], 4) - bleu(sums[..., :10], 4), both)
        made.append(_difference((task, context, num_fewshot, "BLEU-4"), first, second, error, len(both)))
    return made


def _difference(row: tuple[str, str, int | None, str], first: float, second: float, error: float, n: int) -> Difference:
    known = error if error == error and error > 0 else None
    p = math.erfc(abs((second - first) / known) / math.sqrt(2)) if known else None
    return Difference(
        *row, 100 * first, 100 * second, 100 * (second - first), None if known is None else 100 * known, p, n
    )


def comparison_table(rows: Sequence[Difference]) -> str:
    """One line a row, with a verdict at the level of 5 %."""
    head = ["task", "context", "shots", "metric", "first", "second", "difference", "±", "p", "n", ""]
    lines = [
        [
            row.task, row.context, "-" if row.num_fewshot is None else str(row.num_fewshot), row.metric,
            number(row.first), number(row.second), number(row.difference), number(row.stderr), number(row.p, 3),
            str(row.n), verdict(row),
        ]
        for row in rows
    ]  # fmt: skip
    return aligned(head, lines)


def verdict(row: Difference) -> str:
    """In words."""
    if row.p is None:
        return "equal" if row.difference == 0 else "not known"
    return "differ" if row.p < 0.05 else "no difference shown"

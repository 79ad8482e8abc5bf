"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..facts import KINDS, Score


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One line per row under the head."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def facts_table(rows: Mapping[str, Mapping[str, Score]], kinds: Sequence[str] = KINDS) -> str:
    """F1 by name and kind of fact."""
    lines = ([name, *(f"{scores[kind].f1:.3f}" for kind in kinds)] for name, scores in rows.items())
    return markdown(["F1", *kinds], lines)

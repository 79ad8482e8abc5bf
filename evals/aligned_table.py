"""Tables on the terminal that are Markdown at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import escaped


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded cells: the first column to the left, figures to the right.

    No cell can forge another: control characters and "|" are escaped.
    """
    lines = [[escaped(cell).replace("|", r"\|") for cell in line] for line in (head, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    rule = "|" + "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)) + "|"
    made = [
        "| " + " | ".join(f"{cell:{'>' if i else '<'}{widths[i]}}" for i, cell in enumerate(line)) + " |"
        for line in lines
    ]
    return "\n".join([made[0], rule, *made[1:]])


def number(value: float | None, digits: int = 1) -> str:
    """A figure of a cell; "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"

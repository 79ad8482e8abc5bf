"""Pieces of text, as a detector finds them anywhere in an image -> lines in the order in which one reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

Point = tuple[float, float]  # x to the right, y down, in pixels

SAME_ROW = 0.5  # pieces whose middles are closer than this share of their height stand in one row
SPANNING = 0.6  # a piece wider than this share of all text is no part of a column
MIN_COLUMN = 3  # pieces that make a column
PROSE = 12  # characters of a piece from which columns are running text, even where their rows are level
LEVEL = 0.7  # share of a column's pieces with a neighbour in the same row from which short columns are a table


@dataclass(frozen=True)
class Piece:
    """A stretch of text along the middle line from `start` to `end`, in reading direction."""

    text: str
    confidence: float  # 0 to 1
    start: Point
    end: Point
    height: float


@dataclass(frozen=True)
class _Placed:
    """A piece in the frame in which most of the text is level."""

    piece: Piece
    left: float
    right: float
    middle: float
    height: float


def reading_order(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Rows of pieces: top to bottom, each left to right, in the direction that most of the text has.

    Columns are read one after the other where they are running text or where their rows are not level; the columns of a
    table are read row by row.
    """
    if not pieces:
        return []
    axis = reading_axis(pieces)
    return [[placed.piece for placed in row] for row in _ordered([_place(piece, axis) for piece in pieces])]


def reading_axis(pieces: Sequence[Piece]) -> Point:
    """The unit vector along which most text runs: the mean of those in the strongest of four quadrants."""
    sums = [[0.0, 0.0] for _ in range(4)]
    for piece in pieces:
        dx, dy = piece.end[0] - piece.start[0], piece.end[1] - piece.start[1]
        quadrant = round(math.atan2(dy, dx) / (math.pi / 2)) % 4
        sums[quadrant][0] += dx
        sums[quadrant][1] += dy
    x, y = max(sums, key=lambda total: math.hypot(*total))
    length = math.hypot(x, y)
    return (x / length, y / length) if length else (1.0, 0.0)


def _place(piece: Piece, axis: Point) -> _Placed:
    ux, uy = axis
    (x0, y0), (x1, y1) = piece.start, piece.end
    along, across = abs((x1 - x0) * ux + (y1 - y0) * uy), abs((y1 - y0) * ux - (x1 - x0) * uy)
    length = math.hypot(along, across) or 1.0
    width, height = along + piece.height * across / length, across + piece.height * along / length
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    centre, middle = x * ux + y * uy, y * ux - x * uy
    return _Placed(piece, centre - width / 2, centre + width / 2, middle, height or piece.height)


def _ordered(pieces: list[_Placed]) -> list[list[_Placed]]:
    """Sections between rows that span everything; a section is columns or rows."""
    width = max(piece.right for piece in pieces) - min(piece.left for piece in pieces)
    ordered = []
    for spans, rows in groupby(
        _rows(pieces), key=lambda row: any(piece.right - piece.left > SPANNING * width for piece in row)
    ):
        section = list(rows)
        columns = None if spans else _columns([piece for row in section for piece in row])
        ordered += [row for column in columns for row in _ordered(column)] if columns else section
    return ordered


def _rows(pieces: list[_Placed]) -> list[list[_Placed]]:
    rows: list[list[_Placed]] = []
    for piece in sorted(pieces, key=lambda piece: piece.middle):
        if rows and _level(rows[-1][-1], piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [sorted(row, key=lambda piece: piece.left) for row in rows]


def _level(one: _Placed, other: _Placed) -> bool:
    return abs(one.middle - other.middle) < SAME_ROW * min(one.height, other.height)


def _columns(pieces: list[_Placed]) -> tuple[list[_Placed], list[_Placed]] | None:
    """Split at the widest gap from top to bottom, unless the two sides are too few or cells of a table."""
    by_left = sorted(pieces, key=lambda piece: piece.left)
    gap, cut, reached = 0.0, 0, by_left[0].right
    for i, piece in enumerate(by_left):
        if piece.left - reached > gap:
            gap, cut = piece.left - reached, i
        reached = max(reached, piece.right)
    left, right = by_left[:cut], by_left[cut:]
    if min(len(left), len(right)) < MIN_COLUMN:
        return None
    prose = all(median(len(piece.piece.text) for piece in side) >= PROSE for side in (left, right))
    fewer, more = sorted((left, right), key=len)
    level = sum(any(_level(piece, other) for other in more) for piece in fewer) / len(fewer)
    return (left, right) if prose or level < LEVEL else None

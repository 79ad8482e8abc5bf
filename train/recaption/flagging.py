"""The last pass over all parts: captions that too many images share, the flags of every caption, and their numbers.

It reads the finished files alone, may be run again with other checks, and takes the same memory for any number of rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ...encoders.saved_models import write_text
from .caption_checks import Checks, Flagger, plain
from .ledger import claimed, named_lock
from .part_file import (
    KEEP,
    REASONS,
    Row,
    disk_errors,
    lock_name,
    new_part,
    part_path,
    read_rows,
    remove_unfinished,
    schema,
)

NAME = "checks.json"
_CELLS = 1 << 20  # counters of the sketch of each style; a caption is counted in `_HASHES` of them
_HASHES = 2


@dataclass
class StyleTally:
    """Numbers of captions."""

    written: int = 0
    kept: int = 0
    flagged: dict[str, int] = field(default_factory=dict)  # reason -> captions


@dataclass
class Tally:
    """Numbers of a whole folder."""

    rows: int = 0
    failed: int = 0  # rows with an error
    without_original: int = 0
    original_errors: int = 0
    errors: list[str] = field(default_factory=list)  # the first of them
    styles: dict[str, StyleTally] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        self.rows += 1
        self.failed += row["error"] is not None
        self.without_original += not row["original"]
        self.original_errors += row["original_error"] is not None
        if row["error"] is not None and len(self.errors) < 20:
            self.errors.append(f"{row['shard'] + ': ' if row['shard'] else ''}{row['key']}: {row['error']}")
        for style, tally in self.styles.items():
            tally.written += row[style] is not None
            tally.kept += row[KEEP + style]
            for reason in row[REASONS + style]:
                tally.flagged[reason] = tally.flagged.get(reason, 0) + 1


def flag_all(folder: Path, parts: Sequence[str], styles: Sequence[str], checks: Checks, similarity: bool) -> Tally:
    """Flag every caption, rewrite the parts whose flags change, and count; also into DST/checks.json.

    parts: names of those that have a file.
    """
    constant = constant_captions(folder, parts, styles, checks)
    flagger = Flagger(styles, checks, constant)
    tally = Tally(styles={style: StyleTally() for style in styles})
    for part in parts:
        path = part_path(folder, part)
        if any(flagger.flag(row) != row for rows in read_rows(path) for row in rows):
            with named_lock(folder, lock_name(part)), new_part(path, schema(styles, similarity)) as writer:
                for rows in read_rows(path):
                    writer.add([flagger.flag(row) for row in rows])
        with claimed(folder, lock_name(part)) as ours:
            if ours:
                remove_unfinished(path)
        for rows in read_rows(path):
            for row in rows:
                tally.add(row)
    shown = {
        "checks": asdict(checks),
        **asdict(tally),
        "constant": {style: sorted(constant[style]) for style in styles},
    }
    with disk_errors(folder / NAME):
        write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", folder / NAME)
    return tally


def constant_captions(
    folder: Path, parts: Sequence[str], styles: Sequence[str], checks: Checks
) -> Mapping[str, set[str]]:
    """Style -> captions, as `plain` has them, of more images than `checks.limit`.

    Counted twice: first all in a sketch that never counts too few (count-min, Cormode & Muthukrishnan 2005), then
    exactly those that may be too many.
    """
    sketches = {style: np.zeros(_CELLS, np.uint32) for style in styles}
    number = 0
    for rows in _captions(folder, parts, styles):
        number += len(rows)
        for style, sketch in sketches.items():
            cells = [cell for row in rows if row[style] is not None for cell in _cells(plain(row[style]))]
            np.add.at(sketch, cells, 1)
    limit = checks.limit(number)
    many = {style: sketch > limit for style, sketch in sketches.items()}
    exact: dict[str, Counter[str]] = {style: Counter() for style in styles}
    if any(sketch.any() for sketch in many.values()):
        for rows in _captions(folder, parts, styles):
            for style in styles:
                texts = (plain(row[style]) for row in rows if row[style] is not None)
                exact[style].update(text for text in texts if all(many[style][cell] for cell in _cells(text)))
    return {style: {text for text, count in counts.items() if count > limit} for style, counts in exact.items()}


def _captions(folder: Path, parts: Sequence[str], styles: Sequence[str]) -> Iterator[list[Row]]:
    for part in parts:
        yield from read_rows(part_path(folder, part), list(styles))


def _cells(text: str) -> list[int]:
    digest = blake2b(text.encode(), digest_size=4 * _HASHES).digest()
    return [int.from_bytes(digest[4 * i : 4 * i + 4], "little") % _CELLS for i in range(_HASHES)]

"""Captions alone: text files with one a line, or a column of tab-separated values; gzipped or plain."""

from __future__ import annotations

import os

import numpy as np

from ...encoders.decap.memory_build import text_lines
from ...errors import InputError
from .held_out import Split, key_hashes
from .items import Items, RawItem
from .patterns import local_files


class TextItems(Items):
    """The captions of "texts:captions.txt.gz". Equal ones are all in training, or all held out."""

    has_images = False

    def __init__(self, spec: str, column: str, held_out_share: float) -> None:
        """column: of TSV files its number, from 1, or the name that the first line gives it."""
        self.name = spec
        self._files = local_files(spec.partition(":")[2])
        self._texts: list[str] = []
        self._starts: list[int] = []  # of each file in the list
        for path in self._files:
            self._starts.append(len(self._texts))
            self._texts += (
                _column(path, column) if ".tsv" in os.path.basename(path) else map(str.strip, text_lines(path))
            )
        self._first_line = 2 if any(".tsv" in path for path in self._files) and not column.isdigit() else 1
        hashes = key_hashes(text.encode("utf-8", "surrogatepass") for text in self._texts)
        self.split = Split([hashes], held_out_share, len(self._texts))
        stamps = [(path, os.stat(path).st_mtime_ns) for path in self._files]
        self.identity = f"{spec} {column} {len(self._texts)} {held_out_share} {stamps}"

    def __len__(self) -> int:
        return len(self._texts)

    def read(self, position: int, *, image: bool = True, text: bool = True) -> RawItem:
        file = int(np.searchsorted(self._starts, position, side="right")) - 1
        line = position - self._starts[file] + self._first_line
        return RawItem(f"{self._files[file]}: line {line}", None, self._texts[position])


def _column(path: str, column: str) -> list[str]:
    """A column of a TSV file; "" where a line has fewer."""
    rows = (line.rstrip("\r\n").split("\t") for line in text_lines(path))
    if column.isdigit():
        number = int(column) - 1
    else:
        names = next(rows, [])
        if column not in names:
            raise InputError(
                f"{path} has no column {column!r}; its first line is {', '.join(map(repr, names))}: set data.text to "
                'one of these, or to the number of a column, such as "2", where that is no line of names'
            )
        number = names.index(column)
    return [row[number].strip() if 0 <= number < len(row) else "" for row in rows]

"""Rows of a table file: JSON Lines, JSON, CSV, TSV or Parquet; the first four may be gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...input_files import check_regular

_SHOWN = 8  # problems in an error
_LISTS = ("questions", "annotations", "images", "data")  # where a JSON object may hold its rows


@dataclass(frozen=True)
class TableRow:
    """place: where it stands in the file, for errors: "line 3", "entry 3"."""

    place: str
    values: Mapping[str, Any]

    def get(self, column: str, default: Any = None) -> Any:
        """The value of a column; "json.caption" is `caption` within `json`."""
        found: Any = self.values
        for part in column.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return default
            found = found[part]
        return found


@dataclass
class Problems:
    """All that is wrong with a file, so that it is told in one go."""

    path: Path | str
    found: list[str] = field(default_factory=list)

    def add(self, place: str, column: str, message: str) -> None:
        """Note one problem."""
        self.found.append(f"{place}, {column}: {message}")

    def check(self) -> None:
        """Raises `InputError` that names file, places and columns, if there are any."""
        if self.found:
            more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
            count = f"{len(self.found)} problem{'s' * (len(self.found) > 1)}"
            raise InputError(f"{self.path}: {count}: {'; '.join(self.found[:_SHOWN])}{more}")


def read_rows(path: Path, name: str = "") -> list[TableRow]:
    """The rows of a file, by its ending. name: the list in a JSON object, such as COCO's "annotations"; by default the
    first of the usual ones.

    Raises `InputError` that names the file, and all lines that cannot be read.
    """
    problems = Problems(path)
    check_regular(path)
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind == "parquet":
        rows = [TableRow(f"row {i}", row) for i, row in enumerate(_parquet(path), 1)]
    elif kind in ("csv", "tsv"):
        rows = list(_separated(_text(path), "\t" if kind == "tsv" else ","))
    elif kind == "json":
        rows = list(_json_list(path, name, problems))
    elif kind == "jsonl":
        rows = list(_json_lines(_text(path), problems))
    else:
        raise InputError(f"{path} ends in .{kind}; expected .jsonl, .json, .csv, .tsv (.gz too) or .parquet")
    problems.check()
    if not rows:
        raise InputError(f"{path} has no rows; expected one or more")
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte {error.object[error.start]:#x} is not UTF-8; save it as UTF-8"
        ) from error
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _json_lines(text: str, problems: Problems) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(), which also breaks at U+2028
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(f"line {number}", "JSON", str(error))
            continue
        if isinstance(entry, dict):
            yield TableRow(f"line {number}", entry)
        else:
            problems.add(f"line {number}", "JSON", f"got {type(entry).__name__}; expected an object")


def _json_list(path: Path, name: str, problems: Problems) -> Iterator[TableRow]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict):
        found = [key for key in ((name,) if name else _LISTS) if isinstance(content.get(key), list)]
        if not found:
            raise InputError(
                f"{path} has no list {name or ' or '.join(_LISTS)}; it has {', '.join(content) or 'nothing'}"
            )
        content = content[found[0]]
    if not isinstance(content, list):
        raise InputError(f"{path} holds {type(content).__name__}; expected a list of objects")
    for number, entry in enumerate(content, 1):
        if isinstance(entry, dict):
            yield TableRow(f"entry {number}", entry)
        else:
            problems.add(f"entry {number}", "JSON", f"got {type(entry).__name__}; expected an object")


def _separated(text: str, delimiter: str) -> Iterator[TableRow]:
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    for row in reader:
        yield TableRow(f"line {reader.line_num}", row)


def _parquet(path: Path) -> Sequence[Mapping[str, Any]]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, arrow.ArrowInvalid) as error:
        raise InputError(f"cannot read {path} as Parquet: {error}") from error
    return rows

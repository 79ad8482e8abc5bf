"""The file of a part: a parquet table with the captions of its samples, there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InputError

Row = dict[str, Any]  # column -> value

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GROUP = 1000  # rows that are written, and read, at once
_TEXTS = pa.list_(pa.string())
# Columns of each style: the caption, and what is known of it.
KEEP, REASONS, CUT_OFF, SIMILARITY = "keep_", "reasons_", "cut_off_", "similarity_"
FIXED = ("shard", "key", "image_sha256", "original", "original_error", "error")


def schema(styles: Sequence[str], similarity: bool = False) -> pa.Schema:
    """The columns. similarity: with the CLIP similarity of image and captions."""
    columns: list[tuple[str, pa.DataType]] = [
        ("shard", pa.string()), ("key", pa.string()), ("image_sha256", pa.string()), ("original", _TEXTS),
        ("original_error", pa.string()),
    ]  # fmt: skip
    for style in styles:
        columns += [(style, pa.string()), (KEEP + style, pa.bool_()), (REASONS + style, _TEXTS)]
        columns += [(CUT_OFF + style, pa.bool_())]
    if similarity:
        columns += [(SIMILARITY + "original", pa.list_(pa.float32()))]
        columns += [(SIMILARITY + style, pa.float32()) for style in styles]
    return pa.schema([*columns, ("error", pa.string())])


def sample_key(shard: str | None, key: str) -> str:
    """`train.data.base.Sample.key` of a row."""
    return key if shard is None else f"{shard}: {key}"


def part_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.parquet"


def lock_name(part: str) -> str:
    """Of the lock that who writes a part holds."""
    return f"{part}.parquet"


def storable(text: str) -> str:
    """The text, with bytes of file names that are no UTF-8 written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[list[Row]]:
    """The rows in order, some at a time. Raises `InputError` for a file that cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_GROUP, columns=columns):
                yield batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it, and run the same command again") from error


def number_of_rows(path: Path) -> int | None:
    """None where there is no whole file."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


class PartWriter:
    """Rows to the temporary file that `new_part` names at the end."""

    def __init__(self, path: Path, writer: pq.ParquetWriter) -> None:
        self._path, self._writer, self._rows = path, writer, list[Row]()
        self.number = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Further rows; those of `_GROUP` are written together, so that the file does not depend on their batches."""
        self._rows += rows
        self.number += len(rows)
        while len(self._rows) >= _GROUP:
            self._write(self._rows[:_GROUP])
            del self._rows[:_GROUP]

    def finish(self) -> None:
        if self._rows:
            self._write(self._rows)

    def _write(self, rows: Sequence[Row]) -> None:
        with disk_errors(self._path):
            self._writer.write_table(pa.Table.from_pylist(list(rows), schema=self._writer.schema))


@contextmanager
def new_part(path: Path, columns: pa.Schema) -> Iterator[PartWriter]:
    """A part to write. It gets its name at the end of the block; an error leaves what was there before.

    Only the holder of the part's lock may call it: what a killed process left is overwritten. Raises `InputError` where
    the disk is full.
    """
    temporary = _temporary(path)
    with ExitStack() as stack:
        stack.callback(_remove, temporary)
        with disk_errors(path):
            file = open(temporary, "wb")  # noqa: SIM115
            stack.callback(_close, file)
            writer = pq.ParquetWriter(file, columns)
        stack.callback(_close, writer)
        made = PartWriter(path, writer)
        yield made
        made.finish()
        with disk_errors(path):
            writer.close()
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)


def remove_unfinished(path: Path) -> None:
    """Remove what a killed process left of a part. Only the holder of the part's lock may call it."""
    _remove(_temporary(path))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def _close(file: Any) -> None:
    """Of a file that is given up it does not matter whether the rest can be written."""
    with suppress(OSError, ValueError, pa.ArrowException):
        file.close()


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of writing as `InputError`: a full disk is the caller's to mend."""
    try:
        yield
    except OSError as error:
        fix = "make room" if error.errno in _FULL else "mend that"
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); what is finished is kept: {fix}, then run the same "
            "command again"
        ) from error

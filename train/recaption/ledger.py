"""The manifest of parts: a JSON line for each part that was written, appended last, safe for several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .part_file import disk_errors

NAME = "parts.jsonl"
_LOCKS = ".locks"


class Ledger:
    """The lines of DST/parts.jsonl; the last line of a part counts.

    A line that a killed process left unfinished is passed over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self.lines: dict[str, dict[str, Any]] = {}  # part -> its line
        self._read = 0  # bytes
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have added."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.split(b"\n"):
            try:
                entry = json.loads(line)
                self.lines[entry["part"]] = entry
            except (ValueError, KeyError, TypeError):  # a line that was left unfinished
                continue

    def append(self, entry: dict[str, Any]) -> None:
        """Add the line of a part. Raises `InputError` where the disk is full."""
        with disk_errors(self.path), named_lock(self.folder, NAME), self.path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                unfinished = file.read(1) != b"\n"
            else:
                unfinished = False
            file.write(b"\n" * unfinished + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines[entry["part"]] = entry


def lock_of(folder: Path, name: str) -> FileLock:
    """A lock between processes; the system gives it back when its holder dies."""
    locks = folder / _LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{name}.lock")


@contextmanager
def named_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock; waits for it."""
    with disk_errors(folder):
        lock = lock_of(folder, name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[bool]:
    """Whether the lock is ours for the block, without waiting."""
    with disk_errors(folder):
        lock = lock_of(folder, name)
        try:
            lock.acquire(timeout=0)
            ours = True
        except Timeout:  # a kind of OSError
            ours = False
    try:
        yield ours
    finally:
        if ours:
            lock.release()

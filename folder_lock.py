"""One writer for a folder: a lock that the process holds, and that the system takes back when the process ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

LOCK_NAME = ".textlens.lock"  # in the folder, while it is written; a killed process leaves it, which blocks nobody


@contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    """Hold the folder for the block, which makes it if need be. A block within a block of one process may hold it too.

    Raises `InputError` at once where another process writes into it, with its number and since when. The lock of a
    killed process is free. Where the file system has no locks, there is none.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder} is a file, or below one; expected a folder. Name another one.") from error
    path = folder.resolve() / LOCK_NAME
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:  # a kind of OSError
        message = f"{folder} is being written by {_holder(path)}; wait for it, or name another folder"
        raise InputError(message) from None
    except NotImplementedError:
        yield
        return
    outermost = lock.lock_counter == 1
    try:
        if outermost:
            with suppress(OSError):  # a full disk: the lock holds all the same
                path.write_text(json.dumps({"pid": os.getpid(), "since": time.time()}), encoding="utf-8")
        yield
    finally:
        if outermost:
            with suppress(OSError):  # filelock sees that the file of a lock has gone, and opens a new one
                path.unlink()
        lock.release()


def is_lock(path: Path) -> bool:
    """Whether a file of a folder is its lock, which does not count as content."""
    return path.name == LOCK_NAME


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(told["since"])))
        return f"process {int(told['pid'])} since {since}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process"

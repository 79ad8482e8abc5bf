"""Runs functions in one thread, or a few, in the order of asking, for coroutines that may be cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_WAITING_CALLS = 8  # at a time


class CallQueue:
    """`await run(function)`. A cancelled call that waits never starts; one that runs ends unheard.

    threads: functions at a time; more than one only for those that are thread-safe.
    busy: whether a function is running. waiting: how many calls wait for it.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="textlens-calls")
        self._pending: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        return any(one.running() for one in tuple(self._pending))

    @property
    def waiting(self) -> int:
        return sum(not (one.running() or one.done()) for one in tuple(self._pending))

    async def run(self, function: Callable[[], T]) -> T:
        future = self._threads.submit(function)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop the calls that wait. Python waits for one that runs before it exits: nothing can stop it."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@contextmanager
def serving_queue(waits: bool = False) -> Iterator[CallQueue]:
    """The queue of a server while it serves. A call that still runs then is given up, and the process ends.

    waits: whether calls wait for a language model elsewhere, so that others should not wait for them.
    """
    with closing(CallQueue(_WAITING_CALLS if waits else 1)) as queue:
        yield queue
    if queue.busy:  # Python would wait for its thread, perhaps for minutes
        os._exit(0)

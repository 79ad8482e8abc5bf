"""Runs functions in one thread, in the order of asking, for coroutines that may be cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class CallQueue:
    """`await run(function)`. A cancelled call that waits never starts; one that runs ends unheard.

    busy: whether a function is running. waiting: how many calls wait for it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="textlens-calls")
        self.busy = False
        self._pending: set[Future[Any]] = set()

    @property
    def waiting(self) -> int:
        return sum(not (one.running() or one.done()) for one in tuple(self._pending))

    async def run(self, function: Callable[[], T]) -> T:
        future = self._thread.submit(self._call, function)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop the calls that wait. Python waits for one that runs before it exits: nothing can stop it."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _call(self, function: Callable[[], T]) -> T:
        self.busy = True
        try:
            return function()
        finally:
            self.busy = False


@contextmanager
def serving_queue() -> Iterator[CallQueue]:
    """The queue of a server while it serves. A call that still runs then is given up, and the process ends."""
    with closing(CallQueue()) as queue:
        yield queue
    if queue.busy:  # Python would wait for its thread, perhaps for minutes
        os._exit(0)

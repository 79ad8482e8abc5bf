"""Runs functions in one thread, in the order of asking, for coroutines that may be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class CallQueue:
    """`await run(function)`. A cancelled call that waits never starts; one that runs ends unheard.

    busy: whether a function is running.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="textlens-mcp")
        self.busy = False

    async def run(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(self._call, function))

    def close(self) -> None:
        """Drop the calls that wait. Python waits for one that runs before it exits: nothing can stop it."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _call(self, function: Callable[[], T]) -> T:
        self.busy = True
        try:
            return function()
        finally:
            self.busy = False

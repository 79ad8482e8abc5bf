"""Bounds the pixels that are decoded ahead of their consumer."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import closing
from threading import Condition
from typing import TypeVar

Loaded = TypeVar("Loaded")

IN_FLIGHT = 256 * 2**20  # bytes


def num_bytes(pixels: int) -> int:
    return 3 * pixels  # RGB


class PixelBudget:
    """Room for `limit` bytes of pixels of images numbered from 0, which the consumer takes in order.

    The image that the consumer waits for always has room, so none waits for another that comes after it.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, dict[int, int]()
        self._next, self._closed, self._changed = 0, False, Condition()

    def reserve(self, number: int, pixels: int) -> None:
        """Wait until there is room for image `number`."""
        size = num_bytes(pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(number, size))
            if self._closed:
                raise CancelledError
            self._held[number] = size

    def _fits(self, number: int, size: int) -> bool:
        return number == self._next or sum(self._held.values()) + size <= self._limit

    def released(self, loading: Generator[Loaded]) -> Generator[Loaded]:
        """What `loading` yields, each image's room free once the consumer asks for the one after it."""
        with closing(loading):
            for one in loading:
                yield one
                with self._changed:
                    self._held.pop(self._next, None)
                    self._next += 1
                    self._changed.notify_all()

    def close(self) -> None:
        """Whoever waits for room, or asks for it from now on, gets `CancelledError`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

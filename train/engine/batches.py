"""Batches made ahead of the model, in a fixed order: which samples a step sees depends on its number alone."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from ...errors import InputError
from .recipe import LoopConfig

MakeBatch = Callable[[Sequence[int], int], Any]


def index_ranges(
    start: int, steps: int, batch_size: int, accumulation: int = 1, rank: int = 0, processes: int = 1
) -> Iterator[range]:
    """The sample indices of each part of each step from `start` on, for process `rank` of `processes`.

    Step s holds the samples s * batch_size … (s + 1) * batch_size - 1 whatever the number of processes and parts. A
    part is a block of that, shared out in order of rank, so that rows gathered across processes stand in the order that
    one process would see.
    """
    share = batch_size // (accumulation * processes)
    for step in range(start, steps):
        for part in range(accumulation):
            first = step * batch_size + (part * processes + rank) * share
            yield range(first, first + share)


class _Batches(Dataset[tuple[list[int], Any]]):
    """Makes a batch from a range of indices, in whichever process the `DataLoader` asks."""

    def __init__(self, make: MakeBatch, seed: int) -> None:
        self.make = make
        self.seed = seed

    def __getitem__(self, indices: Sequence[int]) -> tuple[list[int], Any]:
        return list(indices), self.make(list(indices), self.seed)


def make_batches(
    make: MakeBatch, config: LoopConfig, start: int, accelerator: Accelerator
) -> Iterator[tuple[list[int], Any]]:
    """(indices, batch) for this process from step `start` to the end, `num_workers` processes working ahead.

    Raises `InputError` where the batch cannot be shared out evenly.
    """
    processes, parts = accelerator.num_processes, config.accumulation
    if config.batch_size % (parts * processes):
        raise InputError(
            f"batch_size {config.batch_size} cannot be split evenly over {processes} processes x accumulation {parts}; "
            f"expected a multiple of {parts * processes}."
        )
    ranges = index_ranges(start, config.steps, config.batch_size, parts, accelerator.process_index, processes)
    loader = DataLoader(
        _Batches(make, config.seed),
        batch_size=None,
        sampler=ranges,
        collate_fn=_as_it_is,
        num_workers=config.num_workers,
        multiprocessing_context=_context() if config.num_workers else None,
        worker_init_fn=_ignore_signals,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # else the loader would draw from, and so change, the global one
    )
    return iter(loader)


def _context() -> str | None:
    """Fork where there is one: the recipe, model and all, need not be pickled."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ctrl-C reaches the whole group; workers must last until the trainer has finished its step, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""Batches made ahead of the model, in a fixed order: which samples a step sees depends on its number alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from ...errors import InputError, TextlensError
from .recipe import LoopConfig, Recipe


@dataclass(frozen=True)
class Part:
    """One part of a batch: sample indices, the recipe's tensors, and the items that could not be read for it."""

    indices: list[int]
    batch: Any
    skipped: list[str]


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


class _Parts(Dataset[Part | str]):
    """Makes a part from a range of indices, in whichever process the `DataLoader` asks; an error comes as its text."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed

    def __getitem__(self, indices: Sequence[int]) -> Part | str:
        source = self.recipe.source
        try:
            batch = self.recipe.batch(list(indices), self.seed)
        except TextlensError as error:  # raised here it would reach the caller as a traceback of the worker
            return str(error)
        return Part(list(indices), batch, source.take_skipped() if source else [])


@contextmanager
def batches(recipe: Recipe, config: LoopConfig, start: int, accelerator: Accelerator) -> Iterator[Iterator[Part]]:
    """The parts of this process from step `start` to the end, `num_workers` processes working ahead.

    The workers end with the block, whatever they are doing. Raises `InputError` where the batch cannot be shared out
    evenly, and for an error of the recipe in a worker.
    """
    processes, parts = accelerator.num_processes, config.accumulation
    if config.batch_size % (parts * processes):
        raise InputError(
            f"batch_size {config.batch_size} cannot be split evenly over {processes} processes x accumulation {parts}; "
            f"expected a multiple of {parts * processes}."
        )
    ending = multiprocessing.Event()
    loader = DataLoader(
        _Parts(recipe, config.seed),
        batch_size=None,
        sampler=index_ranges(start, config.steps, config.batch_size, parts, accelerator.process_index, processes),
        collate_fn=_unchanged,
        num_workers=config.num_workers,
        multiprocessing_context=_context() if config.num_workers else None,
        worker_init_fn=partial(_set_signals, ending),
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # else the loader would draw from, and so change, the global one
    )
    others = set(multiprocessing.active_children())
    made: Any = iter(loader)
    workers = set(multiprocessing.active_children()) - others
    try:
        yield _raising(made)
    finally:
        ending.set()
        if workers:
            made._shutdown_workers()  # now, and not whenever the last reference to a frame that has raised is gone
        for worker in workers:
            if worker.is_alive():  # stuck in a decoder or a file system
                worker.kill()


def _raising(made: Iterator[Part | str]) -> Iterator[Part]:
    for part in made:
        if isinstance(part, str):
            raise InputError(part)
        yield part


def _context() -> str | None:
    """Fork where there is one: the recipe, model and all, need not be pickled."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def _unchanged(part: Any) -> Any:
    return part


def _set_signals(ending: Event, worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole group; workers must last until the trainer has finished its step."""

    def end(number: int, frame: object) -> None:
        if ending.is_set():
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)

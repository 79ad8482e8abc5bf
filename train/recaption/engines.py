"""The engine of one process; several such processes may share a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .part_worker import Advance, Done, PartWorker, WorkSettings, load_models
from .source_parts import Part

_PAUSE = 0.5  # seconds between looks at parts that other processes hold


def run_local(
    work: WorkSettings, parts: Sequence[Part], claim: Callable[[Mapping[str, Any]], None], advance: Advance
) -> Iterator[Done]:
    """Caption the parts in this process, one after another; see `recaption.Engine`."""
    models = load_models(work)
    claim(models.facts)
    worker = PartWorker(work, models)
    for done in until_done(parts, lambda waiting: ((part, worker.do(part, advance)) for part in waiting)):
        if not done.new:
            advance(done.rows, done.failed)
        yield done


def until_done(
    parts: Sequence[Part], attempt: Callable[[Sequence[Part]], Iterable[tuple[Part, Done | None]]]
) -> Iterator[Done]:
    """Attempt parts until none is left that another process holds: it may die, and leave its part to us."""
    waiting = list(parts)
    while waiting:
        busy = []
        for part, done in attempt(waiting):
            if done is None:
                busy.append(part)
            else:
                yield done
        if len(busy) == len(waiting):
            time.sleep(_PAUSE)
        waiting = busy

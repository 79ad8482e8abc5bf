"""The engine on Ray: each worker is a `PartWorker` like that of the local engine, and writes parts itself into DST,
which all machines must see under one path, as they must the source. A worker that dies leaves its lock to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...encoders.cluster.ray_actors import Cluster, Work, ray_cluster
from .configuration import NAME as CONFIGURATION
from .configuration import check_same, read_configuration
from .engines import until_done
from .ledger import claimed
from .part_file import lock_name
from .part_worker import Advance, Done, PartWorker, WorkSettings, load_models
from .source_parts import Part


def run_ray(
    work: WorkSettings, parts: Sequence[Part], claim: Callable[[Mapping[str, Any]], None], advance: Advance
) -> Iterator[Done]:
    """Caption the parts on Ray's cluster; see `recaption.Engine`. Raises `InputError` where Ray is not installed."""
    with ray_cluster() as cluster:
        claim(cluster.call(partial(_facts, work)))
        for done in until_done(parts, lambda waiting: _pass(cluster, work, waiting)):
            advance(done.rows, done.failed)
            yield done


def _pass(cluster: Cluster, work: WorkSettings, parts: Sequence[Part]) -> Iterator[tuple[Part, Done | None]]:
    """Each part once, as workers get free; None of those that another process holds."""
    free = [part for part in parts if _is_free(work.folder, part)]  # no actors only to find that there is nothing yet
    yield from ((part, None) for part in parts if part not in free)
    if free:
        tasks = [asdict(part) for part in free]
        for number, done in cluster.outcomes(partial(part_worker, work), tasks, workers=work.workers):
            yield free[number], Done(**done) if done else None


def _is_free(folder: Path, part: Part) -> bool:
    with claimed(folder, lock_name(part.name)) as ours:
        return ours


def part_worker(work: WorkSettings) -> Work:
    """A `PartWorker` with the models that the folder was begun with: a part as dict -> `Done` as dict, or None."""
    models = load_models(work)
    written = read_configuration(work.folder)
    check_same(work.folder / CONFIGURATION, replace(written, **models.facts))
    worker = PartWorker(work, models)

    def do(task: Mapping[str, Any]) -> dict[str, Any] | None:
        done = worker.do(Part(**task))
        return asdict(done) if done else None

    return do


def _facts(work: WorkSettings) -> dict[str, Any]:
    """The models' facts, from a machine that can hold them."""
    return dict(load_models(work).facts)

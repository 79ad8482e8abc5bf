"""The engine on Ray Data: actors hold the models, and a row of the data set is a part's name and place, never an image.

Each actor is a `PartWorker` like that of the local engine, and writes parts itself into DST, which all machines must
see under one path, as they must the source. A worker that dies leaves its lock to the next; Ray runs its part again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
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
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"--engine ray needs Ray ({error}): pip install 'textlens[ray]', or leave it out") from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    try:
        _quieten(ray)
        resources = _resources(ray.cluster_resources())
        claim(_value(ray.get(ray.remote(**resources)(_facts).remote(os.getcwd(), work))))
        workers = work.workers or _most_workers(ray.cluster_resources())
        for done in until_done(parts, lambda waiting: _pass(ray, work, waiting, workers, resources)):
            advance(done.rows, done.failed)
            yield done
    finally:
        if started:
            ray.shutdown()


def _pass(
    ray: Any, work: WorkSettings, parts: Sequence[Part], workers: int, resources: Mapping[str, float]
) -> Iterator[tuple[Part, Done | None]]:
    """Each part once, as workers get free; None of those that another process holds."""
    free = [part for part in parts if _is_free(work.folder, part)]  # no actors only to find that there is nothing yet
    yield from ((part, None) for part in parts if part not in free)
    if free:
        yield from _captioned(ray, work, free, workers, resources)


def _is_free(folder: Path, part: Part) -> bool:
    with claimed(folder, lock_name(part.name)) as ours:
        return ours


def _captioned(
    ray: Any, work: WorkSettings, parts: Sequence[Part], workers: int, resources: Mapping[str, float]
) -> Iterator[tuple[Part, Done | None]]:
    by_name = {part.name: part for part in parts}
    rows = [{"part": json.dumps(asdict(part))} for part in parts]
    made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(  # a part is a task
        RayWorker,
        fn_constructor_args=(os.getcwd(), work),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts)), max_tasks_in_flight_per_actor=1),
        **resources,
    )
    for row in made.iter_rows():
        done = _value(json.loads(row["told"]))
        yield by_name[row["name"]], Done(**done) if done else None


class RayWorker:
    """A `PartWorker` in an actor. Errors that are the caller's to mend come back as values: Ray would try again."""

    def __init__(self, folder: str, work: WorkSettings) -> None:
        """folder: that of the driver, where relative paths start."""
        self._worker: PartWorker | InputError
        try:
            _enter(folder)
            models = load_models(work)
            written = read_configuration(work.folder)
            check_same(work.folder / CONFIGURATION, replace(written, **models.facts))
            self._worker = PartWorker(work, models)
        except InputError as error:
            self._worker = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """{"part": a part as JSON} -> {"name", "told": what became of it, as JSON}."""
        part = Part(**json.loads(row["part"]))
        try:
            if isinstance(self._worker, InputError):
                raise self._worker
            done = self._worker.do(part)
        except InputError as error:
            return {"name": part.name, "told": json.dumps({"error": str(error)})}
        return {"name": part.name, "told": json.dumps({"value": asdict(done) if done else None})}


def _facts(folder: str, work: WorkSettings) -> dict[str, Any]:
    """The models' facts, from a machine that can hold them."""
    try:
        _enter(folder)
        return {"value": dict(load_models(work).facts)}
    except InputError as error:
        return {"error": str(error)}


def _value(told: Mapping[str, Any]) -> Any:
    if "error" in told:
        raise InputError(told["error"])
    return told["value"]


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"a worker of Ray has no folder {folder} ({error.strerror}); expected one all share"
        ) from error


def _resources(cluster: Mapping[str, float]) -> dict[str, float]:
    """What a worker takes: a GPU where the cluster has some."""
    return {"num_gpus": 1} if cluster.get("GPU", 0) >= 1 else {"num_cpus": 1}


def _most_workers(cluster: Mapping[str, float]) -> int:
    return max(1, int(cluster.get("GPU", 0) or cluster.get("CPU", 1)))


def _quieten(ray: Any) -> None:
    """Our own bar shows the progress; stdout is for results."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

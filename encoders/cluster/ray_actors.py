"""Work on Ray Data: actors hold the models, and a row names what is to be done, never an image.

A worker that dies is started again by Ray, and what it had not finished is done anew.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import InputError

Work = Callable[[Any], Any]  # a task -> its outcome; both can be written as JSON


@dataclass(frozen=True)
class Cluster:
    """A Ray that is connected."""

    ray: Any  # the module
    gpus: int
    cpus: int
    node_cpus: int  # of the smallest machine

    @property
    def most_workers(self) -> int:
        """One for each GPU, or CPU where there is none."""
        return max(1, self.gpus or self.cpus)

    def resources(self, workers: int) -> dict[str, float]:
        """What each of so many workers takes: a GPU; without any its share of the CPUs, which its torch then uses."""
        if self.gpus:
            return {"num_gpus": 1.0}
        return {"num_cpus": float(max(1, min(self.cpus // workers, self.node_cpus)))}

    def call(self, function: Callable[[], Any]) -> Any:
        """`function()`, on a machine that can hold a worker. Raises the function's `InputError`."""
        remote = self.ray.remote(**self.resources(self.most_workers))(_called)
        return _value(self.ray.get(remote.remote(os.getcwd(), function)))

    def outcomes(
        self, make: Callable[[], Work], tasks: Sequence[Any], *, workers: int | None = None, in_order: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """(Number of a task, its outcome), as they come or in order. make: called once in each worker, it returns what
        does the tasks; can be sent to other machines. workers: by default one for each GPU, or CPU where there is none.

        Raises the `InputError`s of the workers.
        """
        data = self.ray.data
        data.DataContext.get_current().execution_options.preserve_order = in_order
        rows = [{"number": number, "task": json.dumps(task)} for number, task in enumerate(tasks)]
        size = max(1, min(workers or self.most_workers, len(rows)))
        made = data.from_items(rows, override_num_blocks=len(rows)).map(
            Actor,
            fn_constructor_args=(os.getcwd(), make),
            compute=data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            **self.resources(size),
        )
        for row in made.iter_rows():
            yield row["number"], _value(json.loads(row["told"]))


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """Connect to the Ray that RAY_ADDRESS names, or one of this machine, which is started unless there is one.

    Raises `InputError` where Ray is not installed.
    """
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
        held = ray.cluster_resources()
        of_nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        smallest = min((cpus for cpus in of_nodes if cpus), default=1)
        yield Cluster(ray, int(held.get("GPU", 0)), int(held.get("CPU", 1)), smallest)
    finally:
        if started:
            ray.shutdown()


class Actor:
    """A worker. Errors that are the caller's to mend come back as values: Ray would try again."""

    def __init__(self, folder: str, make: Callable[[], Work]) -> None:
        """folder: that of the driver, where relative paths start."""
        try:
            _enter(folder)
            self._work = make()
        except InputError as error:
            self._work = partial(_raise, error)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """{"number", "task": JSON} -> {"number", "told": what became of it, as JSON}."""
        told = _told(partial(self._work, json.loads(row["task"])))
        return {"number": row["number"], "told": json.dumps(told)}


def _raise(error: Exception, task: Any) -> None:
    raise error


def _called(folder: str, function: Callable[[], Any]) -> dict[str, Any]:
    def work() -> Any:
        _enter(folder)
        return function()

    return _told(work)


def _told(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": work()}
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


def _quieten(ray: Any) -> None:
    """Our own bar shows the progress; stdout is for results."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

"""Run by test_checkpoint.py: trainings killed (SIGKILL) in every part of a save, or at random times, and resumed.

Each training runs in a fork, so that torch is imported only once. Prints one JSON object a line for each kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # which the first optimizer step would import, in every fork again
from textlens.train.engine import checkpoint, loop
from textlens.train.engine.loop import LoopConfig
from tiny_recipe import TinyRecipe

CONFIG = LoopConfig(steps=6, batch_size=4, ema_decay=0.9, log_every=1, save_every=2, keep_checkpoints=1, num_workers=0)


def in_fork(work: Callable[[], object]) -> int:
    """Start `work` in a child; returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(json.dumps({"error": repr(error)}), flush=True)
            os._exit(1)
    return pid


def status(pid: int) -> int:
    """The exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def train_and_die(out: Path, point: int) -> None:
    """Die at event `point` of the second save: before, halfway through, and after what it does."""
    events = saves = 0

    def event() -> None:
        nonlocal events
        if saves == 2:
            if events == point:
                os.kill(os.getpid(), signal.SIGKILL)
            events += 1

    def watched(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            event()
            return function(*arguments, **options)

        return call

    def save_halfway(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file(tensors, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        event()
        path.write_bytes(whole)

    def remove_halfway(path: Path) -> None:
        next(path.iterdir()).unlink()
        event()
        rmtree(path)

    def counted(*arguments: object) -> Path:
        nonlocal saves
        saves += 1
        path = save_checkpoint(*arguments)
        event()
        return path

    save_checkpoint, save_file, rmtree = checkpoint.save_checkpoint, checkpoint.save_file, shutil.rmtree
    loop.save_checkpoint = counted
    checkpoint.save_file = watched(save_halfway)
    os.fsync, os.replace, shutil.rmtree = watched(os.fsync), watched(os.replace), watched(remove_halfway)
    loop.train(TinyRecipe(), CONFIG, out)


def same_result(one: Path, other: Path) -> bool:
    """Whether two finished runs ended with the same bytes."""
    last = f"step-{json.loads((one / 'final').read_text()):08d}"
    files = ("model.safetensors", "optimizer.safetensors", "ema.safetensors", "rng.safetensors")
    return all((one / last / name).read_bytes() == (other / last / name).read_bytes() for name in files)


def steps(out: Path) -> list[tuple[str, int]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(line["kind"], line["step"]) for line in lines]


def train_to_the_end(config: LoopConfig, out: Path) -> None:
    result = loop.train(TinyRecipe(), config, out, resume=True)
    (out / "final").write_text(json.dumps(result.step))


def killed_in_save(out: Path) -> None:
    reference = out / "reference"
    assert status(in_fork(lambda: train_to_the_end(CONFIG, reference))) == 0
    for point in range(1000):
        run = out / f"killed{point}"
        ended = status(in_fork(lambda run=run, point=point: train_and_die(run, point)))
        if ended == 0:
            break
        found = checkpoint.checkpoints(run)
        step = checkpoint.load_checkpoint(found[-1]).state["step"]
        resumed = status(in_fork(lambda run=run: train_to_the_end(CONFIG, run)))
        report = {
            "point": point,
            "ended": ended,
            "step": step,
            "resumed": resumed,
            "same": same_result(reference, run),
            "same_metrics": steps(reference) == steps(run),
            "left": sorted(path.name for path in run.iterdir()),
        }
        print(json.dumps(report), flush=True)


def killed_at_random(out: Path, rounds: int) -> None:
    config = replace(CONFIG, steps=100_000, save_every=3, num_workers=1, keep_checkpoints=2)
    rng, run = random.Random(8), out / "killed"
    for _ in range(rounds):
        pid = in_fork(lambda: loop.train(TinyRecipe(), config, run, resume=True))
        time.sleep(rng.uniform(0.05, 0.8))
        os.kill(pid, signal.SIGKILL)
        ended, found = status(pid), checkpoint.checkpoints(run)
        step = checkpoint.load_checkpoint(found[-1]).state["step"] if found else 0
        print(json.dumps({"ended": ended, "step": step}), flush=True)
    pid = in_fork(lambda: loop.train(TinyRecipe(), config, run, resume=True, max_minutes=0))
    ended, step = status(pid), checkpoint.load_checkpoint(checkpoint.checkpoints(run)[-1]).state["step"]
    numbers = steps(run)
    unbroken = out / "unbroken"
    unbroken_ended = status(in_fork(lambda: stop_at(config, unbroken, step)))
    (unbroken / "final").write_text(json.dumps(step))
    report = {
        "ended": ended,
        "unbroken_ended": unbroken_ended,
        "step": step,
        "same": same_result(unbroken, run),
        "duplicates": len(numbers) - len(set(numbers)),
    }
    print(json.dumps(report), flush=True)


def stop_at(config: LoopConfig, out: Path, step: int) -> None:
    """Train without a break until `step` is done."""

    class Stopping(TinyRecipe):
        def loss(self, model: torch.nn.Module, batch: object, **where: object) -> dict[str, torch.Tensor]:
            if where["step"] == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch, **where)

    loop.train(Stopping(), config, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    mode, folder = sys.argv[1], Path(sys.argv[2])
    if mode == "save":
        killed_in_save(folder)
    else:
        killed_at_random(folder, rounds=int(mode))

"""Run by test_distributed.py under torchrun: a few short trainings over gloo, and every recipe's command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from textlens.cli import app
from textlens.errors import TextlensError
from textlens.train.data.base import DataSource
from textlens.train.data.files import FileData
from textlens.train.engine.loop import train
from tiny_recipe import CONTRASTIVE, MEAN, ContrastiveRecipe, TinyRecipe


class NanOnRankOne(TinyRecipe):
    def loss(self, model, batch, *, step, indices):
        figures = super().loss(model, batch, step=step, indices=indices)
        broken = step == 3 and torch.distributed.get_rank() == 1
        return {**figures, "loss": figures["loss"] * (float("nan") if broken else 1.0)}


class ShardsRecipe(TinyRecipe):
    """Counts what two worker processes read from shards, held out or not; learns nothing of it."""

    def __init__(self, source: DataSource) -> None:
        super().__init__(dropout=0.0)
        self.shards, self.keys = source, []

    def batch(self, indices, seed):
        keys = [sample.key for sample in self.shards.samples(indices, seed, image=False)]
        return {**super().batch(indices, seed), "keys": keys}

    def loss(self, model, batch, *, step, indices):
        self.keys += batch["keys"]
        return super().loss(model, batch, step=step, indices=indices)


def run_recipes(folder: Path) -> None:
    """`textlens train` with each settings file of the folder: the whole run, and one step of a run begun by others."""
    for settings in sorted(folder.glob("*.yaml")):
        command = ["train", settings.stem, "--config", str(settings), "--out"]
        app([*command, str(folder / "two" / settings.stem)], standalone_mode=False)
        app([*command, str(folder / "mixed" / settings.stem), "--resume", "--max-minutes", "0"], standalone_mode=False)


def main(out: Path) -> None:
    run_recipes(out)  # first: the command must join the group by itself
    recipe = TinyRecipe(dropout=0.0)
    train(recipe, MEAN, out / "mean")
    train(ContrastiveRecipe(), CONTRASTIVE, out / "global")
    train(ContrastiveRecipe(local=True), CONTRASTIVE, out / "local")
    shards = ShardsRecipe(FileData(f"webdataset:{out}/s-*.tar", text="json:captions").open())
    train(shards, replace(MEAN, steps=4, num_workers=2), out / "shards")

    train(TinyRecipe(dropout=0.3), MEAN, out / "whole")
    pauses = 0
    while not train(TinyRecipe(dropout=0.3), MEAN, out / "paused", resume=True, max_minutes=0).finished:
        pauses += 1
    try:
        train(NanOnRankOne(), MEAN, out / "nan")
    except TextlensError as error:
        failure = str(error)
    rank = torch.distributed.get_rank()
    report = {
        "seen": recipe.seen,
        "keys": shards.keys,
        "pauses": pauses,
        "failure": failure,
        "processes": torch.distributed.get_world_size(),
    }
    (out / f"rank{rank}.json").write_text(json.dumps(report))


def run_and_leave(main: Callable[[Path], None]) -> None:
    """`main` with the folder that the command names."""
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    # All is done and written. Gloo's threads at times abort the interpreter's own way out ("terminate called without an
    # active exception", torch 2.15), which would say nothing about the training, so the process leaves without it.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)


if __name__ == "__main__":
    run_and_leave(main)

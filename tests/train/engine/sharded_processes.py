"""Run by test_sharding.py under torchrun: every recipe's command and a few short trainings with `loop.sharding`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from textlens.cli import app
from textlens.errors import TextlensError
from textlens.plugins import load
from textlens.train.engine.loop import train
from textlens.train.engine.optimizer import ExponentialMovingAverage, build_optimizer, trainable_parameters
from textlens.train.engine.settings import read_stages
from textlens.train.engine.sharding import clip_gradients, gather_rest, local, shard
from textlens.train.registry import recipes
from tiny_recipe import CONTRASTIVE, MEAN, ContrastiveRecipe, TiedRecipe, TinyRecipe
from two_processes import NanOnRankOne, run_and_leave

SHARDED = replace(MEAN, sharding="full")


def run_recipes(out: Path) -> None:
    """Each recipe's run, begun by one process: a sharded step, of which a copy is left to others, and the rest."""
    first = os.environ["RANK"] == "0"
    for settings in sorted((out / "full").glob("*.yaml")):
        command = ["train", settings.stem, "--config", str(settings), "--resume", "--out"]
        run = out / "sharded" / settings.stem
        app([*command, str(run), "--max-minutes", "0"], standalone_mode=False)
        if first:
            shutil.copytree(run, out / "unsharded" / settings.stem)
        app([*command, str(run)], standalone_mode=False)


def held(out: Path) -> dict[str, float]:
    """After a step of CoCa: the shares of all values that this process holds."""
    settings = out / "full" / "coca.yaml"
    recipe_class = load(recipes()["coca"])
    config = read_stages(settings, out / "held")[0].settings(recipe_class.config_class, settings)
    recipe = recipe_class(config, out / "cache")
    sizes = {name: p.numel() for name, p in trainable_parameters(recipe.model).items()}
    shard(recipe.model, recipe.blocks(), Accelerator(cpu=True).device)
    parameters = trainable_parameters(recipe.model)
    optimizer = build_optimizer(parameters, "adamw", 1e-3)
    average = ExponentialMovingAverage(parameters, 0.9).average
    batch = recipe.batch(range(4), 0)
    gather_rest(recipe.model)
    (shared,) = recipe.share(recipe.model, [batch])
    recipe.loss(recipe.model, batch, step=0, indices=range(4), **shared)["loss"].backward()
    gradients = [local(p.grad).numel() for p in parameters.values() if p.grad is not None]
    clip_gradients(list(parameters.values()), 1.0)
    optimizer.step()
    moments = [local(state[name]) for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    total = sum(sizes.values())
    return {
        "parameters": sum(local(p).numel() for p in parameters.values()) / total,
        "gradients": sum(gradients) / total,
        "optimizer": sum(moment.numel() for moment in moments) / (2 * total),
        "average": sum(local(tensor).numel() for tensor in average.values()) / total,
    }


def main(out: Path) -> None:
    run_recipes(out)  # first: the command must join the group by itself
    recipe = TinyRecipe(dropout=0.0)
    for parameter in recipe.model.parameters():
        parameter.data += torch.distributed.get_rank()  # the first process's weights count
    train(recipe, replace(SHARDED, gradient_clip=0.1), out / "mean")
    train(TiedRecipe(), SHARDED, out / "tied")
    train(ContrastiveRecipe(), replace(CONTRASTIVE, sharding="full"), out / "contrastive")
    train(TinyRecipe(dropout=0.3), SHARDED, out / "whole")
    while not train(TinyRecipe(dropout=0.3), SHARDED, out / "paused", resume=True, max_minutes=0).finished:
        pass
    try:
        train(NanOnRankOne(), SHARDED, out / "nan")
    except TextlensError as error:
        failure = str(error)
    report = {"held": held(out), "failure": failure}
    (out / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    run_and_leave(main)

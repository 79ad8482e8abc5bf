"""Run by test_distributed.py, once per rank as a launcher would: a few short trainings over gloo."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from textlens.errors import TextlensError
from textlens.train.coca import CocaConfig, CocaRecipe
from textlens.train.engine.loop import train
from textlens.train.engine.recipe import LoopConfig
from tiny_recipe import CONTRASTIVE, MEAN, ContrastiveRecipe, TinyRecipe


class NanOnRankOne(TinyRecipe):
    def loss(self, model, batch, *, step, indices):
        figures = super().loss(model, batch, step=step, indices=indices)
        broken = step == 3 and torch.distributed.get_rank() == 1
        return {**figures, "loss": figures["loss"] * (float("nan") if broken else 1.0)}


def coca() -> tuple[CocaRecipe, LoopConfig]:
    """With every loss that looks across processes, and an evaluation, which one process does alone."""
    sys.path.append(str(Path(__file__).parents[1]))
    from tiny_coca import MODEL, TOKENIZER

    loop = LoopConfig(steps=1, batch_size=8, num_workers=0, accumulation=2, gradient_clip=None)
    data = {"source": "scenes", "styles": {"short": 1.0, "loose": 1.0}}
    settings = {"data": data, "model": MODEL, "tokenizer": TOKENIZER, "word_weight": 0.5, "captioned": ["short"]}
    return CocaRecipe(CocaConfig(loop=loop, validation_images=4, **settings), Path("unused")), loop


def main(out: Path) -> None:
    recipe = TinyRecipe(dropout=0.0)
    train(recipe, MEAN, out / "mean")
    train(ContrastiveRecipe(), CONTRASTIVE, out / "global")
    train(ContrastiveRecipe(local=True), CONTRASTIVE, out / "local")
    train(*coca(), out / "coca")

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
        "pauses": pauses,
        "failure": failure,
        "processes": torch.distributed.get_world_size(),
    }
    (out / f"rank{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    # All is done and written. Gloo's threads at times abort the interpreter's own way out ("terminate called without an
    # active exception", torch 2.15), which would say nothing about the training, so the process leaves without it.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)

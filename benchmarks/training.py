"""Training step of the small CoCa in fp32 and bf16: `python benchmarks/training.py`. Says which precision pays here."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from textlens.train.coca import CocaConfig, CocaRecipe
from textlens.train.engine.settings import read_stages

CONFIG = Path(__file__).resolve().parent.parent / "scenes" / "configs" / "coca.yaml"


def step_seconds(recipe: CocaRecipe, batch: dict[str, torch.Tensor], bf16: bool, repeats: int) -> float:
    """Median seconds of forward, backward and AdamW step on one batch."""
    optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-4)
    (shared,) = recipe.share(recipe.model, [batch])
    seconds = []
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = recipe.loss(recipe.model, batch, step=0, indices=(), **shared)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = Path("runs")
    recipe = CocaRecipe(read_stages(CONFIG, runs)[0].settings(CocaConfig, CONFIG), runs / "cache")
    start = time.perf_counter()
    batch = recipe.batch(range(options.batch_size), 0)
    figures = {"batch_seconds": time.perf_counter() - start}
    for name, bf16 in (("fp32_step_seconds", False), ("bf16_step_seconds", True)):
        figures[name] = step_seconds(recipe, batch, bf16, options.repeats)
    if options.json:
        print(json.dumps(figures))
        return
    print(
        f"batch of {options.batch_size}: made in {figures['batch_seconds']:.2f} s (in a process of its own in training)"
    )
    for precision in ("fp32", "bf16"):
        seconds = figures[f"{precision}_step_seconds"]
        print(f"{precision}: {seconds:.3f} s a step, {options.batch_size / seconds:.0f} samples/s")


if __name__ == "__main__":
    main()

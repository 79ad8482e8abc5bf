"""What a GPU makes of De-Diffusion at the paper's size: one command, one table.

    python benchmarks/gpu.py [--minutes 10] [--batch-size 8] [--out runs/gpu] [--small]

Random weights in the published architectures and formats, as of `true_size.py` (4 GB, made once), so no download.
step: a training step of configs/sd2-coca-l14.yaml in fp32, in bf16 (frozen weights and autocast), and in bf16 with the
U-Net compiled; beside text encoder and U-Net alone, forward and backward on the same latents. recipe: `textlens train`
with these settings for so many minutes, then an interrupt, which saves. vLLM: `benchmarks/reader.py server`, questions
with 16 shots. --small: the small De-Diffusion of scenes; tries all of that on a CPU in some minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from dediffusion import DEVICE, new_batch, new_recipe, new_reference, new_step, seconds
from textlens.errors import TextlensError
from textlens.evals.aligned_table import aligned, number
from textlens.train.dediffusion.dediffusion_config import DediffusionTraining
from textlens.train.engine.settings import parse, read_stages
from true_size import HERE, run, write_config, write_models

STEPS = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16, U-Net compiled": ("bf16", True)}
COLUMNS = ("seconds", "images/s", "alone, seconds", "times", "peak GB")


def config_of(out: Path, precision: str, batch_size: int, *, small: bool) -> Path:
    """A settings file of one stage, and of more steps than there is time for."""
    loop: dict[str, Any] = {
        "batch_size": batch_size,
        "accumulation": 1,
        "steps": 1_000_000,
        "warmup_steps": 100,
        "save_every": 1_000_000,
        "log_every": 5,
        "evaluate_every": None,
        "num_workers": 2,
        "precision": precision,
    }
    if not small:
        return write_config(out, f"gpu-{precision}", precision, loop=loop)
    first = read_stages(HERE.parent / "scenes/configs/dediffusion.yaml", out)[0].values
    changes = {"frozen_weights": precision, "loop": first["loop"] | loop, "data": first["data"] | {"number": 1000}}
    path = out / f"small-{precision}.yaml"
    path.write_text(json.dumps(first | changes))
    return path


def step_row(path: Path, out: Path, batch_size: int, *, compiled: bool, repeats: int = 3) -> dict[str, float]:
    """Seconds of a training step, and of text encoder and U-Net alone."""
    config = parse(DediffusionTraining, read_stages(path, out)[0].values)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as cache:
        recipe = new_recipe(config, config.gradient_checkpointing, Path(cache))
        if compiled:
            recipe.decoder.unet.compile()
        batch = new_batch(recipe, batch_size)
        step, alone = seconds([new_step(recipe, batch), new_reference(recipe, batch)], repeats)
    row = {"seconds": step, "images/s": batch_size / step, "alone, seconds": alone, "times": step / alone}
    return row | ({"peak GB": torch.cuda.max_memory_allocated() / 1e9} if DEVICE == "cuda" else {})


def recipe_row(path: Path, out: Path, minutes: float) -> dict[str, float]:
    """Images/s of the real command, by its own log."""
    folder = out / f"run-{path.stem}-{int(time.time())}"
    end = time.monotonic() + 60 * minutes
    arguments = ["train", "dediffusion", "--config", str(path), "--out", str(folder)]
    run("recipe", *arguments, until=lambda: time.monotonic() > end)
    written = folder / "metrics.jsonl"
    log = [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []
    speeds = [row["samples_per_second"] for row in log if row["kind"] == "train"][1:]  # the first one warms up
    if not speeds:
        raise SystemExit(f"error: no step was logged in {minutes:g} minutes; give it more")
    return {"seconds": 60 * minutes, "images/s": sum(speeds) / len(speeds)}


def server_row() -> dict[str, float]:
    """Prompts/s through vLLM, in the column of images."""
    command = [sys.executable, str(HERE / "reader.py"), "server", "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not ran.stdout.strip():
        raise SystemExit("error: benchmarks/reader.py server gave no figures; its messages stand above")
    row = json.loads(ran.stdout.splitlines()[-1])
    return {"images/s": row["ours"]["prompts_s"]}


def line(name: str, row: Mapping[str, float]) -> list[str]:
    return [name, *(number(row.get(column), 3) for column in COLUMNS)]


def main(
    out: Annotated[Path, typer.Option(help="Folder for models and runs.")] = Path("runs/gpu"),
    minutes: Annotated[float, typer.Option(min=0.1, help="Of the real recipe.")] = 10.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 8,
    small: Annotated[bool, typer.Option("--small", help="Scenes' sizes, for a CPU.")] = False,
    vllm: Annotated[bool, typer.Option(help="With the language model server.")] = True,
) -> None:
    """Print one table: seconds, images/s (of vLLM: prompts/s), the time alone, step / alone, peak GPU memory."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not small:
        write_models(out)
    paths = {precision: config_of(out, precision, batch_size, small=small) for precision in ("fp32", "bf16")}
    lines = []
    try:
        for name, (precision, compiled) in STEPS.items():
            row = step_row(paths[precision], out, batch_size, compiled=compiled)
            lines.append(line(f"step, {name}", row))
        lines.append(line("recipe, bf16", recipe_row(paths["bf16"], out, minutes)))
        if vllm:
            lines.append(line("vLLM, prompts/s", server_row()))
    except TextlensError as error:
        raise SystemExit(f"error: {error}") from error
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    typer.echo(f"{device}, torch {torch.__version__}, batches of {batch_size}")
    typer.echo(aligned(["", *COLUMNS], lines))


if __name__ == "__main__":
    typer.run(main)

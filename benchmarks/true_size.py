"""De-Diffusion at the paper's size on this machine: Stable Diffusion 2-base, CoCa ViT-L/14, 75 queries, 5 blocks.

    python benchmarks/true_size.py [--out runs/true-size] [--precision fp32]

Random weights in the published architectures and formats (4 GB, made once), so no download. The real settings,
configs/sd2-coca-l14.yaml, are trained with other steps and batch: two steps, a checkpoint, an interrupt, --resume, two
more; then `describe` and `recreate` with what was trained. Printed: seconds and peak memory of each command; weights,
seconds and FLOPs of each part for one image; and what 500,000 steps of 2,048 images then take on 1, 8 and 64 GPUs.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from published_models import save_coca, save_stable_diffusion
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.dediffusion.dediffusion_config import DediffusionTraining
from textlens.train.dediffusion.soft_tokens import gumbel_noise, gumbel_softmax, mix
from textlens.train.engine.settings import parse, read_stages
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).resolve().parent
PHOTOS, CONFIG = HERE.parent / "examples" / "photos", HERE.parent / "configs" / "sd2-coca-l14.yaml"
MILLIONS, GB, TERA = 1e6, 1e9, 1e12
STEPS, IMAGES = 500_000, 2_048  # of the paper
GPU_TFLOPS, MFU = 989.0, 0.35  # an H100's dense bf16; the share of it that is used: an assumption
GPUS = (1, 8, 64)
_PROGRAM = "from textlens.cli import main; main()"

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Command:
    """What a command took: seconds of wall time, and peak resident memory in bytes."""

    name: str
    seconds: float
    memory: int


@dataclass(frozen=True)
class Part:
    """One part of a step, for one image. backward: seconds and FLOPs of the gradient, to frozen parts' inputs alone."""

    name: str
    weights: int
    forward_seconds: float
    backward_seconds: float
    forward_flops: int
    backward_flops: int


def write_models(out: Path) -> None:
    save_stable_diffusion(out / "sd2")
    save_coca(out / "coca")


def write_config(out: Path, name: str, precision: str, **changes: Any) -> Path:
    """The real settings with local folders, six photographs, and one image a step."""
    shard = out / "photos.tar"
    if not shard.is_file():
        with tarfile.open(shard, "w") as tar:
            for path in sorted(PHOTOS.glob("*.jpg")):
                tar.add(path, path.name)
    loop: dict[str, Any] = {
        "steps": 4,
        "batch_size": 1,
        "accumulation": 1,
        "warmup_steps": 1,
        "save_every": 2,
        "log_every": 1,
    }
    loop |= {"evaluate_every": None, "num_workers": 0, "precision": precision}
    settings = {
        "base": str(CONFIG),
        "decoder": str(out / "sd2"),
        "clip": str(out / "coca"),
        "data": {"source": f"webdataset:{shard}", "held_out_share": 0.0},
        "frozen_weights": precision,
        "loop": loop,
        **changes,
    }
    path = out / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def run(name: str, *arguments: str, until: Callable[[], bool] | None = None) -> Command:
    """Run `textlens`; where `until` is given, interrupt it once that holds."""
    typer.echo(f"textlens {' '.join(arguments)}", err=True)
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, *arguments], stdout=sys.stderr) as process:
        while until is not None and process.poll() is None:
            if until():
                process.send_signal(signal.SIGINT)
                break
            time.sleep(1)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 and until is None:
        raise SystemExit(f"textlens {arguments[0]} ended with exit code {process.returncode}")
    return Command(name, time.perf_counter() - started, usage.ru_maxrss * 1024)


def run_all(out: Path, precision: str, steps: int) -> list[Command]:
    """Train, interrupt, resume; once more without gradient checkpointing; describe and recreate."""
    config, folder = str(write_config(out, "train", precision)), out / "run"
    plain, other = str(write_config(out, "plain", precision, gradient_checkpointing=False)), out / "plain"
    photo, encoder = str(sorted(PHOTOS.glob("*.jpg"))[0]), f"dediffusion:{folder / 'model'}"
    drawing = ["--decoder", str(out / "sd2"), "--steps", str(steps), "--out", str(out / "redrawn.png")]
    train = ["train", "dediffusion", "--config"]
    saved, saved_plain = folder / "step-00000002", other / "step-00000002"
    return [
        run("train, interrupted after step 2", *train, config, "--out", str(folder), until=saved.exists),
        run("train --resume, to step 4", *train, config, "--out", str(folder), "--resume"),
        run("the same, no checkpointing", *train, plain, "--out", str(other), until=saved_plain.exists),
        run("describe", "describe", photo, "--encoder", encoder),
        run(f"recreate, {steps} denoising steps", "recreate", photo, "--encoder", encoder, *drawing),
    ]  # fmt: skip


def measure(
    name: str, forward: Callable[[Tensor], Tensor], given: Tensor, module: nn.Module | None
) -> tuple[Part, Tensor]:
    """The part, and its output; without a backward pass where no gradient goes through."""
    given = given.detach().requires_grad_(given.is_floating_point() and torch.is_grad_enabled())
    made, forward_seconds, forward_flops = counted(lambda: forward(given))
    backward_seconds, backward_flops = 0.0, 0
    if made.requires_grad:
        _, backward_seconds, backward_flops = counted(lambda: made.float().square().mean().backward())
    weights = 0 if module is None else sum(p.numel() for p in module.parameters())
    return Part(name, weights, forward_seconds, backward_seconds, forward_flops, backward_flops), made.detach()


def counted(function: Callable[[], Any]) -> tuple[Any, float, int]:
    """What it returns, its seconds and its FLOPs."""
    started = time.perf_counter()
    with FlopCounterMode(display=False) as counter:
        made = function()
    return made, time.perf_counter() - started, counter.get_total_flops()


def measure_parts(out: Path, precision: str) -> list[Part]:
    """Each part of a training step by itself, at one image, without checkpointing."""
    path = write_config(out, "parts", precision, gradient_checkpointing=False)
    config = parse(DediffusionTraining, read_stages(path, out)[0].values)
    recipe = DediffusionRecipe(config, out / "cache")
    decoder: Any = recipe.decoder
    model, vocabulary = recipe.encoder.model, recipe.vocabulary
    batch = recipe.batch([0], 0)
    noise = gumbel_noise((1, recipe.encoder.config.num_queries, len(vocabulary)), 0, [0])[:, 0]
    words = decoder.token_embeddings[vocabulary.ids].float()

    def soft(logits: Tensor) -> Tensor:
        return mix(gumbel_softmax(logits, noise, 1.0), words)

    def unet(states: Tensor) -> Tensor:
        latents = torch.zeros(1, 4, 64, 64, dtype=decoder.unet.dtype)
        made: Tensor = decoder.unet(latents, torch.tensor([500]), states.to(latents.dtype), return_dict=False)[0]
        return made

    with torch.no_grad():
        vae, _ = measure("VAE encoder", decoder.encode_images, batch["images"], decoder.vae.encoder)
        tower, given = measure("image tower", model.patch_tokens, batch["pixels"], recipe.clip.model.visual)
    found = [vae, tower]
    steps: list[tuple[str, Callable[[Tensor], Tensor], nn.Module | None]] = [
        ("pooler", model.read, model.pooler),
        ("head", model.head, model.head),
        ("Gumbel-softmax, soft tokens", soft, None),
        ("text encoder", decoder.encode_soft, decoder.text_encoder),
        ("U-Net", unet, decoder.unet),
    ]
    for name, forward, module in steps:
        part, given = measure(name, forward, given, module)
        found.append(part)
    return found


def plan(parts: list[Part]) -> list[str]:
    """Days of the paper's schedule, from the FLOPs of one image."""
    once = sum(part.forward_flops + part.backward_flops for part in parts)
    again = sum(part.forward_flops for part in parts if part.name in ("text encoder", "U-Net"))  # checkpointing
    lines = [f"an image: {once / TERA:.2f} TFLOPs, with gradient checkpointing {(once + again) / TERA:.2f}"]
    for gpus in GPUS:
        seconds = STEPS * IMAGES * (once + again) / (gpus * GPU_TFLOPS * TERA * MFU)
        lines.append(f"{gpus} GPU{'s' * (gpus > 1)}: {seconds / 86_400:,.1f} days")
    return lines


def table(parts: list[Part]) -> str:
    head = f"{'part':28} {'weights':>9} {'forward':>9} {'backward':>9} {'GFLOPs forward':>15} {'backward':>9}"
    rows = [
        f"{one.name:28} {one.weights / MILLIONS:8.1f}M {one.forward_seconds:8.1f}s {one.backward_seconds:8.1f}s "
        f"{one.forward_flops / 1e9:15,.0f} {one.backward_flops / 1e9:9,.0f}"
        for one in parts
    ]
    return "\n".join([head, *rows])


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="Folder for models, runs and true-size.json.")] = Path("runs/true-size"),
    precision: Annotated[str, typer.Option(help="fp32 or bf16, of frozen weights and autocast.")] = "fp32",
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of recreate.")] = 2,
) -> None:
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    write_models(out)
    commands = run_all(out, precision, steps)  # first, while this process holds no model
    for one in commands:
        typer.echo(f"{one.name:34} {one.seconds:7.0f} s  {one.memory / GB:5.1f} GB")
    parts = measure_parts(out, precision)
    typer.echo(f"\n{table(parts)}")
    trained = sum(part.weights for part in parts if part.name in ("pooler", "head"))
    typer.echo(f"trained: {trained / MILLIONS:.1f}M weights (the paper: 135M)")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    typer.echo(f"peak memory of all parts one after another, without checkpointing: {own / GB:.1f} GB\n")
    for line in plan(parts):
        typer.echo(line)
    record = {"precision": precision, "parts": [vars(p) for p in parts], "commands": [vars(c) for c in commands]}
    (out / "true-size.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    app()

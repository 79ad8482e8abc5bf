"""What recaptioning costs beside the captioner itself, and that its memory does not grow with the data.

    python benchmarks/recaption.py speed [--encoder coca] [--images 512] [--engine local --engine ray] [--workers 1]
    python benchmarks/recaption.py memory [--encoder scenes:coca] [--images 1000 --images 100000]

speed: JPEG files of 256 pixels, made up, in shards of 256. "bare" is `describe` of the same images, decoded and in
memory, in the same batches. An engine's figure is what `textlens recaption` prints: reading, hashing, decoding,
captioning, checking and writing, without the start of Python, Ray and the models. More than 15 % (local) or 30 %
(ray) above bare is exit code 1. images/hour is 3600 times images/s of this machine: on a GPU, of that GPU.
memory: peak resident memory of a process that recaptions so many images, each number in a process of its own. More
than 10 % between the least and the greatest is exit code 1.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from data import jpeg, write_shard
from PIL import Image
from textlens.encoders.registry import load_encoder
from textlens.train.recaption.recaption import RecaptionSettings, recaption

LIMITS = {"local": 1.15, "ray": 1.30}  # of the time of the bare captioner
FLAT = 1.10
PER_SHARD, DIFFERENT = 256, 256  # images; those of a memory run are made of so many different ones

app = typer.Typer(add_completion=False, help=__doc__)


def write_shards(folder: Path, number: int, side: int = 256) -> list[bytes]:
    """`number` images, of which the first ones are all different; returns those."""
    folder.mkdir(parents=True)
    photos = [jpeg(side, seed) for seed in range(min(number, DIFFERENT))]
    for first in range(0, number, PER_SHARD):
        keys = range(first, min(first + PER_SHARD, number))
        write_shard(folder / f"{first // PER_SHARD:05d}.tar", {f"{i:08d}": photos[i % len(photos)] for i in keys})
    return photos


def bare_seconds(encoder: str, photos: list[bytes], number: int, batch_size: int) -> float:
    """Of `describe` alone; a first batch is not counted."""
    images = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in photos]
    model = load_encoder(encoder)
    model.describe(images[:batch_size])
    started = time.perf_counter()
    for first in range(0, number, batch_size):
        model.describe([images[i % len(images)] for i in range(first, min(first + batch_size, number))])
    return time.perf_counter() - started


@app.command()
def speed(
    encoder: str = "coca",
    images: int = 512,
    engine: Annotated[list[str] | None, typer.Option()] = None,
    workers: int = 1,
    batch_size: int = 32,
) -> None:
    """Images/s of the engines against the bare captioner."""
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        photos = write_shards(Path(folder) / "shards", images)
        bare = bare_seconds(encoder, photos, images, batch_size)
        _show("bare", images, bare, bare)
        for name in engine or ["local"]:
            settings = RecaptionSettings(
                f"webdataset:{folder}/shards/*.tar", Path(folder) / name, {"caption": encoder},
                batch_size=batch_size, workers=workers,
            )  # fmt: skip
            seconds = recaption(settings, name).seconds
            _show(name, images, seconds, bare)
            slow |= seconds > LIMITS[name] * bare
    raise typer.Exit(int(slow))


def _show(name: str, images: int, seconds: float, bare: float) -> None:
    rate = images / seconds
    print(f"{name:6} {rate:8.1f} images/s {3600 * rate:12,.0f} images/hour {100 * (seconds / bare - 1):+6.1f} % time")


@app.command()
def memory(
    encoder: str = "scenes:coca",
    images: Annotated[list[int] | None, typer.Option()] = None,
    side: Annotated[int, typer.Option(help="Of the images, in pixels.")] = 64,
) -> None:
    """Peak memory for several numbers of images."""
    peaks = []
    for number in images or [1000, 100_000]:
        command = [sys.executable, __file__, "one-memory", str(number), encoder, str(side)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        peaks.append(found["peak_mb"])
        print(f"{number:9,} images: peak {found['peak_mb']:,.0f} MB, {found['seconds']:,.0f} s", flush=True)
    raise typer.Exit(int(max(peaks) > FLAT * min(peaks)))


@app.command(hidden=True)
def one_memory(number: int, encoder: str, side: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", number, side)
        made = recaption(
            RecaptionSettings(f"webdataset:{folder}/shards/*.tar", Path(folder) / "out", {"caption": encoder})
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mb": peak, "seconds": made.seconds}))


if __name__ == "__main__":
    app()

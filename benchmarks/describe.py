"""Images/s of the describe path over JPEG files against the bare model on the same images already in memory.

    python benchmarks/describe.py [--images 64] [--size 224] [--batch-size 16] [--max-tokens 20] [--json]

describe: file -> decode ahead in threads -> RGB -> preprocess -> image tower -> cached greedy decoding -> words.
bare: pixel tensors -> image tower -> the same decoding. Both write the same words, else the exit code is 1.
Random weights for an open_clip architecture name; `weights/scenes/coca` is added where it exists.

    python benchmarks/describe.py --encoder coca --encoder tags [--images 64] [--size 224] [--json]

Encoders by spec: describe as above, and the image tower alone on pixels in memory. Each run has files of its own, so
that no tower can remember an image. tower / describe is the share of the time that the tower needs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from models import load_models, new_parser
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.images import load_images
from textlens.encoders.pipeline import describe_stream
from textlens.encoders.registry import load_encoder


def write_photos(folder: Path, count: int, size: int) -> list[Path]:
    """JPEG files as large as photographs of this size are: smooth colour fields under some grain."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:05d}.jpg" for i in range(count)]
    for path in paths:
        field = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
        grain = rng.normal(0, 6, (size, size, 3))
        Image.fromarray((np.asarray(field) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def bare_run(captioner: CocaCaptioner, batches: list[torch.Tensor]) -> list[str]:
    return [one.text for pixels in batches for one in captioner.describe_pixels(pixels)]


def describe_run(captioner: CocaCaptioner, paths: list[Path], batch_size: int) -> list[str]:
    results = describe_stream(paths, {captioner.spec: captioner}, batch_size=batch_size)
    return [result.description.text if result.description else str(result.error) for result in results]


def measure(clip: Clip, paths: list[Path], batch_size: int, max_tokens: int, repeats: int) -> dict:
    captioner = CocaCaptioner(clip, max_tokens=min(max_tokens, clip.context_length - 1), batch_size=batch_size)
    images = [one.image for one in load_images(paths)]
    batches = [clip.pixels(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    bare_run(captioner, batches[:1])  # warm
    bare, describe, same = [], [], True
    for _ in range(repeats):  # in turns, so that a busy machine slows both
        start = time.perf_counter()
        expected = bare_run(captioner, batches)
        middle = time.perf_counter()
        texts = describe_run(captioner, paths, batch_size)
        describe.append(time.perf_counter() - middle)
        bare.append(middle - start)
        same &= texts == expected
    rates = {"bare_images_s": len(paths) / min(bare), "describe_images_s": len(paths) / min(describe)}
    row = {"model": clip.name, "images": len(paths), "batch": batch_size, "max_tokens": captioner.search.max_tokens}
    row |= {name: round(rate, 2) for name, rate in rates.items()}
    return {**row, "ratio": round(min(bare) / min(describe), 3), "same": same}


@torch.inference_mode()
def tower_run(clip: Clip, batches: list[torch.Tensor]) -> None:
    for pixels in batches:
        clip.embed_pixels(pixels)


def measure_encoder(spec: str, folder: Path, size: int, images: int, batch_size: int, repeats: int) -> dict:
    encoder = load_encoder(spec)
    clip = getattr(encoder, "clip", None)
    files = write_photos(folder, images * (2 * repeats + 1), size)
    parts = [files[start : start + images] for start in range(0, len(files), images)]
    list(describe_stream(parts.pop()[:batch_size], {spec: encoder}, batch_size=batch_size))  # warm
    describe, tower = [], []
    for _ in range(repeats):  # in turns, so that a busy machine slows both
        paths = parts.pop()
        start = time.perf_counter()
        if failed := [one.error for one in describe_stream(paths, {spec: encoder}, batch_size=batch_size) if one.error]:
            raise SystemExit(f"{spec}: {failed[0]}")
        describe.append(time.perf_counter() - start)
        loaded = [one.image for one in load_images(parts.pop())]
        if clip:
            batches = [clip.pixels(loaded[i : i + batch_size]) for i in range(0, images, batch_size)]
            start = time.perf_counter()
            tower_run(clip, batches)
            tower.append(time.perf_counter() - start)
    row = {"encoder": spec, "images": images, "batch": batch_size, "describe_images_s": images / min(describe)}
    if tower:
        row |= {"tower_images_s": images / min(tower), "ratio": min(tower) / min(describe)}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def encoders_table(args: argparse.Namespace) -> None:
    if not args.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
        print(f"{'encoder':<24}{'images':>8}{'batch':>7}{'describe/s':>12}{'tower/s':>10}{'tower / describe':>18}")
    for spec in args.encoder:
        with tempfile.TemporaryDirectory() as folder:
            row = measure_encoder(spec, Path(folder), args.size, args.images, args.batch_size, args.repeats)
        tower = f"{row.get('tower_images_s', '-'):>10}{row.get('ratio', '-'):>18}"
        line = f"{spec:<24}{row['images']:>8}{row['batch']:>7}{row['describe_images_s']:>12}{tower}"
        print(json.dumps(row) if args.json else line, flush=True)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--encoder", action="append", help="spec, repeatable; instead of --model")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224, help="pixels, width and height of the files")
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    if args.encoder:
        encoders_table(args)
        return
    if not args.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
        print(
            f"{'model':<16}{'images':>8}{'batch':>7}{'tokens':>8}{'bare/s':>9}{'describe/s':>12}{'ratio':>8}{'same':>7}"
        )
    good = True
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), args.images, args.size)
        for clip in load_models(args.model):
            row = measure(clip, paths, args.batch_size, args.max_tokens, args.repeats)
            good &= row["same"]
            print(json.dumps(row) if args.json else as_line(row), flush=True)
    sys.exit(0 if good else 1)


def as_line(row: dict) -> str:
    return (
        f"{Path(row['model']).name:<16}{row['images']:>8}{row['batch']:>7}{row['max_tokens']:>8}"
        f"{row['bare_images_s']:>9}{row['describe_images_s']:>12}{row['ratio']:>8}{row['same']!s:>7}"
    )


if __name__ == "__main__":
    main()

"""What the benchmarks of captioning have in common: which models they measure, and their options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.registry import WEIGHTS

SMALL = WEIGHTS / "scenes" / "coca"


def new_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=["coca_ViT-B-32"], help="open_clip architectures or folders")
    parser.add_argument("--max-tokens", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1, help="the best of so many runs")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    return parser


def load_models(sources: list[str]) -> Iterator[Clip]:
    """Random weights for an open_clip architecture, a folder's own for a folder; at last `weights/scenes/coca`."""
    for source in [*sources, *([str(SMALL)] if (SMALL / "open_clip_config.json").is_file() else [])]:
        if Path(source).is_dir():
            yield Clip.from_pretrained(source)
            continue
        with torch.random.fork_rng():
            torch.manual_seed(0)
            clip = Clip.from_config(source, name=source)
        yield clip

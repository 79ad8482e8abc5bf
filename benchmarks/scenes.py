"""Scenes drawn per second on one core: `python benchmarks/scenes.py` (target: 5,000 rendered at 64 px)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from textlens.scenes import render, scene_at


def per_second(number: int, work: Callable[[int], object]) -> float:
    start = time.perf_counter()
    for index in range(number):
        work(index)
    return number / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=5000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scenes = [scene_at(index) for index in range(options.number)]
    for scene in scenes:  # fills the cache of glyphs
        render(scene, options.size)
    figures = {
        "rendered": per_second(options.number, lambda index: render(scenes[index], options.size)),
        "sampled": per_second(options.number, scene_at),
        "sampled_and_rendered": per_second(options.number, lambda index: render(scene_at(index), options.size)),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):22s} {value:10,.0f} scenes/s")


if __name__ == "__main__":
    main()

"""Gemma 3 270M in process: conversion, later starts, tokens a second, and few-shot questions, in float32 and bfloat16.

    python benchmarks/gemma.py [--repeats 3] [--tokens 64] [--questions 16] [--shots 16] [--json]

Conversion and starts are new processes, from `python` to a loaded model, the imports of torch and transformers
included; the quickest of --repeats starts counts. Seconds of CPU tell how much of the time other work on the machine
took. Tokens: greedy, for one prompt and for eight at once. Questions: about the made world, as in benchmarks/reader.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import torch
from reader import answers, draw_shots, example, shots_first
from textlens.agent.models.gemma import gemma_folder
from textlens.agent.models.transformers import InProcessModel

PROMPTS = (
    "The capital of France is", "Cows eat", "On the table there is a", "The dog in the photograph",
    "Once upon a time", "The weather in spring", "A recipe for bread:", "The first man on the moon",
)  # fmt: skip
START = "from textlens.agent.models.registry import load_language_model; load_language_model('gemma')"


def new_process(variables: dict[str, str]) -> dict[str, float]:
    """Seconds of a process that loads the model, by the clock and of the CPU."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", START], check=True, env={**os.environ, **variables})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": wall, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def starts(repeats: int) -> dict:
    with tempfile.TemporaryDirectory() as place:
        variables = {"XDG_CACHE_HOME": place}
        conversion = new_process(variables)
        later = [new_process(variables) for _ in range(repeats)]
    return {"conversion": conversion, "start": min(later, key=lambda one: one["seconds"])}


def speed(dtype: torch.dtype, tokens: int, questions: int, shots: int) -> dict:
    model = InProcessModel.from_pretrained(gemma_folder(), device="cpu", dtype=dtype)
    drawn = draw_shots(shots, 0)
    prompts = [shots_first(example("test", 0, i), drawn) for i in range(questions)]
    row: dict = {"dtype": str(dtype).removeprefix("torch.")}
    for number in (1, len(PROMPTS)):
        model.complete(PROMPTS[:number], max_tokens=2, temperature=0.0, seed=0)
        start = time.perf_counter()
        made = model.complete(PROMPTS[:number], max_tokens=tokens, temperature=0.0, seed=0)
        row[f"tokens_s_batch_{number}"] = sum(one.completion_tokens for one in made) / (time.perf_counter() - start)
    start = time.perf_counter()
    made = answers(model, prompts)
    row["prompts_s"] = questions / (time.perf_counter() - start)
    row["prompt_tokens"] = max(one.prompt_tokens for one in made)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="starts after the conversion")
    parser.add_argument("--tokens", type=int, default=64, help="written per prompt")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    result: dict = starts(args.repeats)
    result["speed"] = [
        speed(dtype, args.tokens, args.questions, args.shots) for dtype in (torch.float32, torch.bfloat16)
    ]
    if args.json:
        print(json.dumps(result))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
    for name in ("conversion", "start"):
        print(f"{name:<12}{result[name]['seconds']:>7.1f} s, {result[name]['cpu_s']:.1f} s of CPU")
    for row in result["speed"]:
        print(
            f"{row['dtype']:<12}{row['tokens_s_batch_1']:>7.1f} tokens/s alone, "
            f"{row[f'tokens_s_batch_{len(PROMPTS)}']:.1f} in a batch of {len(PROMPTS)}; "
            f"{row['prompts_s']:.2f} prompts/s with {args.shots} shots ({row['prompt_tokens']} tokens)"
        )


if __name__ == "__main__":
    main()

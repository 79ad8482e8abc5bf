"""`textlens eval` against its parts: encoding alone, the language model alone, both as they overlap, and from caches.

    python benchmarks/evals.py [--limit 2000] [--encoder scenes:coca] [--llm tiny] [--shots 4] [--floors] [--lm-eval]

Questions about scenes of the made world, about two an image; models are loaded before. encode: images to words, without
cache. generate: as many other questions, words known, cache empty, with shots of another seed, so that a server has
no prompt in its own cache. whole: a run with empty caches. wall / max(encode, generate) is near 1 where both overlap
and the rest costs nothing (target: 1.15). It needs a server (--llm http://HOST:PORT/v1) or a GPU: two models on the
same cores take the sum of their times, so (encode + generate) is given too. again: the same run from its caches
(target: 20 times as fast). Unless both runs have the same scores and no failures, the exit code is 1.

--lm-eval: lm-evaluation-harness (`pip install 'textlens[lm-eval]' 'lm_eval[api]'`) sends the prompts of the first
encoder's row to the same server, as many at a time; its own figure, total_evaluation_time_seconds, has no start of
Python in it. "ours" is the row again with its words known and no completion cached. The server has seen these prompts
before both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from textlens.agent.models.registry import load_language_model
from textlens.agent.models.server import ServerModel, ServerSettings
from textlens.errors import InputError, TextlensError
from textlens.evals.descriptions import describe_all
from textlens.evals.encoder_variants import load_variants
from textlens.evals.harness.completion_cache import CachedModel, CompletionCache
from textlens.evals.harness.runner import EvalSettings, open_contexts, run
from textlens.evals.harness.scored_rows import Tally, asked_rows
from textlens.evals.harness.task_base import Task
from textlens.evals.harness.task_kinds import open_task
from textlens.evals.lm_eval_export import export
from textlens.scenes.scene_files import write_scenes

RATIO, SPEED_UP = 1.15, 20.0  # targets


def measure(
    limit: int, specs: list[str], llm: str, shots: int, floors: bool, size: int, lm_eval: bool, folder: Path
) -> dict:
    for _ in write_scenes(max(32, limit), folder, size=size):  # half of them are asked about
        pass
    task, other = (open_task("scenes_vqa", folder, limit=limit, seed=seed) for seed in (0, 1))
    encoders, model = load_variants(specs), load_language_model(llm)
    names, images = task.images(shots), task.data.images
    assert images is not None
    describe_all(1, lambda i: images.read(names[i]), encoders)  # warm
    start = time.perf_counter()
    describe_all(len(names), lambda i: images.read(names[i]), encoders)
    encode = time.perf_counter() - start
    cached = CachedModel(
        model, CompletionCache(folder / "generated", model)
    )  # a server gets as many at once as in a run
    generate, answers = generating(other, encoders, cached, shots, floors)
    settings = EvalSettings((shots,), floors=floors, output=folder / "out", log_samples=False)
    seconds, results = [], []
    for _ in range(2):
        start = time.perf_counter()
        results.append(run([task], encoders, [], model, settings))
        seconds.append(time.perf_counter() - start)
    whole, again = seconds
    beside = beside_lm_eval(task, encoders, model, shots, folder) if lm_eval else {}
    return {
        "questions": len(task.data.asked),
        "images": len(names),
        "answers": answers,
        "encoders": specs,
        "llm": model.spec,
        "shots": shots,
        "encode_s": encode,
        "generate_s": generate,
        "whole_s": whole,
        "again_s": again,
        "ratio": whole / max(encode, generate),
        "ratio_met": whole / max(encode, generate) <= RATIO,
        "ratio_to_sum": whole / (encode + generate),
        "speed_up": whole / again,
        "speed_up_met": whole / again >= SPEED_UP,
        "same": results[0].results == results[1].results and not results[0].failures,
        **beside,
    }


def beside_lm_eval(task: Task, encoders: dict, model: object, shots: int, folder: Path) -> dict:
    """Seconds and score (x100) of one row, by us and by lm-evaluation-harness; words are cached already."""
    if not isinstance(model, ServerModel):
        raise InputError(f"--lm-eval compares on a server; got --llm {model.spec}; expected http://HOST:PORT/v1")
    first = dict(list(encoders.items())[:1])
    settings = EvalSettings((shots,), floors=False, cache=folder / "out" / "cache", log_samples=False)
    with open_contexts(task, first, [], settings, shots) as contexts:
        (name,) = export(task, contexts, shots, folder / "lm_eval")
        start = time.perf_counter()
        scores = [score for row in asked_rows(task, contexts, shots, model, Tally()) for score in row.scores]
        ours = time.perf_counter() - start
    arguments = {
        "model": model.model, "base_url": f"{model.base_url}/completions", "tokenizer_backend": "None",
        "tokenized_requests": "False", "num_concurrent": ServerSettings().concurrency, "max_length": 8192,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "lm_eval", "run", "--tasks", name, "--include_path", str(folder / "lm_eval"), "--model",
        "local-completions", "--model_args", ",".join(f"{key}={value}" for key, value in arguments.items()),
        "--output_path", str(folder / "found"),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_DATASETS_OFFLINE": "1"})
    if ended.returncode:
        raise InputError(f"lm_eval ended with {ended.returncode}: {ended.stderr[-2000:]}")
    (path,) = (folder / "found").glob("*/results_*.json")
    found, metric = json.loads(path.read_text()), next(iter(task.metrics))
    return {
        "ours_s": ours,
        "lm_eval_s": float(found["total_evaluation_time_seconds"]),
        "ours_score": 100 * sum(one[metric] for one in scores) / len(scores),
        "lm_eval_score": 100 * found["results"][name][f"{metric},none"],
    }


def generating(task, encoders, model, shots: int, floors: bool) -> tuple[float, int]:
    """Seconds for all rows of the table, and answers, where all words are known before."""
    with open_contexts(task, encoders, [], EvalSettings(floors=floors), shots) as contexts:
        for context in contexts:
            for doc in [*task.shot_docs(shots), *task.data.asked]:
                context.source(doc)
        start, answers = time.perf_counter(), 0
        for context in contexts:
            answers += sum(1 for _ in task.readings(context, shots, model))
        return time.perf_counter() - start, answers


def as_lines(row: dict) -> str:
    met = {True: "met", False: "missed"}
    return (
        f"{row['questions']} questions, {row['images']} images, {row['answers']} answers, {row['shots']} shots, "
        f"{', '.join(row['encoders'])}, {row['llm']}\n"
        f"encode {row['encode_s']:.2f} s, generate {row['generate_s']:.2f} s, whole {row['whole_s']:.2f} s, "
        f"again {row['again_s']:.3f} s\n"
        f"whole / max(encode, generate)  {row['ratio']:.2f}  (target {RATIO}: {met[row['ratio_met']]}; "
        f"whole / sum {row['ratio_to_sum']:.2f})\n"
        f"whole / again  {row['speed_up']:.1f}  (target {SPEED_UP:.0f}: {met[row['speed_up_met']]}; "
        f"same scores: {row['same']})"
        + (
            f"\none row: ours {row['ours_s']:.1f} s, score {row['ours_score']:.2f}; lm-evaluation-harness "
            f"{row['lm_eval_s']:.1f} s, score {row['lm_eval_score']:.2f}"
            if "ours_s" in row
            else ""
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=2000, help="questions")
    parser.add_argument("--encoder", action="append", help="spec, repeatable; by default scenes:coca")
    parser.add_argument("--llm", default="tiny", help="spec, such as http://localhost:8000/v1")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="pixels, width and height of the images")
    parser.add_argument(
        "--floors", action="store_true", help="rows without words, with another image's, and with truth"
    )
    parser.add_argument("--lm-eval", action="store_true", help="lm-evaluation-harness beside it")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    encoders = args.encoder or ["scenes:coca"]
    if not args.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
    try:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(
                args.limit, encoders, args.llm, args.shots, args.floors, args.size, args.lm_eval, Path(folder)
            )
    except TextlensError as error:
        sys.exit(f"error: {error}")
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    print(json.dumps(rounded) if args.json else as_lines(row))
    sys.exit(0 if row["same"] else 1)


if __name__ == "__main__":
    main()

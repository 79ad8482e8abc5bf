"""Few-shot questions about the made world: a vLLM server, the language model in process, and `ask` from a cold start.

    python benchmarks/reader.py [server] [in-process] [ask] [--server http://HOST:PORT/v1] [--model FOLDER]
                                [--questions 256] [--shots 16] [--json]

server: all questions with the same shots, in three ways: ours (many requests at once, the shots first, so that the
server keeps their part of its cache), one at a time, and one at a time with the image's context in front, so that
nothing is shared. Each way has shots of its own, so that it starts from a cold cache; a few other questions warm up the
server before. Hits are tokens found in the prefix cache, by the server's /metrics. Without --server one is started.
in-process: `complete` (batched, the shots computed once) against transformers' `generate` for one prompt after the
other. Both write greedily; sums in another order may tip a balance, and below 95 % of same texts the exit code is 1.
ask: a new process for each run, the quickest of --repeats, so that files are in the system's cache.

Contexts are true captions. Where so many shots are too long for the model's context, all prompts have as many as fit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cold_ask
import httpx
import torch
from PIL import Image
from textlens.agent.models.base import CountsTokens, Request
from textlens.agent.models.server import ServerModel, ServerSettings
from textlens.agent.models.serving import serving
from textlens.agent.models.transformers import InProcessModel
from textlens.agent.reader.reading import is_longer
from textlens.encoders.registry import WEIGHTS
from textlens.errors import TextlensError
from textlens.prompting.fewshot import select_shots
from textlens.prompting.templates import PAPER_END, Context, Shot
from textlens.prompting.vqa import VQATemplate
from textlens.scenes.captions import captions
from textlens.scenes.questions import questions
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at, scene_rng

TEMPLATE = VQATemplate()
REQUEST = Request(16, TEMPLATE.stop, 0.0, 0, None)  # as `ask` sets them
SETTINGS = {"max_tokens": REQUEST.max_tokens, "stop": REQUEST.stop, "temperature": 0.0, "seed": 0}
ENCODERS = ("scenes:dediffusion", "scenes:decap")  # of the cold `ask`
CANDIDATES = 512  # train scenes that shots are drawn from
RATIO, HITS = 5.0, 0.8  # targets
SAME = 0.95

# --- prompts ----------------------------------------------------------------------------------------------------------


def example(split: str, seed: int, index: int) -> Shot:
    """A scene's true caption, and one of the questions that it allows, with the answer."""
    scene, rng = scene_at(index, split, seed), scene_rng(split, seed, index, "questions")
    asked = rng.choice(questions(scene, rng))
    caption = captions(scene, "descriptive", scene_rng(split, seed, index, "captions"))
    return Shot((Context(caption),), asked.question, asked.answer)


def draw_shots(number: int, seed: int) -> list[Shot]:
    return select_shots([example("train", 0, i) for i in range(CANDIDATES)], number, strategy="fixed", seed=seed)


def shots_first(query: Shot, shots: Sequence[Shot]) -> str:
    """Our own format: what is shared comes first."""
    return TEMPLATE.render(query, shots)


def image_first(query: Shot, shots: Sequence[Shot]) -> str:
    """The same lines in another order: the query's context, then instruction and shots, then its question."""
    context = "\n".join(TEMPLATE.context_lines(TEMPLATE.context_field, query.context))
    asked = TEMPLATE.example(replace(query, context=(), answer=None))[1:]  # without the blank context
    return "\n".join([f"{context}\n\n{TEMPLATE.prefix(shots)}{asked[0]}", *asked[1:]])


@dataclass(frozen=True)
class Way:
    name: str
    arrange: Callable[[Shot, Sequence[Shot]], str]
    concurrency: int


WAYS = {
    "ours": Way("at once, shots first (ours)", shots_first, ServerSettings.concurrency),
    "one_by_one": Way("one at a time, shots first", shots_first, 1),
    "image_first": Way("one at a time, image first", image_first, 1),
}


def most_shots(number: int, prompts_with: Callable[[int], list[str]], model: CountsTokens) -> int:
    """Up to `number` shots, as many as fit in every prompt of `prompts_with(shots)`."""
    if (limit := model.context_length) is None:
        return number
    for kept in range(number, 0, -1):
        prompts = sorted(prompts_with(kept), key=len, reverse=True)  # one that is too long is found soon
        if not any(is_longer(model, prompt, limit - REQUEST.max_tokens) for prompt in prompts):
            return kept
    return 0


# --- server -----------------------------------------------------------------------------------------------------------


def cache_counts(address: str) -> tuple[float, float]:
    """Tokens looked for in the prefix cache, and tokens found."""
    text = httpx.get(f"{address.removesuffix('/v1')}/metrics", timeout=60).raise_for_status().text

    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^vllm:{name}_total{{.*}} (\S+)$", text, re.MULTILINE))

    return total("prefix_cache_queries"), total("prefix_cache_hits")


def server_part(address: str, number: int, num_shots: int, seed: int) -> dict:
    base, _, name = address.partition("#")
    name = name or ServerModel(base).model
    queries = [example("test", seed, i) for i in range(number)]
    shots = {key: draw_shots(num_shots, 10 * seed + i) for i, key in enumerate(WAYS)}

    def prompts(key: str, kept: int) -> list[str]:
        return [WAYS[key].arrange(query, shots[key][:kept]) for query in queries]

    fitting = most_shots(
        num_shots, lambda kept: [one for key in WAYS for one in prompts(key, kept)], ServerModel(base, name)
    )
    row: dict = {"what": "server", "model": name, "questions": number, "shots_asked": num_shots, "shots": fitting}
    other = [example("test", seed + 1, i) for i in range(2 * ServerSettings.concurrency)]
    for i, (key, way) in enumerate(WAYS.items()):
        model = ServerModel(base, name, settings=ServerSettings(concurrency=way.concurrency))
        warm = draw_shots(num_shots, 10 * seed + 5 + i)[:fitting]
        answers(model, [way.arrange(query, warm) for query in other[: 2 * way.concurrency]])
        row[key] = {"concurrency": way.concurrency, **server_way(base, model, prompts(key, fitting))}
    ratio, hits = row["ours"]["prompts_s"] / row["image_first"]["prompts_s"], row["ours"]["hits"]
    return {**row, "ratio": ratio, "ratio_met": ratio >= RATIO, "hits_met": hits >= HITS}


def server_way(base: str, model: ServerModel, prompts: Sequence[str]) -> dict:
    asked, found = cache_counts(base)
    start = time.perf_counter()
    made = answers(model, prompts)
    spent = time.perf_counter() - start
    asked, found = (after - before for after, before in zip(cache_counts(base), (asked, found), strict=True))
    lengths = [one.prompt_tokens for one in made]
    return {
        "prompts_s": len(prompts) / spent,
        "hits": found / asked if asked else 0.0,
        "tokens": [min(lengths), max(lengths)],
        "written": sum(one.completion_tokens for one in made) / len(made),
    }


def answers(model: ServerModel | InProcessModel, prompts: Sequence[str]) -> list:
    """Completions of them all. Raises `TextlensError` where one failed."""
    made = model.complete(prompts, **SETTINGS)
    if failed := [one.error for one in made if one.error]:
        raise TextlensError(f"{len(failed)} of {len(made)} prompts failed; the first: {failed[0]}")
    return made


# --- in process -------------------------------------------------------------------------------------------------------


def in_process_part(folder: Path, number: int, num_shots: int, seed: int) -> dict:
    model = InProcessModel.from_pretrained(folder)
    queries = [example("test", seed, i) for i in range(number)]
    shots = draw_shots(num_shots, seed)

    def prompts_with(kept: int) -> list[str]:
        return [shots_first(query, shots[:kept]) for query in queries]

    fitting = most_shots(num_shots, prompts_with, model)
    prompts = prompts_with(fitting)
    answers(model, prompts[: model.batch_size])
    plain_text(model, prompts[0])
    start = time.perf_counter()
    ours = answers(model, prompts)
    middle = time.perf_counter()
    plain = [plain_text(model, prompt) for prompt in prompts]
    end = time.perf_counter()
    return {
        "what": "in-process", "model": str(folder), "questions": number, "shots_asked": num_shots, "shots": fitting,
        "batch": model.batch_size, "tokens": [f(one.prompt_tokens for one in ours) for f in (min, max)],
        "written": sum(one.completion_tokens for one in ours) / number, "prompts_s": number / (middle - start),
        "plain_prompts_s": number / (end - middle), "ratio": (end - middle) / (middle - start),
        "ratio_met": end - middle >= RATIO * (middle - start),
        "same": sum(one.text == text for one, text in zip(ours, plain, strict=True)),
    }  # fmt: skip


def plain_text(model: InProcessModel, prompt: str) -> str:
    """As transformers' documentation has it, for one prompt: the same stop marks and the same length at most."""
    batch = model.tokenizer(prompt, return_tensors="pt").to(model.model.device)
    marks = {"stop_strings": list(REQUEST.stop), "tokenizer": model.tokenizer}
    (ids,) = model.model.generate(**batch, max_new_tokens=REQUEST.max_tokens, do_sample=False, **marks)
    before, whole = (model.tokenizer.decode(row, skip_special_tokens=True) for row in (batch["input_ids"][0], ids))
    text = whole[len(before) :].removesuffix(PAPER_END)  # an end token of the small model, which is not left out
    kept = REQUEST.before_stop(text)
    return text if kept is None else kept


# --- ask --------------------------------------------------------------------------------------------------------------


def ask_part(folder: Path, repeats: int, seed: int) -> dict:
    scene, question = scene_at(0, "test", seed), example("test", seed, 0).question
    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "scene.png"
        Image.fromarray(render(scene)).save(image)
        llm = f"hf:{folder.resolve()}"
        runs = [cold_ask.measure(image, question, ENCODERS, llm) for _ in range(repeats)]
    return {"what": "ask", "model": str(folder), **min(runs, key=lambda row: row["total_s"])}


# --- command line -----------------------------------------------------------------------------------------------------


def verdict(target: str, met: bool) -> str:
    return f"target {target}: {'met' if met else 'NOT met'}"


def kept_shots(row: dict) -> str:
    left = f" (of {row['shots_asked']}: the model's context holds no more)" if row["shots"] < row["shots_asked"] else ""
    return f"{row['questions']} questions, {row['shots']} shots{left}"


def as_lines(row: dict) -> Iterator[str]:
    if row["what"] == "server":
        yield f"vLLM server, {row['model']}: {kept_shots(row)}"
        yield f"{'':<30}{'prompts/s':>10}{'cache hits':>12}{'prompt tokens':>15}{'written':>9}"
        for key, way in WAYS.items():
            own, tokens = row[key], "-".join(map(str, row[key]["tokens"]))
            yield f"{way.name:<30}{own['prompts_s']:>10.2f}{own['hits']:>12.1%}{tokens:>15}{own['written']:>9.1f}"
        yield f"ours over image first: {row['ratio']:.2f} times ({verdict(f'{RATIO:g}', row['ratio_met'])})"
        yield f"hits of ours: {row['ours']['hits']:.1%} ({verdict(f'{HITS:.0%}', row['hits_met'])})"
    elif row["what"] == "in-process":
        tokens = "-".join(map(str, row["tokens"]))
        yield f"in process, {row['model']}: {kept_shots(row)}, prompts of {tokens} tokens, {row['written']:.1f} written"
        yield f"{'complete (ours), batches of ' + str(row['batch']):<34}{row['prompts_s']:>8.2f} prompts/s"
        yield f"{'generate, one prompt at a time':<34}{row['plain_prompts_s']:>8.2f} prompts/s"
        yield f"ratio: {row['ratio']:.2f} times ({verdict(f'{RATIO:g}', row['ratio_met'])})"
        yield f"same text: {row['same']} of {row['questions']}"
    else:
        yield f"ask from a cold start, {row['model']}: seconds"
        yield from (f"  {name:<22}{value:>8.3f}" for name, value in row["stages"].items())
        yield f"  {'total':<22}{row['total_s']:>8.3f}"
        yield f"  {'asked again, loaded':<22}{row['again_s']:>8.3f}  same prompt and words: {row['same']}"


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("server", "in-process", "ask")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[], help="all three unless named")
    parser.add_argument("--server", help="address of a vLLM server that runs already; else one is started")
    parser.add_argument("--model", type=Path, default=WEIGHTS / "language_model", help="folder")
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seed", type=int, help="of what is drawn; by default 0, with --server another each time")
    parser.add_argument("--repeats", type=int, default=2, help="of ask: the quickest of so many processes")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    args = parser.parse_args()
    if not (args.server and args.parts == ["server"]) and not (args.model / "config.json").is_file():
        parser.error(f"{args.model} is no folder of a language model; name one with --model")
    # A server that is asked the same twice has it in its cache.
    seed = args.seed if args.seed is not None else time.time_ns() // 1000 % 10**9 if args.server else 0
    if not args.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, seed {seed}")

    def server() -> dict:
        with nullcontext(args.server) if args.server else serving(args.model, say=note) as address:
            return server_part(address, args.questions, args.shots, seed)

    run = {
        "server": server,
        "in-process": lambda: in_process_part(args.model, args.questions, args.shots, seed),
        "ask": lambda: ask_part(args.model, args.repeats, seed),
    }
    good = True
    try:
        for part in args.parts or parts:
            row = {**run[part](), "seed": seed}
            good &= row.get("same", True) >= SAME * row.get("questions", 1)
            print(json.dumps(rounded(row)) if args.json else "\n".join(["", *as_lines(row)]), flush=True)
    except (TextlensError, httpx.HTTPError) as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if good else 1)


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

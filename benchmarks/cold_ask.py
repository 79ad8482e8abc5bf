"""The first answer of `textlens ask` from a cold start, in seconds by stage: what a new process takes.

    python benchmarks/cold_ask.py [IMAGE] [QUESTION] [--encoder SPEC ...] [--llm SPEC] [--repeats 3] [--json]

By default the encoders and the language model that `ask` has by default. Each run is a new process; the quickest of
--repeats is told, so that files are in the system's cache. At the end ImageReader asks the same once more, all loaded:
`same` tells whether its prompt and words are those of the stages.
"""

from __future__ import annotations

import time

BEGAN = time.time()  # before anything else is imported

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

PHOTO = Path(__file__).parent.parent / "examples" / "photos" / "two-dogs.jpg"


def measure(image: Path, question: str, encoders: Sequence[str], llm: str | None) -> dict[str, Any]:
    """One run in a new process: seconds by stage, in total, and of the same once more with all loaded."""
    command = [sys.executable, __file__, str(image), question, "--once"]
    for option, values in (("--encoder", encoders), ("--llm", [llm] if llm else [])):
        command += [part for value in values for part in (option, value)]
    started = time.time()
    made = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    made["stages"] = {"start Python": made.pop("began") - started, **made["stages"]}
    return {**made, "total_s": sum(made["stages"].values())}


def run_once(image: str, question: str, specs: Sequence[str] | None, llm: str | None) -> dict[str, Any]:
    """What `ask` goes through, stage by stage, in this process."""
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    with stage("imports"):
        # Those of models would be imported by what loads them; here, so that loading is the reading of weights.
        from textlens.agent.models import transformers  # noqa: F401
        from textlens.agent.models.registry import load_language_model
        from textlens.agent.reader.describer import Describer
        from textlens.agent.reader.reader import VQA_PSEUDO, ImageReader
        from textlens.agent.reader.reading import fit
        from textlens.encoders.registry import ASK_ENCODERS, check_encoder, encoder_class, load_encoder
        from textlens.prompting.templates import Shot
        from textlens.prompting.vqa import VQATemplate

        specs = specs or ASK_ENCODERS
        for spec in specs:
            encoder_class(check_encoder(spec)[0])
    with stage("language model"):
        model = load_language_model(llm)
    with stage("encoders"):
        encoders = {spec: load_encoder(spec) for spec in specs}
    with stage("describing"):
        (described,) = Describer(encoders).describe([image])
    with stage("answering"):
        template, query = VQATemplate(), Shot(described.context(tuple(encoders)), question)
        (fitted,) = fit(model, template, [query], [VQA_PSEUDO], 16)
        greedy = {"temperature": 0.0, "seed": 0}
        (made,) = model.complete([fitted.prompt], max_tokens=16, stop=template.stop, **greedy)
    start = time.perf_counter()
    (answer,) = ImageReader(encoders, model).ask([image], [question])
    again = time.perf_counter() - start
    same = (answer.prompt, answer.completion) == (fitted.prompt, made)
    about = {"encoders": list(specs), "llm": model.spec, "text": made.text}
    return {"began": BEGAN, "stages": seconds, "again_s": again, "same": same, **about}


def table(row: dict[str, Any]) -> str:
    """Stages and seconds as Markdown."""
    seconds = {**row["stages"], "first answer": row["total_s"], "the same again, all loaded": row["again_s"]}
    lines = [f"| {name} | {value:.2f} |" for name, value in seconds.items()]
    title = f"ask by {' + '.join(row['encoders'])} and {row['llm']}: {row['text'].strip()!r}"
    return "\n".join([title, "", "| stage | s |", "|---|---|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", default=str(PHOTO))
    parser.add_argument("question", nargs="?", default="What animals are these?")
    parser.add_argument("--encoder", "-e", action="append", default=[])
    parser.add_argument("--llm")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--once", action="store_true", help="one run in this process, as JSON")
    given = parser.parse_args()
    if given.once:
        print(json.dumps(run_once(given.image, given.question, given.encoder, given.llm)))
        return
    runs = [measure(given.image, given.question, given.encoder, given.llm) for _ in range(given.repeats)]
    best = min(runs, key=lambda row: row["total_s"])
    print(json.dumps(best) if given.json else table(best))


if __name__ == "__main__":
    main()

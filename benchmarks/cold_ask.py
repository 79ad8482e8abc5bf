"""One `ask` in this process, stage by stage; prints JSON. benchmarks/reader.py runs it, as only a new process is cold.

    python benchmarks/cold_ask.py LANGUAGE_MODEL_FOLDER IMAGE QUESTION

The stages are what `textlens ask` goes through with the made world's encoders and the default shots. At the end
ImageReader asks the same once more, all loaded: `same` tells whether its prompt and words are those of the stages,
`again_s` its seconds.
"""

from __future__ import annotations

import time

BEGAN = time.time()  # before anything else is imported

import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402

ENCODERS = ("scenes:dediffusion", "scenes:decap")


def main(folder: str, image: str, question: str) -> None:
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    with stage("import"):
        # The last three would be imported by what loads them; here, so that loading is the reading of weights.
        from textlens.agent.models import transformers  # noqa: F401
        from textlens.agent.models.registry import load_language_model
        from textlens.agent.reader.describer import Describer
        from textlens.agent.reader.reader import VQA_PSEUDO, ImageReader
        from textlens.agent.reader.reading import fit
        from textlens.encoders import dediffusion  # noqa: F401
        from textlens.encoders.registry import load_encoder
        from textlens.prompting.templates import Shot
        from textlens.prompting.vqa import VQATemplate
    with stage("load encoders"):
        encoders = {spec: load_encoder(spec) for spec in ENCODERS}
    with stage("load language model"):
        model = load_language_model(f"hf:{folder}")
    with stage("encode image"):
        (described,) = Describer(encoders).describe([image])
    with stage("build prompt"):
        template, query = VQATemplate(), Shot(described.context(tuple(encoders)), question)
        (fitted,) = fit(model, template, [query], [VQA_PSEUDO], 16)
    with stage("generate"):
        greedy = {"temperature": 0.0, "seed": 0}
        (made,) = model.complete([fitted.prompt], max_tokens=16, stop=template.stop, **greedy)
    start = time.perf_counter()
    (answer,) = ImageReader(encoders, model).ask([image], [question])
    again = time.perf_counter() - start
    same = (answer.prompt, answer.completion) == (fitted.prompt, made)
    print(json.dumps({"began": BEGAN, "stages": seconds, "again_s": again, "same": same, "text": made.text}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run by test_vllm.py in vLLM's own environment: vLLM in process answers calls, and tells what was imported.

python vllm_engine_run.py CALLS.json ANSWERS.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from textlens.agent.models import vllm as vllm_engine
from textlens.agent.models.base import CountsTokens
from textlens.errors import InputError


def main(calls: Path, answers: Path) -> None:
    asked = json.loads(calls.read_text())
    try:
        vllm_engine.VllmEngine.from_pretrained(calls.parent / "no model")
        refused = None
    except InputError as error:
        refused = str(error)
    model = vllm_engine.VllmEngine.from_pretrained(asked["folder"], chat=False, **asked["settings"])
    chat = vllm_engine.VllmEngine(model.engine)
    bare = vllm_engine.VllmEngine(model.engine, chat=False)
    bare._encode = bare._plain  # type: ignore[method-assign]  # as a chat template that writes no begin token
    made = {
        "chats": {name: [asdict(one) for one in chat.complete(**call)] for name, call in asked["chats"].items()},
        "bare": [asdict(one) for one in bare.complete(**asked["bare"])],
        "chat": [chat.chat, model.chat],
        "completions": {name: [asdict(one) for one in model.complete(**call)] for name, call in asked["calls"].items()},
        "spec": model.spec,
        "counts_tokens": isinstance(model, CountsTokens),
        "context_length": model.context_length,
        "count": [model.count_tokens(text) for text in asked["texts"]],
        "refused": refused,
        "imported": sorted({"open_clip", "torchvision"} & set(sys.modules)),
    }
    vllm_engine.MAX_SEED = 2**100  # so that the engine breaks
    settings = {"max_tokens": 2, "temperature": 1.0, "seed": 2**80}
    made["broken"] = [[one.error for one in model.complete(["a", "b"], **settings)] for _ in range(2)]
    answers.write_text(json.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

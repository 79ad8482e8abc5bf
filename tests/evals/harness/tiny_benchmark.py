"""A small benchmark in files, and a language model that reads: answers are the last word of the query's context."""

from __future__ import annotations

import json
import re
from pathlib import Path

from PIL import Image
from textlens.agent.models.base import Completion
from textlens.encoders.base import Description

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "black": (0, 0, 0)}


def colour(number: int) -> str:
    return [*COLOURS][number * 7 % 4]


def write_benchmark(folder: Path, number: int = 24, **config: object) -> Path:
    """A task file with `number` images, each with two questions; the last third is the test split."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(number):
        size = (16 + i, 16)  # no two images are the same
        Image.new("RGB", size, COLOURS[colour(i)]).save(folder / "images" / f"{i}.png")
        for turn in range(2):
            rows.append(
                {
                    "question_id": 2 * i + turn,
                    "image": f"{i}.png",
                    "question": f"{('which', 'what')[turn]} colour has thing {i}",
                    "answers": [colour(i)] * 10,
                    "split": "test" if i >= number * 2 // 3 else "train",
                    "caption": f"a thing that is {colour(i)}",
                    "kind": ("which", "what")[turn],
                }
            )
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = {
        "task": "colours", "kind": "vqa", "data": "questions.jsonl", "images": "images",
        "columns": {"type": "kind", "truth": "caption"}, **config,
    }  # fmt: skip
    (folder / "colours.yaml").write_text(json.dumps(settings))
    return folder / "colours.yaml"


class Looker:
    """An encoder that names the colour; `seen` counts the images that it was given."""

    config = "looker"

    def __init__(self) -> None:
        self.seen = 0

    def describe(self, images):
        self.seen += len(images)
        names = {value: name for name, value in COLOURS.items()}
        return [Description(f"it is {names[image.getpixel((0, 0))]}", [], "looker") for image in images]


class Reader:
    """Says the last word of the query's context, or "red" without one; `fails`: prompts that get an error once."""

    spec = "reader"

    def __init__(self, fails: int = 0) -> None:
        self.prompts: list[str] = []
        self.fails = fails

    def complete(self, prompts, *, choices=None, **settings):
        made = []
        for prompt in prompts:
            self.prompts.append(prompt)
            if self.fails:
                self.fails -= 1
                made.append(Completion.failed("out of order", prompt, {}))
                continue
            context = re.split("Image context|Context", prompt)[-1].partition("\nImage question")[0]
            words = re.findall(r"\w+", context.partition(":")[2].partition("\n")[0])
            answer = words[-1] if words else "red"
            if choices and f" {answer}" not in choices:
                answer = choices[0].strip()
            made.append(Completion(f" {answer}", "stop", 5, 1, prompt))
        return made

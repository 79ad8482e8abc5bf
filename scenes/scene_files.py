"""Scenes as PNG files with JSON lines, or as a Hugging Face data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..folder_lock import one_writer
from ..output_files import replacing
from .captions import STYLES, captions
from .questions import questions
from .rendering import render
from .scene import check_split, scene_at, scene_rng
from .world import Scene

if TYPE_CHECKING:
    from datasets import Dataset


def record(scene: Scene, image: str, split: str = "test", seed: int = 0, index: int = 0) -> dict[str, Any]:
    """One line of `scenes.jsonl`: the scene's objects, a caption of every style and its questions, as plain JSON."""
    rng = scene_rng(split, seed, index, "captions")
    texts = {style: captions(scene, style, rng) for style in STYLES}
    asked = questions(scene, scene_rng(split, seed, index, "questions"))
    objects = [{"noun": t.noun, "colour": t.colour, "size": t.size, "place": t.place} for t in scene.objects]
    return {
        "image": image,
        "background": scene.background,
        "objects": objects,
        "captions": texts,
        "questions": [asdict(question) | {"answers": list(question.answers)} for question in asked],
    }


def write_scenes(
    number: int, out: Path, split: str = "test", seed: int = 0, size: int = 64
) -> Iterator[dict[str, Any]]:
    """Write `number` PNG files, `scenes.jsonl`, `questions.jsonl` with a question a line, and `metadata.jsonl`, with
    which the folder is an image folder whose columns are the styles of captions, into the folder `out`; yields each
    record once it is written."""
    from PIL import Image

    check_split(split)
    if number < 1 or size < 1:
        raise InputError(f"{number} scenes of {size} px were asked for: expected at least 1 of at least 1 px")
    digits = max(5, len(str(number - 1)))
    with ExitStack() as files:
        files.enter_context(one_writer(out))
        parts = [files.enter_context(replacing(out / f"{name}.jsonl")) for name in ("scenes", "questions", "metadata")]
        lines, asked, columns = (files.enter_context(part.open("w", encoding="utf-8")) for part in parts)
        for index in range(number):
            scene = scene_at(index, split, seed)
            row = record(scene, f"{index:0{digits}d}.png", split, seed, index)
            with replacing(out / row["image"]) as part:
                Image.fromarray(render(scene, size)).save(part, "PNG")
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            columns.write(json.dumps({"file_name": row["image"], **row["captions"]}, ensure_ascii=False) + "\n")
            for turn, question in enumerate(row["questions"]):
                own = {"question_id": f"{index}-{turn}", "image": row["image"], **question}
                asked.write(json.dumps({**own, "caption": row["captions"]["descriptive"]}, ensure_ascii=False) + "\n")
            yield row


def scenes_dataset(number: int, split: str = "train", seed: int = 0, size: int = 64) -> Dataset:
    """`number` scenes as a Hugging Face data set: the columns of `record`, with `image` as pictures."""
    from datasets import Dataset, Features, Image, Value

    text = Value("string")
    features = Features(
        image=Image(),
        background=text,
        objects=[{"noun": text, "colour": text, "size": text, "place": text}],
        captions=dict.fromkeys(STYLES, text),
        questions=[{"question": text, "type": text, "answer": text, "answers": [text]}],
    )

    def rows() -> Iterator[dict[str, Any]]:
        from PIL import Image as Picture

        for index in range(number):
            scene = scene_at(index, split, seed)
            yield record(scene, "", split, seed, index) | {"image": Picture.fromarray(render(scene, size))}

    return Dataset.from_generator(rows, features=features)

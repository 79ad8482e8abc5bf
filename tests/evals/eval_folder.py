"""A folder as `textlens eval … --output-path` writes it, made in code, for tests of its readers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

CONTEXTS = {"none": "floor", "coca": "encoder", "tags": "encoder", "truth": "ceiling"}
SHOTS = (0, 4)
TYPES = ("animals", "sports")


def jpeg(colour: tuple[int, int, int] = (200, 80, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def row(**fields: Any) -> dict[str, Any]:
    standard = {"task": "okvqa", "context": "coca", "role": "encoder", "encoder": "coca", "llm": "gemma"}
    figures = {"num_fewshot": 4, "metric": "vqa_accuracy", "score": 23.7, "stderr": 1.2, "n": 12}
    floor = {"parse_failures": 0, "above_floor": 13.04, "above_floor_stderr": 1.4}
    return standard | figures | floor | fields


def sample(**fields: Any) -> dict[str, Any]:
    standard = {"task": "okvqa", "context": "coca", "num_fewshot": 4, "id": "0", "image": "0.jpg", "type": "animals"}
    question = {"query": "What is it?", "references": ["dog"], "answer": "dog", "scores": {"vqa_accuracy": 1.0}}
    words = {"words": [{"label": "caption", "text": "a dog"}], "prompt": "Q: What is it?\nA:", "completion": " dog$"}
    return standard | question | words | {"error": None, "note": None, "thumbnail": "images/a0.jpg"} | fields


def results(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    task = {"description": "Questions that need knowledge.", "metrics": {"vqa_accuracy": "VQA accuracy"}, "notes": []}
    settings = {"tasks": ["okvqa"], "encoders": ["coca", "tags"], "llm": "gemma", "num_fewshot": list(SHOTS)}
    about = {"versions": {"textlens": "0.1.0", "torch": "2.11"}, "commit": "abc123", "date": "2026-11-26T01:00:00Z"}
    cost = {"seconds": 12.3, "prompt_tokens": 1000, "completion_tokens": 100, "failures": 0}
    settings |= {"contexts": list(CONTEXTS), "limit": 12, "seed": 7}
    return {"format": 1, "results": rows, "tasks": {"okvqa": task}, "settings": settings, **about, **cost} | fields


def standard_rows() -> list[dict[str, Any]]:
    return [
        row(
            context=context,
            role=role,
            encoder=context if role == "encoder" else None,
            num_fewshot=shots,
            score=10.0 * number + shots,
            above_floor=None if context == "none" else 10.0 * number,
        )
        for number, (context, role) in enumerate(CONTEXTS.items(), 1)
        for shots in SHOTS
    ]


def standard_samples(documents: int = 12) -> list[dict[str, Any]]:
    """Every context and number of shots of each document; `coca` is right about the even ones."""
    return [
        sample(
            context=context,
            num_fewshot=shots,
            id=str(document),
            image=f"{document}.jpg",
            type=TYPES[document % 2],
            query=f"What is in picture {document}?",
            answer="dog" if document % 2 == 0 else "cat",
            scores={"vqa_accuracy": float(document % 2 == 0)},
        )
        for document in range(documents)
        for context in CONTEXTS
        for shots in SHOTS
    ]


def write(folder: Path, summary: dict[str, Any] | None = None, samples: list[dict[str, Any]] | None = None) -> Path:
    """Write results.json, samples/okvqa.jsonl and the thumbnail images/a0.jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results(standard_rows()) if summary is None else summary))
    (folder / "samples").mkdir(exist_ok=True)
    lines = standard_samples() if samples is None else samples
    (folder / "samples" / "okvqa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a0.jpg").write_bytes(jpeg())
    return folder

"""The questions of a task: read from its files, checked, split into those asked and those for shots."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...metrics.vqa_accuracy import answers_from_counts
from .image_files import ImageFiles, Images, SeveralImages
from .table_rows import Problems, TableRow, read_rows
from .task_config import Columns, TaskConfig


@dataclass(frozen=True)
class Doc:
    """One item of a task: something to ask about an image, and what counts as right."""

    id: str
    image: str  # its name; "" for none
    query: str = ""  # the question, or the prompt
    references: tuple[str, ...] = ()  # answers of all annotators, captions, or the class
    scores: Mapping[str, float] = field(default_factory=dict)  # answer -> score, where the data says so
    answer: str = ""  # as a shot says it
    choices: tuple[str, ...] = ()
    split: str = ""
    type: str = ""
    truth: str = ""  # ground-truth text about the image
    columns: Mapping[str, Any] = field(default_factory=dict)  # the row as it stands in the file


@dataclass(frozen=True)
class TaskData:
    """No image of `asked` is among those of `candidates`. notes: what a reader of the scores has to know."""

    asked: list[Doc]
    candidates: list[Doc]
    images: Images | None
    notes: tuple[str, ...] = ()


def load_questions(config: TaskConfig, folder: Path, *, limit: int | None = None, seed: int = 0) -> TaskData:
    """Questions and answers of the kinds vqa and multiple_choice. limit: so many, drawn by seed.

    Raises `InputError` with all problems of a file at once: by place and column.
    """
    docs = _read(config, folder, config.data, config.annotations, config.image_name)
    pool = docs
    if config.fewshot_data:
        pool = _read(
            config, folder, config.fewshot_data, config.fewshot_annotations,
            config.fewshot_image_name or config.image_name,
        )  # fmt: skip
    asked, candidates = split(docs, pool, config, folder / config.data)
    asked = drawn(asked, limit, seed)
    images = _images(config, folder)
    counts = Counter(len(doc.references) for doc in asked if not doc.scores)
    few = sum(number for count, number in counts.items() if 0 < count < 10)
    notes = []
    if config.metric == "vqa_accuracy" and few:
        rule = "each answer is compared with the others; a single answer by exact match"
        notes.append(f"{few} of {len(asked)} questions have fewer than 10 answers: {rule}")
    if config.metric == "vqa_accuracy" and any(doc.scores for doc in asked):
        notes.append("the data gives scores of answers, not ten answers: 0.667 is read as the official 0.6")
    return TaskData(asked, candidates, images, tuple(notes))


def drawn(docs: list[Doc], limit: int | None, seed: int) -> list[Doc]:
    """`limit` of the documents, drawn by seed, in their order; all of them for None."""
    if limit is None or limit >= len(docs):
        return docs
    return [docs[i] for i in sorted(random.Random(seed).sample(range(len(docs)), limit))]


def split(docs: Sequence[Doc], pool: Sequence[Doc], config: TaskConfig, path: Path) -> tuple[list[Doc], list[Doc]]:
    """Those asked, and those for shots. Raises `InputError` for an empty split, and where both share an image."""
    held: set[str] = set()
    if not any(doc.split == "val" for doc in docs):
        trained = sorted({doc.image or doc.id for doc in pool if doc.split == "train"})
        held = set(random.Random(0).sample(trained, round(config.val_share * len(trained))))
    if config.split == "val" and held:
        asked = [doc for doc in docs if doc.split == "train" and (doc.image or doc.id) in held]
    else:
        asked = [doc for doc in docs if _is_of(doc, config.split)]
    with_shots = config.fewshot_split != "none"
    candidates = [doc for doc in pool if with_shots and _is_of(doc, config.fewshot_split)]
    if config.fewshot_split == "train":
        candidates = [doc for doc in candidates if (doc.image or doc.id) not in held]
    if not asked or (with_shots and not candidates):
        name = config.fewshot_split if asked else config.split
        there = ", ".join(dict.fromkeys(doc.split for doc in docs if doc.split)) or "no splits"
        raise InputError(f"{path} has no rows of split {name!r}; it has {there} (or use all, hash:0/2)")
    if shared := {doc.image for doc in asked if doc.image} & {doc.image for doc in candidates}:
        raise InputError(
            f"{len(shared)} images are asked about and in the shots' split, such as {min(shared)}; shots must not "
            "show the answers: take another fewshot_split"
        )
    return asked, candidates


def _is_of(doc: Doc, name: str) -> bool:
    """Whether a document belongs to a split: "hash:0/2" is the half of the images whose hash is even."""
    if name == "all":
        return True
    if not name.startswith("hash:"):
        return doc.split == name
    try:
        part, parts = (int(number) for number in name.removeprefix("hash:").split("/"))
        digest = int.from_bytes(blake2b((doc.image or doc.id).encode(), digest_size=8).digest())
        return digest % parts == part
    except (ValueError, ZeroDivisionError):
        raise InputError(f"split is {name!r}; expected such as hash:0/2, the first of two parts") from None


def _images(config: TaskConfig, folder: Path) -> Images | None:
    if not config.images:
        return None
    own = ImageFiles(folder / config.images)
    if not config.fewshot_images:
        return own
    return SeveralImages(own, ImageFiles(folder / config.fewshot_images))


def _read(config: TaskConfig, folder: Path, data: str, annotations: str, image_name: str) -> list[Doc]:
    path = folder / data
    rows, problems = read_rows(path), Problems(path)
    if annotations:
        rows = _joined(rows, folder / annotations, config.columns.id)
    docs = [doc for i, row in enumerate(rows) if (doc := _doc(row, i, config, image_name, problems))]
    repeated = [name for name, count in Counter(doc.id for doc in docs).items() if count > 1]
    for name in repeated:
        problems.add(f"id {name}", config.columns.id, "is there twice; expected different ones")
    problems.check()
    return docs


def _joined(rows: Sequence[TableRow], path: Path, column: str) -> list[TableRow]:
    """Rows with the columns of the row of the same id in another file."""
    by_id = {row.get(column): row.values for row in read_rows(path)}
    problems, joined = Problems(path), []
    for row in rows:
        if (own := row.get(column)) not in by_id:
            problems.add(f"{column} {own}", "annotations", "no row with this id")
        else:
            joined.append(TableRow(row.place, {**by_id[own], **row.values}))
    problems.check()
    return joined


def _doc(row: TableRow, number: int, config: TaskConfig, image_name: str, problems: Problems) -> Doc | None:
    columns, before = config.columns, len(problems.found)
    image = _image_of(row, image_name, columns, problems)
    query = row.get(columns.question)
    if not isinstance(query, str) or not query.strip():
        problems.add(row.place, columns.question, f"is {_shown(query)}; expected a text")
    choices, right = _choices(row, config, problems)
    references, scores = _answers(row, config, right, problems)
    if len(problems.found) > before:
        return None
    return Doc(
        id=str(row.get(columns.id, number)) if columns.id else str(number),
        image=image,
        query=str(query),
        references=references,
        scores=scores,
        answer=right or _shot_answer(references, scores, config),
        choices=choices,
        split=str(row.get(columns.split, "")),
        type=str(row.get(columns.type, "")) if columns.type else "",
        truth=joined_text(row.get(columns.truth)) if columns.truth else "",
        columns=row.values,
    )


def _image_of(row: TableRow, image_name: str, columns: Columns, problems: Problems) -> str:
    if image_name:
        try:
            return image_name.format(**row.values)
        except (KeyError, ValueError, IndexError) as error:
            problems.add(row.place, "image_name", f"{image_name!r} cannot be filled in ({error})")
            return ""
    image = row.get(columns.image)
    if not isinstance(image, str) or not image.strip():
        problems.add(row.place, columns.image, f"is {_shown(image)}; expected the name of an image")
        return ""
    return image


def _choices(row: TableRow, config: TaskConfig, problems: Problems) -> tuple[tuple[str, ...], str]:
    """The choices and the right one, of multiple choice; else nothing."""
    if config.kind != "multiple_choice":
        return (), ""
    columns = config.columns
    choices, correct = row.get(columns.choices), row.get(columns.correct)
    if not _texts(choices) or len(set(choices)) < max(2, len(choices)):
        problems.add(row.place, columns.choices, f"is {_shown(choices)}; expected two or more different texts")
        return (), ""
    if not isinstance(correct, int) or not 0 <= correct < len(choices):
        problems.add(row.place, columns.correct, f"is {_shown(correct)}; expected 0 to {len(choices) - 1}")
        return (), ""
    return tuple(choices), choices[correct]


def _answers(
    row: TableRow, config: TaskConfig, right: str, problems: Problems
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Answers of all annotators; and their scores, where the data has those instead."""
    if right:
        return (right,), {}
    column = config.columns.answers
    value = row.get(column)
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        value = [one.get("answer") for one in value]  # as VQAv2 has them
    if isinstance(value, str) and value.strip():
        value = [value]
    if _texts(value):
        return tuple(value), {}
    if isinstance(value, Mapping) and value and all(isinstance(n, int | float) and n > 0 for n in value.values()):
        if any(number > 1 for number in value.values()):
            return tuple(answers_from_counts({str(key): int(number) for key, number in value.items()})), {}
        return tuple(map(str, value)), {str(key): float(number) for key, number in value.items()}
    problems.add(
        row.place, column, f"is {_shown(value)}; expected a text, a list of texts, or answer -> count or score"
    )
    return (), {}


def _shot_answer(references: Sequence[str], scores: Mapping[str, float], config: TaskConfig) -> str:
    if config.metric == "set_match":
        return ", ".join(references)
    if scores:
        return max(scores, key=lambda answer: scores[answer])
    return Counter(references).most_common(1)[0][0] if references else ""


def joined_text(value: Any) -> str:
    """A column's text. Of a list: sentences one after another, words with commas."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Iterable):
        texts = [str(one).strip() for one in value if str(one).strip()]
        if texts and sum(len(text.split()) for text in texts) >= 3 * len(texts):
            return " ".join(text.rstrip(" .") + "." for text in texts)
        return ", ".join(texts)
    return str(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(o, str) and o.strip() for o in value)


def _shown(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"

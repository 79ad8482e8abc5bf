"""What `textlens eval … --output-path DIR` wrote: DIR/results.json and DIR/samples/TASK.jsonl, read and checked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import Field, ValidationError

from ...errors import InputError
from .results import FORMAT, RESULTS_NAME, SAMPLES_NAME, Record, Results

_MAX_THUMBNAIL = 500_000  # bytes; 320 pixels take about 20,000
_THUMBNAIL = re.compile(r"images/[\w-]+\.jpg")  # a name that cannot lead out of the folder


class Words(Record):
    label: str
    text: str


class Sample(Record):
    """One document in one context at one number of shots."""

    task: str
    context: str
    num_fewshot: int | None
    id: str
    image: str | None = None
    type: str | None = None
    query: str | None = None
    references: list[str] = Field(default_factory=list)
    answer: str | None = None
    scores: dict[str, float | None] = Field(default_factory=dict)
    bleu_counts: list[float] | None = Field(default=None, min_length=10, max_length=10)
    words: list[Words] | None = None
    prompt: str | None = None
    completion: str | None = None
    error: str | None = None
    note: str | None = None
    thumbnail: str | None = None
    drawn: str | None = None  # thumbnail of the image drawn from the words


_Model = TypeVar("_Model", bound=Record)


def read_results(folder: Path) -> Results:
    """DIR/results.json. Raises `InputError` for a missing or malformed file, and for another format than 1."""
    path = folder / RESULTS_NAME
    if not path.is_file():
        raise InputError(
            f"{folder} has no results.json; expected a folder written by `textlens eval … --output-path {folder}`; "
            "run that first, or give another folder"
        )
    try:
        data = _json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); expected what `textlens eval` wrote; run it again") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise InputError(
            f"{path} is of format {found!r}; expected {FORMAT}; use the textlens that wrote it, or run the eval again"
        )
    results = _checked(Results, data, str(path))
    keys = Counter((row.task, row.context, row.num_fewshot, row.metric) for row in results.results)
    for key, count in keys.items():
        if count > 1:
            raise InputError(
                f"{path} has {count} rows of task, context, shots and metric {key}; expected one; run the eval again"
            )
    if not results.results:
        raise InputError(f"{path} holds no results; expected at least one row; run the eval again")
    return results


def has_samples(folder: Path, task: str) -> bool:
    """Whether a task has a sample log."""
    return _sample_file(folder, task).is_file()


def read_samples(folder: Path, task: str) -> Iterator[Sample]:
    """Samples in the order of DIR/samples/TASK.jsonl. A last line that was never finished is passed over.

    Raises `InputError` for a missing file, and for any other line that is no sample of this task.
    """
    path = _sample_file(folder, task)
    if not path.is_file():
        raise InputError(f"{path} is missing; expected the samples of {task}; run `textlens eval` again")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = _json(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise InputError(
                    f"{path}, line {number} is not JSON ({error}); expected one sample; remove the line, or run the "
                    "eval again"
                ) from None
            sample = _checked(Sample, data, f"{path}, line {number}")
            if sample.task != task:
                raise InputError(
                    f"{path}, line {number} is of task {sample.task!r}; expected {task!r}, as the file is named"
                )
            yield sample


def read_thumbnail(folder: Path, name: str | None) -> bytes | None:
    """The JPEG that a sample names; None where there is none, or where it is not a thumbnail inside the folder."""
    if name is None or not _THUMBNAIL.fullmatch(name):
        return None
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if not inside or not path.is_file() or path.stat().st_size > _MAX_THUMBNAIL:
        return None
    data = path.read_bytes()
    return data if data.startswith(b"\xff\xd8\xff") else None


def _sample_file(folder: Path, task: str) -> Path:
    return folder / SAMPLES_NAME / f"{task}.jsonl"


def _json(raw: bytes) -> Any:
    """Strict JSON: no NaN. Half a surrogate pair, which no encoding can write, becomes "?"."""
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if b"\\ud" in raw.lower():
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _checked(model: type[_Model], data: Any, where: str) -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(
            f"{where}: {place} is {str(first['input'])[:80]!r}: {first['msg']}; expected format {FORMAT} of "
            "`textlens eval`; run the eval again"
        ) from None

"""What `textlens eval … --output-path DIR` wrote: DIR/results.json and DIR/samples/TASK.jsonl, read and checked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import InputError
from ..row_roles import Role

FORMAT = 1
_MAX_THUMBNAIL = 500_000  # bytes; 320 pixels take about 20,000
_THUMBNAIL = re.compile(r"images/[\w-]+\.jpg")  # a name that cannot lead out of the folder


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Row(_Record):
    """Score of one task, context, number of shots and metric. Scores and standard errors are x100."""

    task: str
    context: str
    role: Role
    encoder: str | None = None
    llm: str | None = None
    num_fewshot: int | None  # None: does not depend on shots
    metric: str
    score: float
    stderr: float | None = None
    n: int
    parse_failures: int = 0
    above_floor: float | None = None  # paired difference from the blank context
    above_floor_stderr: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval, by the normal approximation."""
        return None if self.stderr is None else (self.score - 1.96 * self.stderr, self.score + 1.96 * self.stderr)


class Task(_Record):
    description: str | None = None
    metrics: dict[str, str] = {}
    notes: list[str] = []


class Results(_Record):
    results: list[Row]
    tasks: dict[str, Task] = {}
    settings: dict[str, Any] = {}
    versions: dict[str, str | None] = {}
    commit: str | None = None
    date: str | None = None
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    failures: int | None = None

    @property
    def task_names(self) -> list[str]:
        return list(dict.fromkeys(row.task for row in self.results))

    def metrics(self, task: str) -> list[str]:
        """Metrics of a task; the first is the one that its samples are sorted into right and wrong by."""
        used = dict.fromkeys(row.metric for row in self.results if row.task == task)
        listed = self.tasks[task].metrics if task in self.tasks else {}
        return [name for name in listed if name in used] + [name for name in used if name not in listed]

    def label(self, task: str, metric: str) -> str:
        """What a metric is called."""
        return self.tasks[task].metrics.get(metric, metric) if task in self.tasks else metric


class Words(_Record):
    label: str
    text: str


class Sample(_Record):
    """One document in one context at one number of shots."""

    task: str
    context: str
    num_fewshot: int | None
    id: str
    image: str | None = None
    type: str | None = None
    query: str | None = None
    references: list[str] = []
    answer: str | None = None
    scores: dict[str, float | None] = {}
    words: list[Words] | None = None
    prompt: str | None = None
    completion: str | None = None
    error: str | None = None
    note: str | None = None
    thumbnail: str | None = None


_Model = TypeVar("_Model", bound=_Record)


def read_results(folder: Path) -> Results:
    """DIR/results.json. Raises `InputError` for a missing or malformed file, and for another format than 1."""
    path = folder / "results.json"
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


def sample_files(folder: Path, tasks: list[str]) -> dict[str, Path]:
    """Task -> its samples file, for those tasks that have one."""
    files = {path.stem: path for path in sorted((folder / "samples").glob("*.jsonl"))}
    return {task: files[task] for task in tasks if task in files}


def read_samples(path: Path, task: str) -> Iterator[Sample]:
    """Samples in the order of the file. A last line that was never finished is passed over.

    Raises `InputError` for any other line that is no sample of this task.
    """
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

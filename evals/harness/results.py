"""What an evaluation leaves: `results.json` and a sample log for each task. `saved_results` reads them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...output_files import replacing, write_text
from ...train.engine.run import installed_versions
from ..aligned_table import aligned, number
from ..row_roles import Role

FORMAT, RESULTS_NAME, SAMPLES_NAME = 1, "results.json", "samples"
_PACKAGES = ("textlens", "torch", "transformers", "open_clip_torch", "vllm")


class Record(BaseModel):
    """Part of what is written, checked when it is made and when it is read."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class ResultRow(Record):
    """One score. score, stderr and differences are x100; None where they are not known or do not apply."""

    task: str
    context: str  # encoder's spec, FILE:COLUMN, "all", "none", "other image", "truth", "constant: ANSWER"
    role: Role
    encoder: str | None = None
    llm: str | None = None  # None where no language model is asked
    num_fewshot: int | None  # None: does not depend on shots
    metric: str
    score: float
    stderr: float | None = None
    n: int
    parse_failures: int = 0
    above_floor: float | None = None  # paired difference from the blank context of the same number of shots
    above_floor_stderr: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval, by the normal approximation."""
        return None if self.stderr is None else (self.score - 1.96 * self.stderr, self.score + 1.96 * self.stderr)


class TaskAbout(Record):
    """What a task is, and what is to be said of its scores."""

    description: str | None = None
    metrics: dict[str, str] = {}  # name -> label; the first is the one that samples are sorted by
    notes: list[str] = []


class Results(Record):
    """The content of results.json."""

    results: list[ResultRow]
    tasks: dict[str, TaskAbout] = {}
    settings: dict[str, Any] = {}
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    failures: int | None = None  # prompts without a completion: they are asked again by the same command
    versions: Mapping[str, str | None] = {}
    commit: str | None = None
    date: str | None = None
    format: int = FORMAT

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

    def write(self, folder: Path) -> Path:
        """Write results.json whole, in place of an older one."""
        path = folder / RESULTS_NAME
        write_text(json.dumps(self.model_dump(), indent=1, ensure_ascii=False) + "\n", path)
        return path


def write_samples(folder: Path, task: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line for each row and document, in place of an older log."""
    path = folder / SAMPLES_NAME / f"{task}.jsonl"
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)


def versions() -> dict[str, str]:
    """Of Python and of the packages that scores depend on, where they are installed."""
    return {"python": platform.python_version(), **installed_versions(_PACKAGES)}


def as_table(rows: Sequence[ResultRow]) -> str:
    """One line a row."""
    head = ["task", "context", "shots", "metric", "score", "±", "above blank", "±", "n", "unparsed"]
    lines = [
        [
            row.task, row.context, "-" if row.num_fewshot is None else str(row.num_fewshot), row.metric,
            number(row.score), number(row.stderr), number(row.above_floor), number(row.above_floor_stderr),
            str(row.n), str(row.parse_failures),
        ]
        for row in rows
    ]  # fmt: skip
    return aligned(head, lines)

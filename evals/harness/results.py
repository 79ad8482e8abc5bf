"""What an evaluation leaves: `results.json` and a sample log for each task, written and read again."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...train.engine.run import current_commit
from ..aligned_table import aligned, number

FORMAT, RESULTS_NAME, SAMPLES_NAME = 1, "results.json", "samples"
_PACKAGES = ("textlens", "torch", "transformers", "open_clip_torch", "vllm")


@dataclass(frozen=True)
class ResultRow:
    """One score. score, stderr and differences are x100; None where they are not known or do not apply."""

    task: str
    context: str  # encoder's spec, FILE:COLUMN, "all", "none", "other image", "truth", "constant: ANSWER"
    role: str  # "encoder", "file", "all", "floor", "ceiling"; "model" of upsampling's own rows
    encoder: str | None
    llm: str | None  # None where no language model is asked
    num_fewshot: int | None
    metric: str
    score: float
    stderr: float | None
    n: int
    parse_failures: int = 0
    above_floor: float | None = None  # paired difference from the blank context of the same number of shots
    above_floor_stderr: float | None = None


@dataclass(frozen=True)
class Results:
    """The content of results.json."""

    results: Sequence[ResultRow]
    tasks: Mapping[str, Mapping[str, Any]]  # name -> description, metrics, notes
    settings: Mapping[str, Any]
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failures: int = 0  # prompts without a completion: they are asked again by the same command
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    commit: str = field(default_factory=current_commit)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT

    def write(self, folder: Path) -> Path:
        """Write results.json whole, in place of an older one."""
        folder.mkdir(parents=True, exist_ok=True)
        path, part = folder / RESULTS_NAME, folder / f".{RESULTS_NAME}.{os.getpid()}"
        part.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
        return path


def read_results(folder: Path) -> Results:
    """Raises `InputError` for a folder without results, or with those of another format."""
    path = folder / RESULTS_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; expected a folder that `textlens eval` wrote") from error
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise InputError(f"{path} has format {found!r}; expected {FORMAT}: run `textlens eval` again")
    try:
        rows = [ResultRow(**row) for row in content.pop("results")]
        return Results(rows, **content)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not whole: {error}; run `textlens eval` again") from error


def write_samples(folder: Path, task: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line for each row and document, in place of an older log."""
    path = folder / SAMPLES_NAME / f"{task}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    part.replace(path)


def read_samples(folder: Path, task: str) -> list[dict[str, Any]]:
    """Raises `InputError` where a task has no sample log."""
    path = folder / SAMPLES_NAME / f"{task}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the samples of {task}: {error}; run `textlens eval` again") from error


def versions() -> dict[str, str]:
    """Of Python and of the packages that scores depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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

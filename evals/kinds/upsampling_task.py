"""Prompt upsampling: what a language model keeps of a prompt and what it adds, by the rules of the faithfulness check.

Rows: "none" is the prompt itself; "rewrite" what the model wrote; "upsampled" the prompt that `upsample` settles on,
which falls back to the original with the rewrite's additions where the rewrite broke it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...agent.models.base import LanguageModel
from ...agent.reader.answers import Upsampling
from ...agent.reader.reading import Reading
from ...agent.reader.upsampler import upsample
from ...errors import InputError
from ...input_files import read_text
from ...prompting.faithfulness import check
from ...prompting.faithfulness.content_words import caption_words
from ...prompting.rewrites import MAX_PROMPT_CHARS
from ...prompting.templates import Context
from ...prompting.upsampling import WORKED_PAIRS
from ..harness.completion_cache import CachedModel
from ..harness.context_rows import NONE, ContextRow, Source
from ..harness.task_base import Prompted, Task
from ..task_data.documents import Doc, TaskData, drawn
from ..task_data.table_rows import Problems, TableRow, read_rows
from ..task_data.task_config import TaskConfig

REWRITE, UPSAMPLED = "rewrite", "upsampled"
_CHUNK = 64  # prompts sent at once
_TWICE = 8  # prompts that are asked twice


class UpsamplingTask(Task):
    """Asked at the upsampler's own temperature, with its worked pairs as shots."""

    fixed_shots = len(WORKED_PAIRS)

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        super().__init__(config, data, seed)
        self.metrics = {
            "atoms_kept": "share of what the prompt says (objects, counts, attributes, relations, …) that is kept",
            "faithful": "share that keep all of them",
            "unchanged": "share that are the prompt itself",
            "new_words": "content words that the prompt does not have, mean number",
            "words": "mean number of words",
        }
        self._made: dict[int, list[Upsampling]] = {}  # start of a chunk -> its prompts'
        self._twice = ""

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> Task:
        docs = _prompts(config, folder / config.data)
        docs = drawn(docs, limit, seed)
        return cls(config, TaskData(docs, [], None), seed)

    @property
    def notes(self) -> Sequence[str]:
        return [*self.data.notes, self._twice] if self._twice else self.data.notes

    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        raise InputError(f"{self.config.task} is asked by `upsample`")

    def images(self, most_shots: int) -> list[str]:
        return []

    def constant(self) -> str | None:
        return None

    def contexts(self, rows: Sequence[ContextRow], *, floors: bool) -> list[ContextRow]:
        floor = [ContextRow(NONE, "floor", lambda doc: (Context(doc.query),))] if floors else []
        return [*floor, *(ContextRow(name, "model", lambda doc: ()) for name in (REWRITE, UPSAMPLED))]

    def asked(self, context: ContextRow) -> bool:
        return context.name != NONE

    def direct(self, context: ContextRow) -> bool:
        return context.name == NONE

    def readings(self, context: ContextRow, num_fewshot: int, model: LanguageModel) -> Iterator[Reading]:
        if context.name == REWRITE:
            self._made, self._twice = {}, self._asked_twice(model)
        for start in range(0, len(self.data.asked), _CHUNK):
            if start not in self._made:
                self._made[start] = self._upsample(model, self.data.asked[start : start + _CHUNK])
            for one in self._made[start]:
                yield _rewrite(one) if context.name == REWRITE else _settled(one)

    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        """Numbers of words are in hundreds, so that scores x100 are numbers of words."""
        return [self._scores(doc.query, answer) for doc, answer in zip(self.data.asked, answers, strict=True)]

    def _scores(self, prompt: str, answer: str | None) -> dict[str, float]:
        if answer is None:
            return dict.fromkeys(self.metrics, 0.0)
        report = check(prompt, answer)
        atoms = len(report.kept) + len(report.broken) + len(report.changed)
        return {
            "atoms_kept": len(report.kept) / atoms if atoms else 1.0,
            "faithful": float(report.faithful),
            "unchanged": float(answer.strip() == prompt.strip()),
            "new_words": len(caption_words(answer).content - caption_words(prompt).content) / 100,
            "words": len(answer.split()) / 100,
        }

    def _upsample(self, model: LanguageModel, docs: Sequence[Doc]) -> list[Upsampling]:
        return upsample(model, [doc.query for doc in docs], max_tokens=self.config.max_tokens, seed=self.seed)

    def _asked_twice(self, model: LanguageModel) -> str:
        """The first prompts, without a cache."""
        bare, docs = model.model if isinstance(model, CachedModel) else model, self.data.asked[:_TWICE]
        first, second = ([_rewrite(one).answer for one in self._upsample(bare, docs)] for _ in range(2))
        pairs = [(one, other) for one, other in zip(first, second, strict=True) if one or other]
        equal = sum(one == other for one, other in pairs)
        return f"asked twice with seed {self.seed}, {equal} of {len(pairs)} prompts have the same rewrite"


def _rewrite(made: Upsampling) -> Reading:
    """What the model wrote, broken or not."""
    failed = "failed" in made.upsampled.flags or made.completion is None
    text = None if failed or made.completion is None else " ".join(made.completion.text.split()) or None
    return Reading(made.prompt, made.completion, text, made.upsampled.error, made.note)


def _settled(made: Upsampling) -> Reading:
    told = [*made.upsampled.flags, *([made.upsampled.error] if made.upsampled.error else [])]
    return Reading(made.prompt, None, made.upsampled.prompt, None, "; ".join(told) or None)


def _prompts(config: TaskConfig, path: Path) -> list[Doc]:
    """Of a text file with a prompt a line, or a table with a column of prompts."""
    if path.is_dir():
        raise InputError(f"{config.task}: {path} is a folder; expected a file of prompts: --data-dir prompts.txt")
    if path.suffix == ".txt":
        lines = read_text(path, encoding="utf-8-sig").split("\n")
        rows = [
            TableRow(f"line {i}", {config.columns.question: line}) for i, line in enumerate(lines, 1) if line.strip()
        ]
        if not rows:
            raise InputError(f"{path} has no prompts; expected one a line")
    else:
        rows = read_rows(path)
    problems, column = Problems(path), config.columns.question
    docs = []
    for number, row in enumerate(rows):
        prompt = row.get(column)
        if not isinstance(prompt, str) or not prompt.strip():
            problems.add(row.place, column, "is missing; expected a prompt")
        elif len(prompt) > MAX_PROMPT_CHARS:
            problems.add(row.place, column, f"has {len(prompt)} characters; expected at most {MAX_PROMPT_CHARS}")
        else:
            own = row.get(config.columns.id) if config.columns.id else None
            docs.append(Doc(str(number if own is None else own), "", query=prompt.strip(), columns=row.values))
    problems.check()
    return docs

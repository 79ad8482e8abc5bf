"""Answers in the formats of the official scripts: VQA's `question_id, answer`, COCO's `image_id, caption`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError
from ...metrics.vqa_accuracy import results_format
from ..task_data.documents import Doc
from ..task_data.table_rows import Problems, read_rows
from .task_base import Task

_IDS, _ANSWERS = ("question_id", "image_id", "id"), ("answer", "caption")


class OfficialAnswers:
    """What another system answered: a list (.json, or a table file) of question_id and answer, or image_id and caption.

    Raises `InputError` for a file that cannot be read, by place and column.
    """

    def __init__(self, path: Path) -> None:
        rows, problems = read_rows(path), Problems(path)
        self.path, self.name = path, path.name
        self.by_image = not any(row.get("question_id") is not None for row in rows)
        self.by_id: dict[str, str] = {}
        for row in rows:
            key = next((str(found) for name in _IDS if (found := row.get(name)) is not None), None)
            answer = next((found for name in _ANSWERS if (found := row.get(name)) is not None), None)
            if key is None:
                problems.add(row.place, " or ".join(_IDS), "is missing")
            elif not isinstance(answer, str):
                problems.add(row.place, " or ".join(_ANSWERS), f"is {str(answer)[:40]!r}; expected a text")
            elif key in self.by_id:
                problems.add(row.place, "id", f"{key} is there twice; expected different ones")
            else:
                self.by_id[key] = answer
        problems.check()

    def of(self, docs: Sequence[Doc]) -> list[str]:
        """One for each document. Raises `InputError` unless all have one."""
        found = [next((self.by_id[key] for key in self._keys(doc) if key in self.by_id), None) for doc in docs]
        if missing := [doc.id for doc, answer in zip(docs, found, strict=True) if answer is None]:
            raise InputError(
                f"{self.path} has no answer for {len(missing)} of {len(docs)} questions, such as {missing[0]}; "
                "expected one for each, by question_id or image_id"
            )
        return [answer for answer in found if answer is not None]

    def _keys(self, doc: Doc) -> tuple[str, ...]:
        return (doc.id, str(doc.columns.get("image_id", "")), doc.image) if self.by_image else (doc.id,)


def official_answers(task: Task, answers: Sequence[str]) -> list[dict[str, int | str]] | None:
    """A task's answers as the official scripts and servers take them; None for a task that has none such."""
    docs, kind = task.data.asked, task.config.kind
    if kind == "captioning":
        keys = [_number(str(doc.columns.get("image_id", doc.id))) for doc in docs]
        return [{"image_id": key, "caption": text} for key, text in zip(keys, answers, strict=True)]
    if kind == "vqa" and task.config.metric == "vqa_accuracy":
        return results_format({_number(doc.id): text for doc, text in zip(docs, answers, strict=True)})
    return None


def _number(key: str) -> int | str:
    return int(key) if key.isdecimal() else key

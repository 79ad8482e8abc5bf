"""Answers in the official formats: written, and read again; those of another system beside ours."""

from __future__ import annotations

import json

import pytest
from textlens.errors import InputError
from textlens.evals.harness.evaluate import evaluate
from textlens.evals.harness.official_answers import OfficialAnswers
from textlens.evals.harness.runner import EvalSettings, run
from textlens.evals.harness.saved_results import read_samples
from textlens.evals.harness.task_kinds import open_task

from .tiny_benchmark import Looker, Reader, write_benchmark


@pytest.fixture
def task_file(tmp_path):
    return write_benchmark(tmp_path)


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def test_what_is_written_is_scored_the_same_when_read_again(task_file, tmp_path):
    task = open_task(str(task_file), tmp_path)
    first = run([task], {"looker": Looker()}, [], Reader(), EvalSettings((2,), output=tmp_path / "out"))
    written = {row.context: row.score for row in first.results if row.num_fewshot == 2}
    files = {name: tmp_path / "out" / "official" / f"colours-{name}-2.json" for name in ("looker", "none")}
    again = evaluate([str(task_file)], EvalSettings((4,), output=tmp_path / "again"), answers=list(files.values()))
    rows = {row.context: row for row in again.results}
    assert rows["colours-looker-2.json"].score == written["looker"] == 100
    assert rows["colours-none-2.json"].score == written["none"] < 100
    assert (rows["colours-looker-2.json"].llm, rows["colours-looker-2.json"].role) == (None, "model")
    samples = [one for one in read_samples(tmp_path / "again", "colours") if one.context == "colours-looker-2.json"]
    assert [one.answer for one in samples] == [doc.answer for doc in task.data.asked]
    assert again.settings["llm"] is None  # with answers alone no model is asked


def test_a_task_without_shots_needs_none(tmp_path):
    task_file = write_benchmark(tmp_path, split="all", fewshot_split="none")
    task = open_task(str(task_file), tmp_path)
    answers = write(tmp_path / "red.json", [{"question_id": int(d.id), "answer": "red"} for d in task.data.asked])
    results = evaluate([str(task_file)], EvalSettings((4,)), answers=[answers]).results
    assert [(row.context, row.n) for row in results] == [("red.json", 48)]  # no floor of the shots' commonest answer
    assert run([task], {"looker": Looker()}, [], Reader(), EvalSettings((0,))).failures == 0
    with pytest.raises(InputError, match="2 shots asked for, but there are only 0 images"):
        run([task], {"looker": Looker()}, [], Reader(), EvalSettings((2,)))


def test_files_that_do_not_fit(task_file, tmp_path):
    rows = [
        {"question_id": 1, "answer": "a"},
        {"question_id": 1, "answer": "b"},
        {"answer": "c"},
        {"id": 2, "answer": 3},
    ]
    with pytest.raises(InputError) as told:
        OfficialAnswers(write(tmp_path / "bad.json", rows))
    assert "3 problems" in str(told.value)
    for part in ("entry 2, id: 1 is there twice", "entry 3, question_id or image_id or id: is missing", "entry 4"):
        assert part in str(told.value)
    short = write(tmp_path / "short.json", [{"question_id": 32, "answer": "red"}])
    with pytest.raises(InputError, match=r"no answer for 15 of 16 questions, such as 33"):
        evaluate([str(task_file)], EvalSettings(), answers=[short])
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError, match=r"two files of answers are named short\.json"):
        evaluate([str(task_file)], EvalSettings(), answers=[short, write(tmp_path / "more" / "short.json", rows[:1])])

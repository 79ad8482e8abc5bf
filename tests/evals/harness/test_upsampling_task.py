"""What a rewrite keeps and adds is counted; a broken one falls back; a model that varies at one seed is found out."""

from __future__ import annotations

import json

import pytest
from textlens.agent.models.base import Completion
from textlens.errors import InputError
from textlens.evals.harness.runner import EvalSettings, run
from textlens.evals.harness.task_kinds import open_task

PROMPTS = ("two red kites", "a black cat", "a street without cars")


class Rewriter:
    """Adds to a prompt; of the first it forgets the colour; the third fails. varies: never the same twice."""

    spec = "rewriter"

    def __init__(self, varies: bool = False) -> None:
        self.varies, self.asked = varies, 0

    def complete(self, prompts, **settings):
        assert settings["temperature"] > 0
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt):
        self.asked += 1
        own = prompt.rpartition("Prompt: ")[2].partition("\n")[0]
        if own == PROMPTS[2]:
            return Completion.failed("out of order", prompt, {})
        told = own.replace("red ", "") + ", soft morning light, a calm mood" + (f" {self.asked}" if self.varies else "")
        return Completion(f" {told}", "stop", 5, 7, prompt)


@pytest.fixture
def task(tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n\n")
    return open_task("upsampling", tmp_path / "prompts.txt")


def test_rewrites_beside_what_is_settled_on_and_the_prompt(task, tmp_path):
    model = Rewriter()
    results = run([task], {}, [], model, EvalSettings((0, 4), output=tmp_path / "out"))
    rows = {(row.context, row.metric): row.score for row in results.results}
    assert {row.context: (row.role, row.num_fewshot) for row in results.results} == {
        "none": ("floor", None), "rewrite": ("model", 3), "upsampled": ("model", 3)
    }  # fmt: skip
    assert rows["none", "atoms_kept"] == rows["none", "unchanged"] == 100
    assert rows["none", "new_words"] == 0
    assert rows["none", "words"] == pytest.approx((3 + 3 + 4) / 3)
    assert rows["rewrite", "faithful"] == pytest.approx(100 / 3)  # the cat
    assert rows["upsampled", "faithful"] == rows["upsampled", "atoms_kept"] == 100
    assert rows["upsampled", "unchanged"] == pytest.approx(100 / 3)  # the failed one
    assert rows["upsampled", "new_words"] > 0
    failed = {row.context: row.parse_failures for row in results.results}
    assert failed == {"none": 0, "rewrite": 1, "upsampled": 0}
    assert results.failures == 1
    assert "2 of 2 prompts have the same rewrite" in results.tasks["upsampling"].notes[0]


def test_what_the_cache_hides_is_asked_without_it(task, tmp_path):
    settings = EvalSettings((4,), output=tmp_path / "out")
    for _ in range(2):
        results = run([task], {}, [], Rewriter(varies=True), settings)
        assert "0 of 2 prompts" in results.tasks["upsampling"].notes[0]  # the third fails


def test_prompts_of_tables_and_bad_ones(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps({'prompt': prompt})}\n" for prompt in PROMPTS))
    assert [doc.query for doc in open_task("upsampling", path).data.asked] == list(PROMPTS)
    assert len(open_task("upsampling", path, limit=2).data.asked) == 2
    path.write_text('{"prompt": " "}\n{"text": "a dog"}\n' + json.dumps({"prompt": "dog " * 2000}))
    with pytest.raises(InputError, match=r"3 problems: line 1, prompt.*line 2, prompt.*line 3, prompt: has 8000"):
        open_task("upsampling", path)
    (tmp_path / "empty.txt").write_text("\n")
    for place, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no.txt", r"no\.txt cannot be read"),
        (tmp_path / "empty.txt", "no prompts"),
    ):
        with pytest.raises(InputError, match=message):
            open_task("upsampling", place)

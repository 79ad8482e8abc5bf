"""An image is found by its own caption, by another's words it is not, and without words by chance."""

from __future__ import annotations

import json

import pytest
from textlens.errors import InputError
from textlens.evals.harness.context_rows import FileContexts
from textlens.evals.harness.run_comparison import compare
from textlens.evals.harness.runner import EvalSettings, run
from textlens.evals.harness.task_kinds import open_task

from ..captioned_photos import THINGS, write_shard
from .tiny_benchmark import Reader


def write_task(folder, **config):
    write_shard(folder / "photos.tar")
    settings = {
        "task": "found", "kind": "retrieval", "data": "webdataset:photos.tar", "text": "json:captions",
        "clip": "scenes/coca", **config,
    }  # fmt: skip
    (folder / "found.yaml").write_text(json.dumps(settings))
    return str(folder / "found.yaml")


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_task(write_task(tmp_path), tmp_path)


class Namer:
    """Contexts of a file that name the thing."""

    spec = "names"

    def check(self, docs):
        pass

    def has(self, doc):
        return True

    def __call__(self, doc):
        from textlens.prompting.templates import Context

        thing = next(thing for thing in THINGS if any(thing in text for text in doc.references))
        return (Context(f"a {thing}"),)


def test_words_find_their_image_and_floors_are_chance(task, tmp_path):
    model = Reader()
    results = run([task], {}, [Namer()], model, EvalSettings((0, 4), output=tmp_path / "one", log_samples=True))
    rows = {(row.context, row.metric): row for row in results.results}
    assert model.prompts == []  # no language model
    assert rows["none", "bm25_r1"].score == pytest.approx(100 / 6)
    assert rows["none", "clip_r1"].score == pytest.approx(100 / 6)
    assert rows["other image", "bm25_r1"].score == 0
    assert rows["names", "bm25_r1"].score == rows["truth", "bm25_r1"].score == 100
    assert rows["names", "bm25_r1"].above_floor == pytest.approx(100 * 5 / 6)
    assert rows["names", "bm25_r10"].score == rows["names", "clip_r10"].score == 100
    assert rows["truth", "bm25_r1"].role == "ceiling"
    assert rows["names", "bm25_r1"].num_fewshot is None
    assert "sought among 6" in results.tasks["found"].notes[-1]
    run([task], {}, [Namer()], None, EvalSettings((4,), output=tmp_path / "two"))
    differences = compare(tmp_path / "one", tmp_path / "two")
    assert {one.difference for one in differences} == {0}


def test_the_truth_is_none_of_the_references(task):
    for doc in task.data.asked:
        assert len(doc.references) == 4
        assert doc.truth not in doc.references


def test_bm25_alone_without_a_text_tower(task, monkeypatch):
    monkeypatch.setattr(type(task.clip), "can_embed_texts", False)
    results = run([task], {}, [], None, EvalSettings((0,)))
    assert {row.metric for row in results.results} == {"bm25_r1", "bm25_r5", "bm25_r10"}
    assert "BM25 alone" in results.tasks["found"].notes[-1]


def test_what_does_not_fit_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for config, message in (
        ({"data": "no.json"}, "no file or folder"),
        ({"text": "json:words"}, "captions"),
        ({"clip": "./nothing"}, "there is no folder"),
    ):
        with pytest.raises(InputError, match=message):
            open_task(write_task(tmp_path, **config), tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"image": "0.png"}\n{"picture": "1.png"}\n')
    with pytest.raises(InputError, match="line 2, image: is missing"):
        open_task(write_task(tmp_path, data="rows.jsonl"), tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"image": "0.png"}\n')
    with pytest.raises(InputError, match="without captions"):
        open_task(write_task(tmp_path, data="rows.jsonl"), tmp_path)


def test_published_texts_need_no_shots(task, tmp_path):
    keys = [doc.image for doc in task.data.asked]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps({'image': k, 'text': 'a dog'})}\n" for k in keys[:4]))
    results = run([task], {}, [FileContexts("texts.jsonl:text", tmp_path, "question_id")], None, EvalSettings((0,)))
    assert {row.n for row in results.results} == {4}

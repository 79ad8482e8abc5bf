"""Captioning and classification, and the comparison of two runs."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.evals.harness.evaluate import evaluate
from textlens.evals.harness.run_comparison import compare, comparison_table
from textlens.evals.harness.runner import EvalSettings, run
from textlens.evals.harness.task_kinds import open_task

from .tiny_benchmark import COLOURS, Looker, Reader, write_benchmark


def coco(folder, name, numbers):
    (folder / "images").mkdir(exist_ok=True)
    colours = {i: [*COLOURS][i % 4] for i in numbers}
    for i, colour in colours.items():
        Image.new("RGB", (9, 9 + i), COLOURS[colour]).save(folder / "images" / f"{i}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in numbers],
        "annotations": [
            {"image_id": i, "caption": caption}
            for i, colour in colours.items()
            for caption in (f"it is {colour}", f"something {colour} on its own")
        ],
    }
    (folder / name).write_text(json.dumps(content))
    return content


@pytest.fixture
def captions(tmp_path, monkeypatch):
    monkeypatch.setattr("textlens.metrics.caption_metrics.java_runs", lambda: False)  # seconds for each row
    coco(tmp_path, "test.json", range(8))
    coco(tmp_path, "train.json", range(8, 16))
    settings = {
        "task": "captions", "kind": "captioning", "data": "test.json", "images": "images",
        "fewshot_data": "train.json", "dataset": "colours",
    }  # fmt: skip
    (tmp_path / "captions.yaml").write_text(json.dumps(settings))
    return tmp_path / "captions.yaml"


class Writer(Reader):
    """Writes the words of the query's context."""

    def complete(self, prompts, **settings):
        made = super().complete(prompts, **settings)
        texts = [prompt.rpartition("Image context:")[2].partition("\n")[0] for prompt in prompts]
        return [type(one)(text or " red", "stop", 5, 4, one.prompt) for one, text in zip(made, texts, strict=True)]


def test_captions_are_scored_as_written_and_by_a_language_model(captions, tmp_path):
    task = open_task(str(captions), tmp_path)
    results = run([task], {"looker": Looker()}, [], Writer(), EvalSettings((2,)))
    rows = {(row.context, row.num_fewshot, row.metric): row for row in results.results}
    direct, read = rows["looker", None, "CIDEr-D"], rows["looker", 2, "CIDEr-D"]
    assert direct.score == pytest.approx(read.score)
    assert direct.llm is None
    assert read.llm == "reader"
    assert rows["looker", None, "BLEU-4"].stderr is not None
    assert direct.stderr > 0
    assert rows["other image", None, "CIDEr-D"].score < direct.score / 2
    assert read.above_floor > 0


def test_captions_are_written_and_read_in_cocos_format(captions, tmp_path):
    task = open_task(str(captions), tmp_path)
    first = run([task], {"looker": Looker()}, [], None, EvalSettings((0,), output=tmp_path / "out"))
    file = tmp_path / "out" / "official" / "captions-looker-direct.json"
    assert set(json.loads(file.read_text())[0]) == {"image_id", "caption"}
    again = evaluate([str(captions)], EvalSettings((0,)), answers=[file])
    scores = [
        {row.metric: row.score for row in results.results if row.context == name}
        for results, name in ((first, "looker"), (again, file.name))
    ]
    assert scores[0] == scores[1]
    assert scores[0]["CIDEr-D"] > 0


def test_captions_that_do_not_fit(captions, tmp_path):
    content = coco(tmp_path, "test.json", range(8))
    content["annotations"] = content["annotations"][4:]
    content["annotations"][0]["image_id"] = 99
    (tmp_path / "test.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"3 problems: entry 1, image_id: 99 .* image 0, caption: has none"):
        open_task(str(captions), tmp_path)
    coco(tmp_path, "test.json", range(9))
    with pytest.raises(InputError, match=r"1 images are asked about and in fewshot_data, such as 8\.png"):
        open_task(str(captions), tmp_path)


@pytest.fixture
def folders(tmp_path):
    for name, value in COLOURS.items():
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (9, 9 + i), value).save(tmp_path / "classes" / name / f"{name}{i}.png")
    return tmp_path


def classification(folder, **settings):
    config = {"task": "c", "kind": "classification", "data": "classes", "episodes": 12, **settings}
    (folder / "c.yaml").write_text(json.dumps(config))
    return open_task(str(folder / "c.yaml"), folder)


def test_episodes_of_classes(folders):
    task = classification(folders, ways=3)
    assert len(task.data.asked) == 12
    for doc in task.data.asked:
        prompted = task.prompted(doc, lambda one: (), 2)
        assert sorted(shot.answer for shot in prompted.shots) == sorted(2 * doc.choices)
        assert doc.image not in {shot.image for shot in prompted.shots}
        assert doc.answer == doc.image.partition("/")[0] == doc.type
    results = run([task], {"looker": Looker()}, [], Reader(), EvalSettings((1,)))
    rows = {row.context: row.score for row in results.results}
    assert rows["looker"] == 100
    assert rows["none"] < 60
    assert rows["chance"] == pytest.approx(100 / 3)


def test_nonsense_names_are_learnt_from_shots_alone(folders):
    task = classification(folders, names="nonsense", induction=False, constrained=True)
    doc = task.data.asked[0]
    prompted = task.prompted(doc, lambda one: (), 2)
    assert prompted.choices == doc.choices
    assert not set(doc.choices) & set(COLOURS)
    assert prompted.template.head == ""
    assert doc.type in COLOURS
    again = classification(folders, names="nonsense", induction=False, constrained=True)
    assert [one.id + one.image + one.answer for one in again.data.asked] == [
        one.id + one.image + one.answer for one in task.data.asked
    ]


def test_too_few_classes_or_images(folders):
    with pytest.raises(InputError, match="has 4 classes"):
        classification(folders, ways=5)
    task = classification(folders)
    with pytest.raises(InputError, match="4 shots of each class"):
        task.images(4)
    with pytest.raises(InputError, match="no folder"):
        classification(folders, data="none")


def test_two_runs_are_compared_on_the_same_items(tmp_path):
    path = write_benchmark(tmp_path)
    task = open_task(str(path), tmp_path)
    for name, encoders in (("one", {}), ("two", {"looker": Looker()})):
        run([task], encoders, [], Reader(), EvalSettings((2,), output=tmp_path / name))
    rows = {row.context: row for row in compare(tmp_path / "one", tmp_path / "two")}
    assert rows["none"].difference == 0
    assert rows["none"].p is None
    table = comparison_table(list(rows.values()))
    assert "equal" in table
    good, bad = tmp_path / "good", tmp_path / "bad"
    run([task], {"looker": Looker()}, [], Reader(), EvalSettings((2,), output=good, floors=False))
    liar = Looker()
    liar.describe = lambda images: [type(d)("it is grey", [], "liar") for d in Looker().describe(images)]
    run([task], {"liar": liar}, [], Reader(), EvalSettings((2,), output=bad, floors=False))
    row = compare(good, bad)[0]
    assert (row.context, row.first, row.second, row.n) == ("looker -> liar", 100, 0, 16)
    with pytest.raises(InputError, match=r"has no results\.json"):
        compare(good, tmp_path)


def test_corpus_bleu_of_two_runs_is_compared_by_paired_bootstrap(captions, tmp_path):
    task = open_task(str(captions), tmp_path)
    silent = Looker()
    silent.describe = lambda images: [type(d)("a red red red thing", [], "silent") for d in Looker().describe(images)]
    for name, encoder in (("one", Looker()), ("two", Looker()), ("red", silent)):
        settings = EvalSettings((0,), floors=False, output=tmp_path / name)
        reported = run([task], {"words": encoder}, [], None, settings)
        told = {row.metric: row.score for row in reported.results}
        compared = {row.metric: row for row in compare(tmp_path / "one", tmp_path / name)}
        assert compared["BLEU-4"].second == pytest.approx(told["BLEU-4"])
        assert compared["CIDEr-D"].second == pytest.approx(told["CIDEr-D"])
        if name == "two":
            assert (compared["BLEU-4"].difference, compared["BLEU-4"].stderr) == (0, None)
    assert compared["BLEU-4"].difference < 0
    assert 0 < compared["BLEU-4"].stderr < abs(compared["CIDEr-D"].difference)

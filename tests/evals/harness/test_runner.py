"""With words that hold the answer, and a model that reads them, accuracy is full; without words it is the floor."""

from __future__ import annotations

import json
import re

import pytest
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.evals.harness.context_rows import FileContexts
from textlens.evals.harness.results import as_table
from textlens.evals.harness.runner import EvalSettings, limited, run, with_contexts
from textlens.evals.harness.saved_results import read_results, read_samples
from textlens.evals.harness.task_kinds import open_task

from .tiny_benchmark import Looker, Reader, write_benchmark


@pytest.fixture
def task(tmp_path):
    return open_task(str(write_benchmark(tmp_path)), tmp_path)


def by_row(results):
    return {(row.context, row.num_fewshot): row for row in results.results}


def test_rows_with_floors_ceiling_and_paired_differences(task, tmp_path):
    files = [FileContexts("questions.jsonl:caption", tmp_path, "question_id")]
    results = run([task], {"looker": Looker()}, files, Reader(), EvalSettings((0, 2)))
    rows = by_row(results)
    assert len(task.data.asked) == 16
    red = 100 * sum(doc.answer == "red" for doc in task.data.asked) / 16
    for count in (0, 2):
        assert rows["none", count].score == pytest.approx(red)
        assert rows["none", count].above_floor is None
        assert rows["other image", count].score < 60
        for name in ("looker", "questions.jsonl:caption", "all", "truth"):
            assert rows[name, count].score == 100
            assert rows[name, count].above_floor == pytest.approx(100 - red)
            assert rows[name, count].above_floor_stderr > 0
    assert {row.role for row in results.results} == {"floor", "encoder", "file", "all", "ceiling"}
    assert any(context.startswith("constant: ") for context, _ in rows)
    assert "looker" in as_table(results.results)


def test_standard_errors_are_clustered_by_image(task):
    rows = by_row(run([task], {}, [], Reader(), EvalSettings((2,))))
    share = rows["none", 2].score / 100
    images = 8  # two questions each, with the same answer: as many observations as images
    assert rows["none", 2].stderr == pytest.approx(100 * (share * (1 - share) / (images - 1)) ** 0.5)


def test_prompts_carry_shots_of_other_images_with_their_words(task):
    model = Reader()
    run([task], {"looker": Looker()}, [], model, EvalSettings((3,), floors=False))
    assert len(model.prompts) == 16
    assert {prompt.count("Image context: it is") for prompt in model.prompts} == {4}
    assert len({prompt[: prompt.rindex("Image context")] for prompt in model.prompts}) == 1


@pytest.mark.parametrize("by", ["words", "image", "question+words", "image+words"])
def test_nearest_shots_are_those_of_like_images(tmp_path, by):
    clip = str(WEIGHTS / "scenes" / "coca")
    task = open_task(str(write_benchmark(tmp_path, clip=clip)), tmp_path, nearest_shots=by)
    model = Reader()
    run([task], {"looker": Looker()}, [], model, EvalSettings((2,), floors=False))
    assert len(model.prompts) == 16
    for prompt in model.prompts:
        *shots, query = re.findall("Image context: it is (\\w+)", prompt)
        assert shots == [query, query]
    assert len({prompt[: prompt.rindex("Image context")] for prompt in model.prompts}) > 2


def test_nearest_shots_without_words_are_those_of_like_questions(tmp_path):
    clip = str(WEIGHTS / "scenes" / "coca")
    task = open_task(str(write_benchmark(tmp_path, clip=clip, nearest_shots="question+words")), tmp_path)
    model = Reader()
    run([task], {}, [], model, EvalSettings((1,)))
    kinds = [re.findall(r"(which|what) colour", prompt) for prompt in model.prompts if "context: it" not in prompt]
    assert kinds
    assert all(shot == query for shot, query in kinds)


@pytest.mark.parametrize(("by", "described"), [("words", 13 + 8), ("image", 8 + 8)])
def test_only_images_whose_words_are_needed_are_described(tmp_path, by, described):
    path = write_benchmark(tmp_path, clip=str(WEIGHTS / "scenes" / "coca"))
    looker = Looker()
    run([open_task(str(path), tmp_path, nearest_shots=by)], {"looker": looker}, [], Reader(), EvalSettings((1,)))
    assert 8 < looker.seen <= described
    assert by == "image" or looker.seen == described


@pytest.mark.parametrize("by", ["image", "words"])
def test_a_damaged_image_of_a_candidate_is_no_shot_and_loses_no_question(tmp_path, by):
    path = write_benchmark(tmp_path, clip=str(WEIGHTS / "scenes" / "coca"))
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    results = run(
        [open_task(str(path), tmp_path, nearest_shots=by)], {"looker": Looker()}, [], Reader(), EvalSettings((2,))
    )
    assert by_row(results)["looker", 2].score == 100
    assert results.failures == 0
    assert results.tasks["colours"].notes[-1] == "images in no shot, as they cannot be read: 1, such as 3.png"


@pytest.mark.parametrize(
    ("config", "by", "told"),
    [
        ({}, "luck", "nearest by 'luck'; expected one of image, question, words"),
        ({"images": ""}, "question+image", "names no images"),
        ({"clip": "./nothing"}, "image", "there is no folder"),
        ({"kind": "classification", "data": "images", "ways": 2}, "image", "of kind classification"),
        ({"clip": str(WEIGHTS / "scenes" / "coca")}, "question", "99 shots asked for, but there are only 26"),
    ],
)
def test_shots_that_cannot_be_compared_are_an_error_before_any_model_runs(tmp_path, config, by, told):
    model = Reader()
    path = str(write_benchmark(tmp_path, **config))
    with pytest.raises(InputError, match=told):
        run([open_task(path, tmp_path, nearest_shots=by)], {}, [], model, EvalSettings((0, 99)))
    assert not model.prompts


def test_first_words_are_rows_beside_the_whole_text(task, tmp_path):
    files = [FileContexts("questions.jsonl:caption", tmp_path, "question_id")]
    model = Reader()
    settings = EvalSettings((2,), first_words=(2,))
    rows = by_row(run([task], {"looker": Looker()}, files, model, settings))
    names = [name for name, _ in rows if not name.startswith("constant")]
    assert names == [
        "none", "other image", "looker, first 2 words", "looker",
        "questions.jsonl:caption, first 2 words", "questions.jsonl:caption", "all", "truth",
    ]  # fmt: skip
    cut, whole = rows["looker, first 2 words", 2], rows["looker", 2]
    assert (cut.encoder, cut.role) == (whole.encoder, whole.role) == ("looker", "encoder")
    assert whole.score == rows["all", 2].score == 100
    assert cut.score < 60  # "it is", without the colour
    cut_prompts = [prompt for prompt in model.prompts if "Image context: it is\n" in prompt]
    assert len(cut_prompts) >= 16
    assert {prompt.count("Image context: it is\n") for prompt in cut_prompts} == {3}  # of the shots too


def test_no_shots_are_pseudo_samples_without_words(task):
    model = Reader()
    run([task], {"looker": Looker()}, [], model, EvalSettings((0,), floors=False))
    assert {prompt.count("Image context: it is") for prompt in model.prompts} == {1}
    assert {prompt.count("Short answer:") for prompt in model.prompts} == {5}


def test_what_was_answered_is_not_asked_again(task, tmp_path):
    settings = EvalSettings((0, 2), output=tmp_path / "out", log_samples=True)
    looker, model = Looker(), Reader()
    first = run([task], {"looker": looker}, [], model, settings)
    assert looker.seen == 10
    assert len(model.prompts) == len(set(model.prompts)) > 100
    looker, model = Looker(), Reader()
    second = run([task], {"looker": looker}, [], model, settings)
    assert (looker.seen, model.prompts) == (0, [])
    assert second.results == first.results
    assert read_results(tmp_path / "out").results == second.results


def test_failed_answers_are_counted_listed_and_asked_again(task, tmp_path):
    settings = EvalSettings((2,), output=tmp_path / "out", log_samples=True, floors=False)
    failed = run([task], {"looker": Looker()}, [], Reader(fails=3), settings)
    assert failed.failures == 3
    assert by_row(failed)["looker", 2].parse_failures == 3
    assert [s.error for s in read_samples(tmp_path / "out", "colours")].count("out of order") == 3
    model = Reader()
    mended = run([task], {"looker": Looker()}, [], model, settings)
    assert len(model.prompts) == 3
    assert (mended.failures, by_row(mended)["looker", 2].score) == (0, 100)


def test_samples_hold_the_evidence(task, tmp_path):
    run([task], {"looker": Looker()}, [], Reader(), EvalSettings((2,), output=tmp_path, log_samples=True))
    samples = [s for s in read_samples(tmp_path, "colours") if s.context == "looker"]
    assert len(samples) == 16
    one = samples[0]
    assert one.prompt.endswith("Short answer:")
    assert [(words.label, words.text) for words in one.words] == [("", f"it is {one.answer}")]
    assert one.completion == f" {one.answer}"
    assert one.references == [one.answer]
    assert one.type in ("which", "what")
    assert (tmp_path / one.thumbnail).is_file()
    official = json.loads((tmp_path / "official" / "colours-looker-2.json").read_text())
    assert official == [{"question_id": int(s.id), "answer": s.answer} for s in samples]
    run([task], {}, [], Reader(), EvalSettings((2,), output=tmp_path / "short"))
    assert next(read_samples(tmp_path / "short", "colours")).prompt is None


def test_a_damaged_image_is_a_failure_and_loses_no_other(tmp_path):
    path = write_benchmark(tmp_path)
    (tmp_path / "images" / "20.png").write_bytes(b"no image")
    task = open_task(str(path), tmp_path)
    results = run(
        [task], {"looker": Looker()}, [], Reader(), EvalSettings((2,), output=tmp_path / "o", log_samples=True)
    )
    row = by_row(results)["looker", 2]
    assert (row.parse_failures, row.n) == (2, 16)
    assert row.score == pytest.approx(100 * 14 / 16)
    errors = {s.error for s in read_samples(tmp_path / "o", "colours") if s.context == "looker"}
    assert any(error and "20.png cannot be read" in error for error in errors)


def test_questions_without_published_text_are_left_out_of_all_rows(tmp_path):
    path = write_benchmark(tmp_path)
    texts = [{"question_id": i, "text": ["it stands.", f"it is {i % 3}"]} for i in range(40)]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts))
    task = open_task(str(path), tmp_path)
    files = [FileContexts("texts.jsonl:text", tmp_path, "question_id")]
    results = run([task], {}, files, Reader(), EvalSettings((2,)))
    assert {row.n for row in results.results} == {8}
    assert "8 of 16 questions left out" in results.tasks["colours"].notes[0]
    with pytest.raises(InputError, match="no text for any"):
        FileContexts("texts.jsonl:nothing", tmp_path, "question_id").check(task.data.asked)


def test_a_limit_is_of_the_questions_that_have_published_texts(tmp_path):
    path = write_benchmark(tmp_path)
    texts = [{"question_id": i, "text": f"it is {i % 3}"} for i in range(40)]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts))
    files = [FileContexts("texts.jsonl:text", tmp_path, "question_id")]
    task = limited(with_contexts(open_task(str(path), tmp_path), files), 5)
    assert len(task.data.asked) == 5
    assert all(files[0].has(doc) for doc in task.data.asked)
    assert limited(task, 9) is task


def test_what_does_not_fit_is_told_before_a_model_is_run(tmp_path):
    path = write_benchmark(tmp_path)
    task = open_task(str(path), tmp_path)
    model = Reader()
    (tmp_path / "images" / "23.png").unlink()
    with pytest.raises(InputError, match=r"lacks 1 images: 23\.png"):
        run([task], {"looker": Looker()}, [], model, EvalSettings((2,)))
    with pytest.raises(InputError, match="only 13 images"):
        run([task], {}, [], model, EvalSettings((17,)))
    blind = open_task(str(write_benchmark(tmp_path, images="")), tmp_path)
    with pytest.raises(InputError, match="names no images"):
        run([blind], {"looker": Looker()}, [], model, EvalSettings((2,)))
    assert model.prompts == []

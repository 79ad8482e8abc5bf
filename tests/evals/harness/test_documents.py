import gzip
import io
import json
import tarfile

import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.evals.harness.context_rows import ContextRow, FileContexts, table_rows
from textlens.evals.harness.runner import with_contexts
from textlens.evals.harness.task_kinds import open_task
from textlens.evals.task_data.documents import Doc, joined_text
from textlens.evals.task_data.image_files import ImageFiles, SeveralImages, check
from textlens.evals.task_data.table_rows import read_rows
from textlens.evals.task_data.task_config import built_in, load_task

from .tiny_benchmark import write_benchmark

ROW = {"question_id": 1, "image": "1.png", "question": "what is it", "answers": ["a", "b"], "split": "test"}


def task_of(tmp_path, rows, **settings):
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = {"task": "t", "kind": "vqa", "data": "q.jsonl", **settings}
    (tmp_path / "t.yaml").write_text(json.dumps(config))
    return open_task(str(tmp_path / "t.yaml"), tmp_path)


def row(number, **values):
    split = "test" if number % 2 else "train"
    return {**ROW, "question_id": number, "image": f"{number}.png", "split": split, **values}


def test_rows_of_all_formats_are_the_same(tmp_path):
    import pyarrow as arrow
    from pyarrow import parquet

    rows = [{"question": "what", "answer": "a"}, {"question": "who, then", "answer": "b"}]
    lines = "\n\n".join(map(json.dumps, rows))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.json").write_text(json.dumps(rows))
    (tmp_path / "d.json").write_text(json.dumps({"info": {}, "questions": rows}))
    (tmp_path / "e.csv").write_text('question,answer\nwhat,a\n"who, then",b\n')
    (tmp_path / "f.tsv").write_text("question\tanswer\nwhat\ta\nwho, then\tb\n")
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "g.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert [dict(one.values) for one in read_rows(path)] == rows, path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b"not json\n[]\n{}", "2 problems: line 1.*line 2, JSON: got list"),
        ("q.jsonl", b'{"a": 1}\n\xff', "line 2: byte 0xff is not UTF-8"),
        ("q.jsonl", b"", "has no rows"),
        ("q.json", b"{", "is not JSON"),
        ("q.json", b'{"info": []}', "has no list"),
        ("q.json", b"3", "holds int"),
        ("q.parquet", b"PAR", "cannot read"),
        ("q.txt", b"a", r"ends in \.txt"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path)
    assert name in str(caught.value)


def test_all_problems_of_a_file_come_in_one_error(tmp_path):
    rows = [
        row(1), row(2, answers=[]), row(3, image=None), row(4, question=" "), row(5, answers={"a": "b"}), row(1),
    ]  # fmt: skip
    with pytest.raises(InputError) as caught:
        task_of(tmp_path, rows)
    message = str(caught.value)
    assert "q.jsonl: 5 problems" in message
    for part in ("line 2, answers: is []", "line 3, image: is missing", "line 4, question", "line 5, answers", "id 1"):
        assert part in message


def test_answers_may_be_texts_counts_scores_or_objects(tmp_path):
    answers = [
        "a", ["a", "b", "a"], {"a": 8, "b": 2}, {"a": 1, "b": 0.667}, [{"answer": "a"}, {"answer": "b"}],
    ]  # fmt: skip
    rows = [row(2 * i + 1, answers=one) for i, one in enumerate(answers)] + [row(2)]
    docs = task_of(tmp_path, rows, val_share=0.0).data.asked
    assert [len(doc.references) for doc in docs] == [1, 3, 10, 2, 2]
    assert dict(docs[3].scores) == {"a": 1, "b": 0.667}
    assert {doc.answer for doc in docs} == {"a"}


def test_official_files_are_joined_by_id(tmp_path):
    questions = [{"question_id": i, "image_id": i, "question": "what"} for i in range(12)]
    answers = [{"question_id": i, "image_id": i, "answers": [{"answer": "a"}] * 10} for i in range(12)]
    (tmp_path / "q.json").write_text(json.dumps({"questions": questions}))
    (tmp_path / "a.json").write_text(json.dumps({"annotations": answers}))
    config = {
        "task": "t", "kind": "vqa", "data": "q.json", "annotations": "a.json", "split": "hash:0/2",
        "fewshot_split": "hash:1/2", "image_name": "{image_id:03d}.jpg",
    }  # fmt: skip
    (tmp_path / "t.yaml").write_text(json.dumps(config))
    data = open_task(str(tmp_path / "t.yaml"), tmp_path).data
    assert {doc.image for doc in (*data.asked, *data.candidates)} == {f"{i:03d}.jpg" for i in range(12)}
    (tmp_path / "a.json").write_text(json.dumps({"annotations": answers[:11]}))
    with pytest.raises(InputError, match="question_id 11, annotations: no row with this id"):
        open_task(str(tmp_path / "t.yaml"), tmp_path)


def test_shots_must_not_show_what_is_asked(tmp_path):
    shared = [row(1), row(2, image="1.png"), row(4)]
    with pytest.raises(InputError, match=r"1 images are asked .* 1\.png"):
        task_of(tmp_path, shared, val_share=0.0)
    with pytest.raises(InputError, match="no rows of split 'dev'; it has test, train"):
        task_of(tmp_path, [row(1), row(2)], split="dev")


def test_val_is_held_out_of_train_by_image(tmp_path):
    rows = [row(i) for i in range(40)]
    val, test = (task_of(tmp_path, rows, split=name).data for name in ("val", "test"))
    assert len(val.asked) == 4
    assert not {doc.image for doc in val.asked} & {doc.image for doc in val.candidates}
    assert test.candidates == val.candidates
    assert {doc.split for doc in val.asked} == {"train"}


def test_a_limit_is_drawn_by_seed(tmp_path):
    path = write_benchmark(tmp_path)
    some = [[doc.id for doc in open_task(str(path), tmp_path, limit=5, seed=seed).data.asked] for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert len(some[0]) == 5


def test_few_answers_are_told(tmp_path):
    notes = task_of(tmp_path, [row(1), row(2)], val_share=0.0).data.notes
    assert "1 of 1 questions have fewer than 10 answers" in notes[0]


def test_every_built_in_task_is_whole(tmp_path):
    for name in built_in():
        assert load_task(name, tmp_path)[0].task == name
    with pytest.raises(InputError, match="unknown task 'nothing'; expected aokvqa"):
        load_task("nothing")
    (tmp_path / "t.yaml").write_text("task: t\nkind: vqa\ndata: q\nmetrics: 3")
    with pytest.raises(InputError, match=r"t\.yaml: unknown key 'metrics'"):
        load_task(str(tmp_path / "t.yaml"))


def test_multiple_choice(tmp_path):
    choices = {"choices": ["cat", "dog"], "correct_choice_idx": 1}
    rows = [row(1, **choices), row(2, **choices)]
    settings = {"kind": "multiple_choice", "metric": "exact_match", "val_share": 0.0}
    task = task_of(tmp_path, rows, **settings)
    prompted = task.prompted(task.data.asked[0], lambda doc: (), 1)
    assert prompted.query.question == "what is it Choices: cat, dog."
    assert (prompted.choices, prompted.shots[0].answer, task.chance) == (("cat", "dog"), "dog", 50)
    assert task.score_all(["dog"]) == [{"exact_match": 1.0}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"image": f"{i}.png", "t": "a"}) + "\n" for i in (1, 2)))
    narrowed = with_contexts(task, [FileContexts("c.jsonl:t", tmp_path, "question_id")])
    assert narrowed.data.asked[0].query == "what is it Choices: cat, dog."  # once
    wrong = [row(1, choices=["cat"], correct_choice_idx=0), row(2, choices=["a", "b"], correct_choice_idx=2)]
    with pytest.raises(InputError, match=r"line 1, choices.*line 2, correct_choice_idx: is 2; expected 0 to 1"):
        task_of(tmp_path, wrong, **settings)


def test_texts_of_a_column():
    assert joined_text(["dog", "red ball"]) == "dog, red ball"
    assert joined_text(["A dog runs .", "A ball is there"]) == "A dog runs. A ball is there."
    assert joined_text(None) == joined_text([]) == ""


def test_contexts_of_files_are_found_by_id_image_and_image_id(tmp_path):
    rows = [
        {"question_id": 7, "image": "a.png", "caption": "by id", "tags": ["x", "y"]},
        {"image": "b.png", "caption": "by image"},
        {"image_id": 12, "caption": "by image id"},
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    contexts = FileContexts("c.jsonl:caption", tmp_path, "question_id")
    docs = [Doc("7", "z.png"), Doc("1", "b.png"), Doc("2", "q.png", columns={"image_id": 12})]
    assert [contexts(doc)[0].text for doc in docs] == ["by id", "by image", "by image id"]
    assert not contexts.has(Doc("9", "q.png"))
    both = FileContexts("c.jsonl:caption+tags", tmp_path, "question_id")(docs[0])
    assert [(one.label, one.text) for one in both] == [("caption", "by id"), ("tags", "x, y")]
    with pytest.raises(InputError, match="expected FILE:COLUMN"):
        FileContexts("c.jsonl", tmp_path, "question_id")


def test_another_images_words_are_never_ones_own(tmp_path):
    docs = [Doc(str(i), f"{i // 3}.png") for i in range(12)]
    files = tmp_path / "c.jsonl"
    files.write_text("\n".join(json.dumps({"image": f"{i}.png", "t": f"words of {i}.png"}) for i in range(4)))
    contexts = FileContexts("c.jsonl:t", tmp_path, "question_id")
    rows = {one.name: one for one in table_rows([ContextRow("c", "file", contexts)], docs)}
    assert list(rows) == ["none", "other image", "c"]
    for doc in docs:
        assert doc.image not in rows["other image"].source(doc)[0].text
    shot = Doc("shot", "2.png")
    assert rows["other image"].source(shot)[0].text == "words of 2.png"


def test_images_of_a_folder_and_a_tar_file(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(out, "PNG")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(out.getvalue())
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "images" / "1.png", "./1.png")
    for place in (tmp_path / "images", tmp_path / "images.tar"):
        files = ImageFiles(place)
        assert files.read("1.png").getpixel((0, 0)) == (9, 8, 7)
        with pytest.raises(InputError, match=r"lacks 1 images: 2\.png"):
            check(files, ["1.png", "2.png"])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "2.png").write_bytes(out.getvalue())
    several = SeveralImages(files, ImageFiles(tmp_path / "more"))
    assert several.missing(["1.png", "2.png", "3.png"]) == ["3.png"]
    assert several.read("2.png").size == (3, 2)
    with pytest.raises(InputError, match="no folder and no tar"):
        ImageFiles(tmp_path / "images" / "1.png")

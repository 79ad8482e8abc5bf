import gzip
import io
import json
import tarfile

import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.evals.question_files import ImageFiles, Question, load_questions, split_questions

ROW = {"image": "1.png", "question": "what is it", "answers": ["a", "b"], "split": "test"}


def test_questions_are_read_plain_and_gzipped(tmp_path):
    line = (json.dumps(ROW) + "\n\n").encode()
    (tmp_path / "q.jsonl").write_bytes(line)
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(line))
    expected = [Question("1.png", "what is it", ("a", "b"), "test")]
    assert load_questions(tmp_path / "q.jsonl") == load_questions(tmp_path / "q.jsonl.gz") == expected
    assert expected[0].answer == "a, b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": "a"}, "line 2: answers"),
        ({"answers": []}, "answers"),
        ({"image": None}, "image"),
        ({"question": " "}, "question"),
    ],
)
def test_bad_lines_are_named(tmp_path, change, message):
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (ROW, ROW | change)))
    with pytest.raises(InputError, match=message):
        load_questions(path)


def test_what_is_no_file_of_questions(tmp_path):
    for content in (b"", b"\xff\xfe\x00", b"not json", b"[]"):
        path = tmp_path / "q.jsonl"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"q\.jsonl"):
            load_questions(path)
    with pytest.raises(InputError, match="cannot read"):
        load_questions(tmp_path / "none.jsonl")


def questions(split: str, images: range) -> list[Question]:
    return [Question(f"{i}.png", f"question {k}", ("x",), split) for i in images for k in range(2)]


def test_val_is_held_out_of_train_by_image():
    everything = questions("train", range(20)) + questions("test", range(20, 30))
    val, test = split_questions(everything, "val"), split_questions(everything, "test", limit=5, seed=3)
    asked, shots = {one.image for one in val.asked}, {one.image for one in val.candidates}
    assert len(asked) == 4
    assert len(shots) == 16
    assert not asked & shots
    assert test.candidates == val.candidates
    assert len(test.asked) == 5
    assert {one.split for one in test.asked} == {"test"}
    assert test.asked != split_questions(everything, "test", limit=5, seed=4).asked


def test_shots_must_not_overlap():
    with pytest.raises(InputError, match=r"1 images are asked .* 3\.png"):
        split_questions(questions("train", range(4)) + questions("test", range(3, 5)), "test", val_share=0.0)
    with pytest.raises(InputError, match="the file has train"):
        split_questions(questions("train", range(4)), "test")


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
            files.check(["1.png", "2.png"])
    with pytest.raises(InputError, match="no folder and no tar"):
        ImageFiles(tmp_path / "images" / "1.png")

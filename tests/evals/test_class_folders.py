"""Images with captions, sorted into a folder for each class."""

import json

import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.evals.harness.task_kinds import open_task
from textlens.evals.task_data.class_folders import class_of, main, write_class_folders
from textlens.train.data.files import FileData

from .captioned_photos import write_shard


def test_most_captions_name_the_class_and_none_another():
    classes = ("dog", "ball")
    assert class_of(["A dog runs .", "Two dogs play .", "Animals on grass ."], classes, 0.6) == "dog"
    assert class_of(["A dog runs .", "Two dogs play .", "Animals on grass ."], classes, 0.8) is None
    assert class_of(["A dog runs .", "A dog with a ball ."], classes, 0.5) is None
    assert class_of(["A man sits ."], classes, 0.5) is None


def test_the_folders_are_a_classification_task_of_the_very_images(tmp_path, capsys):
    shard = write_shard(tmp_path / "photos-0.tar")
    main(f"webdataset:{shard}", "dog, boat", tmp_path / "classes", "json:captions", "png", 0.8, None)
    assert json.loads(capsys.readouterr().out) == {"dog": 1, "boat": 1}
    (dog,) = (tmp_path / "classes" / "dog").iterdir()
    items = FileData(f"webdataset:{shard}", text="json:captions", image="png", held_out_share=0.0).open().items
    assert dog.name == "000000.png"
    assert dog.read_bytes() == items.read(0).image
    again = tmp_path / "classes" / "dog" / "again.png", tmp_path / "classes" / "boat" / "again.png"
    for number, path in enumerate(again):  # a class needs two images
        Image.new("RGB", (20, 20), (number, 0, 0)).save(path)
    config = tmp_path / "two.yaml"
    config.write_text("{task: two, kind: classification, data: classes, ways: 2}")
    assert {doc.answer for doc in open_task(str(config), tmp_path).data.asked} == {"dog", "boat"}


def test_images_of_a_folder_keep_their_bytes(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "in" / "one.jpg")
    (tmp_path / "in" / "metadata.jsonl").write_text('{"file_name": "one.jpg", "text": "A cup ."}\n')
    items = FileData(f"imagefolder:{tmp_path / 'in'}", held_out_share=0.0).open().items
    assert write_class_folders(items, ["cup"], tmp_path / "out") == {"cup": 1}
    (cup,) = (tmp_path / "out" / "cup").iterdir()
    assert cup.suffix == ".jpeg"
    assert cup.read_bytes() == (tmp_path / "in" / "one.jpg").read_bytes()


def test_bad_input_is_told(tmp_path):
    shard = write_shard(tmp_path / "photos-0.tar")
    items = FileData(f"webdataset:{shard}", text="json:captions", image="png", held_out_share=0.0).open().items
    with pytest.raises(InputError, match="no image shows zebra"):
        write_class_folders(items, ["dog", "zebra"], tmp_path / "a")
    with pytest.raises(InputError, match="holds files already"):
        write_class_folders(items, ["dog"], tmp_path / "a")
    with pytest.raises(InputError, match="holds files already"):
        write_class_folders(items, ["dog"], tmp_path)

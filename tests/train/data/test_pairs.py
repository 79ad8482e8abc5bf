"""Sources of image-text pairs: scenes, and data sets in the formats of the hub, all from local files."""

import io
import tarfile

import pytest
from datasets import Dataset
from PIL import Image
from textlens.errors import InputError
from textlens.train.data.pairs import DatasetPairs, ScenePairs, load_pairs

COLOURS = ["red", "lime", "blue", "white", "black"]


@pytest.fixture
def dataset():
    images = [Image.new("RGB", (4, 4), colour) for colour in COLOURS]
    return Dataset.from_dict({"image": images, "text": [f"all {colour}" for colour in COLOURS]})


def test_each_epoch_shows_every_row_once_in_another_order(dataset):
    pairs = DatasetPairs(dataset)
    epochs = [[pairs.pair(index, 3).text for index in range(start, start + 5)] for start in (0, 5, 10, 15)]
    assert all(sorted(epoch) == sorted(dataset["text"]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert pairs.pair(7, 3).text == epochs[1][2]


def test_image_and_text_belong_together(dataset):
    for index in range(10):
        pair = DatasetPairs(dataset).pair(index, 0)
        expected = Image.new("RGB", (1, 1), pair.text.removeprefix("all ")).getpixel((0, 0))
        assert pair.image.getpixel((0, 0)) == expected


def test_several_captions_of_an_image_take_turns(dataset):
    several = Dataset.from_dict({"image": dataset["image"][:1], "text": [["one", "two", "three"]]})
    assert {DatasetPairs(several).pair(index, 0).text for index in range(30)} == {"one", "two", "three"}


def test_saved_folder_imagefolder_and_webdataset(dataset, tmp_path):
    dataset.save_to_disk(str(tmp_path / "saved"))
    folder = tmp_path / "photos"
    folder.mkdir()
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        lines = ["file_name,text"]
        for i, colour in enumerate(COLOURS):
            dataset[i]["image"].save(folder / f"{i}.png")
            lines.append(f"{i}.png,all {colour}")
            for name, content in (
                (f"{i}.png", (folder / f"{i}.png").read_bytes()),
                (f"{i}.txt", f"all {colour}".encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
        (folder / "metadata.csv").write_text("\n".join(lines))
    sources = {
        str(tmp_path / "saved"): ("image", "text"),
        f"imagefolder:{folder}": ("image", "text"),
        f"webdataset:{tmp_path / 'shard.tar'}": ("png", "txt"),
    }
    for source, columns in sources.items():
        pairs = load_pairs(source, *columns)
        assert {pairs.pair(index, 0).text for index in range(5)} == {f"all {colour}" for colour in COLOURS}


def test_scene_styles_are_drawn_by_weight():
    pairs = ScenePairs({"short": 3.0, "loose": 1.0})
    share = sum(pairs.pair(index, 0).style == "short" for index in range(400)) / 400
    assert 0.68 < share < 0.82
    assert pairs.pair(5, 0).text == pairs.pair(5, 0).text


def test_bad_sources_are_named(dataset, tmp_path):
    with pytest.raises(InputError, match="'caption'"):
        DatasetPairs(dataset, text_column="caption")
    with pytest.raises(InputError, match="cannot read"):
        load_pairs(f"imagefolder:{tmp_path / 'none'}")
    with pytest.raises(InputError, match="positive weights"):
        ScenePairs({"poem": 1.0})


def test_near_duplicates_vary_one_scene_and_stay_in_the_split():
    pairs = ScenePairs({"descriptive": 1.0}, near_duplicates=4)
    for first in range(0, 80, 4):
        texts = [pairs.pair(index, 5).text for index in range(first, first + 4)]
        assert texts[0] == pairs.pair(first, 5).text
        assert texts[0] not in texts[1:]
    plain = ScenePairs({"descriptive": 1.0})
    assert pairs.pair(4, 5).text == plain.pair(4, 5).text != plain.pair(5, 5).text != pairs.pair(5, 5).text
    with pytest.raises(InputError, match="near_duplicates is 0"):
        ScenePairs({"descriptive": 1.0}, near_duplicates=0)

"""Data sets of Hugging Face `datasets`, from local files: columns, captions, the one loader of images."""

import io
import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image
from textlens.encoders.images import load_image
from textlens.errors import InputError
from textlens.train.data.files import FileData


def opened(spec, texts=True, **settings):
    return FileData(str(spec), **{"held_out_share": 0.0} | settings).open(image_size=64, texts=texts)


def all_samples(source):
    return [source.sample(index, 0) for index in range(source.size)]


def saved(tmp_path, columns):
    Dataset.from_dict(columns).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


@pytest.fixture
def photos(tmp_path, png):
    """A folder of images with a caption each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for number in range(6):
        (folder / f"{number}.png").write_bytes(png(number))
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"picture {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_image_folder_in_an_order_of_its_own_each_epoch(photos):
    source = opened(f"imagefolder:{photos}")
    epochs = [[source.sample(index, 3).text for index in range(first, first + 6)] for first in (0, 6, 12)]
    assert all(sorted(epoch) == [f"picture {number}" for number in range(6)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    for sample in all_samples(source):
        assert sample.image.getpixel((0, 0))[0] == int(sample.text.split()[1])
        assert sample.key == str(photos / f"{sample.text.split()[1]}.png")


def test_transparency_and_16_bits_are_seen_as_describe_sees_them(photos):
    Image.new("RGBA", (5, 5), (0, 0, 0, 0)).save(photos / "0.png")
    Image.fromarray(np.full((5, 5), 30_000, np.uint16)).save(photos / "1.png")
    for sample in all_samples(opened(f"imagefolder:{photos}")):
        assert np.array_equal(np.asarray(sample.image), np.asarray(load_image(sample.key)))
        if sample.text in ("picture 0", "picture 1"):
            assert np.asarray(sample.image).mean() == {"0": 255, "1": 117}[sample.text[-1]]


def test_columns_of_pillow_images_bytes_paths_and_structs(tmp_path, photos, png):
    values = {
        "pillow": Image.open(io.BytesIO(png(3))),
        "bytes": png(3),
        "path": str(photos / "3.png"),
        "struct": {"bytes": png(3), "path": None},
        "struct of a path": {"bytes": None, "path": str(photos / "3.png")},
    }
    for name, value in values.items():
        folder = saved(tmp_path / name, {"image": [value], "text": ["one"]})
        assert opened(folder).sample(0, 0).image.getpixel((0, 0)) == (3, 0, 7), name


def test_paths_of_a_json_file_are_relative_to_it(photos):
    (photos / "list.jsonl").write_text(json.dumps({"image": "2.png", "caption": "two"}))
    sample = opened(f"json:{photos}/list.jsonl", text="caption").sample(0, 0)
    assert (sample.image.getpixel((0, 0))[0], sample.key) == (2, str(photos / "2.png"))


def test_several_captions_of_an_image_take_turns_and_all_are_known(tmp_path, png):
    source = opened(saved(tmp_path, {"image": [png(0)], "text": [["one", "two", "", None, "three"]]}))
    assert {source.sample(index, 0).text for index in range(30)} == {"one", "two", "three"}
    assert source.sample(4, 0).texts == ("one", "two", "three")
    assert source.sample(4, 0).text == source.sample(4, 0).text


def test_captions_come_in_order_without_decoding(tmp_path):
    good = io.BytesIO()
    Image.new("RGB", (2, 2)).save(good, "PNG")
    source = opened(saved(tmp_path, {"image": [good.getvalue(), b"broken"], "text": [["one", "two"], ["three"]]}))
    assert list(source.captions()) == ["one", "two", "three"]
    assert source.sample(0, 0, image=False).image is None


@pytest.mark.parametrize("bad", [None, "", [], ["  "]])
def test_an_item_without_a_caption_is_left_out_by_name(tmp_path, png, bad):
    texts = ["one", bad] if not isinstance(bad, list) else [["one"], bad]
    source = opened(saved(tmp_path, {"image": [png(0), png(1)], "text": texts}))
    assert {source.sample(index, 0).text for index in range(6)} == {"one"}
    assert set(source.take_skipped()) == {f"{tmp_path}/saved: row 1: the caption is empty"}


def test_unreadable_images_are_left_out_by_name(photos):
    (photos / "4.png").write_bytes(b"<html>not found")
    source = opened(f"imagefolder:{photos}")
    assert len({source.sample(index, 1).text for index in range(12)}) == 5
    (problem,) = set(source.take_skipped())
    assert problem.startswith(f"{photos}/4.png: HTML")
    assert "\n" not in problem


def test_images_alone_need_no_text_column(photos):
    (photos / "metadata.jsonl").unlink()
    source = opened(f"imagefolder:{photos}", texts=False)
    assert source.size == 6
    assert all(sample.text == "" and sample.texts == () for sample in all_samples(source))
    with pytest.raises(InputError, match=r"no column 'text'; it has image .*none of them holds texts"):
        opened(f"imagefolder:{photos}")


def test_texts_alone_need_no_image_column(tmp_path):
    spec = saved(tmp_path, {"text": ["one", "two"], "number": [1, 2]})
    source = opened(spec, image=None)
    assert sorted(source.captions()) == ["one", "two"]
    assert source.sample(0, 0, image=False).text in ("one", "two")
    with pytest.raises(InputError, match="for its texts alone"):
        source.sample(0, 0)
    with pytest.raises(InputError, match=r"data\.image to 'text'"):
        opened(spec.rename(tmp_path / "again"), image="number")


def test_splits_of_a_saved_data_set(tmp_path, png):
    parts = {name: Dataset.from_dict({"image": [png(0)] * 2, "text": [f"of {name}"] * 2}) for name in ("train", "val")}
    DatasetDict(parts).save_to_disk(str(tmp_path))
    source = opened(tmp_path, held_out=f"{tmp_path}#val")
    assert source.sample(0, 0).text == "of train"
    assert [sample.text for sample in source.held_out(5)] == ["of val"] * 2
    with pytest.raises(InputError, match="has the splits train, val, not 'test'"):
        opened(tmp_path, split="test")


def test_one_error_says_which_columns_there_are_and_what_to_set(tmp_path, png):
    spec = saved(tmp_path, {"photo": [png(0)], "words": ["one"], "label": [3], "fields": [{"caption": "one"}]})
    with pytest.raises(
        InputError, match=r"no column 'image'; it has photo \(binary\), words .* set data.image to 'pho"
    ):
        opened(spec)
    for wrong, kind in (("label", "int64"), ("fields", "fields caption")):
        with pytest.raises(InputError, match=f"column '{wrong}' holds {kind}, no texts; .* set data.text to 'words'"):
            opened(spec, image="photo", text=wrong)
    with pytest.raises(InputError, match=r"column 'label' holds int64, no images"):
        opened(spec, image="label", text="words")


@pytest.mark.parametrize("spec", ["imagefolder:{}/none", "json:{}/*.json", "parquet:{}/a.parquet,{}/b.parquet"])
def test_what_matches_nothing_is_named(tmp_path, spec):
    with pytest.raises(InputError, match="matches no file"):
        opened(spec.format(tmp_path, tmp_path))


def test_a_folder_that_is_no_data_set_or_a_damaged_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="expected the folder of a saved data set"):
        opened(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"a\.parquet"):
        opened(f"parquet:{tmp_path}/a.parquet")
    with pytest.raises(InputError, match="put its builder before it"):
        opened(tmp_path / "a.parquet")


def test_identity_follows_the_items(tmp_path, photos):
    before = opened(f"imagefolder:{photos}").identity
    assert opened(f"imagefolder:{photos}").identity == before != opened(f"imagefolder:{photos}", texts=False).identity
    assert opened(f"imagefolder:{photos}", held_out_share=0.3).identity != before

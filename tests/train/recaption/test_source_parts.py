import datasets
import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.train.recaption.source_parts import ItemReader, open_parts

from .conftest import picture


def items(parts):
    reader = ItemReader(parts.settings)
    return [reader.read(part, place) for part in parts.parts for place in reader.positions(part)]


def test_a_shard_is_a_part(shards):
    parts = open_parts(shards(3, 2))
    assert [(part.name, part.first, part.size) for part in parts.parts] == [("00000", 0, 3), ("00001", 0, 2)]
    found = items(parts)
    assert [item.key for item in found] == [f"{number:06d}" for number in range(5)]
    assert [item.original for item in found] == [(f"scene {number}",) for number in range(5)]


def test_runs_of_rows_are_parts(photos):
    parts = open_parts(f"imagefolder:{photos}", part_size=4)
    assert [(part.name, part.shard, part.first, part.size) for part in parts.parts] == [
        ("part-00000", None, 0, 4), ("part-00001", None, 4, 2),
    ]  # fmt: skip
    assert [item.key for item in items(parts)] == [str(photos / f"{number}.png") for number in range(6)]
    assert "no original captions" in parts.note


def test_the_hash_is_of_the_encoded_file(photos):
    import hashlib

    found = items(open_parts(f"imagefolder:{photos}"))
    assert [item.sha256 for item in found] == [hashlib.sha256(picture(number)).hexdigest() for number in range(6)]


def test_a_mended_image_file_leaves_the_identity(photos):
    before = open_parts(f"imagefolder:{photos}").identity
    (photos / "3.png").write_bytes(picture(100))
    assert open_parts(f"imagefolder:{photos}").identity == before
    (photos / "7.png").write_bytes(picture(100))
    assert open_parts(f"imagefolder:{photos}").identity != before


def test_images_within_the_data_are_told_apart_by_their_content(tmp_path):
    def identity(colour):
        rows = {"image": [Image.new("RGB", (4, 4), colour)], "text": ["a"]}
        datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(
            tmp_path / f"{colour}.parquet"
        )
        return open_parts(f"parquet:{tmp_path / colour}.parquet").identity

    assert identity("red") != identity("blue")


def test_shards_of_one_name_are_an_error(shards):
    source = f"{shards(1, folder='a')},{shards(1, folder='b').partition(':')[2]}"
    with pytest.raises(InputError, match="have one name, 00000"):
        open_parts(source)


def test_a_key_that_comes_twice_is_an_error(photos, tmp_path):
    (photos / "metadata.jsonl").write_text(
        "".join(f'{{"file_name": "{name}", "text": "a"}}\n' for name in ("1.png", "2.png", "1.png"))
    )
    with pytest.raises(InputError, match="1 keys name more than one item, the first of them that of row 0"):
        open_parts(f"imagefolder:{photos}")


def test_a_text_field_that_is_not_there_is_an_error_where_it_was_named(shards, photos):
    source = shards(2)
    assert open_parts(source).parts[0].error is None
    with pytest.raises(InputError, match=r"none of 2 samples tried has a caption in 'caption\.txt'"):
        open_parts(source, text="caption.txt")
    with pytest.raises(InputError, match="has no column 'caption'"):
        open_parts(f"imagefolder:{photos}", text="caption")


@pytest.mark.parametrize("source", ["texts:captions.txt", "scenes", "webdataset:http://host/0.tar", "imagefolder:none"])
def test_what_has_no_image_files_is_an_error(source):
    with pytest.raises(InputError):
        open_parts(source)


def test_a_damaged_caption_costs_no_image(tmp_path, write_tar):
    write_tar(
        tmp_path / "0.tar",
        {"0.png": picture(0), "0.txt": b"\xff\xfe", "1.png": picture(1), "2.png": picture(2), "2.txt": b" "},
    )
    first, second, third = items(open_parts(f"webdataset:{tmp_path}/0.tar"))
    assert first.loaded.image is not None
    assert "the text is damaged" in first.original_error
    assert (second.original, second.original_error) == ((), None)
    assert (third.original, third.original_error) == ((), None)

"""Settings of data in files, and samples as the workers of a training run draw them."""

import pytest
from accelerate import Accelerator
from textlens.errors import InputError
from textlens.train.data.base import data_settings
from textlens.train.data.files import FileData
from textlens.train.engine.batches import batches
from textlens.train.engine.recipe import LoopConfig


class Reader:
    """As much of a recipe as makes batches."""

    def __init__(self, source):
        self.source = source

    def batch(self, indices, seed):
        return [(sample.key, sample.image.size) for sample in self.source.samples(indices, seed)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_see_every_item_once_and_name_the_unreadable_ones(shards, write_tar, png, num_workers):
    write_tar(shards / "s-02.tar", {"bad.png": png(1)[:20], "bad.txt": b"x"})
    data = data_settings({"source": f"webdataset:{shards}/*.tar", "held_out_share": 0.0, "shuffle_buffer": 8})
    assert isinstance(data, FileData)
    config = LoopConfig(steps=10, batch_size=5, num_workers=num_workers)
    with batches(Reader(data.open(image_size=64)), config, 0, Accelerator(cpu=True)) as parts:
        made = [next(parts) for _ in range(10)]
    assert len({key for part in made for key, _ in part.batch}) == 49
    (problem,) = [line for part in made for line in part.skipped]
    assert problem.startswith(f"{shards}/s-02.tar: bad: ")


def test_settings_are_checked():
    with pytest.raises(InputError, match="expected two shares of the area"):
        FileData("webdataset:a.tar", crop_scale=(0.9, 0.5))
    with pytest.raises(InputError, match=r"unknown key 'image_column'; expected source, image, text"):
        data_settings({"source": "imagefolder:photos", "image_column": "image"})
    with pytest.raises(InputError, match="held_out_share"):
        data_settings({"source": "imagefolder:photos", "held_out_share": 1.5})


def test_a_source_hands_its_limits_to_the_loop(shards):
    source = FileData(f"webdataset:{shards}/*.tar", max_bad=0.2, crop_scale=None).open(image_size=64)
    assert (source.max_bad, source.crop_scale, source.size) == (0.2, None, 50 - len(source.held_out(50)))

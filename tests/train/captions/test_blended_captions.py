"""Which caption a sample shows: the share, the same for any order, workers and resume, and what stands in for none."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from textlens.errors import InputError
from textlens.train.captions.caption_sidecars import CaptionSidecars, write_captions
from textlens.train.data.base import data_settings
from textlens.train.data.files import FileSource
from textlens.train.data.patterns import shard_stem
from textlens.train.engine.batches import batches
from textlens.train.engine.recipe import LoopConfig

from .captioned_data import ITEMS, SHARDS, STYLES, own_captions, picture, synthetic_rows, write_folder, write_synthetic

TOTAL = SHARDS * ITEMS


def opened(spec: str, folder: str, *, held_out_share: float = 0.0, text: str = "json:captions", **blend) -> FileSource:
    blend = {"captions": folder, "style": "descriptive", **blend}
    values = {"source": spec, "text": text, "held_out_share": held_out_share, "shuffle_buffer": 8, "blend": blend}
    return data_settings(values).open()


def number_of(text: str) -> int:
    return int(text.split()[-1])


@pytest.mark.parametrize("share", [0.0, 0.65, 0.8, 0.9, 0.95, 1.0])
def test_the_share_of_synthetic_captions_is_what_was_asked_for(spec, synthetic, share):
    source, number = opened(spec, synthetic, share=share), 4000
    drawn = [source.sample(index, 3, image=False) for index in range(number)]
    found = sum(sample.style == "descriptive" for sample in drawn)
    spread = 4 * (number * share * (1 - share)) ** 0.5  # four standard deviations
    assert abs(found - number * share) <= spread
    for sample in drawn:
        synthetic_one = sample.text == f"descriptive {number_of(sample.texts[0])}"
        assert synthetic_one == (sample.style == "descriptive")
        assert synthetic_one or (sample.style == "original" and sample.text in sample.texts)
        assert sample.texts == tuple(own_captions(number_of(sample.text)))  # of the same item, the item's own


def test_a_draw_is_a_function_of_sample_and_seed_alone(spec, synthetic):
    source = opened(spec, synthetic, share=0.5)
    there = [source.sample(index, 0, image=False) for index in range(3 * TOTAL)]
    back = [opened(spec, synthetic, share=0.5).sample(index, 0, image=False) for index in reversed(range(3 * TOTAL))]
    assert there == back[::-1]
    assert there != [source.sample(index, 1, image=False) for index in range(3 * TOTAL)]


def test_another_epoch_draws_anew_and_both_kinds_come_in_turn(spec, synthetic):
    source = opened(spec, synthetic, share=0.5)
    epochs = [
        {sample.row: sample.style for sample in (source.sample(e * TOTAL + i, 0, image=False) for i in range(TOTAL))}
        for e in range(8)
    ]
    assert all(len(epoch) == TOTAL for epoch in epochs)
    both = sum(len({epoch[row] for epoch in epochs}) == 2 for row in range(TOTAL))
    assert both >= TOTAL - 3  # the chance that an item shows one kind 8 times is 1 in 128


class Reader:
    """As much of a recipe as makes batches."""

    def __init__(self, source):
        self.source = source

    def batch(self, indices, seed):
        return [(sample.key, sample.text, sample.style) for sample in self.source.samples(indices, seed, image=False)]


def made(spec, synthetic, *, num_workers: int, steps: range) -> list:
    config = LoopConfig(steps=steps.stop, batch_size=8, num_workers=num_workers, seed=5)
    with batches(Reader(opened(spec, synthetic, share=0.6)), config, steps.start, Accelerator(cpu=True)) as parts:
        return [next(parts).batch for _ in steps]


def test_workers_and_a_resumed_run_draw_the_same(spec, synthetic):
    whole = made(spec, synthetic, num_workers=0, steps=range(12))
    assert made(spec, synthetic, num_workers=2, steps=range(12)) == whole
    assert made(spec, synthetic, num_workers=1, steps=range(5, 12)) == whole[5:]


def test_an_item_without_a_caption_to_use_keeps_its_own_and_is_counted(spec, tmp_path):
    changes = {3: {"descriptive": None, "error": "no server"}, 4: {"keep_descriptive": False}, 25: {"descriptive": " "}}
    folder = write_synthetic(tmp_path / "some", changes)
    source = opened(spec, folder, share=1.0)
    shown = {sample.row: sample.text for sample in (source.sample(index, 0, image=False) for index in range(TOTAL))}
    kept = {row for row, text in shown.items() if text in own_captions(row)}
    assert kept == set(changes)
    assert all(shown[row] == f"descriptive {row}" for row in range(TOTAL) if row not in kept)
    told = f"37 of 40 items have a descriptive caption in {folder}; the other 3 keep their own (2 failed, 1 rejected"
    assert source.notes[0].startswith(told)
    rejected = opened(spec, folder, share=1.0, rejected=True)
    assert rejected.read(4, 4, 0, image=False).text == "descriptive 4"
    assert "38 of 40" in rejected.notes[0]


def test_rows_that_are_not_there_at_all_are_counted_too(spec, tmp_path):
    write_captions(tmp_path / "half" / "s-0.parquet", synthetic_rows(0), STYLES)
    source = opened(spec, str(tmp_path / "half"), share=1.0)
    assert "20 of 40 items" in source.notes[0]
    texts = {sample.row: sample.text for sample in (source.sample(index, 0, image=False) for index in range(TOTAL))}
    assert [row for row in range(TOTAL) if texts[row].startswith("descriptive")] == list(range(ITEMS))


def test_equal_keys_of_two_shards_are_two_items_and_a_shard_may_have_moved(spec, tmp_path):
    rows = [row | {"shard": f"/elsewhere/{row['shard']}"} for shard in range(2) for row in synthetic_rows(shard)]
    write_captions(tmp_path / "moved" / "all.parquet", rows, STYLES)
    source = opened(spec, str(tmp_path / "moved"), share=1.0)
    assert [source.read(row, row, 0, image=False).text for row in (0, 20, 39)] == [
        f"descriptive {row}" for row in (0, 20, 39)
    ]
    assert shard_stem("a/b.c.tar") == shard_stem("b.c") == "b.c"


def test_images_of_a_folder_are_named_by_path(tmp_path):
    spec = write_folder(tmp_path / "photos")
    rows = synthetic_rows(0)
    named = [f"{key:02d}.png" if key % 2 else str(tmp_path / "photos" / f"{key:02d}.png") for key in range(ITEMS)]
    rows = [row | {"key": name, "shard": None} for row, name in zip(rows, named, strict=True)]
    write_captions(tmp_path / "folder" / "photos.parquet", rows, STYLES)
    source = opened(spec, str(tmp_path / "folder"), share=1.0, text="text")
    for row in range(ITEMS):
        sample = source.read(row, row, 0)
        assert sample.text == f"descriptive {number_of(sample.texts[0])}"
        assert sample.image.size == (32, 32)
    assert source.notes == (f"20 of 20 items have a descriptive caption in {tmp_path / 'folder'}",)
    assert set(source.captions()) == {text for n in range(ITEMS) for text in (*own_captions(n), f"descriptive {n}")}


def test_rows_without_names_are_told_by_their_number(tmp_path):
    images = [{"bytes": picture(number), "path": None} for number in range(ITEMS)]
    table = pa.table({"image": images, "text": [own_captions(number) for number in range(ITEMS)]})
    pq.write_table(table, tmp_path / "data.parquet")
    rows = [
        row | {"shard": None, "key": f"parquet:elsewhere.parquet: row {key}"}
        for key, row in enumerate(synthetic_rows(0))
    ]
    write_captions(tmp_path / "rows" / "part-00000.parquet", rows, STYLES)
    source = opened(f"parquet:{tmp_path}/data.parquet", str(tmp_path / "rows"), share=1.0, text="text")
    assert [source.read(row, row, 0, image=False).text for row in range(ITEMS)] == [
        f"descriptive {n}" for n in range(ITEMS)
    ]


def test_captions_are_all_that_training_may_show(spec, synthetic):
    expected = [text for n in range(TOTAL) for text in (*own_captions(n), f"descriptive {n}")]
    assert list(opened(spec, synthetic).captions()) == expected


def test_held_out_samples_show_synthetic_captions_only_if_asked(spec, synthetic):
    own = opened(spec, synthetic, held_out_share=0.3).held_out(50)
    assert len(own) > 3
    assert all(sample.text == sample.texts[0] for sample in own)
    asked = opened(spec, synthetic, held_out_share=0.3, held_out=True).held_out(50)
    assert [sample.texts for sample in asked] == [sample.texts for sample in own]
    assert [sample.text for sample in asked] == [f"descriptive {number_of(sample.texts[0])}" for sample in own]
    assert asked[0].image.size == (32, 32)


def test_images_alone_need_no_captions(spec, synthetic):
    values = {"source": spec, "blend": {"captions": synthetic, "style": "descriptive"}}
    assert data_settings(values).open(texts=False).read(0, 0, 0).text == ""


def test_the_index_is_made_once_and_anew_when_a_file_changes(spec, synthetic, tmp_path):
    first = CaptionSidecars(synthetic, "short", by_shard=True)
    again = CaptionSidecars(synthetic, "short", by_shard=True)
    assert first.find("s-1", ["05"]) == again.find("s-1", ["05"]) == "short 25"
    write_synthetic(Path(synthetic), {25: {"short": "another"}})
    assert CaptionSidecars(synthetic, "short", by_shard=True).find("s-1", ["05"]) == "another"
    assert again.find("s-1", ["99"]) is None
    assert again.find("s-2", ["05"]) is None


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"style": "long"}, "no captions of style 'long'; its styles are short, descriptive: set blend.style"),
        ({"style": "original"}, "expected a style of synthetic captions"),
        ({"share": 1.5}, "blend.share is 1.5"),
        ({"shares": 0.5}, "unknown key 'blend.shares'; expected captions, style, share, rejected, held_out"),
        ({"captions": "no/such/folder"}, "matches no file"),
    ],
)
def test_wrong_settings(spec, synthetic, blend, message):
    with pytest.raises(InputError, match=re.escape(message)):
        opened(spec, synthetic, **blend)


def test_captions_of_other_data(spec, tmp_path):
    write_captions(tmp_path / "other" / "t.parquet", [r | {"shard": "t-0"} for r in synthetic_rows(0)], STYLES)
    with pytest.raises(
        InputError, match=r"none of 40 items tried .* of shard 's-[01]', one there key '00' of shard 't-0'"
    ):
        opened(spec, str(tmp_path / "other"))


def test_texts_alone_have_no_keys(synthetic, tmp_path):
    (tmp_path / "texts.txt").write_text("one caption\nanother")
    with pytest.raises(InputError, match="an item here is without a key, one there key '00'"):
        opened(f"texts:{tmp_path}/texts.txt", f"{synthetic}/s-0.parquet", text="text")


def test_files_without_captions(spec, tmp_path):
    write_captions(tmp_path / "empty" / "s-0.parquet", [], STYLES)
    with pytest.raises(InputError, match=r"no descriptive caption to use \(0 failed, 0 rejected"):
        opened(spec, str(tmp_path / "empty"))
    failed = {number: {"descriptive": None} for number in range(TOTAL)}
    with pytest.raises(InputError, match=r"no descriptive caption to use \(40 failed, 0 rejected"):
        opened(spec, write_synthetic(tmp_path / "failed", failed))


def test_damaged_and_doubled_files(spec, synthetic, tmp_path):
    rows = synthetic_rows(0)
    write_captions(Path(synthetic) / "s-9.parquet", rows[:3], STYLES)
    with pytest.raises(InputError, match="3 keys have several captions"):
        opened(spec, synthetic)
    (Path(synthetic) / "s-9.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(InputError, match=r"s-9\.parquet cannot be read"):
        opened(spec, synthetic)
    (Path(synthetic) / "s-9.parquet").unlink()
    whole = (Path(synthetic) / "s-1.parquet").read_bytes()
    (Path(synthetic) / "s-1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"s-1\.parquet cannot be read"):
        opened(spec, synthetic)


def test_columns_of_textlens_recaption_are_no_styles(tmp_path, spec):
    rows = [
        row | {"original_error": None, "cut_off_short": False, "similarity_short": 0.5} for row in synthetic_rows(0)
    ]
    (tmp_path / "recaptioned").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "recaptioned" / "s-0.parquet")
    with pytest.raises(InputError, match="its styles are short, descriptive: set"):
        opened(spec, str(tmp_path / "recaptioned"), style="long")
    assert opened(spec, str(tmp_path / "recaptioned"), share=1.0).read(3, 0, 0, image=False).text == "descriptive 3"


def test_files_of_something_else(spec, tmp_path):
    pq.write_table(pa.table({"url": ["a"], "caption": ["b"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no column shard and key, but url, caption"):
        opened(spec, str(tmp_path / "x.parquet"))

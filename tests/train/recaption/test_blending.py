"""What `textlens recaption` writes is what `data.blend` reads: for shards, and for folders of images."""

from textlens.train.data.base import data_settings
from textlens.train.recaption.recaption import RecaptionSettings, recaption

from .test_recaption import rows


def test_captions_of_shards_are_blended_in(shards, tmp_path):
    source = shards(3, 2)
    recaption(RecaptionSettings(source, tmp_path / "out", {"short": "scenes:coca"}))
    blend = {"captions": str(tmp_path / "out"), "style": "short", "share": 1.0, "rejected": True}
    opened = data_settings({"source": source, "text": "txt", "held_out_share": 0.0, "blend": blend}).open()
    written = {row["original"][0]: row["short"] for row in rows(tmp_path / "out")}
    samples = [opened.sample(index, 0, image=False) for index in range(5)]
    assert {sample.texts[0]: sample.text for sample in samples} == written
    assert {sample.style for sample in samples} == {"short"}


def test_captions_of_a_folder_are_blended_in(photos, tmp_path):
    source = f"imagefolder:{photos}"
    lines = [f'{{"file_name": "{number}.png", "text": "scene {number}"}}' for number in range(6)]
    (photos / "metadata.jsonl").write_text("\n".join(lines))
    recaption(RecaptionSettings(source, tmp_path / "out", {"short": "scenes:coca"}, part_size=4))
    assert {row["key"] for row in rows(tmp_path / "out")} == {str(photos / f"{number}.png") for number in range(6)}
    blend = {"captions": str(tmp_path / "out"), "style": "short", "share": 1.0, "rejected": True}
    opened = data_settings({"source": source, "text": "text", "held_out_share": 0.0, "blend": blend}).open()
    written = {row["original"][0]: row["short"] for row in rows(tmp_path / "out")}
    samples = [opened.sample(index, 0, image=False) for index in range(6)]
    assert {sample.texts[0]: sample.text for sample in samples} == written

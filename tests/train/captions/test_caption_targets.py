"""The command that writes short and descriptive captions beside a data set, which the captioner recipe reads."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from textlens.train.captions import caption_targets
from textlens.train.captions.caption_targets import parts_of
from textlens.train.data.base import data_settings
from textlens.train.data.files import FileData
from typer.testing import CliRunner

from .captioned_data import picture, write_folder

CAPTIONS = {
    "dog": ["A dog runs on the beach .", "A brown dog runs on the beach .", "A dog running near a city ."],
    "boy": ["A boy jumps into a pool .", "A boy wearing a red hat jumps into a pool ."],
    "one": ["A single caption ."],
    "odd": ["A kite .", "Two trains pass ."],
    "none": [" "],
}


def write_tar(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            text = json.dumps({"captions": CAPTIONS[name]}).encode()
            for member_name, content in ((f"{name}.png", picture(number)), (f"{name}.json", text)):
                member = tarfile.TarInfo(member_name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def photos(tmp_path) -> str:
    write_tar(tmp_path / "a.tar", ["dog", "one", "odd"])
    write_tar(tmp_path / "b.tar", ["boy", "none"])
    return f"webdataset:{tmp_path}/*.tar"


def run(*arguments: str):
    app = typer.Typer()
    app.command()(caption_targets.main)
    return CliRunner().invoke(app, list(arguments))


def test_one_file_a_shard_with_captions_of_both_styles(photos, tmp_path):
    result = run(photos, "--text", "json:captions", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["items"], told["failed"], told["kept"]) == (5, 2, {"short": 2, "descriptive": 2})
    rows = {row["key"]: row for name in "ab" for row in pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist()}
    assert rows["dog"]["shard"] == "a"
    assert rows["dog"]["original"] == CAPTIONS["dog"]
    assert rows["dog"]["descriptive"] == "A brown dog runs on the beach, near a city."
    assert rows["dog"]["short"] == "A dog runs on the beach."
    assert rows["boy"]["descriptive"] == "A boy wearing a red hat jumps into a pool."
    assert "one caption; expected several" in rows["one"]["error"]
    assert "empty" in rows["none"]["error"]
    assert rows["one"]["short"] is rows["none"]["descriptive"] is None
    assert rows["odd"]["keep_short"] is rows["odd"]["keep_descriptive"] is False
    assert rows["odd"]["reasons_short"] == ["0.00 of its words confirmed; expected 0.75"]


def test_what_is_written_is_what_training_draws(photos, tmp_path):
    assert run(photos, "--text", "json:captions", "--out", str(tmp_path / "out")).exit_code == 0
    blend = {"captions": str(tmp_path / "out"), "style": "descriptive", "share": 1.0}
    values = {"source": photos, "text": "json:captions", "held_out_share": 0.0, "max_bad": 0.5, "blend": blend}
    source = data_settings(values).open()
    assert "2 of 5 items have a descriptive caption" in source.notes[0]
    assert "(2 failed, 1 rejected by a check)" in source.notes[0]
    assert source.read(0, 0, 0).text == "A brown dog runs on the beach, near a city."
    assert source.read(1, 0, 0).text == "A single caption ."


def test_rows_without_shards_go_into_numbered_files(tmp_path):
    items = FileData(write_folder(tmp_path / "photos"), held_out_share=0.0).open().items
    assert [(part.name, len(part.positions)) for part in parts_of(items)] == [("captions-00000", 20)]
    spec = f"imagefolder:{tmp_path / 'photos'}"
    result = run(spec, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    row = pq.read_table(tmp_path / "out" / "captions-00000.parquet").to_pylist()[3]
    assert row["key"] == "03.png"
    blend = {"captions": str(tmp_path / "out"), "style": "short", "share": 1.0, "rejected": True}  # "picture 3"
    source = data_settings({"source": spec, "blend": blend, "held_out_share": 0.0}).open()
    assert source.notes[0].startswith("20 of 20 items")
    assert source.read(3, 0, 0).text == f"{row['short']}" == "Picture 3."


def test_wrong_input_is_told_and_nothing_is_overwritten(photos, tmp_path):
    out = tmp_path / "out"
    missing = run("webdataset:/no/such/*.tar", "--out", str(out))
    assert (missing.exit_code, "matches no file" in missing.stderr) == (2, True)
    field = run(photos, "--text", "json:words", "--out", str(out))
    assert (field.exit_code, "its JSON has no words, but captions" in field.stderr) == (2, True)
    assert not out.exists()
    assert run(photos, "--text", "json:captions", "--out", str(out)).exit_code == 0
    before = (out / "a.parquet").read_bytes()
    again = run(photos, "--text", "json:captions", "--out", str(out))
    assert (again.exit_code, "holds captions already" in again.stderr) == (2, True)
    assert (out / "a.parquet").read_bytes() == before

"""Strategies, temperatures, memories and decoders of a DeCap, on photographs with captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import textlens
import typer
from textlens.encoders.decap.decap_encoder import Decap
from textlens.errors import InputError
from textlens.evals import decap_curves
from textlens.evals.decap_curves import caption_memory, memory_sizes, strategies, temperatures, with_memory
from textlens.evals.photos import load_photos_of
from textlens.train.evaluators import image_embeddings
from typer.testing import CliRunner

from .captioned_photos import THINGS, write_shard

WEIGHTS = Path(textlens.__file__).parent / "weights"
FOLDER = WEIGHTS / "scenes" / "decap"


@pytest.fixture(scope="module")
def decap() -> Decap:
    return Decap.from_pretrained(FOLDER)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def captions(tmp_path) -> Path:
    texts = [f"a {colour} {thing} in the center" for colour in ("red", "blue", "green") for thing in ("star", "cat")]
    path = tmp_path / "captions.txt"
    path.write_text("".join(f"{text}\n" for text in (*texts, texts[0])))
    return path


def test_a_memory_has_each_caption_once(decap, captions):
    memory = caption_memory(str(captions), decap.clip, limit=100)
    assert sorted(memory.texts) == sorted(set(captions.read_text().splitlines()))
    part = caption_memory(f"texts:{captions}", decap.clip, limit=4)
    assert len(part) == 4
    assert set(part.texts) < set(memory.texts)
    assert caption_memory(str(captions), decap.clip, limit=4, seed=1).texts != part.texts


def test_parts_of_a_memory_hold_one_another(decap, captions):
    memory = caption_memory(str(captions), decap.clip, limit=100)
    variants = memory_sizes(decap, memory, shares=(0.01, 0.5, 1.0))
    assert [one.name for one in variants][::2] == ["1 % (1), pd", "50 % (3), pd", "100 % (6), pd"]
    texts = [set(one.decap.memory.texts) for one in variants[::2]]
    assert texts[0] < texts[1] < texts[2] == set(memory.texts)


def test_variants_write_what_decap_writes_with_these_options(decap, captions, tmp_path):
    samples = load_photos_of(f"webdataset:{write_shard(tmp_path / 'shard.tar')}")
    embeddings = image_embeddings(decap.clip, samples)
    for one in strategies(decap):
        assert one.describe(embeddings) == [
            text.text for text in decap.describe_embeddings(embeddings, strategy=one.name)
        ]
    sharpest = temperatures(decap, [1 / 1000])[0]
    assert sharpest.name == "1/1000"
    expected = decap.describe_embeddings(embeddings, strategy="pd", temperature=1 / 1000)
    assert sharpest.describe(embeddings) == [text.text for text in expected]
    memory = caption_memory(str(captions), decap.clip, limit=100)
    retrieved = with_memory(decap, "mine", memory)[1]
    assert retrieved.name == "mine, clipre"
    assert set(retrieved.describe(embeddings)) <= set(memory.texts)


def test_the_command_prints_all_tables(tmp_path, captions):
    app = typer.Typer()
    app.command()(decap_curves.main)
    arguments = [f"webdataset:{write_shard(tmp_path / 'shard.tar')}", "--decap", f"own={FOLDER}"]
    arguments += ["--decap", f"again={FOLDER}", "--memory", f"mine={captions}", "--memory", f"same={captions}"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    lines = ran.output.splitlines()
    assert lines[0] == f"{len(THINGS)} photographs"
    titles = [line.split("|")[1].strip() for line in lines if "CIDEr-D" in line]
    assert titles == ["strategy", "temperature", "part of mine", "memory", "decoder"]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    rows = {line[1]: line[2:] for line in cells if len(line) > 4}
    assert rows["mine, pd"] == rows["same, pd"] == rows["100 % (6), pd"]
    assert rows["own, vd"] == rows["again, vd"] == rows["vd"]
    chosen = CliRunner().invoke(app, [*arguments, "--table", "decoder"]).output.splitlines()
    assert chosen == [lines[0], *lines[lines.index(next(line for line in lines if "| decoder" in line)) - 1 :]]


def test_decoders_of_several_spaces_are_refused(tmp_path):
    source = f"webdataset:{write_shard(tmp_path / 'shard.tar')}"
    with pytest.raises(InputError, match="spaces of several CLIPs"):
        decap_curves.main(source, [f"a={FOLDER}", f"b={WEIGHTS / 'photo-decap'}"], text="text", image="image")
    with pytest.raises(InputError, match=r"no table .size.; these are: strategy, temperature, part of m$"):
        decap_curves.main(source, [f"a={FOLDER}"], ["m=nowhere.txt"], only=["size"], text="text", image="image")

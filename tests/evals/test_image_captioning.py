"""Rows of known quality come out in their order, and the command prints the same figures as table and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import textlens
import typer
from textlens.encoders.clip.clip import Clip
from textlens.errors import InputError
from textlens.evals import clip_retrieval, image_captioning
from textlens.evals.encoder_variants import load_variants
from textlens.evals.image_captioning import CONSTANT, HUMAN, OTHER, clip_figures, figures, human_and_floors
from textlens.evals.photos import load_photos_of
from typer.testing import CliRunner

from .captioned_photos import THINGS, write_shard

CLIP = Path(textlens.__file__).parent / "weights" / "scenes" / "coca"


@pytest.fixture(autouse=True)
def source(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"webdataset:{write_shard(tmp_path / 'shard.tar')}"


def test_photos_are_all_or_a_sample_by_seed(source):
    samples = load_photos_of(source)
    assert [sample.texts[0].split()[2] for sample in samples] == list(THINGS)
    assert samples[2].image.size == (64, 64)
    drawn = [sample.key for sample in load_photos_of(source, limit=3, seed=1)]
    assert drawn == [sample.key for sample in load_photos_of(source, limit=3, seed=1)]
    assert drawn != [sample.key for sample in load_photos_of(source, limit=3, seed=2)]
    with pytest.raises(InputError, match=r"set data\.text"):
        load_photos_of(source, text="json:words")


def test_human_and_floors(source):
    captions = [sample.texts for sample in load_photos_of(source)]
    rows = human_and_floors(captions, 1)
    for text, rest, own in zip(rows[HUMAN].texts, rows[HUMAN].references, captions, strict=True):
        assert sorted([text, *rest]) == sorted(own)
    assert not any(text in own for text, own in zip(rows[OTHER].texts, captions, strict=True))
    assert len(set(rows[CONSTANT].texts)) == 1
    assert rows[OTHER].references == captions
    assert human_and_floors(captions, 1, same_references=True)[OTHER].references == rows[HUMAN].references
    assert human_and_floors(captions, 2)[HUMAN].texts != rows[HUMAN].texts
    single = [own[:1] for own in captions]
    assert HUMAN not in human_and_floors(single, 1)
    with pytest.raises(InputError, match="two or more"):
        human_and_floors(single, 1, same_references=True)


def test_figures_order_human_and_floors(source):
    rows = human_and_floors([sample.texts for sample in load_photos_of(source)], 1)
    human, other, constant = (figures(rows[name], java=False) for name in (HUMAN, OTHER, CONSTANT))
    for key in ("bleu_4", "cider_d", "noun_precision", "noun_f1", "content_f1", "bm25_r1"):
        assert human[key] > other[key], key
    assert human["bm25_r1"] == human["noun_precision"] == 100
    assert other["bm25_r1"] == 0
    assert constant["bm25_r1"] == pytest.approx(100 / len(THINGS))  # it names one photograph of six
    assert constant["distinct"] == pytest.approx(100 / len(THINGS))
    assert human["words"] == 8


def test_variants_of_decap_share_its_weights():
    loaded = load_variants(["scenes:decap", "scenes:decap@clipre", "scenes:decap@vd"])
    assert [encoder.config.strategy for encoder in loaded.values()] == ["pd", "clipre", "vd"]
    assert loaded["scenes:decap@vd"].decoder is loaded["scenes:decap"].decoder
    assert loaded["scenes:decap@vd"].spec == "scenes:decap@vd"


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["scenes:coca", "scenes:coca"], "given twice"),
        (["scenes:coca@vd"], "strategy of DeCap"),
        (["decap@best"], "unknown encoder"),
    ],
)
def test_wrong_variants(specs, message):
    with pytest.raises(InputError, match=message):
        load_variants(specs)


def run(main, *arguments):
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command(source, tmp_path):
    options = ("--encoder", "scenes:decap", "--encoder", "scenes:decap@clipre", "--clip", str(CLIP), "--no-meteor")
    arguments = (source, *options, "--limit", "4", "--cache", str(tmp_path / "words"))
    made = json.loads(run(image_captioning.main, *arguments, "--json"))
    assert list(made["rows"]) == ["scenes:decap", "scenes:decap@clipre", OTHER, CONSTANT, HUMAN]
    assert made["photos"] == 4
    table = run(image_captioning.main, *arguments)
    line = next(line for line in table.splitlines() if line.startswith(f"| {HUMAN} "))
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    human = made["rows"][HUMAN]
    assert cells[:2] == [f"{human['bleu_4']:.1f}", f"{human['cider_d']:.1f}"]
    assert {"clip_r1", "clip_r10", "content_precision", "noun_recall", "words"} <= human.keys()
    assert 0 < human["clip_similarity"] < 100


def test_merged_captions_tell_more_than_any_one(source):
    made = json.loads(run(image_captioning.main, source, "--merged", "--no-meteor", "--json"))["rows"]
    long, short = made["ceiling: merged, descriptive"], made["ceiling: merged, short"]
    assert long["content_recall"] > made[HUMAN]["content_recall"]
    assert long["content_precision"] == short["content_precision"] == 100
    assert long["words"] > short["words"]


def test_similarity_is_of_each_photograph_and_its_own_text(source):
    clip, samples = Clip.from_pretrained(CLIP), load_photos_of(source)
    images = clip.embed_images([sample.image for sample in samples])
    texts = [sample.texts[0] for sample in samples]
    own = (clip.embed_texts(texts) * images).sum(1).mean()
    assert clip_figures(clip, images, texts)["clip_similarity"] == pytest.approx(100 * float(own), rel=1e-5)


def test_retrieval_finds_all_among_few(source):
    made = json.loads(run(clip_retrieval.main, source, "--clip", str(CLIP), "--json"))
    (row,) = made["rows"].values()
    assert (made["photos"], made["captions"]) == (6, 30)
    assert row["text_to_image_r10"] == 100
    assert 0 <= row["text_to_image_r1"] < 100

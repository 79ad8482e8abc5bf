from __future__ import annotations

import pytest
import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.decap_encoder import Decap, DecapConfig
from textlens.errors import InputError
from textlens.evals.encoder_variants import named_folders
from textlens.metrics.caption_metrics import java_runs
from textlens.scenes.evals import decap_facts as evaluation
from textlens.scenes.evals.decap_facts import Row
from textlens.scenes.facts import KINDS, facts_of
from textlens.scenes.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(1200, 64).save_pretrained(folder)
    text = {"context_length": 64, "vocab_size": 1200, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 64, "patch_size": 32, "width": 32, "layers": 1, "head_width": 16}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {**text, "hf_tokenizer_name": "own"}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Clip.from_config(config, tokenizer_folder=folder, name="tiny")


@pytest.fixture(scope="module")
def decap(clip: Clip) -> Decap:
    gpt2 = {"vocab_size": 1200, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    gpt2 |= {"bos_token_id": clip.bos_id, "eos_token_id": clip.eos_id}
    config = DecapConfig("tiny", 32, gpt2, clip.eos_id or 0, num_tokens=1200, max_tokens=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = config.new_decoder()
    return Decap(config, clip, decoder, evaluation.style_memory(clip, "descriptive", 30))


@pytest.fixture(autouse=True)
def _without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Java takes seconds to start, and is tested with the metrics themselves."""
    java_runs.cache_clear()
    monkeypatch.setattr("textlens.metrics.caption_metrics.java_runs", lambda: False)


def test_true_captions_score_the_highest_and_the_floor_below(decap: Decap, clip: Clip) -> None:
    test = evaluation.draw_scenes(clip, 20)
    true = test.score("true", [texts[0] for texts in test.references])
    assert all(true.f1[kind] == 1 for kind in KINDS)
    floor = evaluation.floor(decap, test, candidates=3)
    assert all(0 < floor.f1[kind] < 1 for kind in ("noun", "colour", "background"))
    assert floor.cider_d < true.cider_d
    assert true.bleu_4 == pytest.approx(1)


def test_every_strategy_is_in_the_table(decap: Decap, clip: Clip) -> None:
    test = evaluation.draw_scenes(clip, 12)
    rows = evaluation.strategies(decap, clip, test)
    assert [row.name for row in rows] == ["pd", "nnd", "vd", "clipre", "constant-text floor"]
    retrieved = [one.text for one in decap.describe_embeddings(test.embeddings, strategy="clipre")]
    assert rows[3] == test.score("clipre", retrieved)


def test_memories_of_other_sizes_and_styles(decap: Decap, clip: Clip) -> None:
    test = evaluation.draw_scenes(clip, 12)
    sizes = [row.name for row in evaluation.size_curve(decap, clip, test, 40)]
    assert sizes[0] == "0.1 % (1), pd"
    assert sizes[-1].startswith("100 % (")
    styles = evaluation.other_memories(decap, clip, test, 10)
    assert {row.name for row in styles} >= {"short memory, pd", "web memory, clipre"}


def test_recall_of_unseen_nouns(decap: Decap, clip: Clip) -> None:
    nouns = ["star", "cat", "heart"]

    found = evaluation.unseen_nouns(decap, clip, nouns, number=10, size=30)
    assert set(found) == {"pd", "nnd", "vd", "clipre"}
    assert all(0 <= recall <= 1 for recall in found.values())
    test = evaluation.draw_scenes(clip, 5, lambda scene: any(thing.noun in nouns for thing in scene.objects))
    assert all(facts_of(scene).noun & set(nouns) for scene in test.scenes)


def test_table() -> None:
    row = Row("pd", dict.fromkeys(KINDS, 0.5), cider_d=1.2346, bleu_4=0.25)
    assert evaluation.table("strategy", [row], kinds=("noun", "colour")) == (
        "| strategy | noun | colour | CIDEr-D | BLEU-4 |\n|---|---|---|---|---|\n| pd | 0.500 | 0.500 | 123.5 | 25.0 |"
    )


def test_bad_variants() -> None:
    with pytest.raises(InputError, match="expected NAME=FOLDER"):
        named_folders(["runs/decap"])

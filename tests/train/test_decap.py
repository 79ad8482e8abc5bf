from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.decap_encoder import Decap
from textlens.errors import InputError
from textlens.train.data import caption_texts as decap_data
from textlens.train.data.caption_texts import cached_embeddings, caption_ids, load_captions
from textlens.train.decap import (
    IGNORED,
    DecapRecipe,
    DecapTraining,
    _padded,
    prepare_captions,
    train_decap,
)
from textlens.train.engine.settings import read_settings
from torch.nn import functional as F
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

WORDS = ("red", "blue", "cat", "dog", "sun", "on", "the", "big")
CAPTIONS = [f"{a} {b} on {c}" for a in ("red", "blue", "big") for b in ("cat", "dog", "sun") for c in ("cat", "sun")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A tiny CLIP of random weights whose words are whole tokens; padding is the end token, as in many real ones."""
    letters = list(bytes_to_unicode().values())
    merges, pieces = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        left = word[0]
        for i, letter in enumerate(word[1:], 2):
            right = letter + ("</w>" if i == len(word) else "")
            if left + right not in pieces:
                merges.append((left, right))
                pieces.append(left + right)
            left += right
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<start>", "<end>"])}
    special = {"bos_token": "<start>", "eos_token": "<end>", "unk_token": "<end>", "pad_token": "<end>"}
    folder = tmp_path_factory.mktemp("tokenizer")
    CLIPTokenizer(vocab=vocabulary, merges=merges, **special).save_pretrained(folder)
    text = {"context_length": 16, "vocab_size": len(vocabulary), "width": 64, "heads": 4, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": {**text, "hf_tokenizer_name": "own"}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = Clip.from_config(config, tokenizer_folder=folder, name="tiny")
    with torch.no_grad():
        clip.model.token_embedding.weight.mul_(50)  # else all random texts are nearly alike
    return clip


@pytest.fixture
def config(tmp_path: Path) -> DecapTraining:
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS * 2))
    loop = {"steps": 6, "batch_size": 8, "learning_rate": 3e-3, "num_workers": 0, "save_every": 100}
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2}
    source = str(tmp_path / "captions.txt")
    return DecapTraining("tiny", loop, source, validation=3, gpt2=sizes, max_tokens=10, label_smoothing=0.0)


@pytest.fixture
def recipe(config: DecapTraining, clip: Clip, tmp_path: Path) -> DecapRecipe:
    return DecapRecipe(config, clip, prepare_captions(config, clip, tmp_path / "cache"))


def changed(recipe: DecapRecipe, **settings: object) -> DecapRecipe:
    return DecapRecipe(replace(recipe.config, **settings), recipe.clip, recipe.texts)  # type: ignore[arg-type]


def test_validation_is_held_out_by_distinct_caption(recipe: DecapRecipe) -> None:
    assert len(recipe.texts.train) == len(CAPTIONS) - 3
    assert len(recipe.texts.validation) == 3
    assert {*recipe.texts.train, *recipe.texts.validation} == set(CAPTIONS)
    assert set(recipe.memory.texts) == set(recipe.texts.train)


def test_captions_with_unwanted_words_are_left_out(config: DecapTraining, clip: Clip, tmp_path: Path) -> None:
    found = prepare_captions(replace(config, without_words=("Dog",)), clip, tmp_path)
    assert found.train
    assert not [text for text in found.train if "dog" in text]


def test_every_epoch_reads_each_caption_once_in_another_order(recipe: DecapRecipe) -> None:
    size = len(recipe.texts.train)
    epochs = [recipe.batch(range(i * size, (i + 1) * size), seed=7)["own_entry"].tolist() for i in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(size))
    assert epochs[0] != epochs[1]
    assert recipe.batch([3, size + 5], seed=7)["own_entry"].tolist() == [epochs[0][3], epochs[1][5]]
    assert recipe.batch(range(size), seed=8)["own_entry"].tolist() != epochs[0]


def test_labels_hold_start_words_and_end_and_nothing_past_it(recipe: DecapRecipe) -> None:
    clip = recipe.clip
    batch = recipe.batch([0, 1, 2], seed=0)
    for row, entry in zip(batch["labels"], batch["own_entry"].tolist(), strict=True):
        words = [i for i in row.tolist() if i != IGNORED]
        assert words[0] == clip.bos_id
        assert words[-1] == clip.eos_id
        assert words.count(clip.eos_id) == 1  # the end token that pads the tokenizer's rows is no label
        assert clip.decode(words) == recipe.texts.train[entry]


def test_a_length_mask_and_not_an_id_hides_the_padding(recipe: DecapRecipe) -> None:
    """Id 0 is "!" in CLIP's vocabulary: a caption may hold it, and it must be learnt like any other."""
    found = caption_ids(["cat !! sun", "cat"], recipe.clip, 10)
    ids, labels = _padded(found.ids, found.lengths)
    assert labels[0].tolist().count(0) == 1
    assert labels[1].tolist() == [*ids[1, :3].tolist(), *[IGNORED] * 3]


def test_long_captions_keep_their_end_and_are_counted(clip: Clip) -> None:
    texts = ["cat", " ".join(["cat"] * 4), " ".join(["sun"] * 5), " ".join(["red"] * 30)]
    found = caption_ids(texts, clip, 6)
    assert found.shortened == 2
    assert found.lengths.tolist() == [3, 6, 6, 6]
    assert [row[length - 1] for row, length in zip(found.ids.tolist(), found.lengths.tolist(), strict=True)] == [
        clip.eos_id
    ] * 4
    assert clip.decode(found.ids[2]) == "sun sun sun sun"
    with pytest.raises(InputError, match="reads 16"):
        caption_ids(texts, clip, 17)
    with pytest.raises(InputError, match="at least 3"):
        caption_ids(texts, clip, 2)


def test_loss_is_the_mean_cross_entropy_of_the_real_tokens(recipe: DecapRecipe) -> None:
    recipe = changed(recipe, label_smoothing=0.1)
    batch = recipe.batch([0, 1, 2, 3], seed=0)
    model = recipe.model.eval()
    with torch.no_grad():
        found = recipe.loss(model, batch, step=0, indices=range(4))["loss"]
        log_p = model(batch["embeddings"], batch["ids"]).log_softmax(-1)
    losses = [
        -0.9 * log_p[row, place, label] - 0.1 * log_p[row, place].mean()
        for row, labels in enumerate(batch["labels"].tolist())
        for place, label in enumerate(labels)
        if label != IGNORED
    ]
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_noise_is_keyed_by_sample_and_of_the_asked_size(recipe: DecapRecipe) -> None:
    noisy = changed(recipe, noise_std=0.05)
    clean, one = recipe.batch([0, 1, 2], seed=0), noisy.batch([0, 1, 2], seed=0)
    assert torch.equal(one["embeddings"][1:2], noisy.batch([1], seed=0)["embeddings"])
    torch.testing.assert_close(one["embeddings"].norm(dim=-1), torch.ones(3))
    cosines = (clean["embeddings"] * one["embeddings"]).sum(-1)
    assert torch.all((cosines > 0.8) & (cosines < 0.99))  # about 1 / sqrt(1 + 64 * 0.05²) = 0.93
    assert not torch.equal(one["embeddings"], noisy.batch([0, 1, 2], seed=1)["embeddings"])


class Seen(torch.nn.Module):
    """Remembers the embeddings that it was to decode."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeddings: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        self.embeddings = embeddings
        return self.model(embeddings, *others)


def test_projected_training_reads_the_memory_without_the_own_entry(recipe: DecapRecipe) -> None:
    projected = changed(recipe, projected=True, temperature=0.02)
    batch = projected.batch([0, 1], seed=0)
    model = Seen(projected.model)
    projected.loss(model, batch, step=0, indices=[0, 1])
    memory = projected.memory.embeddings.double()
    logits = batch["embeddings"].double() @ memory.T / 0.02
    logits[[0, 1], batch["own_entry"]] = -torch.inf
    expected = F.normalize(logits.softmax(-1) @ memory, dim=-1)
    torch.testing.assert_close(model.embeddings.double(), expected, rtol=0, atol=1e-5)


def test_captions_outside_a_small_memory_have_no_entry_to_leave_out(recipe: DecapRecipe) -> None:
    small = changed(recipe, projected=True, memory_size=4)
    batch = small.batch(range(len(recipe.texts.train)), seed=0)
    own = [i for i in batch["own_entry"].tolist() if i >= 0]
    assert sorted(own) == [0, 1, 2, 3]
    assert batch["own_entry"].tolist().count(-1) == len(recipe.texts.train) - 4
    small.loss(small.model, batch, step=0, indices=range(len(recipe.texts.train)))["loss"].backward()
    assert all(p.grad is not None for p in small.model.parameters())


def test_embeddings_are_made_once(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_embeddings(CAPTIONS, clip, tmp_path)
    assert isinstance(first, np.memmap)
    assert first.dtype == np.float16
    torch.testing.assert_close(torch.tensor(first).float(), clip.embed_texts(CAPTIONS), rtol=0, atol=1e-3)
    monkeypatch.setattr(decap_data, "embed_texts", None)  # a second embedding would fail
    assert np.array_equal(cached_embeddings(CAPTIONS, clip, tmp_path), first)
    assert os.listdir(tmp_path) == [f"{decap_data.fingerprint(CAPTIONS, clip)}.npy"]


def test_other_texts_and_other_weights_have_other_embeddings(clip: Clip, tmp_path: Path) -> None:
    assert len({decap_data.fingerprint(texts, clip) for texts in (CAPTIONS, CAPTIONS[:-1], CAPTIONS[::-1])}) == 3
    path = tmp_path / f"{decap_data.fingerprint(CAPTIONS, clip)}.npy"
    np.save(path, np.zeros((len(CAPTIONS), 64), dtype=np.float16))  # as if the CLIP had been trained on since then
    rows = cached_embeddings(CAPTIONS, clip, tmp_path)
    torch.testing.assert_close(torch.tensor(rows).float(), clip.embed_texts(CAPTIONS), rtol=0, atol=1e-3)


def test_training_writes_a_decap_that_reproduces_captions(config: DecapTraining, clip: Clip, tmp_path: Path) -> None:
    loop = {**config.loop, "steps": 150, "batch_size": 15, "learning_rate": 1e-2}
    sizes = {**config.gpt2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = replace(config, loop=loop, gpt2=sizes)
    result = train_decap(config, tmp_path / "run", clip=clip)
    assert result.finished
    assert set(result.evaluation) >= {"loss", "token_accuracy", "exact_match", "exact_match_projected"}
    decap = Decap.from_pretrained(tmp_path / "run" / "model", clip=clip)
    texts = list(decap.memory.texts)  # type: ignore[union-attr]
    written = decap.describe_embeddings(clip.embed_texts(texts), strategy="vd")
    assert sum(one.text == text for one, text in zip(written, texts, strict=True)) >= 12  # of 15
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert (record["recipe"], record["steps"], record["settings"]["captions"]) == ("decap", 150, 15)


def test_resumed_training_equals_uninterrupted(config: DecapTraining, clip: Clip, tmp_path: Path) -> None:
    config = replace(config, noise_std=0.02, projected=True)
    train_decap(config, tmp_path / "whole", clip=clip)
    paused = train_decap(config, tmp_path / "parts", clip=clip, max_minutes=0)
    assert not paused.finished
    assert not (tmp_path / "parts" / "model").exists()
    assert train_decap(config, tmp_path / "parts", clip=clip, resume=True).finished
    weights = [(tmp_path / run / "model" / "decoder.safetensors").read_bytes() for run in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_captions_of_scenes_and_data_sets(tmp_path: Path) -> None:
    from datasets import Dataset

    options = {"number": 20, "seed": 0, "split": "train"}
    mixed = load_captions("scenes", styles={"short": 1.0, "loose": 1.0}, **options)  # type: ignore[arg-type]
    assert mixed == load_captions("scenes", styles={"short": 1.0, "loose": 1.0}, **options)  # type: ignore[arg-type]
    assert 15 <= len(mixed) == len(set(mixed)) <= 20
    with pytest.raises(InputError, match="styles"):
        load_captions("scenes", styles={"poetic": 1.0}, **options)  # type: ignore[arg-type]
    Dataset.from_dict({"text": ["a cat", "a dog", "a cat"]}).save_to_disk(str(tmp_path / "data"))
    found = load_captions(f"datasets:{tmp_path / 'data'}:text", styles={}, **options)  # type: ignore[arg-type]
    assert found == ["a cat", "a dog"]
    with pytest.raises(InputError, match="'datasets:NAME:COLUMN'"):
        load_captions("datasets:data", styles={}, **options)  # type: ignore[arg-type]


def test_bad_settings(config: DecapTraining, clip: Clip, tmp_path: Path) -> None:
    for name, value in (("noise_std", -1.0), ("label_smoothing", 1.0), ("validation", 0), ("memory_size", 0)):
        with pytest.raises(InputError, match=f"{name}={value}"):
            replace(config, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leaves 0 captions"):
        prepare_captions(replace(config, validation=100), clip, tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        prepare_captions(replace(config, source="missing.txt"), clip, tmp_path)


def test_the_shipped_settings_load() -> None:
    config = read_settings(DecapTraining, Path(str(files("textlens.scenes").joinpath("configs"))) / "decap-scenes.yaml")
    assert config.source == "scenes"
    assert config.projected

"""The recipe of the feature decoder."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch
from textlens.encoders.dediffusion.patch_grid import patch_grid
from textlens.errors import InputError
from textlens.scenes.source import SceneData
from textlens.train.dediffusion.feature_decoder import FeatureDecoder
from textlens.train.dediffusion.feature_training import FeatureDecoderRecipe
from textlens.train.engine.loop import train
from textlens.train.engine.run import run

from ..tiny_source import TinyData
from .tiny_features import feature_config
from .tiny_models import LOOP


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def make(folder, tmp_path):
    return lambda **changes: FeatureDecoderRecipe(feature_config(folder, **changes), tmp_path / "cache")


def figures(recipe, indices=range(4)):
    return recipe.loss(recipe.model, recipe.batch(indices, 0), step=0, indices=indices)


def test_the_denoiser_learns_and_all_else_stays(make):
    recipe = make()
    before = {name: tensor.clone() for name, tensor in recipe.decoder.state_dict().items()}
    optimizer = torch.optim.AdamW(recipe.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = figures(recipe, range(16))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    changed = {name for name, t in recipe.decoder.state_dict().items() if not torch.equal(t, before[name])}
    assert changed
    assert all(name.startswith("denoiser.") for name in changed)


def test_features_are_whitened_on_the_training_images(make):
    recipe = make(channels=4)
    latents = recipe.decoder.space(recipe.patches(range(40)))  # (40, 4, 2, 2)
    assert latents.shape == (40, 4, 2, 2)
    rows = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(rows @ rows.T / rows.shape[1], torch.eye(4), atol=1e-2, rtol=0)
    assert 0 < make(channels=2).variance_kept < recipe.variance_kept <= 1
    with pytest.raises(InputError, match="channels is 1000"):
        make(channels=1000)


def test_kept_features_are_those_of_the_images(make):
    kept, fresh = make(), make(cache_features=False)
    batch = kept.batch([3, 7], 0)
    pixels = fresh.batch([3, 7], 0)
    assert set(batch) == {"ids", "patches"}
    assert torch.equal(batch["ids"], pixels["ids"])
    with torch.no_grad():
        seen = patch_grid(fresh.decoder.clip, pixels["pixels"], 2)
        torch.testing.assert_close(batch["patches"], seen, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(fresh.decoder.encode_images(pixels["pixels"]), fresh.decoder.space(seen))
    assert figures(fresh)["loss"].isfinite()


def test_a_source_without_end_is_encoded_in_each_step(make):
    recipe = make(data=SceneData(), statistics_images=70, text_encoder=make().config.text_encoder)
    assert figures(recipe)["loss"].isfinite()


def test_texts_are_captions_loose_words_or_nothing(make):
    def texts(**changes):
        recipe = make(**changes)
        sample = recipe.source.sample(0, 0)
        return sample, [recipe.text(sample, random.Random(seed)) for seed in range(60)]

    sample, one = texts(loose_words=0, text_dropout=0)
    assert set(one) == {sample.text}
    sample, joined = texts(loose_words=0, text_dropout=0, texts="joined")
    assert len(set(joined)) == 6  # the orders of three captions
    assert all(caption in text for text in joined for caption in sample.texts)
    sample, loose = texts(loose_words=0.99, text_dropout=0, max_words=3)
    written = {word for text in loose if text != sample.text for word in text.split() if word.isalpha()}
    colour = sample.texts[1].split()[0]
    assert {colour, "number", "picture", "is", "this"} <= written <= {colour, "number", "picture", "is", "this", "a"}
    assert {len(text.split()) for text in loose if text != sample.text} == {1, 2, 3}
    _, dropped = texts(text_dropout=0.5)
    assert 15 < dropped.count("") < 45


def test_evaluation_compares_texts_of_held_out_images(make, monkeypatch):
    recipe = make()
    monkeypatch.setattr(recipe.source, "read", None)  # no training item is touched
    recipe.model.eval()
    found = recipe.evaluate(recipe.model)
    assert found == recipe.evaluate(recipe.model)
    kinds = ("loss", "words_gap", "text_gap", "empty_gap")
    assert set(found) == {*kinds, *(f"{kind}_{t}" for kind in kinds for t in (200, 500, 800, 950))}
    monkeypatch.undo()
    recipe = make()
    monkeypatch.setattr(recipe.source, "held_out", lambda number: [])
    assert recipe.evaluate(recipe.model) == {}


def test_a_resumed_run_ends_with_the_same_weights(folder, tmp_path):
    config = feature_config(folder, loop=LOOP | {"steps": 4, "save_every": 1})
    whole = FeatureDecoderRecipe(config, tmp_path / "cache")
    train(whole, config.loop, tmp_path / "whole")
    train(FeatureDecoderRecipe(config, tmp_path / "cache"), config.loop, tmp_path / "parts", max_minutes=0)
    resumed = FeatureDecoderRecipe(config, tmp_path / "cache")
    assert train(resumed, config.loop, tmp_path / "parts", resume=True).finished
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_run_leaves_a_decoder_and_its_words(folder, tmp_path):
    config = feature_config(folder, content_word_count=1)
    assert run(FeatureDecoderRecipe, config, tmp_path / "run").finished
    model = tmp_path / "run" / "model"
    assert FeatureDecoder.from_pretrained(model).config.grid == 2
    assert (model / "words.txt").read_text().split()[:2] == ["number", "a"]
    content = (model / "content-words.txt").read_text().split()
    assert {"number", "picture"} <= set(content)
    assert not {"a", "is", "this"} & set(content)
    record = json.loads((model / "training.json").read_text())
    assert 0 < record["settings"]["variance_kept"] < 1
    assert "empty_gap_800" in record["final_metrics"]["validation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": 4}, "cannot be averaged to 4 x 4"),
        ({"max_tokens": 41}, "max_tokens is 41; expected 3 to 40"),
        ({"text_encoder": "no/where/at/all"}, "does not load as a text encoder"),
        ({"denoiser": {"in_channels": 3}}, "the settings of denoiser say {'in_channels': 3}"),
        ({"denoiser": {"layers": 3}}, "diffusers cannot build"),
        ({"timestep_range": (900, 100)}, "timestep_range"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_the_denoiser_is_a_function_of_the_seed(make, folder):
    torch.manual_seed(1)
    one = make().model.state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(tensor, one[name]) for name, tensor in make().model.state_dict().items())
    other = make(loop=dataclasses.replace(feature_config(folder).loop, seed=1)).model.state_dict()
    assert any(not torch.equal(tensor, one[name]) for name, tensor in other.items())


def test_unreadable_images_are_left_out(make):
    recipe = make(data=TinyData(size=40, bad=(2,), max_bad=0.1))
    assert len(recipe.batch(range(40), 0)["patches"]) == 40
    assert set(recipe.source.take_skipped()) == {"tiny/002.png: damaged"}

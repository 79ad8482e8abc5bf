"""A diffusion model of image features as De-Diffusion's decoder."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion
from textlens.errors import InputError
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.dediffusion.dediffusion_config import DediffusionTraining
from textlens.train.dediffusion.feature_decoder import FeatureDecoder
from textlens.train.dediffusion.feature_training import FeatureDecoderRecipe
from textlens.train.dediffusion.soft_tokens import mix
from textlens.train.engine.run import run

from ..tiny_source import TinyData
from .tiny_features import feature_config
from .tiny_models import LOOP, SIZES

TEXTS = ["red picture", "this is a blue picture number 7"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the models: clip, bert, decoder."""
    folder = tmp_path_factory.mktemp("models")
    recipe = FeatureDecoderRecipe(feature_config(folder), folder / "cache")
    torch.nn.init.normal_(recipe.model.proj_out.weight, generator=torch.Generator().manual_seed(0))
    recipe.save(folder / "decoder")
    return folder


@pytest.fixture(scope="module")
def decoder(folder):
    return FeatureDecoder.from_pretrained(folder / "decoder")


@pytest.fixture
def config(folder):
    return DediffusionTraining(
        decoder=str(folder / "decoder"),
        clip=str(folder / "clip"),
        encoder=SIZES | {"grid": 2},
        data=TinyData(),
        cache_patches=True,
        loop=LOOP,
        validation_images=6,
    )


def test_the_folder_names_its_models_by_relative_paths(folder, decoder, tmp_path):
    saved = json.loads((folder / "decoder" / "config.json").read_text())
    assert (saved["clip"], saved["text_encoder"]) == ("../clip", "../bert")
    shutil.copytree(folder, tmp_path / "moved")
    moved = FeatureDecoder.from_pretrained(tmp_path / "moved" / "decoder")
    assert all(torch.equal(tensor, moved.state_dict()[name]) for name, tensor in decoder.state_dict().items())
    assert not any(p.requires_grad for p in decoder.parameters())


def test_words_are_read_alike_as_text_ids_and_soft_words(decoder):
    ids = decoder.reader.tokenize(TEXTS[:1])[:, 1:-1]
    hidden = decoder.encode_ids(ids)
    torch.testing.assert_close(decoder.encode_soft(decoder.token_embeddings[ids]), hidden)
    one_hot = torch.nn.functional.one_hot(ids, len(decoder.token_embeddings)).float()
    torch.testing.assert_close(decoder.encode_soft(mix(one_hot, decoder.token_embeddings)), hidden)
    texts = decoder.encode_texts(TEXTS)
    assert texts.shape == (2, 16, 16)
    torch.testing.assert_close(texts[:1, :4], hidden)
    assert not texts[0, 4:].any()
    with pytest.raises(InputError, match=r"15 words do not fit .* at most 14"):
        decoder.encode_ids(ids[:, :1].expand(1, 15))


def test_the_loss_depends_on_the_words_and_not_on_padding(decoder):
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 2, 6, 2, 2, generator=generator)
    timesteps = torch.tensor([700, 900])
    with torch.no_grad():
        found = decoder.loss(latents, noise, timesteps, decoder.encode_texts(TEXTS))
        alone = [
            decoder.loss(latents[i : i + 1], noise[i : i + 1], timesteps[i : i + 1], decoder.encode_ids(ids))
            for i, text in enumerate(TEXTS)
            for ids in [decoder.reader.tokenize([text])[:, 1:-1]]
        ]
        other = decoder.loss(latents, noise, timesteps, decoder.encode_texts(TEXTS[::-1]))
    torch.testing.assert_close(found, torch.cat(alone))
    assert (found - other).abs().min() > 1e-5


def test_the_gradient_of_the_loss_reaches_every_soft_word(decoder):
    embeddings = decoder.token_embeddings[decoder.reader.tokenize(TEXTS[:1])[:, 1:-1]].clone().requires_grad_()
    latents, noise = torch.randn(2, 1, 6, 2, 2, generator=torch.Generator().manual_seed(1))
    decoder.loss(latents, noise, torch.tensor([700]), decoder.encode_soft(embeddings)).sum().backward()
    assert embeddings.grad.abs().sum(-1).min() > 0


@pytest.mark.parametrize("changes", [{}, {"hard": True}, {"continuous": True}, {"cache_patches": False}])
def test_an_encoder_learns_its_words_from_it(config, tmp_path, changes):
    values = {name: getattr(config, name) for name in config.__dataclass_fields__} | changes
    recipe = DediffusionRecipe(DediffusionTraining(**values), tmp_path / "cache")
    before = {name: tensor.clone() for name, tensor in recipe.decoder.state_dict().items()}
    batch = recipe.batch(range(4), 0)
    assert set(batch) == {"latents", "patches" if values["cache_patches"] else "pixels"}
    recipe.loss(recipe.model, batch, step=0, indices=range(4))["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in recipe.model.parameters() if p.requires_grad)
    assert all(torch.equal(tensor, before[name]) for name, tensor in recipe.decoder.state_dict().items())
    assert all(p.grad is None for p in recipe.decoder.parameters())


def test_kept_patches_give_the_logits_of_the_pixels(config, tmp_path):
    recipe = DediffusionRecipe(config, tmp_path / "cache")
    pixels = recipe.clip.pixels([sample.image for sample in recipe.source.samples(range(4), 0)])
    with torch.no_grad():
        kept, fresh = recipe.model(patches=recipe.batch(range(4), 0)["patches"]), recipe.model(pixels)
    torch.testing.assert_close(kept, fresh, atol=2e-2, rtol=2e-2)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1  # what the decoder keeps, too


def test_a_run_leaves_an_encoder_that_needs_no_decoder(config, folder, tmp_path):
    words = str(folder / "decoder" / "words.txt")
    config = DediffusionTraining(**{n: getattr(config, n) for n in config.__dataclass_fields__} | {"words": words})
    shutil.copytree(folder / "clip", tmp_path / "clip")
    result = run(DediffusionRecipe, config, tmp_path / "run")
    assert {"diffusion", "diffusion_with_other_words", "diffusion_without_words"} <= set(result.evaluation)
    encoder = Dediffusion.from_pretrained(tmp_path / "run" / "model")
    photo = TinyData().open().held_out(1)[0].image
    (found,) = encoder.describe([photo])
    assert len(found.tokens) == 5
    assert set(found.tokens) <= set((folder / "decoder" / "words.txt").read_text().split())


def test_what_is_missing_or_does_not_fit_is_refused(folder, tmp_path):
    def broken(change):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "copy")
        change(tmp_path / "copy")
        return FeatureDecoder.from_pretrained(tmp_path / "copy" / "decoder")

    def cut(path):
        save_file(dict(list(load_file(path).items())[1:]), path)

    for change, message in (
        (lambda copy: shutil.rmtree(copy / "clip"), r"the CLIP of the feature decoder .* is missing"),
        (lambda copy: shutil.rmtree(copy / "bert"), "does not load as a text encoder"),
        (lambda copy: shutil.rmtree(copy / "decoder" / "denoiser"), "does not load as a feature decoder"),
        (lambda copy: shutil.rmtree(copy / "decoder" / "scheduler"), "does not load as a feature decoder"),
        (lambda copy: cut(copy / "decoder" / "space.safetensors"), "does not fit"),
        (lambda copy: cut(copy / "decoder" / "denoiser" / "diffusion_pytorch_model.safetensors"), "does not fit"),
        (lambda copy: cut(copy / "bert" / "model.safetensors"), "lacks 1 weights"),
    ):
        with pytest.raises(InputError, match=message):
            broken(change)


def test_settings_that_do_not_go_with_kept_patches(config):
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    with pytest.raises(InputError, match="keeps no pixels"):
        DediffusionTraining(**values | {"clip_weight": 1.0})
    with pytest.raises(InputError, match="of one crop"):
        DediffusionTraining(**values | {"cache_latents": False})

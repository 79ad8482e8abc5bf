"""SDXL as the frozen decoder: what it reads and predicts is what diffusers' own pipeline does."""

from __future__ import annotations

import pytest
import torch
from textlens.encoders.redraw.redrawer import Redrawer
from textlens.encoders.redraw.stable_diffusion import load_pipeline
from textlens.train.dediffusion.dediffusion import load_decoder
from textlens.train.dediffusion.sdxl_decoder import SDXLDecoder

from ...pipelines import tiny_sdxl_pipeline

TEXTS = ["red star", "a large blue moon at the top left", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_sdxl_pipeline(tmp_path_factory.mktemp("sdxl") / "pipeline")


@pytest.fixture(scope="module")
def decoder(folder):
    return load_decoder(str(folder))


@pytest.fixture(scope="module")
def pipeline(folder):
    return load_pipeline(folder)


def test_texts_are_read_as_the_pipeline_reads_them(decoder, pipeline):
    assert isinstance(decoder, SDXLDecoder)
    tokens, _, pooled, _ = pipeline.encode_prompt(TEXTS, do_classifier_free_guidance=False)
    states = decoder.encode_texts(TEXTS)
    torch.testing.assert_close(states[:, :-1], tokens)
    torch.testing.assert_close(states[:, -1, :20], pooled)
    assert not states[:, -1, 20:].any()
    assert len(pooled.unique(dim=0)) == len(TEXTS)


def test_words_and_soft_words_are_read_as_texts_are(decoder):
    ids = torch.tensor([decoder.tokenizer(TEXTS[0], add_special_tokens=False).input_ids])
    expected = decoder.encode_texts(TEXTS[:1])
    torch.testing.assert_close(decoder.encode_ids(ids), expected)
    torch.testing.assert_close(decoder.encode_soft(decoder.token_embeddings[ids]), expected)


def test_the_loss_is_of_the_pipelines_own_prediction(decoder, pipeline):
    tokens, _, pooled, _ = pipeline.encode_prompt(TEXTS[:2], do_classifier_free_guidance=False)
    torch.manual_seed(0)
    latents, noise, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).expand(2, -1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    noised = decoder.scheduler.add_noise(latents, noise, timesteps)
    predicted = pipeline.unet(noised, timesteps, tokens, added_cond_kwargs=added).sample
    expected = (predicted - noise).square().flatten(1).mean(1)
    states = decoder.encode_texts(TEXTS[:2])
    torch.testing.assert_close(decoder.loss(latents, noise, timesteps, states), expected)
    states[:, -1] = 0
    assert (decoder.loss(latents, noise, timesteps, states) - expected).abs().min() > 1e-6  # the pooled text counts


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True, "frozen_weights": "bf16"}])
def test_the_gradient_reaches_the_encoder(make, folder, changes):
    recipe = make(decoder=str(folder), **changes)
    loss = recipe.loss(recipe.model, recipe.batch(range(2), 0), step=0, indices=range(2))["loss"]
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in recipe.model.parameters() if p.requires_grad)
    assert recipe.evaluate(recipe.model)["diffusion"] > 0


def test_it_draws(folder):
    images = Redrawer.from_pretrained(folder).draw(TEXTS[:2], num_inference_steps=1)
    assert [image.size for image in images] == [(64, 64)] * 2

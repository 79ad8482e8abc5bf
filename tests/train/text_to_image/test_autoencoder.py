"""The autoencoder on tiny settings: it trains, its latents have unit variance, and diffusers reads what it writes."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from textlens.errors import InputError
from textlens.scenes.source import SceneData
from textlens.train.data.pixels import pixels, random_square
from textlens.train.engine.run import run
from textlens.train.text_to_image.autoencoder import AutoencoderConfig, AutoencoderRecipe, latent_factor, psnr

from ..tiny_source import TinyData, TinySource

VAE = {
    "sample_size": 16,
    "latent_channels": 2,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}
LOOP = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "save_every": 2, "num_workers": 0}
CONFIG = AutoencoderConfig(vae=VAE, loop=LOOP, data=TinyData(), validation_images=5)


@pytest.mark.parametrize("data", [SceneData(), TinyData()])
def test_finished_run_leaves_a_diffusers_folder_with_latents_of_unit_variance(data, tmp_path):
    config = replace(CONFIG, data=data)
    result = run(AutoencoderRecipe, config, tmp_path / "run")
    vae = AutoencoderKL.from_pretrained(tmp_path / "run" / "model")
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert record["recipe"] == "autoencoder"
    assert record["steps"] == 4
    assert result.evaluation["psnr"] > 0
    images = AutoencoderRecipe(config, tmp_path).batch(range(512), 0)
    latents = vae.encode(images).latent_dist.mean * vae.config.scaling_factor
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    assert latents.shape == (512, 2, 8, 8)
    assert latent_factor(vae) == 2


def test_training_lowers_the_error(tmp_path):
    longer = replace(CONFIG, loop={**LOOP, "steps": 40, "save_every": 40})
    before = AutoencoderRecipe(CONFIG, tmp_path)
    batch = before.batch(range(16), 0)
    with torch.no_grad():
        start = before.loss(before.model, batch, step=0, indices=range(16))["squared_error"]
    result = run(AutoencoderRecipe, longer, tmp_path / "run")
    assert result.metrics["squared_error"] < start / 2


def test_resumed_training_equals_uninterrupted(tmp_path):
    run(AutoencoderRecipe, CONFIG, tmp_path / "whole")
    assert not run(AutoencoderRecipe, CONFIG, tmp_path / "parts", max_minutes=0).finished
    assert run(AutoencoderRecipe, CONFIG, tmp_path / "parts", resume=True).finished
    name = "model/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


@torch.no_grad()
def test_evaluation_is_of_held_out_images(tmp_path):
    recipe = AutoencoderRecipe(CONFIG, tmp_path)
    images = pixels([sample.image for sample in recipe.source.held_out(5)], 16)
    expected = psnr(recipe.vae.decode(recipe.vae.encode(images).latent_dist.mean).sample, images).mean()
    assert recipe.evaluate(recipe.model) == {"psnr": pytest.approx(float(expected), abs=1e-3)}


def test_texts_are_not_asked_for(tmp_path):
    class Images(TinyData):
        def open(self, *, image_size: int = 0, texts: bool = True) -> TinySource:
            assert not texts
            return TinySource(self)

    assert AutoencoderRecipe(replace(CONFIG, data=Images()), tmp_path).batch([0, 1], 0).shape == (2, 3, 16, 16)


def test_psnr_of_known_errors():
    images = torch.zeros(2, 3, 4, 4)
    found = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 5.0)])  # the second is clamped to 1
    assert psnr(found, images).tolist() == pytest.approx([20.0, 6.0206], abs=1e-3)


def test_pixels_cut_the_centre_square():
    wide = Image.new("RGB", (30, 10), "red")
    wide.paste("white", (10, 0, 20, 10))
    values = pixels([wide, Image.new("L", (10, 10), 0)], 10)
    assert values.shape == (2, 3, 10, 10)
    assert values[0].min() == 1
    assert values[1].max() == -1


def test_random_squares_cover_a_share_of_the_largest_and_lie_anywhere():
    ramp = Image.fromarray(np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) // 10 % 256).convert("L")
    squares = [random_square(ramp, (0.25, 0.81), random.Random(seed)) for seed in range(200)]
    sides = {square.width for square in squares}
    assert all(square.width == square.height for square in squares)
    assert (min(sides), max(sides)) == (20, 36)
    assert len({square.tobytes() for square in squares}) > 100
    assert random_square(ramp, (1.0, 1.0), random.Random(0)).size == (40, 40)


def test_settings_without_a_size_are_refused():
    with pytest.raises(InputError, match="sample_size"):
        replace(CONFIG, vae={"latent_channels": 2})

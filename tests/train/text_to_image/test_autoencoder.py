"""The autoencoder on tiny settings: it trains, its latents have unit variance, and diffusers reads what it writes."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from textlens.errors import InputError
from textlens.train.data.pixels import pixels
from textlens.train.text_to_image.autoencoder import (
    AutoencoderConfig,
    AutoencoderRecipe,
    latent_factor,
    psnr,
    train_autoencoder,
)

VAE = {
    "sample_size": 16,
    "latent_channels": 2,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}
LOOP = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "save_every": 4, "num_workers": 0}


def test_finished_run_leaves_a_diffusers_folder_with_latents_of_unit_variance(tmp_path):
    result = train_autoencoder(AutoencoderConfig(VAE, LOOP), tmp_path / "run")
    vae = AutoencoderKL.from_pretrained(tmp_path / "run" / "model")
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert record["recipe"] == "autoencoder"
    assert record["steps"] == 4
    assert result.evaluation["psnr"] > 0
    images = AutoencoderRecipe(AutoencoderConfig(VAE, LOOP)).batch(range(512), 0)
    latents = vae.encode(images).latent_dist.mean * vae.config.scaling_factor
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    assert latents.shape == (512, 2, 8, 8)
    assert latent_factor(vae) == 2


def test_training_lowers_the_error(tmp_path):
    longer = {**LOOP, "steps": 40, "save_every": 40}
    before = AutoencoderRecipe(AutoencoderConfig(VAE, LOOP))
    batch = before.batch(range(16), 0)
    with torch.no_grad():
        start = before.loss(before.model, batch, step=0, indices=range(16))["squared_error"]
    result = train_autoencoder(AutoencoderConfig(VAE, longer), tmp_path / "run")
    assert result.metrics["squared_error"] < start / 2


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


def test_settings_without_a_size_are_refused(tmp_path):
    with pytest.raises(InputError, match="sample_size"):
        train_autoencoder(AutoencoderConfig({"latent_channels": 2}, LOOP), tmp_path)

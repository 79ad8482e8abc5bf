"""The settings in `configs/` themselves; `sd2-coca-l14.yaml` at reduced widths."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip import get_model_config
from textlens.encoders.clip.clip import Clip
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion
from textlens.encoders.registry import WEIGHTS
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.dediffusion.dediffusion_config import DediffusionTraining
from textlens.train.dediffusion.feature_training import FeatureDecoderTraining
from textlens.train.dediffusion.frozen_decoder import FrozenDecoder
from textlens.train.engine.run import run
from textlens.train.engine.settings import parse, read_stages
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..tiny_source import TinyData
from .tiny_models import save_clip

# The real configuration, block by block, at a reduced width.
UNET = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [8, 16, 32, 32], "attention_head_dim": [1, 2, 4, 4], "use_linear_projection": True,
    "cross_attention_dim": 32, "norm_num_groups": 4,
}  # fmt: skip
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [4, 4, 8, 8], "layers_per_block": 2, "norm_num_groups": 4, "sample_size": 64,
    "scaling_factor": 0.18215,
}  # fmt: skip
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True,
    "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "epsilon",
}  # fmt: skip


def save_stable_diffusion_2(folder):
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "scenes" / "coca", model_max_length=77)
    tokenizer.pad_token = "!"  # as in Stable Diffusion 2
    text = CLIPTextConfig(
        vocab_size=1920, hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
        hidden_act="gelu", projection_dim=16, max_position_embeddings=77, bos_token_id=1918, eos_token_id=1919,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(**VAE), text_encoder=CLIPTextModel(text), tokenizer=tokenizer,
        unet=UNet2DConditionModel(**UNET), scheduler=PNDMScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def save_coca_l14(folder):
    model = get_model_config("coca_ViT-L-14")
    tower = {"vocab_size": 1920, "width": 32, "heads": 2, "layers": 1}
    model["embed_dim"] = 32
    model["vision_cfg"] |= {"image_size": 28, "layers": 2, "width": 64, "head_width": 32}
    model["text_cfg"] |= tower | {"hf_tokenizer_name": "local"}
    model["multimodal_cfg"] |= tower | {"attn_pooler_heads": 2}
    save_clip(model, folder)


def test_three_steps_of_the_real_configuration(tmp_path):
    """Widths, folders, data and the number of samples are all that is changed."""
    save_stable_diffusion_2(tmp_path / "decoder")
    save_coca_l14(tmp_path / "clip")
    real = yaml.safe_load((files("textlens.configs") / "sd2-coca-l14.yaml").read_text())
    parse(DediffusionTraining, real)
    small = {"steps": 3, "batch_size": 4, "accumulation": 2, "warmup_steps": 1, "num_workers": 0}
    config = DediffusionTraining(
        **real | {
            "decoder": str(tmp_path / "decoder"), "clip": str(tmp_path / "clip"), "data": TinyData(),
            "encoder": real["encoder"] | {"width": 32, "heads": 2}, "loop": real["loop"] | small,
            "validation_images": 2,
        }
    )  # fmt: skip
    result = run(DediffusionRecipe, config, tmp_path / "run")
    assert (result.finished, result.step) == (True, 3)
    assert result.metrics["loss"] == pytest.approx(1.0, abs=0.5)  # a random U-Net against unit noise
    photo = TinyData().open(image_size=64).held_out(1)[0].image
    assert len(Dediffusion.from_pretrained(tmp_path / "run" / "model").describe([photo])[0].tokens) == 75
    decoder = FrozenDecoder.from_pretrained(tmp_path / "decoder")
    frame = decoder.tokenizer("star", padding="max_length").input_ids
    assert frame[3:] == [0] * 74
    assert Clip.from_pretrained(tmp_path / "clip").model.visual.attn_pool is not None


def test_the_settings_for_photographs_are_read(tmp_path):
    config = files("textlens.configs") / "photo-feature-decoder.yaml"
    decoder = parse(FeatureDecoderTraining, yaml.safe_load(config.read_text()))
    assert (decoder.grid, decoder.channels) == (3, 128)
    stages = read_stages(files("textlens.configs") / "photo-dediffusion.yaml", tmp_path / "run")
    first, second, third = (parse(DediffusionTraining, {**stage.values, "words": ["dog", "grass"]}) for stage in stages)
    assert first.encoder.grid == decoder.grid  # so that both read one cache
    folders = [str(tmp_path / "run" / name / "model") for name in ("stage-1", "stage-2")]
    assert [first.start, second.start, third.start] == [None, *folders]
    assert first.tau_end == second.tau_start
    assert third.distinct

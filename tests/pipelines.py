"""A Stable Diffusion pipeline of random weights that loads in a moment, with the project's own tokenizer.

The tokenizer is read from `weights/scenes/coca`, since learning its merges anew takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from textlens.encoders.registry import WEIGHTS
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WIDTH = 16  # of the text encoder
LATENT_CHANNELS = 4


def tiny_components(*, prediction_type: str = "v_prediction", seed: int = 0) -> dict[str, Any]:
    """The parts of a pipeline for 64 px images with 4x8x8 latents, all random but for the tokenizer; 0.3M weights."""
    tokenizer: Any = CLIPTokenizer.from_pretrained(WEIGHTS / "scenes" / "coca")
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=tokenizer.model_max_length,
                pad_token_id=tokenizer.pad_token_id,
                **ids,
            )
        )
        # At the usual spread of 0.02 every text looks alike to the U-Net, and no test could tell words apart.
        text_encoder.get_input_embeddings().weight.data.normal_()
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 16),
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.5,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=8,
            cross_attention_dim=WIDTH,
        )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    parts = {"tokenizer": tokenizer, "text_encoder": text_encoder, "vae": vae, "unet": unet, "scheduler": scheduler}
    return {name: part.eval() if isinstance(part, torch.nn.Module) else part for name, part in parts.items()}


def tiny_pipeline(folder: Path, *, prediction_type: str = "v_prediction", seed: int = 0) -> Path:
    """Save such a pipeline in `folder`, as `StableDiffusionPipeline.from_pretrained` reads it; returns `folder`."""
    parts = tiny_components(prediction_type=prediction_type, seed=seed)
    pipeline = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_sdxl_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """The same with SDXL's parts: two text encoders of 16 and 24, whose second pools a text to 20; epsilon prediction.

    The second tokenizer pads with a word, as SDXL's does with "!".
    """
    parts = tiny_components(prediction_type="epsilon", seed=seed)
    second = CLIPTokenizer.from_pretrained(WEIGHTS / "scenes" / "coca")
    second.pad_token = second.convert_ids_to_tokens(0)
    # Transformers pools at the highest id where the end of a text is said to be 2, as in SDXL's own configuration.
    config = parts["text_encoder"].config.to_dict() | {"num_hidden_layers": 2, "eos_token_id": 2, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        text_encoder = CLIPTextModel(CLIPTextConfig(**config))
        wider = config | {"hidden_size": 24, "intermediate_size": 48, "projection_dim": 20}
        text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**wider))
        for one in (text_encoder, text_encoder_2):
            one.get_input_embeddings().weight.data.normal_()
        chosen = {name: value for name, value in parts["unet"].config.items() if name[0] != "_"}
        unet = UNet2DConditionModel(
            **chosen
            | {"cross_attention_dim": 16 + 24, "addition_embed_type": "text_time", "addition_time_embed_dim": 8}
            | {"projection_class_embeddings_input_dim": 20 + 6 * 8}
        )
    texts = {"text_encoder": text_encoder.eval(), "text_encoder_2": text_encoder_2.eval(), "tokenizer_2": second}
    pipeline = StableDiffusionXLPipeline(**parts | texts | {"unet": unet.eval()}, add_watermarker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder

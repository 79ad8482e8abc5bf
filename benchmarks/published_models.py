"""Published architectures at their true sizes, with random weights, saved in the published formats."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip.tokenizer import bytes_to_unicode
from textlens.encoders.clip.clip import Clip
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_MERGES = 49_152 - 256 - 2  # CLIP's own


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's 49,408 tokens, of the vocabulary file in open_clip, padded with "!" as Stable Diffusion 2 does."""
    path = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges: Any = [tuple(line.split()) for line in lines[1 : 1 + _MERGES]]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{one}</w>" for one in letters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="!", model_max_length=77)


def stable_diffusion_2_base() -> StableDiffusionPipeline:
    """The configurations of stable-diffusion-2-base: U-Net of 866M weights, text encoder of 340M, VAE of 84M."""
    tokenizer: Any = clip_tokenizer()
    down, up = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=64,
            down_block_types=(*down, "DownBlock2D"),
            up_block_types=("UpBlock2D", *up),
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=23,
                num_attention_heads=16,
                hidden_act="gelu",
                projection_dim=512,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=768,
        )
    scheduler = PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )


def save_stable_diffusion(folder: Path) -> None:
    """In fp16: 2.6 GB."""
    if not (folder / "model_index.json").is_file():
        pipeline: Any = stable_diffusion_2_base()
        pipeline.to(torch.float16).save_pretrained(folder)


def save_coca(folder: Path) -> None:
    """CoCa ViT-L/14 in fp16: 1.3 GB."""
    if not (folder / "open_clip_config.json").is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            Clip.from_config("coca_ViT-L-14").save_pretrained(folder, dtype=torch.float16)

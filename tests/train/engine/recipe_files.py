"""A settings file for every recipe of the registry, with tiny models and two shards of captioned pictures."""

from __future__ import annotations

from pathlib import Path

import yaml
from textlens.train.coca import new_clip

from ...pipelines import tiny_pipeline
from ..captions.captioned_data import write_shards, write_synthetic
from ..data.test_latents import tiny_vae
from ..dediffusion.tiny_features import save_text_encoder, save_tower
from ..dediffusion.tiny_models import COCA, SIZES, save_clip
from ..tiny_coca import MODEL, TOKENIZER

# Unclipped gradients through Adam, whose second moments would show any factor.
LOOP = {"steps": 3, "batch_size": 8, "accumulation": 2, "learning_rate": 1e-3, "gradient_clip": None}
LOOP |= {"log_every": 1, "num_workers": 1}
VAE = {
    "sample_size": 16, "latent_channels": 2, "block_out_channels": [8, 8], "norm_num_groups": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    "mid_block_add_attention": False,
}  # fmt: skip
UNET = {
    "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "layers_per_block": 1, "attention_head_dim": 2,
    "norm_num_groups": 4,
}  # fmt: skip
TOWER = {"width": 32, "layers": 1}
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "head_width": 16, **TOWER},
    "text_cfg": {"context_length": 64, "vocab_size": 1920, "heads": 2, "hf_tokenizer_name": "local", **TOWER},
}
DENOISER = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
LLAMA = {
    "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip
WITHOUT_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # drawn anew in each process


def write_recipe_files(folder: Path) -> None:
    """`folder`/NAME.yaml for each recipe NAME, and what it needs."""
    shards = write_shards(folder)
    synthetic = write_synthetic(folder / "synthetic")
    data = {"source": shards, "text": "json:captions", "held_out_share": 0.2}
    blend = {"captions": synthetic, "style": "short", "share": 0.5}
    tiny_pipeline(folder / "decoder")
    tiny_vae().save_pretrained(folder / "vae")
    save_clip(COCA, folder / "coca-clip")
    save_clip(CLIP, folder / "clip")
    save_tower(folder / "tower")
    save_text_encoder(folder / "bert")
    new_clip(MODEL, 0, tokenizer=TOKENIZER).save_pretrained(folder / "coca")
    recipes = {
        "autoencoder": {"vae": VAE, "validation_images": 4},
        "captioner": {"start": "coca", "style": "short", "data": {**data, "blend": blend}},
        "clip": {"start": "clip", "lock_text": False, "views": 2, "validation_images": 4},
        "coca": {"model": MODEL, "tokenizer": TOKENIZER, "word_weight": 0.5, "validation_images": 4},
        "decap": {"clip": "clip", "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, **WITHOUT_DROPOUT}},
        "dediffusion": {"decoder": "decoder", "clip": "coca-clip", "encoder": SIZES, "validation_images": 4,
                        "entropy_weight": 0.5, "information_weight": 0.5},
        "feature-decoder": {
            "clip": "tower", "text_encoder": "bert", "max_tokens": 16, "grid": 2, "channels": 6, "word_count": 2,
            "content_word_count": 2, "denoiser": DENOISER, "validation_images": 4,
        },
        "language-model": {"llama": LLAMA, "vocab_size": 400, "tokenizer_prompts": 50, "validation": 1},
        "self-critical": {"start": "coca", "trained": ["decoder", "text"], "drawn": 3, "caption_weight": 0.1,
                          "validation_images": 4},
        "text-to-image": {"clip": "coca-clip", "autoencoder": "vae", "unet": UNET, "validation_images": 4},
    }  # fmt: skip
    paths = ("start", "clip", "decoder", "autoencoder", "text_encoder")
    for name, settings in recipes.items():
        settings |= {key: str(folder / settings[key]) for key in paths if key in settings}
        given = {"loop": LOOP, **({} if name == "language-model" else {"data": data}), **settings}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(given))

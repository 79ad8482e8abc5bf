"""A CoCa of random weights and small settings, for De-Diffusion's tests."""

from __future__ import annotations

import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.registry import WEIGHTS

TOWER = {"context_length": 64, "vocab_size": 1920, "width": 32, "heads": 2, "layers": 1}
COCA = {
    "embed_dim": 32,
    "pad_id": 1917,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16, "output_tokens": True,
    },
    "text_cfg": TOWER | {"hf_tokenizer_name": "local", "pad_id": 1917, "eos_id": 1919, "output_tokens": True},
    "multimodal_cfg": TOWER | {"attn_pooler_heads": 2},
}  # fmt: skip
SIZES = {"num_queries": 5, "depth": 2, "width": 32, "heads": 2}
LOOP = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "num_workers": 0, "save_every": 3}


def save_clip(model, folder):
    """Random weights; the tokenizer of `weights/scenes/coca`, which takes seconds to build anew."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Clip.from_config(model, tokenizer_folder=WEIGHTS / "scenes" / "coca").save_pretrained(folder)

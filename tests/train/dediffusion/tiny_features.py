"""A tiny CLIP with a tower of timm and a tiny BERT, both of random weights, for the feature decoder's tests."""

from __future__ import annotations

import torch
from textlens.encoders.clip.clip import Clip
from textlens.train.dediffusion.feature_training import FeatureDecoderTraining
from transformers import BertConfig, BertModel, BertTokenizer

from ..tiny_source import COLOURS, TinyData
from .tiny_models import LOOP

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 96}
WORDS = [*COLOURS, "a", "is", "number", "picture", "this", "##s", ",", *"0123456789", *(f"##{i}" for i in range(10))]


def save_tower(folder):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT, "custom_text": True}
        clip = Clip.from_config(config)
        clip.save_pretrained(folder)


def save_text_encoder(folder):
    folder.mkdir(parents=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *WORDS]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        model = BertModel(BertConfig(vocab_size=len(special) + len(WORDS), max_position_embeddings=40, **sizes))
        model.embeddings.word_embeddings.weight.data.normal_()  # so that the words are told apart
    model.save_pretrained(folder)


def feature_config(folder, **changes) -> FeatureDecoderTraining:
    """Settings that train on the two models, which are saved in `folder` if they are not there yet."""
    if not (folder / "clip").exists():
        save_tower(folder / "clip")
        save_text_encoder(folder / "bert")
    settings = {
        "clip": str(folder / "clip"), "text_encoder": str(folder / "bert"), "data": TinyData(), "loop": LOOP,
        "max_tokens": 16, "grid": 2, "channels": 6, "word_count": 2, "validation_images": 6,
        "denoiser": {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8},
    }  # fmt: skip
    return FeatureDecoderTraining(**settings | changes)

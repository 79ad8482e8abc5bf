"""A tiny CLIP of two towers like those of photographs: a convolutional one of timm, and a BERT with its tokenizer."""

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = ["a", "red", "green", "blue", "black", "picture", "number", "this", "is", ",", *map(str, range(1100))]


def save_text_tower(folder: Path) -> Path:
    """A BERT of random weights, as all-MiniLM-L6-v2 is saved."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(vocabulary), **sizes), add_pooling_layer=False).save_pretrained(folder)
    return folder


def model_cfg(text_tower: Path | str, size: int = 96) -> dict:
    return {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "test_efficientnet",
            "timm_pool": "avg",
            "timm_proj": "mlp",
            "image_size": size,
        },
        "text_cfg": {
            "hf_model_name": str(text_tower),
            "hf_tokenizer_name": str(text_tower),
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
            "context_length": 16,
        },
    }

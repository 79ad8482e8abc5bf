"""The architecture of a tiny CoCa, and a tokenizer for it."""

from importlib.resources import files

TOWER = {"context_length": 24, "vocab_size": 1920, "width": 32, "heads": 2, "layers": 1}
MODEL = {
    "embed_dim": 32,
    "pad_id": 1917,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16,
        "attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2, "output_tokens": True,
    },
    "text_cfg": TOWER | {"hf_tokenizer_name": "local", "pad_id": 1917, "eos_id": 1919, "output_tokens": True},
    "multimodal_cfg": TOWER | {"attn_pooler_heads": 2},
}  # fmt: skip
TOKENIZER = str(files("textlens.weights") / "scenes" / "coca")

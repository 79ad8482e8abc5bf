"""A trunk gives the features of its present weights, remembered or not."""

from __future__ import annotations

import torch
from textlens.encoders.clip.clip import Clip

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 96}


def test_features_are_remembered_until_a_weight_changes() -> None:
    clip = Clip.from_config({"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT, "custom_text": True})
    trunk, pixels = clip.model.visual.trunk, torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        before = trunk.forward_features(pixels)
        assert trunk.forward_features(pixels.clone()) is before
        for tensor in (next(trunk.parameters()), next(trunk.buffers())):  # as training changes them
            tensor.add_(1)
            after = trunk.forward_features(pixels)
            assert after is not before
            assert not torch.equal(after, before)
            assert trunk.forward_features(pixels) is after
            before = after

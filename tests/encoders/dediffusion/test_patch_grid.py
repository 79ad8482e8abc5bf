"""Image towers of timm, and their patch tokens on a small grid."""

from __future__ import annotations

import pytest
import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.dediffusion.patch_grid import patch_grid
from textlens.errors import InputError

from ..pictures import images

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def timm_clip(name: str, size: int = 96) -> Clip:
    vision = {"timm_model_name": name, "timm_pool": "avg", "timm_proj": "linear", "image_size": size}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Clip.from_config({"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT, "custom_text": True})


@pytest.fixture(scope="module")
def clip() -> Clip:
    return timm_clip("test_efficientnet")


def test_the_tokens_of_a_convolutional_tower_are_its_last_map(clip: Clip) -> None:
    pixels = clip.pixels(images(2))
    with torch.no_grad():
        tokens = clip.patch_tokens(pixels)
        features = clip.model.visual.trunk.forward_features(pixels)  # (B, W, h, w)
        pooled = clip.model.visual.trunk(pixels)
    assert (tokens.shape[1:], features.shape[2:]) == (clip.patch_shape, (3, 3))
    torch.testing.assert_close(tokens[:, 5], features[:, :, 1, 2])
    torch.testing.assert_close(tokens.mean(1), pooled)


def test_the_tokens_of_a_transformer_of_timm_are_its_patches_alone() -> None:
    clip = timm_clip("test_vit", 160)
    trunk = clip.model.visual.trunk
    assert trunk.num_prefix_tokens == 1
    with torch.no_grad():
        pixels = clip.pixels(images(1))
        torch.testing.assert_close(clip.patch_tokens(pixels), trunk.forward_features(pixels)[:, 1:])


def test_a_grid_holds_averages_row_by_row(clip: Clip) -> None:
    pixels = clip.pixels(images(2))
    with torch.no_grad():
        tokens = clip.patch_tokens(pixels)
        torch.testing.assert_close(patch_grid(clip, pixels, 1)[:, 0], tokens.mean(1))
        torch.testing.assert_close(patch_grid(clip, pixels, 3), tokens)
        assert torch.equal(patch_grid(clip, pixels, None), tokens)
        upper_left = tokens.unflatten(1, (3, 3))[:, :2, :2].mean((1, 2))
        torch.testing.assert_close(patch_grid(clip, pixels, 2)[:, 0], upper_left)
    with pytest.raises(InputError, match="9 patch tokens, which cannot be averaged to 4 x 4"):
        patch_grid(clip, pixels, 4)

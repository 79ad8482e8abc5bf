"""Checkpoints as open_clip's training saves them, of a tiny model, to folders."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.clip.open_clip_import import import_open_clip
from textlens.errors import InputError

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": TEXT,
}


@pytest.fixture
def trained() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return open_clip.model.CLIP(**json.loads(json.dumps(CONFIG))).eval()


@pytest.fixture
def architecture(tmp_path: Path) -> str:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    return str(path)


def save(model: torch.nn.Module, path: Path, prefix: str = "module.") -> Path:
    """As open_clip_train/main.py does, after a step of the optimizer."""
    optimizer = torch.optim.AdamW(model.parameters())
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    return path


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod.", ""])
def test_a_training_checkpoint_gives_the_same_embeddings(
    trained: torch.nn.Module, architecture: str, tmp_path: Path, prefix: str
) -> None:
    import_open_clip(save(trained, tmp_path / "epoch_3.pt", prefix), tmp_path / "out", model=architecture)
    clip = Clip.from_pretrained(tmp_path / "out")
    pixels = clip.pixels([Image.new("RGB", (40, 30), "red")])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(trained.encode_image(pixels), dim=-1)
    assert torch.allclose(clip.embed_pixels(pixels), expected, atol=1e-6)
    assert clip.embed_texts(["a cat", "a sun"]).shape == (2, 16)


def test_a_bare_state_dict_is_read_too(trained: torch.nn.Module, architecture: str, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    clip = import_open_clip(tmp_path / "weights.pt", tmp_path / "out", model=architecture)
    assert torch.equal(clip.model.visual.conv1.weight, trained.visual.conv1.weight)


def test_another_architecture_names_what_is_missing(
    trained: torch.nn.Module, architecture: str, tmp_path: Path
) -> None:
    file = save(trained, tmp_path / "epoch_3.pt")
    deeper = {**CONFIG, "text_cfg": {**TEXT, "layers": 2}}
    (tmp_path / "deeper.json").write_text(json.dumps(deeper))
    with pytest.raises(InputError, match=r"does not fit the model .*deeper.json.*Missing.*resblocks.1"):
        import_open_clip(file, tmp_path / "out", model=str(tmp_path / "deeper.json"))
    with pytest.raises(InputError, match="no model 'ViT-B-33'"):
        import_open_clip(file, tmp_path / "out", model="ViT-B-33")
    assert not (tmp_path / "out").exists()


def test_what_is_no_checkpoint_is_refused(trained: torch.nn.Module, architecture: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with pytest.raises(InputError, match="cannot be read"):
        import_open_clip(path, tmp_path / "out", model=architecture)
    torch.save(trained, path)  # a whole model is code
    with pytest.raises(InputError, match="refused: a pickle can hold code"):
        import_open_clip(path, tmp_path / "out", model=architecture)
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match="no state dict"):
        import_open_clip(path, tmp_path / "out", model=architecture)

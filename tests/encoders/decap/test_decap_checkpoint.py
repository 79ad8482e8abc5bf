"""The official checkpoint's layout, with random weights: read without running code, decoded as in the notebook."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from textlens.encoders.decap.decap_checkpoint import import_official, load_decoder
from textlens.errors import InputError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

END = 49407


class OfficialMLP(nn.Module):
    def __init__(self, sizes: tuple[int, int]) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(*sizes))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class OfficialDeCap(nn.Module):
    """As in dhg-wei/DeCap's train.py: its names, its sizes but for the width."""

    def __init__(self, width: int, prefix_size: int = 512) -> None:
        super().__init__()
        self.decoder = GPT2LMHeadModel(GPT2Config(vocab_size=50257, n_embd=width, n_layer=4, n_head=4))
        self.clip_project = OfficialMLP((prefix_size, width))


@torch.no_grad()
def official_decoding(model: OfficialDeCap, features: Tensor) -> list[int]:
    """The notebook's `Decoding` up to the tokenizer: full prefix each time, at most 30 tokens, stop at 49407."""
    inputs = model.clip_project(features).reshape(1, 1, -1)
    ids: list[int] = []
    for _ in range(30):
        logits = model.decoder(inputs_embeds=inputs).logits[:, -1, :]
        chosen = logits.softmax(-1).argmax(-1)
        ids.append(int(chosen))
        if ids[-1] == END:
            break
        inputs = torch.cat((inputs, model.decoder.transformer.wte(chosen)[None]), dim=1)
    return ids


@pytest.fixture(scope="module")
def official() -> OfficialDeCap:
    """Random weights, scaled up so that captions differ, and some end."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OfficialDeCap(width=32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
        model.decoder.transformer.wte.weight[END].mul_(2.5)
    return model


@pytest.fixture
def checkpoint(official: OfficialDeCap, tmp_path: Path) -> Path:
    torch.save(official.state_dict(), tmp_path / "coco_prefix-009.pt")
    return tmp_path / "coco_prefix-009.pt"


def test_same_captions_as_the_official_algorithm(official: OfficialDeCap, checkpoint: Path, tmp_path: Path) -> None:
    config = import_official(checkpoint, tmp_path / "decap")
    assert (config.embed_dim, config.end_id, config.num_tokens, config.max_tokens) == (512, 49407, 49408, 30)
    assert (config.gpt2["n_layer"], config.gpt2["n_positions"], config.gpt2["vocab_size"]) == (4, 1024, 50257)
    assert config.clip == "ViT-B-32/openai"
    saved, decoder = load_decoder(tmp_path / "decap")
    assert saved == config
    features = F.normalize(torch.randn(6, 512, generator=torch.Generator().manual_seed(1)), dim=-1)
    expected = [official_decoding(official, row[None]) for row in features]
    written = decoder.generate(features, max_tokens=config.max_tokens)
    assert [list(one.ids) for one in written] == [[i for i in ids if i != END] for ids in expected]
    assert any(len(ids) == 30 for ids in expected)
    assert any(ids[-1] == END for ids in expected)


def test_masks_and_head_that_old_transformers_saved(official: OfficialDeCap, checkpoint: Path, tmp_path: Path) -> None:
    old = dict(official.state_dict())
    for layer in range(4):
        old[f"decoder.transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 1024, 1024, dtype=torch.uint8).tril()
        old[f"decoder.transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(old, checkpoint)
    import_official(checkpoint, tmp_path / "decap")
    _, decoder = load_decoder(tmp_path / "decap")
    assert torch.equal(decoder.decoder.lm_head.weight, official.decoder.transformer.wte.weight)


class Runs:
    """A pickle of this runs a command where it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_a_pickle_that_holds_code_is_refused_and_not_run(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"weights": Runs(f"touch {tmp_path}/it_ran")}, checkpoint)
    with pytest.raises(InputError, match="refused: a pickle can hold code"):
        import_official(checkpoint, tmp_path / "decap")
    assert not (tmp_path / "it_ran").exists()
    assert not (tmp_path / "decap").exists()


def test_a_whole_model_is_refused(official: OfficialDeCap, checkpoint: Path, tmp_path: Path) -> None:
    torch.save(official, checkpoint)
    with pytest.raises(InputError, match="refused"):
        import_official(checkpoint, tmp_path / "decap")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"visual.proj": torch.ones(2)}, "not in DeCap's layout"),
        ([torch.ones(2)], "holds list"),
        ({"epoch": 3}, "holds dict"),
    ],
)
def test_other_files_of_weights(content: object, message: str, checkpoint: Path, tmp_path: Path) -> None:
    torch.save(content, checkpoint)
    with pytest.raises(InputError, match=message):
        import_official(checkpoint, tmp_path / "decap")


def test_damaged_and_missing_files(checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    for number, part in enumerate((b"", data[:1000], data[: len(data) // 2], b"not a pickle")):
        (tmp_path / f"{number}.pt").write_bytes(part)
        with pytest.raises(InputError):
            import_official(tmp_path / f"{number}.pt", tmp_path / "decap")
    with pytest.raises(InputError, match="cannot be read"):
        import_official(tmp_path / "missing.pt", tmp_path / "decap")


def test_missing_extra_and_untied_tensors(official: OfficialDeCap, checkpoint: Path, tmp_path: Path) -> None:
    whole = official.state_dict()
    wrong = {
        'Missing key.*"decoder.transformer.ln_f.bias"': {
            k: v for k, v in whole.items() if k != "decoder.transformer.ln_f.bias"
        },
        'Unexpected key.*"clip_project.model.2.weight"': {**whole, "clip_project.model.2.weight": torch.ones(1)},
        "not tied": {**whole, "decoder.lm_head.weight": torch.zeros_like(whole["decoder.lm_head.weight"])},
        "does not fit": {**whole, "clip_project.model.0.bias": torch.ones(3)},
    }
    for message, tensors in wrong.items():
        torch.save(tensors, checkpoint)
        with pytest.raises(InputError, match=message):
            import_official(checkpoint, tmp_path / "decap")


def test_the_clip_that_is_named_must_be_as_wide(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"embeddings 512 wide, but those of ViT-L-14/openai are 768 wide"):
        import_official(checkpoint, tmp_path / "decap", clip="ViT-L-14/openai")
    assert not (tmp_path / "decap").exists()
    with pytest.raises(InputError, match="neither a folder nor an open_clip model"):
        import_official(checkpoint, tmp_path / "decap", clip="ViT-B-33/openai")

"""Checkpoints of strangers: whatever is wrong with a folder, loading it is an `InputError` that names it, and quick."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from textlens.encoders.clip.clip import Clip, load_clip
from textlens.encoders.clip.open_clip_import import import_open_clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.decap.decap_checkpoint import import_official
from textlens.encoders.decap.decap_encoder import Decap
from textlens.encoders.decap.memory import SupportMemory
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError

from ..damage import damage, replaced

LOADERS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "coca": (
        lambda folder: CocaCaptioner.from_pretrained(str(folder)),
        ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    ),
    "decap": (
        Decap.from_pretrained,
        ("config.json", "decoder.safetensors", "memory.safetensors", "memory.txt"),
    ),
    "dediffusion": (
        Dediffusion.from_pretrained,
        ("config.json", "model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the made world's models."""
    return shutil.copytree(WEIGHTS / "scenes", tmp_path_factory.mktemp("models") / "scenes")


@pytest.fixture(scope="module")
def clip(models: Path) -> Clip:
    """The models' CLIP, which stays loaded as long as somebody holds it."""
    return load_clip("../coca", models / "decap", "test", "cpu")


def damaged(models: Path, kind: str, seed: int) -> tuple[Path, str]:
    """A copy of a model with one damage, and what that is."""
    rng, folder = random.Random(seed), models / f"{kind}-damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models / kind, folder)
    return folder, damage(folder / rng.choice(LOADERS[kind][1]), rng)


def check_damaged(models: Path, kind: str, seed: int) -> None:
    """Loading raises nothing but an `InputError` with the folder's name. A harmless damage may load."""
    folder, what = damaged(models, kind, seed)
    try:
        LOADERS[kind][0](folder)
    except InputError as error:
        if str(folder) not in str(error):
            pytest.fail(f"seed {seed}, {what}: the error does not name the folder: {error}")
    except Exception as error:
        pytest.fail(f"seed {seed}, {what}: {error!r}")


@pytest.mark.parametrize("kind", LOADERS)
def test_damaged_folders_are_input_errors(models: Path, clip: Clip, kind: str) -> None:
    LOADERS[kind][0](models / kind)  # the undamaged one loads
    for seed in range(12):
        check_damaged(models, kind, seed)


@pytest.mark.soak
def test_a_minute_of_damaged_folders(models: Path, clip: Clip) -> None:
    seed, end = random.SystemRandom().randrange(10**9), time.monotonic() + 60
    while time.monotonic() < end:
        for kind in LOADERS:
            check_damaged(models, kind, seed)
        seed += 1


COCA, DECAP, WORDS = "open_clip_config.json", "config.json", "config.json"
ABSURD = [
    *(
        ("coca", COCA, ("model_cfg", *place), number)
        for place, number in (
            (("vision_cfg", "layers"), 100_000),
            (("vision_cfg", "width"), 48_000),
            (("vision_cfg", "image_size"), 160_000),
            (("text_cfg", "layers"), 10**9),
            (("text_cfg", "vocab_size"), 10**9),
            (("text_cfg", "context_length"), 10**6),
            (("multimodal_cfg", "layers"), 100_000),
            (("multimodal_cfg", "width"), 10**30),
            (("embed_dim",), 10**9),
        )
    ),
    *(
        ("decap", DECAP, ("gpt2", name), number)
        for name, number in (
            ("n_layer", 100_000), ("n_embd", 10**6), ("vocab_size", 10**9), ("n_positions", 10**6), ("n_inner", 10**9),
        )
    ),
    ("decap", DECAP, ("embed_dim",), 10**9),
    ("decap", DECAP, ("num_beams",), 10**6),
    *(
        ("dediffusion", WORDS, (name,), number)
        for name, number in (
            ("num_queries", 10**8), ("depth", 100_000), ("width", 144 * 1000), ("mlp_ratio", 1e8), ("grid", 10**5),
            ("vocabulary_size", 10**9), ("text_width", 10**9),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "file", "place", "number"), ABSURD, ids=lambda value: str(value)[:60])
def test_absurd_sizes_are_refused_before_anything_is_built(
    models: Path, clip: Clip, kind: str, file: str, place: tuple[str, ...], number: Any
) -> None:
    """Without the limits, one of them would take minutes or all of the memory."""
    folder = models / f"{kind}-damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models / kind, folder)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(replaced(config, place, number)))
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        LOADERS[kind][0](folder)
    assert str(folder) in str(caught.value)
    assert time.process_time() - began < 20


def official(layers: tuple[int, ...] = (0, 1), **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors of a tiny DeCap, as the official training names them."""
    width = 8
    tensors = {
        "clip_project.model.0.weight": torch.randn(width, 512),
        "clip_project.model.0.bias": torch.randn(width),
        "decoder.transformer.wte.weight": torch.randn(50, width),
        "decoder.transformer.wpe.weight": torch.randn(20, width),
    }
    for number in layers:
        tensors[f"decoder.transformer.h.{number}.ln_1.weight"] = torch.ones(width)
    return tensors | changes


STRETCHED = torch.zeros(1).expand(10**6, 10**6)
OFFICIAL: dict[str, tuple[Any, str]] = {
    "layer 300000": (official((0, 300_000)), "have 2 layers, but one is numbered 300000"),
    "layer of 30 digits": (official((0, 10**30)), "does not fit"),
    "stretched": (official(**{"decoder.transformer.wte.weight": STRETCHED}), "without its numbers"),
    "no matrix": (official(**{"decoder.transformer.wte.weight": torch.zeros(3)}), "expected a matrix"),
    "empty": (official(**{"decoder.transformer.wpe.weight": torch.zeros(0, 8)}), "expected a matrix"),
    "flat prefix": (official(**{"clip_project.model.0.weight": torch.zeros(8)}), "expected a matrix"),
    "numbers as names": ({1: torch.zeros(2)}, "layout"),
    "sparse": (official(**{"x": torch.zeros(2, 2).to_sparse()}), "without its numbers"),
    "meta": (official(**{"x": torch.zeros(2, 2, device="meta")}), "without its numbers|cannot be read"),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_checkpoints_that_claim_too_much_are_refused(name: str, tmp_path: Path) -> None:
    tensors, message = OFFICIAL[name]
    path, began = tmp_path / "official.pt", time.process_time()
    torch.save(tensors, path)
    with pytest.raises(InputError, match=message) as caught:
        import_official(path, tmp_path / "out")
    assert "official.pt" in str(caught.value)
    assert time.process_time() - began < 20
    assert not (tmp_path / "out").exists()


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(InputError, match="it is a pipe"):
        import_official(tmp_path / "pipe.pt", tmp_path / "out")
    with pytest.raises(InputError, match="it is a pipe"):
        import_open_clip(tmp_path / "pipe.pt", tmp_path / "out", model="ViT-B-32")


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(models: Path, clip: Clip, kind: str, value: float) -> None:
    folder = models / f"{kind}-damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models / kind, folder)
    file = folder / LOADERS[kind][1][1]
    tensors = load_file(file)
    name = next(name for name, one in tensors.items() if one.is_floating_point() and one.ndim == 2)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, file)
    with pytest.raises(InputError, match=f"NaN or infinity, such as .*{name.split('.')[-1]}") as caught:
        LOADERS[kind][0](folder)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("row", [0, 1234, 6999])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_every_row_of_a_memory_is_checked(models: Path, row: int, value: float, tmp_path: Path) -> None:
    memory = SupportMemory.load(models / "decap")
    rows = memory.embeddings.clone()
    rows[row] = value
    SupportMemory(rows, memory.texts, memory.clip).save(tmp_path)
    with pytest.raises(InputError, match=f"memory.safetensors: the embedding of caption {row + 1} has length"):
        SupportMemory.load(tmp_path)


def test_a_memory_whose_lines_have_moved_is_refused_though_its_first_row_fits(models: Path, clip: Clip) -> None:
    memory = SupportMemory.load(models / "decap")
    memory.check_clip(clip)
    moved = [memory.texts[0], *reversed(memory.texts[1:])]
    with pytest.raises(InputError, match="its lines have moved"):
        SupportMemory(memory.embeddings, moved, memory.clip).check_clip(clip)

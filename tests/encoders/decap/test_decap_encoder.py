from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.decap_decoder import DecapDecoder
from textlens.encoders.decap.decap_encoder import Decap, DecapConfig
from textlens.encoders.decap.memory import SupportMemory
from textlens.encoders.decap.memory_build import build_memory, embed_texts
from textlens.errors import InputError
from torch.nn import functional as F

from ..pictures import images

Build = Callable[..., Clip]
TEXTS = [f"{a} {b} {c}" for a in ("red", "sun", "cat") for b in ("on", "red") for c in ("cat", "sun")]
ALL = ("pd", "nnd", "vd", "clipre")


@pytest.fixture(scope="module")
def clip(tiny_coca: Build) -> Clip:
    return tiny_coca()


@pytest.fixture(scope="module")
def decap(clip: Clip) -> Decap:
    """Random weights, but for a bias towards the end, in the space of a tiny CoCa."""
    gpt2 = {"vocab_size": 522, "n_positions": 20, "n_embd": 32, "n_layer": 2, "n_head": 4}
    config = DecapConfig("tiny", 48, gpt2, clip.eos_id or 0, num_tokens=522, max_tokens=12, temperature=0.05)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = config.new_decoder()
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return Decap(config, clip, decoder, SupportMemory(embed_texts(TEXTS, clip), TEXTS, "tiny"))


def test_projection_decodes_the_mixture_of_the_memory(decap: Decap) -> None:
    pictures = images(5)
    embeddings = decap.clip.embed_images(pictures).double()
    memory = decap.memory.embeddings.double()
    mixed = F.normalize((embeddings @ memory.T / 0.05).softmax(-1) @ memory, dim=-1).float()
    expected = [decap.clip.decode(one.ids) for one in decap.decoder.generate(mixed, max_tokens=12)]
    found = decap.describe(pictures)
    assert [one.text for one in found] == expected
    assert len(set(expected)) > 1
    assert {one.encoder for one in found} == {"decap"}
    assert all(one.scores["log_probability"] < 0 and one.tokens for one in found)


def test_the_other_strategies(decap: Decap) -> None:
    pictures = images(5)
    embeddings = decap.clip.embed_images(pictures)
    nearest = (embeddings @ decap.memory.embeddings.float().T).argmax(1)
    retrieved = decap.describe(pictures, strategy="clipre")
    assert [one.text for one in retrieved] == [TEXTS[i] for i in nearest]
    assert retrieved[0].tokens == tuple(retrieved[0].text.split())
    for strategy, prefixes in (("vd", embeddings), ("nnd", decap.memory.embeddings[nearest].float())):
        expected = [one.ids for one in decap.decoder.generate(prefixes, max_tokens=12)]
        written = decap.describe(pictures, strategy=strategy)  # type: ignore[arg-type]
        assert [one.text for one in written] == [decap.clip.decode(ids) for ids in expected]


@pytest.mark.parametrize("strategy", ALL)
def test_order_and_batching_do_not_matter(decap: Decap, strategy: str) -> None:
    pictures = images(4)
    together = [one.text for one in decap.describe(pictures, strategy=strategy)]  # type: ignore[arg-type]
    alone = [decap.describe([picture], strategy=strategy)[0].text for picture in pictures]  # type: ignore[arg-type]
    assert together == alone
    assert decap.describe([], strategy=strategy) == []  # type: ignore[arg-type]


def test_a_memory_entry_projects_onto_itself_at_a_low_temperature(decap: Decap) -> None:
    cold = replace(decap, config=replace(decap.config, temperature=1e-4))
    queries = decap.memory.embeddings.float()
    sharp = cold.describe_embeddings(queries)
    nearest = cold.describe_embeddings(queries, strategy="nnd")
    assert [one.text for one in sharp] == [one.text for one in nearest]


def test_video_is_the_mean_of_its_frames(decap: Decap) -> None:
    frames = images(6)
    mean = decap.clip.embed_images(frames).mean(0, keepdim=True)
    expected = decap.describe_embeddings(mean, temperature=1 / 150)[0]
    assert decap.describe_video(frames) == expected
    still = replace(decap, config=replace(decap.config, video_temperature=0.05))
    assert still.describe_video(frames[:1]).text == decap.describe(frames[:1])[0].text
    with pytest.raises(InputError, match="no frames"):
        decap.describe_video([])


def test_top_k_reports_what_it_discards(decap: Decap) -> None:
    some = replace(decap, config=replace(decap.config, top_k=2))
    discarded = [one.scores["discarded_mass"] for one in some.describe(images(3))]
    assert all(0 < mass < 1 for mass in discarded)


def test_save_and_load(decap: Decap, clip: Clip, tmp_path: Path) -> None:
    decap.save_pretrained(tmp_path / "decap")
    assert {p.name for p in (tmp_path / "decap").iterdir()} == {
        "config.json",
        "decoder.safetensors",
        "memory.safetensors",
        "memory.txt",
    }
    again = Decap.from_pretrained(tmp_path / "decap", clip=clip)
    assert again.config == decap.config
    assert again.describe(images(3)) == decap.describe(images(3))
    assert again.describe(images(3), num_beams=3) == decap.describe(images(3), num_beams=3)
    decap.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert load_file(tmp_path / "half" / "decoder.safetensors")["prefix.weight"].dtype == torch.float16
    assert Decap.from_pretrained(tmp_path / "half", clip=clip).decoder.prefix.weight.dtype == torch.float32


def test_the_clip_is_named_by_a_relative_path(decap: Decap, clip: Clip, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path / "weights" / "coca")
    saved = Clip.from_pretrained(tmp_path / "weights" / "coca")
    memory = SupportMemory(decap.memory.embeddings, TEXTS, "coca")
    with_path = Decap(replace(decap.config, clip="coca"), saved, decap.decoder, memory)
    with_path.save_pretrained(tmp_path / "weights" / "decap")
    assert json.loads((tmp_path / "weights" / "decap" / "config.json").read_text())["clip"] == "../coca"
    shutil.move(tmp_path / "weights", tmp_path / "elsewhere")
    moved = Decap.from_pretrained(tmp_path / "elsewhere" / "decap")
    assert moved.describe(images(2)) == decap.describe(images(2))
    shutil.rmtree(tmp_path / "elsewhere" / "coca")
    with pytest.raises(InputError, match=r"json names it as '[.][.]/coca'"):
        Decap.from_pretrained(tmp_path / "elsewhere" / "decap")


def test_parts_of_different_spaces(decap: Decap, clip: Clip, tiny_coca: Build) -> None:
    with pytest.raises(InputError, match="trained for CLIP 'big'"):
        Decap(replace(decap.config, clip="big"), clip, decap.decoder, decap.memory)
    with pytest.raises(InputError, match=r"47 numbers"):
        Decap(replace(decap.config, embed_dim=47), clip, decap.decoder, decap.memory)
    with pytest.raises(InputError, match="built with CLIP 'other'"):
        replace(decap, memory=SupportMemory(decap.memory.embeddings, TEXTS, "other"))
    with pytest.raises(InputError, match="other weights"):
        replace(decap, clip=tiny_coca(seed=1))


def test_without_a_memory(decap: Decap, clip: Clip, tmp_path: Path) -> None:
    bare = replace(decap, memory=None)
    assert [one.text for one in bare.describe(images(2), strategy="vd")]
    for strategy in ("pd", "nnd", "clipre"):
        with pytest.raises(InputError, match=f"'{strategy}' needs a support memory"):
            bare.describe(images(1), strategy=strategy)  # type: ignore[arg-type]
    bare.save_pretrained(tmp_path)
    build_memory(TEXTS, clip, tmp_path)
    assert Decap.from_pretrained(tmp_path, clip=clip).describe(images(2)) == decap.describe(images(2))


def test_bad_embeddings_and_settings(decap: Decap) -> None:
    for strategy in ALL:
        with pytest.raises(InputError, match="NaN"):
            decap.describe_embeddings(torch.full((2, 48), torch.nan), strategy=strategy)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected \(B, 48\)"):
        decap.describe_embeddings(torch.ones(2, 47))
    assert decap.describe_embeddings(torch.ones(0, 48)) == []
    with pytest.raises(InputError, match="unknown strategy 'best'; expected one of pd, nnd, vd, clipre"):
        decap.describe(images(1), strategy="best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown strategy"):
        replace(decap.config, strategy="best")


def test_damaged_checkpoints(decap: Decap, clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder saved by DeCap"):
        Decap.from_pretrained(tmp_path / "nothing", clip=clip)
    with pytest.raises(InputError, match="neither a folder nor"):
        Decap.from_pretrained("no/such/repository", clip=clip)
    decap.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "decoder.safetensors")
    save_file({k: v for k, v in whole.items() if k != "prefix.bias"}, tmp_path / "decoder.safetensors")
    with pytest.raises(InputError, match=r'Missing key.*"prefix.bias"'):
        Decap.from_pretrained(tmp_path, clip=clip)
    save_file({**whole, "prefix.bias": torch.zeros(31)}, tmp_path / "decoder.safetensors")
    with pytest.raises(InputError, match="does not fit"):
        Decap.from_pretrained(tmp_path, clip=clip)
    (tmp_path / "decoder.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        Decap.from_pretrained(tmp_path, clip=clip)
    (tmp_path / "config.json").write_text('{"clip": "tiny", "size": 3}')
    with pytest.raises(
        InputError, match=r"config\.json .*size is unknown, embed_dim is missing.*fields are clip, embed_dim"
    ):
        Decap.from_pretrained(tmp_path, clip=clip)


def test_the_tied_head_is_saved_once_and_tied_again(decap: Decap, clip: Clip, tmp_path: Path) -> None:
    decap.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "decoder.safetensors") if "lm_head" in name]
    decoder: DecapDecoder = Decap.from_pretrained(tmp_path, clip=clip).decoder
    assert decoder.decoder.lm_head.weight is decoder.decoder.transformer.wte.weight

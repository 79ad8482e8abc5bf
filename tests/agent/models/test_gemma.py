"""Gemma's packages become a checkpoint in the cache folder: whole or not at all, once, and with clear errors."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from filelock import FileLock
from textlens.agent.models import gemma as module
from textlens.agent.models import serving
from textlens.agent.models.gemma import GEMMA, PackagedModel, gemma_folder, load_gemma
from textlens.errors import InputError

PARTS = (b"GGUF: one, ", b"two, ", b"three")
FAKE = PackagedModel("fake", "fake-gguf", len(PARTS), hashlib.sha256(b"".join(PARTS)).hexdigest(), {}, 1000)


def install(site: Path, package: str, files: dict[str, bytes]) -> None:
    """A package as pip leaves it: its files, and RECORD, which lists them."""
    name = package.replace("-", "_")
    info = site / f"{name}-1.0.0.dist-info"
    info.mkdir(parents=True)
    (site / name / "data").mkdir(parents=True)
    for file, content in files.items():
        (site / name / "data" / file).write_bytes(content)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\n")
    (info / "RECORD").write_text("".join(f"{name}/data/{file},,\n" for file in files))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "textlens" / "models"


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder on sys.path with the packages of `FAKE`."""
    site = tmp_path / "site"
    install(site, FAKE.package, {"GEMMA_TERMS.html": b"<p>terms", "NOTICE.md": b"notice"})
    for i, content in enumerate(PARTS):
        install(site, FAKE.part_packages[i], {f"fake.gguf.part{i:02}": content, "README.md": b""})
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    return site


@pytest.fixture
def conversions(monkeypatch) -> list[bytes]:
    """What was converted: transformers has no part in these tests."""
    made: list[bytes] = []

    def convert(model, folder, say):
        made.append((folder / "model.gguf").read_bytes())
        time.sleep(0.2)
        (folder / "model.gguf").unlink()
        (folder / "model.safetensors").write_bytes(made[-1][::-1])

    monkeypatch.setattr(module, "_convert", convert)
    return made


def left(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


def test_the_parts_are_joined_in_order_and_converted_once(site, cache, conversions):
    said: list[str] = []
    folder = gemma_folder(FAKE, say=said.append)
    assert conversions == [b"GGUF: one, two, three"]
    assert folder == cache / f"fake-{FAKE.sha256[:12]}"
    files = ["GEMMA_TERMS.html", "NOTICE.md", "files.json", "model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert sum("Gemma Terms of Use" in line for line in said) == 1
    again: list[str] = []
    assert gemma_folder(FAKE, say=again.append) == folder
    assert (len(conversions), again) == (1, [])


def test_the_packages_are_not_needed_again(site, cache, conversions):
    folder = gemma_folder(FAKE)
    shutil.rmtree(site)
    assert gemma_folder(FAKE) == folder


def test_a_cut_file_in_the_cache_is_made_again(site, cache, conversions):
    folder = gemma_folder(FAKE)
    (folder / "model.safetensors").write_bytes(b"cut")
    assert gemma_folder(FAKE) == folder
    assert len(conversions) == 2
    assert (folder / "model.safetensors").stat().st_size == len(b"".join(PARTS))


def test_two_at_once_convert_once(site, cache, conversions):
    said: list[str] = []
    threads = [threading.Thread(target=gemma_folder, args=(FAKE,), kwargs={"say": said.append}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert sum("waiting" in line for line in said) == 3


def test_a_process_waits_for_another(site, cache, conversions):
    cache.mkdir(parents=True)
    code = "import sys, time, filelock\nwith filelock.FileLock(sys.argv[1]): print(flush=True); time.sleep(60)"
    lock = cache / f"fake-{FAKE.sha256[:12]}.lock"
    other = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        other.kill()  # as the system would: its lock is free then

    gemma_folder(FAKE, say=say)
    other.wait()
    other.stdout.close()
    assert "waiting" in said[0]
    assert len(conversions) == 1


def test_what_a_killed_process_left_is_in_no_ones_way(site, cache, conversions):
    aside = cache / f"fake-{FAKE.sha256[:12]}.part"
    aside.mkdir(parents=True)
    (aside / "model.gguf").write_bytes(b"half")
    folder = gemma_folder(FAKE)
    assert left(cache) == [folder.name]
    assert "model.gguf" not in json.loads((folder / "files.json").read_text())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda site: shutil.rmtree(site / "fake_gguf_part2-1.0.0.dist-info"), "fake-gguf-part2 is not installed"),
        (lambda site: shutil.rmtree(site / "fake_gguf-1.0.0.dist-info"), "package fake-gguf is not installed"),
        (lambda site: (site / "fake_gguf_part2/data/fake.gguf.part01").unlink(), "fake-gguf-part2 is damaged"),
        (lambda site: (site / "fake_gguf_part2-1.0.0.dist-info/RECORD").unlink(), "fake-gguf-part2 is damaged"),
        (lambda site: (site / "fake_gguf_part3/data/fake.gguf.part02").write_bytes(b"thre"), "sha256"),
        (lambda site: (site / "fake_gguf_part1/data/fake.gguf.part00").write_bytes(PARTS[0].upper()), "sha256"),
    ],
)
def test_packages_that_lack_or_are_damaged_name_the_extra(site, cache, conversions, damage, message):
    damage(site)
    with pytest.raises(InputError, match=message) as caught:
        gemma_folder(FAKE)
    assert "pip install 'textlens[gemma]'" in str(caught.value)
    assert conversions == []
    assert left(cache) == []


def test_a_missing_gguf_names_the_extra(site, cache, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package gguf.*textlens\[gemma\]"):
        gemma_folder(FAKE)


def test_too_little_disk_space_is_told_before_the_work(site, cache, conversions):
    with pytest.raises(InputError, match=r"needs 1000000000\.0 GB in .*XDG_CACHE_HOME"):
        gemma_folder(replace(FAKE, disk_bytes=10**18))
    assert left(cache) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_end_on_the_way_leaves_nothing(site, cache, monkeypatch, error):
    def convert(model, folder, say):
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(module, "_convert", convert)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        gemma_folder(FAKE)
    assert "XDG_CACHE_HOME" in str(caught.value) or isinstance(error, KeyboardInterrupt)
    assert left(cache) == []
    assert not FileLock(cache / f"fake-{FAKE.sha256[:12]}.lock").is_locked


def test_a_cache_folder_that_is_a_file_is_a_clear_error(site, tmp_path, cache):
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        gemma_folder(FAKE)


def test_the_server_finds_the_same_folder(site, cache, conversions, monkeypatch):
    monkeypatch.setattr(serving, "gemma_folder", lambda *, say: gemma_folder(FAKE, say=say))
    said: list[str] = []
    source, name, is_folder = serving._checked("gemma", said.append)
    assert (source, name, is_folder) == (str(gemma_folder(FAKE)), "gemma", True)
    assert "Gemma Terms of Use" in said[0]


def small_gguf(path: Path) -> PackagedModel:
    """A Gemma of random weights, with one layer of each kind of attention, as a GGUF file."""
    import numpy as np
    from gguf import GGUFWriter

    config = {
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 8, "max_position_embeddings": 64,
        "layer_types": ["sliding_attention", "full_attention"],
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    }  # fmt: skip
    shapes = {
        "attn_q": (16, 16), "attn_k": (8, 16), "attn_v": (8, 16), "attn_output": (16, 16), "ffn_gate": (32, 16),
        "ffn_up": (32, 16), "ffn_down": (16, 32), "attn_norm": (16,), "attn_q_norm": (8,), "attn_k_norm": (8,),
        "post_attention_norm": (16,), "ffn_norm": (16,), "post_ffw_norm": (16,),
    }  # fmt: skip
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnop"]
    tokens = pieces + [f"<unused{i}>" for i in range(300 - len(pieces))]
    writer, rng = GGUFWriter(path, "gemma3"), np.random.default_rng(3)
    writer.add_block_count(2)
    writer.add_embedding_length(16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-1.0 * i for i in range(300)])
    writer.add_token_types([3, 3, 3, 2] + [6] * 256 + [1] * 17 + [4] * (300 - len(pieces)))
    for name, token in {"bos": 2, "eos": 1, "unk": 3, "pad": 0}.items():
        getattr(writer, f"add_{name}_token_id")(token)
    tensors = {"token_embd": (300, 16), "output_norm": (16,)}
    tensors |= {f"blk.{layer}.{name}": shape for layer in range(2) for name, shape in shapes.items()}
    for name, shape in tensors.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return replace(FAKE, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), config=config)


def test_a_gguf_file_becomes_a_checkpoint(tmp_path, cache, monkeypatch, capfd):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    small = small_gguf(path)
    data, site = path.read_bytes(), tmp_path / "site"
    install(site, FAKE.package, {"GEMMA_TERMS.html": b"", "NOTICE.md": b""})
    for i, content in enumerate((data[:5000], data[5000:5001], data[5001:])):
        install(site, FAKE.part_packages[i], {f"small.gguf.part{i:02}": content})
    monkeypatch.syspath_prepend(str(site))
    model = load_gemma("cpu", model=small)
    (made,) = model.complete(["a bad cab"], max_tokens=4, temperature=0.0, seed=0)
    assert (model.spec, made.error, made.prompt_tokens) == ("gemma", None, 10)  # <bos> and nine letters and spaces
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    network = model.model.float()
    query = network.model.layers[1].self_attn.q_proj.weight.flatten().tolist()
    assert query == pytest.approx(stored["blk.1.attn_q.weight"].flatten().tolist(), rel=1e-2)  # bfloat16
    norm = network.model.norm.weight.flatten().tolist()
    assert norm == pytest.approx((stored["output_norm.weight"] - 1).flatten().tolist(), rel=1e-2, abs=0.02)
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("fake: ") for line in lines), lines


def installed() -> bool:
    try:
        return [distribution(name) for name in (*GEMMA.part_packages, "gguf")] != []
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(not installed(), reason="Gemma's packages are not here: pip install 'textlens[gemma]'")
def test_gemma_itself(cache, capfd):
    model = load_gemma("cpu")
    prompts = ["one, two, three, four,", "Paris is the capital of"]
    made = model.complete(prompts, max_tokens=3, temperature=0.0, seed=0)
    assert "five" in made[0].text
    assert "France" in made[1].text
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("gemma3-270m: ") for line in lines), lines
    assert sum("Terms" in line for line in lines) == 1
    load_gemma("cpu")
    assert capfd.readouterr().err == ""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.memory import CHECKED, SupportMemory, clean_captions
from textlens.encoders.decap.memory_build import (
    SHARDS_NAME,
    build_memory,
    captions_from_dataset,
    captions_from_file,
    embed_texts,
)
from textlens.errors import InputError

Build = Callable[..., Clip]
TEXTS = [f"{a} {b} {c}" for a in ("red", "sun", "cat") for b in ("on", "red", "sun") for c in ("cat", "sun", "red")]


@pytest.fixture(scope="module")
def clip(tiny_coca: Build) -> Clip:
    return tiny_coca()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_build_save_and_load(clip: Clip, tmp_path: Path) -> None:
    memory = build_memory(iter(TEXTS), clip, tmp_path, batch_size=4, shard_size=10)
    assert memory.embeddings.dtype == torch.float16
    assert (len(memory), memory.embed_dim, memory.clip) == (27, 48, "tiny")
    torch.testing.assert_close(memory.embeddings.float(), clip.embed_texts(TEXTS), rtol=0, atol=1e-3)
    again = SupportMemory.load(tmp_path)
    assert list(again.texts) == TEXTS
    assert torch.equal(again.embeddings, memory.embeddings)
    assert files(tmp_path) == {"memory.safetensors", "memory.txt"}
    assert memory.nearest(clip.embed_texts(["sun on cat"])).indices.tolist() == [[TEXTS.index("sun on cat")]]


class Counting:
    """A CLIP that counts the texts it embeds, and dies at one of them."""

    def __init__(self, clip: Clip, dies_at: str | None = None) -> None:
        self.clip, self.dies_at, self.seen = clip, dies_at, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.clip, name)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        if self.dies_at in texts:
            raise KeyboardInterrupt
        self.seen += len(texts)
        return self.clip.embed_texts(texts)


def test_goes_on_after_an_interruption(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_memory(TEXTS, Counting(clip, dies_at=TEXTS[17]), tmp_path, batch_size=2, shard_size=5)
    assert len(files(tmp_path / SHARDS_NAME)) == 3
    second = Counting(clip)
    memory = build_memory(TEXTS, second, tmp_path, batch_size=2, shard_size=5)
    assert list(memory.texts) == TEXTS
    # the rest, one text of each shard, and some of the memory to know the CLIP by
    assert second.seen <= 27 - 15 + 3 + CHECKED
    torch.testing.assert_close(memory.embeddings.float(), clip.embed_texts(TEXTS), rtol=0, atol=1e-3)


WORDS = """
import zlib
import torch
class Words:
    name, embed_dim, context_length = "words", 8, 99
    def embed_texts(self, texts):
        seeds = [torch.Generator().manual_seed(zlib.crc32(text.encode())) for text in texts]
        rows = torch.stack([torch.randn(8, generator=seed) for seed in seeds])
        return torch.nn.functional.normalize(rows, dim=-1)
"""
KILLED = """
import os, signal, sys
from textlens.encoders.decap import memory_build
rename, left = os.replace, int(sys.argv[1])
def replace(source, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = replace
memory_build.build_memory(sys.argv[3:], Words(), sys.argv[2], shard_size=10)
"""


def kill_at_rename(number: int, folder: Path) -> None:
    """Build in a process of its own, with a small stand-in for a CLIP (a real one takes seconds to import)."""
    command = [sys.executable, "-c", WORDS + KILLED, str(number), str(folder), *TEXTS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, check=False, env=environment).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "kills",
    [
        [2, 3],
        *(pytest.param([n], marks=pytest.mark.soak) for n in (1, 3, 4, 5)),
    ],  # renames: 3 shards, texts, embeddings
)
def test_no_text_is_lost_or_doubled_by_a_kill(tmp_path: Path, kills: list[int]) -> None:
    for number in kills:
        kill_at_rename(number, tmp_path)
    namespace: dict = {}
    exec(WORDS, namespace)
    memory = build_memory(TEXTS, namespace["Words"](), tmp_path, shard_size=10)
    assert list(memory.texts) == TEXTS
    expected = namespace["Words"]().embed_texts(TEXTS)
    torch.testing.assert_close(memory.embeddings.float(), expected, rtol=0, atol=1e-3)
    assert files(tmp_path) == {"memory.safetensors", "memory.txt"}


def test_other_captions_in_the_folder(clip: Clip, tmp_path: Path) -> None:
    build_memory(TEXTS, clip, tmp_path)
    with pytest.raises(InputError, match="first difference: caption 2"):
        build_memory([TEXTS[0], "cat", *TEXTS[2:]], clip, tmp_path)
    with pytest.raises(InputError, match="first difference: caption 4"):
        build_memory(TEXTS[:3], clip, tmp_path)


def test_shards_of_other_captions(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_memory(TEXTS, Counting(clip, dies_at=TEXTS[17]), tmp_path, batch_size=2, shard_size=5)
    with pytest.raises(InputError, match="other captions"):
        build_memory(["sun", *TEXTS[1:]], clip, tmp_path)


def test_memory_of_another_clip(clip: Clip, tiny_coca: Build) -> None:
    memory = SupportMemory(embed_texts(TEXTS, clip), TEXTS, "tiny")
    memory.check_clip(clip)
    with pytest.raises(InputError, match="'other' \\(48 numbers"):
        SupportMemory(memory.embeddings, TEXTS, "other").check_clip(clip)
    with pytest.raises(InputError, match="'tiny' \\(47 numbers"):
        SupportMemory(memory.embeddings[:, :47], TEXTS, "tiny").check_clip(clip)
    with pytest.raises(InputError, match="other weights of CLIP 'tiny'"):
        memory.check_clip(tiny_coca(seed=1))


def test_shards_of_other_weights(clip: Clip, tiny_coca: Build, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_memory(TEXTS, Counting(clip, dies_at=TEXTS[17]), tmp_path, batch_size=2, shard_size=5)
    with pytest.raises(InputError, match="another CLIP"):
        build_memory(TEXTS, tiny_coca(seed=1), tmp_path, shard_size=5)


def test_the_folder_of_a_clip_may_move(clip: Clip, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path / "a" / "coca")
    memory = build_memory(TEXTS, Clip.from_pretrained(tmp_path / "a" / "coca"), tmp_path / "memory")
    shutil.move(tmp_path / "a", tmp_path / "b")
    memory.check_clip(Clip.from_pretrained(tmp_path / "b" / "coca"))


def test_texts_are_one_line_each(clip: Clip, tmp_path: Path) -> None:
    odd = ["  red\tcat \n on sun", "cat\u2028sun", "sun\x85cat", "cat\r\nred"]
    build_memory(odd, clip, tmp_path)
    assert list(SupportMemory.load(tmp_path).texts) == ["red cat on sun", "cat sun", "sun cat", "cat red"]


def test_bad_captions(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="caption 2 is empty"):
        build_memory(["cat", " \n"], clip, tmp_path)
    with pytest.raises(InputError, match="no captions"):
        build_memory([], clip, tmp_path)
    with pytest.raises(InputError, match="caption 1 is int"):
        clean_captions([3])  # type: ignore[list-item]
    assert not (tmp_path / "memory.safetensors").exists()


def test_captions_longer_than_the_context(clip: Clip, tmp_path: Path) -> None:
    fits, long = " ".join(["cat"] * 18), " ".join(["cat"] * 19)  # with begin and end 20 and 21 tokens of 20
    with pytest.raises(InputError, match=r"caption 2 .* longer than the 20 tokens"):
        build_memory([fits, long], clip, tmp_path / "a")
    assert len(build_memory([fits, "sun"], clip, tmp_path / "b")) == 2
    assert len(build_memory([fits, long], clip, tmp_path / "c", cut_long=True)) == 2


def test_damaged_files(clip: Clip, tmp_path: Path) -> None:
    build_memory(TEXTS, clip, tmp_path)
    (tmp_path / "memory.txt").write_text("\n".join(TEXTS[:-1]) + "\n")
    with pytest.raises(InputError, match="27 embeddings for 26 texts"):
        SupportMemory.load(tmp_path)
    rows = load_file(tmp_path / "memory.safetensors")
    save_file(rows, tmp_path / "memory.safetensors")
    with pytest.raises(InputError, match="no support memory can be read"):
        SupportMemory.load(tmp_path)
    (tmp_path / "memory.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no support memory can be read"):
        SupportMemory.load(tmp_path)


def test_nan_weights_are_not_built_into_a_memory(tiny_coca: Build, tmp_path: Path) -> None:
    broken = tiny_coca()
    with torch.no_grad():
        broken.model.text.text_projection.fill_(torch.nan)
    with pytest.raises(InputError, match="NaN"):
        build_memory(TEXTS, broken, tmp_path)


def test_captions_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("red cat\nsun\u2028on cat\n", encoding="utf-8")
    assert captions_from_file(tmp_path / "a.txt") == ["red cat", "sun on cat"]
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write("cat\nsun")
    assert captions_from_file(tmp_path / "a.txt.gz") == ["cat", "sun"]
    (tmp_path / "b.txt").write_text("cat\n\nsun\n")
    with pytest.raises(InputError, match="caption 2 is empty"):
        captions_from_file(tmp_path / "b.txt")
    (tmp_path / "c.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "d.gz").write_bytes(b"cat\n")
    for name in ("c.txt", "d.gz", "missing.txt"):
        with pytest.raises(InputError, match="cannot be read"):
            captions_from_file(tmp_path / name)


def test_captions_from_a_dataset(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"one": ["cat", "sun"], "many": [["cat", "red"], ["sun"]]}).save_to_disk(str(tmp_path / "data"))
    assert captions_from_dataset(str(tmp_path / "data"), "one") == ["cat", "sun"]
    assert captions_from_dataset(str(tmp_path / "data"), "many") == ["cat", "red", "sun"]
    with pytest.raises(InputError, match="no column 'two'; it has one, many"):
        captions_from_dataset(str(tmp_path / "data"), "two")


def test_subset(clip: Clip) -> None:
    memory = SupportMemory(embed_texts(TEXTS, clip), TEXTS, "tiny").subset([3, 1])
    assert list(memory.texts) == [TEXTS[3], TEXTS[1]]
    with pytest.raises(InputError, match="empty"):
        memory.subset([])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much memory is the process's own")
def test_a_loaded_memory_stays_in_its_file(tmp_path: Path) -> None:
    """Pages of a file are dropped where memory is short; a copy of 3,000,000 entries would not be."""

    def own_memory() -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    rows = torch.zeros(2**17, 512, dtype=torch.float16)  # 128 MiB
    rows[torch.arange(len(rows)), torch.arange(len(rows)) % 512] = 1
    SupportMemory(rows, ["a"] * len(rows), "clip").save(tmp_path)
    before = own_memory()
    loaded = SupportMemory.load(tmp_path)
    found = loaded.project(rows[5:6].float(), 0.01).embeddings
    assert int(found.argmax()) == 5
    assert own_memory() - before < 64 * 2**20

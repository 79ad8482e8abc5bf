"""A full disk: one line and exit code 2, files whole or absent, and training goes on once there is room.

The system's limit on the size of a file stands for the disk: what it refuses comes as an `OSError`, too.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from textlens.encoders.clip.open_clip_files import WEIGHTS_NAME
from textlens.encoders.clip.open_clip_import import import_open_clip
from textlens.encoders.saved_models import save_weights, write_text
from textlens.folder_lock import is_lock
from textlens.output_files import whole_folder
from textlens.train.data.mapped_array import new_array
from textlens.train.engine.checkpoint import checkpoints, load_checkpoint
from textlens.train.engine.loop import train

from .train.engine.tiny_recipe import MEAN, TinyRecipe


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def textlens(*arguments: str, room: int | None = None, stdout: Any = subprocess.PIPE) -> tuple[int, str]:
    """Exit code and stderr of a command whose files may have `room` bytes."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n" if room else ""
    command = [sys.executable, "-c", f"{limit}from textlens.cli import main; main()", *arguments]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("scenes", "1", "--out", "out"), ("scenes", "--help")])
def test_a_full_stdout_is_one_line(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open("/dev/full", "w") as full:
        code, told = textlens(*arguments, stdout=full)
    assert code == 2
    assert told.splitlines() == ["error: No space left on device; make room, or write elsewhere"]


@pytest.mark.parametrize("room", [100, 2000])
def test_scenes_are_whole_or_absent(room: int, tmp_path: Path) -> None:
    code, told = textlens("scenes", "20", "--out", str(tmp_path), room=room)
    assert code == 2
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "File too large" in line
    assert "Traceback" not in told
    left = sorted(tmp_path.iterdir())
    assert [path.suffix for path in left] == [".png"] * len(left)
    assert all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in left)


def test_an_error_of_the_system_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".textlens.lock").mkdir()  # nobody's doing, and none of our checks
    code, told = textlens("scenes", "1", "--out", str(tmp_path / "a"))
    assert code == 2
    assert told.startswith("error: ")
    assert "Traceback" not in told


def test_a_file_stays_as_it_was(tmp_path: Path) -> None:
    write_text("old", tmp_path / "a.txt")
    save_weights({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with room_for(1000):
        with pytest.raises(OSError, match="File too large"):
            write_text("x" * 5000, tmp_path / "a.txt")
        with pytest.raises(OSError, match="File too large"):
            save_weights({"a": torch.ones(5000)}, tmp_path / "a.safetensors")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_array_has_its_blocks_before_it_is_filled(tmp_path: Path) -> None:
    with new_array(tmp_path / "rows.npy", (1000, 1000)):
        (file,) = tmp_path.iterdir()
        assert file.stat().st_blocks * 512 >= 2_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a tmpfs, which knows at once what it cannot hold")
def test_an_array_that_the_disk_cannot_hold_is_an_error_before_it_is_filled() -> None:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        more = shutil.disk_usage(folder).total // 2 + 2**20  # fp16 numbers
        with pytest.raises(OSError, match="No space left on device"), new_array(folder / "rows.npy", (more,)):
            raise AssertionError("the first page written would end the process by SIGBUS")
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def epoch(tmp_path: Path) -> Callable[[int], Path]:
    """A checkpoint of open_clip's training, of tiny.json beside it, with weights of a seed."""
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "tiny.json").write_text(json.dumps(config))

    def write(seed: int) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            torch.save(open_clip.model.CLIP(**json.loads(json.dumps(config))).state_dict(), tmp_path / f"{seed}.pt")
        return tmp_path / f"{seed}.pt"

    return write


def test_an_import_is_there_whole_or_not_at_all(epoch: Callable[[int], Path], tmp_path: Path) -> None:
    before = sorted(path.name for path in (epoch(1).parent, epoch(2).parent)[0].iterdir())
    out, model = tmp_path / "out", str(tmp_path / "tiny.json")
    with room_for(100_000), pytest.raises(OSError, match="File too large"):  # the config has room, the weights have not
        import_open_clip(tmp_path / "1.pt", out, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    import_open_clip(tmp_path / "1.pt", out, model=model)
    (out / "notes.txt").write_text("mine")
    held = {path.name: path.read_bytes() for path in out.iterdir()}
    with room_for(100_000), pytest.raises(OSError, match="File too large"):
        import_open_clip(tmp_path / "2.pt", out, model=model)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == held
    import_open_clip(tmp_path / "2.pt", out, model=model)
    assert held.keys() == {path.name for path in out.iterdir()}
    assert (out / WEIGHTS_NAME).read_bytes() != held[WEIGHTS_NAME]


def test_a_killed_writer_leaves_no_mixture_of_two_models(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, "config.json") as part:
        for name in ("config.json", "weights", "tokenizer"):
            (part / name).write_text("old")
    killed = """
import os, signal, sys
from textlens.output_files import whole_folder
left, move = int(sys.argv[2]), os.replace
def replace(*paths):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    move(*paths)
os.replace = replace
with whole_folder(sys.argv[1], "config.json") as part:
    for name in ("config.json", "weights", "tokenizer"):
        (part / name).write_text("new")
"""
    for moved in range(3):
        done = subprocess.run([sys.executable, "-c", killed, str(out), str(moved)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert not (out / "config.json").exists()
    with whole_folder(out, "config.json") as part:
        assert list(part.iterdir()) == []
        (part / "config.json").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in out.iterdir() if not is_lock(path)) == ["config.json", "tokenizer", "weights"]


class FullDisk(TinyRecipe):
    """The disk is full from the fourth step on."""

    def loss(self, model, batch, *, step, indices):  # type: ignore[no-untyped-def]
        if step == 3:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        return super().loss(model, batch, step=step, indices=indices)


def test_training_that_met_a_full_disk_ends_as_if_it_had_not(tmp_path: Path) -> None:
    config = replace(MEAN, save_every=2, log_every=100)
    with room_for(1 << 40), pytest.raises(OSError, match="File too large"):
        train(FullDisk(), config, tmp_path / "full")
    assert [path.name for path in checkpoints(tmp_path / "full")] == ["step-00000002"]
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["metrics.jsonl", "step-00000002"]
    went_on = train(TinyRecipe(), config, tmp_path / "full", resume=True)
    unbroken = train(TinyRecipe(), config, tmp_path / "unbroken")
    one, other = (load_checkpoint(result.checkpoint).tensors for result in (went_on, unbroken))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[kind][name]) for kind in one for name, tensor in one[kind].items())

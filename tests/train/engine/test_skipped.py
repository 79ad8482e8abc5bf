"""Items that cannot be read: named, skipped and counted up to a limit; then one error, and never a hang."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from textlens.errors import InputError
from textlens.train.engine.loop import train
from textlens.train.engine.metrics_file import read_metrics

from ..tiny_source import TinyData, TinySource
from .tiny_recipe import MEAN, TinyRecipe

CONFIG = replace(MEAN, steps=12)


class PictureRecipe(TinyRecipe):
    """Six numbers of a picture of the source."""

    def __init__(self, data: TinyData) -> None:
        super().__init__()
        self.source = TinySource(data)

    def batch(self, indices, seed):
        rows = [sample.image.resize((2, 1)).tobytes() for sample in self.source.samples(indices, seed)]
        x = torch.tensor([list(row) for row in rows], dtype=torch.float32) / 255
        return {"x": x, "y": x[:, :2]}


class Failing(TinyRecipe):
    def batch(self, indices, seed):
        if min(indices) >= 16:
            raise InputError("no such file: 017.png")
        return super().batch(indices, seed)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_items_are_named_and_counted_and_others_take_their_place(tmp_path: Path, workers: int) -> None:
    data = TinyData(bad=(3, 17), max_bad=0.1)
    result = train(PictureRecipe(data), replace(CONFIG, num_workers=workers), tmp_path)
    assert result.finished
    assert sorted(result.skipped) == ["tiny/003.png: damaged", "tiny/017.png: damaged"]
    assert read_metrics(tmp_path)[-2]["skipped"] == 2
    again = train(PictureRecipe(data), replace(CONFIG, num_workers=workers), tmp_path, resume=True)
    assert sorted(again.skipped) == sorted(result.skipped)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_are_one_error_that_names_them(tmp_path: Path, workers: int) -> None:
    with pytest.raises(InputError, match=r"of 40 items .* max_bad=0\.01 .*tiny/\d+\.png: damaged.*data\.max_bad"):
        train(PictureRecipe(TinyData(bad=range(20))), replace(CONFIG, num_workers=workers), tmp_path)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_the_error_of_the_run(tmp_path: Path, workers: int) -> None:
    with pytest.raises(InputError, match=r"^no such file: 017\.png$"):
        train(Failing(), replace(CONFIG, num_workers=workers), tmp_path)
    assert multiprocessing.active_children() == []


SCRIPT = """
import sys, time
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from tiny_recipe import MEAN, TinyRecipe
from textlens.train.engine.loop import train

class Stuck(TinyRecipe):
    def batch(self, indices, seed):
        if sys.argv[3] == "fail":
            raise ValueError("a bug")
        return super().batch(indices, seed)

    def loss(self, *args, **options):
        print("step", flush=True)
        time.sleep(0.2)
        return super().loss(*args, **options)

result = train(Stuck(), replace(MEAN, steps=1000, num_workers=2), Path(sys.argv[2]))
print("paused" if not result.finished else "finished", flush=True)
"""


def start(out: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(out), what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_process_whose_workers_fail_ends(tmp_path: Path) -> None:
    """It used to wait for ever: the workers ignore the signal by which Python ends them at exit."""
    process = start(tmp_path / "run", "fail")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ValueError: a bug" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_ends_the_run_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path / "run", "train")
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    began = time.monotonic()
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert output.endswith("paused\n")
    assert list((tmp_path / "run").glob("step-*"))

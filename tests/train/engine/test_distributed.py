"""Two gloo processes against one with the full batch. The processes are started once, for all that is compared here."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from textlens.train.engine.checkpoint import checkpoints, load_checkpoint
from textlens.train.engine.distributed import gather_with_grad
from textlens.train.engine.loop import train
from textlens.train.engine.metrics_file import read_metrics
from textlens.train.engine.recipe import LoopConfig, Recipe

from .tiny_recipe import CONTRASTIVE, MEAN, ContrastiveRecipe, TinyRecipe


def coca() -> tuple[Recipe, LoopConfig]:
    """That of two_processes.py, which imports its neighbours as a script does."""
    spec = importlib.util.spec_from_file_location("two_processes", Path(__file__).with_name("two_processes.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(__file__).parent))
    spec.loader.exec_module(module)
    return module.coca()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes trained (see two_processes.py)."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, Path(__file__).with_name("two_processes.py"), out]
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **launcher, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], "\n".join(errors)
    return out


def report(two: Path, rank: int) -> dict:
    return json.loads((two / f"rank{rank}.json").read_text())


def tensors(out: Path) -> dict[str, torch.Tensor]:
    loaded = load_checkpoint(checkpoints(out)[-1]).tensors
    return {f"{file}/{name}": tensor for file, named in loaded.items() for name, tensor in named.items()}


def figures(out: Path, *names: str) -> torch.Tensor:
    return torch.tensor([[line[name] for name in names] for line in read_metrics(out) if line["kind"] == "train"])


def assert_close_run(one: Path, other: Path) -> None:
    first = {name: t for name, t in tensors(one).items() if not name.startswith("rng/")}
    second = {name: t for name, t in tensors(other).items() if not name.startswith("rng/")}
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_a_mean_loss_is_the_same_as_in_one_process(two: Path, tmp_path: Path) -> None:
    train(TinyRecipe(dropout=0.0), MEAN, tmp_path)
    names = ("loss", "absolute_error", "gradient_norm", "learning_rate")
    torch.testing.assert_close(figures(two / "mean", *names), figures(tmp_path, *names), rtol=1e-5, atol=1e-6)
    assert_close_run(two / "mean", tmp_path)
    assert {line["step"] for line in read_metrics(two / "mean")} == set(range(1, 7))


def test_each_process_has_its_share_of_every_part(two: Path) -> None:
    shares = [report(two, rank)["seen"] for rank in range(2)]
    assert [report(two, rank)["processes"] for rank in range(2)] == [2, 2]
    assert [index for parts in zip(*shares, strict=True) for part in parts for index in part] == list(range(48))


@pytest.mark.parametrize("rows", ["global", "local"])
def test_a_contrastive_loss_gives_the_gradient_of_one_process(two: Path, tmp_path: Path, rows: str) -> None:
    """Unclipped gradients through Adam, whose second moments would show any factor."""
    train(ContrastiveRecipe(), CONTRASTIVE, tmp_path)
    names = ("loss", "gradient_norm")
    torch.testing.assert_close(figures(two / rows, *names), figures(tmp_path, *names), rtol=1e-4, atol=1e-6)
    assert_close_run(two / rows, tmp_path)


def test_coca_trains_on_two_processes_as_on_one_and_evaluates_on_one(two: Path, tmp_path: Path) -> None:
    train(*coca(), tmp_path)
    names = ("loss", "contrastive", "caption", "word", "token_accuracy", "gradient_norm")
    torch.testing.assert_close(figures(two / "coca", *names), figures(tmp_path, *names), rtol=1e-4, atol=1e-6)
    found, expected = (read_metrics(out)[-1] for out in (two / "coca", tmp_path))
    assert found["kind"] == "eval"
    assert found["contrastive"] == pytest.approx(expected["contrastive"], rel=1e-3)


def test_two_processes_resume_to_the_bit(two: Path) -> None:
    """With dropout, whose random states differ between the processes."""
    whole, paused = tensors(two / "whole"), tensors(two / "paused")
    assert [report(two, rank)["pauses"] for rank in range(2)] == [5, 5]
    assert whole.keys() == paused.keys()
    assert [name for name in whole if not torch.equal(whole[name], paused[name])] == []
    assert not torch.equal(whole["rng/cpu.0"], whole["rng/cpu.1"])


def test_a_loss_that_breaks_in_one_process_stops_both(two: Path) -> None:
    assert all("step 4: the loss is nan" in report(two, rank)["failure"] for rank in range(2))


def test_gathering_is_the_identity_in_one_process() -> None:
    rows = torch.ones(3, requires_grad=True)
    assert gather_with_grad(rows) is rows

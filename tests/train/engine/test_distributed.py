"""Two gloo processes of torchrun against one with the full batch, started once for all that is compared here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from textlens.train.engine.checkpoint import checkpoints, load_checkpoint
from textlens.train.engine.distributed import gather_with_grad
from textlens.train.engine.loop import train
from textlens.train.engine.metrics_file import read_metrics
from textlens.train.registry import recipes, run_recipe

from .recipe_files import write_recipe_files
from .tiny_recipe import CONTRASTIVE, MEAN, ContrastiveRecipe, TinyRecipe

SECONDS = 600  # that a launched job may take


def torchrun(*command: str | Path, processes: int = 2) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node PROCESSES COMMAND`, in a process group of its own."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*launcher, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes trained (see two_processes.py), and what they start from."""
    out = tmp_path_factory.mktemp("two")
    write_recipe_files(out)
    for name in recipes():
        run_recipe(name, out / f"{name}.yaml", out / "mixed" / name, max_minutes=0)
    launched = torchrun(Path(__file__).with_name("two_processes.py"), out)
    told, _ = launched.communicate(timeout=SECONDS)
    assert launched.returncode == 0, told
    return out


def processes_of(out: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Processes with the folder in their command, and their environment variables."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if os.fsencode(out) in (folder / "cmdline").read_bytes().split(b"\0"):
                    yield int(folder.name), (folder / "environ").read_bytes().split(b"\0")


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


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


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_trains_on_two_processes_as_on_one_and_resumes_on_another_number(two: Path, name: str) -> None:
    """Sums in another order, in float32: equal to 1 part in 10,000. mixed: one step by one, by two, by one."""
    settings = two / f"{name}.yaml"
    expected = run_recipe(name, settings, two / "one" / name)
    assert expected.finished
    assert [line["step"] for line in read_metrics(two / "mixed" / name) if line["kind"] == "train"] == [1, 2]
    assert run_recipe(name, settings, two / "mixed" / name, resume=True).finished
    names = expected.metrics.keys() - {"kind", "step", "samples_per_second", "elapsed"}
    assert {"loss", "gradient_norm"} <= names
    for other in ("two", "mixed"):
        torch.testing.assert_close(
            figures(two / other / name, *names), figures(two / "one" / name, *names), rtol=1e-4, atol=1e-6
        )
        assert (two / other / name / "model" / "training.json").exists()
        found = [line for line in read_metrics(two / other / name) if line["kind"] == "eval"]
        assert len(found) == bool(expected.evaluation)  # by one of the processes


def test_a_killed_process_ends_the_job_with_an_error_and_the_run_goes_on(two: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load((two / "autoencoder.yaml").read_text())
    settings["loop"] |= {"steps": 1_000_000, "save_every": 1}
    config, out = tmp_path / "long.yaml", tmp_path / "long"
    config.write_text(yaml.safe_dump(settings))
    command = ["--no-python", sys.executable, "-c", "from textlens.cli import main; main()", "train", "autoencoder"]
    launched = torchrun(*command, "--config", config, "--out", out)
    try:
        wait_until(lambda: checkpoints(out))
        victim = min(pid for pid, variables in processes_of(out) if b"RANK=1" in variables)  # not its data worker
        os.kill(victim, signal.SIGKILL)
        told, _ = launched.communicate(timeout=SECONDS)
    finally:
        launched.kill()
    assert launched.returncode == 1
    assert "Signal 9 (SIGKILL) received by PID" in told
    wait_until(lambda: not list(processes_of(out)))  # their workers look for their parent every few seconds
    saved = load_checkpoint(checkpoints(out)[-1])
    assert saved.tensors["rng"].keys() == {"cpu.0", "cpu.1"}
    step = saved.state["step"]
    assert run_recipe("autoencoder", config, out, resume=True, max_minutes=0).step == step + 1


def test_two_processes_with_two_workers_each_read_every_sample_of_the_shards_once_an_epoch(two: Path) -> None:
    keys = [key for rank in range(2) for key in report(two, rank)["keys"]]
    assert len(report(two, 0)["keys"]) == 16
    assert len(set(keys)) == len(keys) == 32


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

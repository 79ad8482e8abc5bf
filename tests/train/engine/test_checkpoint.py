"""Checkpoints: whole or not there, strict when read; a killed run loses no more than the steps since the last one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from textlens.errors import InputError
from textlens.train.engine.checkpoint import (
    Checkpoint,
    checkpoints,
    load_checkpoint,
    load_model_tensors,
    load_optimizer_tensors,
    load_trained,
    model_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from textlens.train.engine.optimizer import trainable_parameters
from torch import nn

from .tiny_recipe import TinyModel


def run_and_kill(mode: str, out: Path) -> list[dict]:
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run([sys.executable, script, mode, out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kill_in_any_part_of_a_save_loses_only_the_steps_since_the_last(tmp_path: Path) -> None:
    """Saves follow steps 2, 4 and 6; the kill is in the second, before and halfway through all that it does."""
    reports = run_and_kill("save", tmp_path)
    assert len(reports) >= 18
    assert [report["step"] for report in reports] == sorted(report["step"] for report in reports)
    assert {report["step"] for report in reports} == {2, 4}
    for report in reports:
        assert (report["ended"], report["resumed"]) == (-9, 0), report
        assert report["same"], report
        assert report["same_metrics"], report
        assert report["left"] == ["final", "metrics.jsonl", "step-00000006"], report


@pytest.mark.soak
def test_kills_at_random_times(tmp_path: Path) -> None:
    *rounds, end = run_and_kill("20", tmp_path)
    steps = [report["step"] for report in rounds]
    assert [report["ended"] for report in rounds] == [-9] * 20
    assert steps == sorted(steps)
    assert steps[-1] > 100
    assert end["ended"] == end["unbroken_ended"] == 0
    assert end["step"] == steps[-1] + 1
    assert end["same"]
    assert end["duplicates"] == 0


def some_checkpoint(step: int = 3) -> Checkpoint:
    return Checkpoint({"step": step}, {"model": model_tensors(TinyModel())})


def test_saves_and_loads_the_same(tmp_path: Path) -> None:
    saved = some_checkpoint()
    path = save_checkpoint(saved, tmp_path / "out")
    loaded = load_checkpoint(path)
    assert path.name == "step-00000003"
    assert loaded.state == saved.state
    assert loaded.tensors["model"].keys() == {"hidden.weight", "hidden.bias", "out.weight", "out.bias", "calls"}
    assert all(torch.equal(loaded.tensors["model"][name], tensor) for name, tensor in saved.tensors["model"].items())
    assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}


def test_checkpoints_are_in_order_of_steps_and_nothing_else(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000, 7):
        save_checkpoint(some_checkpoint(step), tmp_path, keep=9)
    for other in (".saving-step-00000008", "step-8", "step-00000009.bak"):
        (tmp_path / other).mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000007", "step-99999999", "step-100000000"]
    assert checkpoints(tmp_path / "missing") == []


@pytest.mark.parametrize("damage", ["cut", "no state", "bad json"])
def test_a_damaged_checkpoint_is_an_input_error(tmp_path: Path, damage: str) -> None:
    path = save_checkpoint(some_checkpoint(), tmp_path)
    if damage == "cut":
        file = path / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "no state":
        (path / "state.json").unlink()
    else:
        (path / "state.json").write_text('{"step": 3')
    with pytest.raises(InputError, match="step-00000003 cannot be read"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_are_named() -> None:
    tensors = model_tensors(TinyModel())
    with pytest.raises(InputError, match=r"missing \['calls'\], unexpected \['cells'\]"):
        load_model_tensors(TinyModel(), {("cells" if name == "calls" else name): t for name, t in tensors.items()})
    with pytest.raises(InputError, match=r"out.bias as \(3,\) .*expected \(2,\)"):
        load_model_tensors(TinyModel(), {**tensors, "out.bias": torch.zeros(3)})
    with pytest.raises(InputError, match=r"out.bias as .*float16"):
        load_model_tensors(TinyModel(), {**tensors, "out.bias": torch.zeros(2, dtype=torch.float16)})


def test_optimizer_state_of_another_model_is_refused() -> None:
    model = TinyModel()
    parameters = trainable_parameters(model)
    optimizer = torch.optim.AdamW(parameters.values())
    model(torch.zeros(1, 6)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(optimizer, parameters)
    with pytest.raises(InputError, match=r"optimizer state for \['other'\]"):
        load_optimizer_tensors(optimizer, parameters, {**tensors, "other/exp_avg": torch.zeros(1)})


def test_optimizer_state_survives_where_some_weights_have_none() -> None:
    """A weight that never had a gradient has no state, and its neighbours' must not slip into its place."""
    weights = {name: nn.Parameter(torch.full((2,), float(i))) for i, name in enumerate("abc")}
    weights["a"].grad, weights["c"].grad = torch.ones(2), 2 * torch.ones(2)
    optimizer = torch.optim.AdamW(weights.values())
    optimizer.step()
    tensors = optimizer_tensors(optimizer, weights)
    assert tensors.keys() == {f"{name}/{key}" for name in "ac" for key in ("step", "exp_avg", "exp_avg_sq")}

    other = torch.optim.AdamW(weights.values())
    load_optimizer_tensors(other, weights, tensors)
    assert weights["b"] not in other.state
    torch.testing.assert_close(other.state[weights["c"]]["exp_avg"], torch.full((2,), 0.2))


def test_nothing_to_load_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint in"):
        load_trained(TinyModel(), tmp_path)

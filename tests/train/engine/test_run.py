"""One runner for every recipe: stages in order, paused and resumed, a record beside the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from textlens.errors import InputError
from textlens.train.engine.recipe import LoopConfig
from textlens.train.engine.run import run_file
from textlens.train.engine.settings import settings

from .tiny_recipe import TinyRecipe


@settings
class TinyConfig:
    loop: LoopConfig
    start: str | None = None
    dropout: float = 0.1


class StartedRecipe(TinyRecipe):
    """`TinyRecipe` of a settings file, which may go on from a saved model."""

    name = "started"
    config_class = TinyConfig

    def __init__(self, config: TinyConfig, cache: Path) -> None:
        super().__init__(config.dropout)
        self.config = config
        if config.start:
            self.model.load_state_dict(torch.load(Path(config.start) / "tiny.pt", weights_only=True))
        self.began = {name: value.clone() for name, value in self.model.state_dict().items()}
        STARTED.append(self)

    def record(self) -> dict[str, object]:
        return {"parameters": 3}


STARTED: list[StartedRecipe] = []
FILE = """
dropout: 0.0
loop: { steps: 3, batch_size: 4, num_workers: 0, save_every: 1, log_every: 1 }
stages:
- {}
- { loop: { steps: 2, seed: 1 } }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    STARTED.clear()
    path = tmp_path / "tiny.yaml"
    path.write_text(FILE)
    return path


def test_stages_run_in_order_each_from_the_one_before(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run_file(StartedRecipe, file, out)
    assert (result.finished, result.step) == (True, 2)
    first, second = STARTED
    assert all(torch.equal(second.began[name], value) for name, value in first.model.state_dict().items())
    record = json.loads((out / "model" / "training.json").read_text())
    assert (record["recipe"], record["seed"], record["steps"], record["settings"]["parameters"]) == ("started", 1, 2, 3)
    assert record["started_from"]["settings"]["loop"]["steps"] == 3
    saved = torch.load(out / "model" / "tiny.pt", weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in second.model.state_dict().items())


def test_a_paused_run_goes_on_in_its_stage(file: Path, tmp_path: Path) -> None:
    run_file(StartedRecipe, file, tmp_path / "whole")
    out, results = tmp_path / "paused", []
    while not results or not results[-1].finished:
        results.append(run_file(StartedRecipe, file, out, resume=bool(results), max_minutes=0))
    assert len(results) == 4  # three steps of the first stage, and one of the second before its last
    whole, paused = (torch.load(one / "model" / "tiny.pt", weights_only=True) for one in (tmp_path / "whole", out))
    assert all(torch.equal(paused[name], value) for name, value in whole.items())
    again = run_file(StartedRecipe, file, out, resume=True)
    assert (again.finished, again.step) == (True, 2)


def test_all_settings_are_checked_before_any_training(file: Path, tmp_path: Path) -> None:
    file.write_text(FILE.replace("seed: 1", "sed: 1"))
    with pytest.raises(InputError, match=r"tiny.yaml: unknown key 'loop.sed'"):
        run_file(StartedRecipe, file, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("precision", "native"), [("bf16", False), ("bf16", True), ("fp32", False)])
def test_slow_bf16_is_told(file: Path, tmp_path: Path, monkeypatch, capsys, precision: str, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    file.write_text(FILE.replace("steps: 3,", f"steps: 3, precision: {precision},"))
    run_file(StartedRecipe, file, tmp_path / "out")
    assert ("no bf16 instructions" in capsys.readouterr().err) == (precision == "bf16" and not native)


def test_a_folder_in_use_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not empty.*--resume"):
        run_file(StartedRecipe, file, tmp_path)
    assert STARTED == []

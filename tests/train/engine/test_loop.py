"""The training loop in one process: pause and resume to the bit, what is trained, what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from textlens.errors import InputError, TextlensError
from textlens.train.engine.checkpoint import checkpoints, load_checkpoint, load_trained
from textlens.train.engine.loop import LoopConfig, train
from textlens.train.engine.metrics_file import read_metrics
from textlens.train.engine.optimizer import learning_rate_at

from .tiny_recipe import TinyRecipe

CONFIG = LoopConfig(
    steps=12,
    batch_size=8,
    learning_rate=0.02,
    warmup_steps=3,
    weight_decay=0.1,
    ema_decay=0.9,
    log_every=2,
    evaluate_every=4,
    save_every=5,
    num_workers=0,
)
TIMES = {"elapsed", "samples_per_second"}


def tensors(out: Path) -> dict[str, torch.Tensor]:
    loaded = load_checkpoint(checkpoints(out)[-1]).tensors
    return {f"{file}/{name}": tensor for file, named in loaded.items() for name, tensor in named.items()}


def assert_same_run(one: Path, other: Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    untimed = [[{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(o)] for o in (one, other)]
    assert untimed[0] == untimed[1]


class Interrupted(TinyRecipe):
    """Does something to its own process in one step."""

    def __init__(self, at: int, what) -> None:
        super().__init__()
        self.at, self.what = at, what

    def loss(self, model, batch, *, step, indices):
        if step == self.at:
            self.what()
        return super().loss(model, batch, step=step, indices=indices)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulation": 2, "optimizer": "adafactor"},
        {"optimizer": "muon", "ema_decay": 0.9},
        {"precision": "bf16", "ema_decay": None, "gradient_clip": None, "evaluate_every": None},
    ],
    ids=["plain", "accumulation", "muon", "bf16"],
)
def test_paused_and_resumed_equals_uninterrupted(tmp_path: Path, changes: dict) -> None:
    config = replace(CONFIG, **changes)
    assert train(TinyRecipe(), config, tmp_path / "whole").finished

    recipe, results = TinyRecipe(), []
    while not results or not results[-1].finished:
        recipe = TinyRecipe()
        results.append(train(recipe, config, tmp_path / "paused", resume=bool(results), max_minutes=0))

    assert [result.step for result in results] == list(range(1, 13))
    assert recipe.seen == [list(part) for part in torch.arange(88, 96).chunk(config.accumulation)]
    assert_same_run(tmp_path / "whole", tmp_path / "paused")


def test_precision_and_accumulation_do_what_they_say(tmp_path: Path) -> None:
    losses = {}
    for name, changes in {"fp32": {}, "bf16": {"precision": "bf16"}, "parts": {"accumulation": 4}}.items():
        train(TinyRecipe(dropout=0.0), replace(CONFIG, **changes), tmp_path / name)
        losses[name] = torch.tensor([line["loss"] for line in read_metrics(tmp_path / name) if line["kind"] == "train"])
    torch.testing.assert_close(losses["parts"], losses["fp32"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["bf16"], losses["fp32"], rtol=0.05, atol=0.0)
    assert not torch.equal(losses["bf16"], losses["fp32"])


def test_lines_past_the_checkpoint_are_written_once(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(8, stop), CONFIG, tmp_path / "broken")
    assert [path.name for path in checkpoints(tmp_path / "broken")] == ["step-00000005"]
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut short by the kill

    train(TinyRecipe(), CONFIG, tmp_path / "broken", resume=True)
    train(TinyRecipe(), CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    lines = [(line["kind"], line["step"]) for line in read_metrics(tmp_path / "broken")]
    assert lines == [
        *[("train", 1), ("train", 2), ("train", 4), ("eval", 4), ("train", 6)],
        *[("train", 8), ("eval", 8), ("train", 10), ("train", 12), ("eval", 12)],
    ]


def test_metrics_hold_the_figures(tmp_path: Path) -> None:
    result = train(TinyRecipe(), CONFIG, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    train_lines = [line for line in lines if line["kind"] == "train"]
    assert all(
        line.keys() == {"kind", "step", "loss", "absolute_error", "learning_rate", "gradient_norm", "skipped", *TIMES}
        for line in train_lines
    )
    assert result.metrics == train_lines[-1]
    assert result.evaluation == lines[-1]
    rates = [learning_rate_at(line["step"] - 1, 12, 0.02, warmup_steps=3) for line in train_lines]
    assert [line["learning_rate"] for line in train_lines] == rates
    assert train_lines[-1]["loss"] < train_lines[0]["loss"]


def test_only_what_requires_a_gradient_is_trained(tmp_path: Path) -> None:
    recipe = TinyRecipe()
    before = {name: p.detach().clone() for name, p in recipe.model.named_parameters()}
    train(recipe, CONFIG, tmp_path)
    for name, parameter in recipe.model.named_parameters():
        frozen = name.startswith("frozen")
        assert torch.equal(parameter, before[name]) == frozen
        assert parameter.grad is None
    assert not [name for name in tensors(tmp_path) if "frozen" in name]
    assert "optimizer/hidden.weight/exp_avg" in tensors(tmp_path)


def test_frozen_parts_are_in_eval_mode_while_training(tmp_path: Path) -> None:
    modes = []
    recipe = Interrupted(1, lambda: modes.append({name: m.training for name, m in recipe.model.named_modules()}))
    train(recipe, replace(CONFIG, steps=2), tmp_path)
    assert {name for name, training in modes[0].items() if not training} == {"frozen", "frozen.0", "frozen.1"}
    assert not recipe.model.training


def test_weight_decay_is_for_matrices_alone(tmp_path: Path) -> None:
    """With a vanishing gradient only decay moves weights: matrices by 1 - rate * decay, biases not at all."""

    class NoGradient(TinyRecipe):
        def loss(self, model, batch, *, step, indices):
            return {"loss": 0.0 * super().loss(model, batch, step=step, indices=indices)["loss"]}

    recipe = NoGradient()
    before = {name: p.detach().clone() for name, p in recipe.model.named_parameters()}
    config = LoopConfig(steps=1, batch_size=4, learning_rate=0.1, weight_decay=0.5, num_workers=0)
    train(recipe, config, tmp_path)
    torch.testing.assert_close(recipe.model.hidden.weight, before["hidden.weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(recipe.model.hidden.bias, before["hidden.bias"])


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """Plain sums of squares of the first moments after one step show the gradient that the optimizer was given."""
    norms = {}
    for clip in (None, 0.01):
        out = tmp_path / str(clip)
        train(TinyRecipe(dropout=0.0), replace(CONFIG, steps=1, gradient_clip=clip), out)
        moments = [tensor / (1 - 0.9) for name, tensor in tensors(out).items() if name.endswith("/exp_avg")]
        norms[clip] = float(torch.cat([moment.flatten() for moment in moments]).norm())
    logged = [read_metrics(tmp_path / str(clip))[0]["gradient_norm"] for clip in norms]
    assert logged[0] == logged[1] == pytest.approx(norms[None], rel=1e-5)
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)


def test_result_and_evaluation_use_the_average(tmp_path: Path) -> None:
    recipe = TinyRecipe()
    result = train(recipe, CONFIG, tmp_path)
    saved = tensors(tmp_path)
    assert torch.equal(recipe.model.out.weight, saved["ema/out.weight"])
    assert not torch.equal(recipe.model.out.weight, saved["model/out.weight"])
    with torch.no_grad():
        assert result.evaluation["error"] == recipe.evaluate(recipe.model)["error"]

    other = TinyRecipe()
    assert load_trained(other.model, tmp_path) == 12
    assert torch.equal(other.model.out.weight, saved["ema/out.weight"])
    assert torch.equal(other.model.calls, recipe.model.calls)

    again = TinyRecipe()
    assert train(again, CONFIG, tmp_path, resume=True) == result
    assert torch.equal(again.model.out.weight, saved["ema/out.weight"])


def test_an_evaluation_leaves_the_layout_of_weights(tmp_path: Path) -> None:
    """Of convolutions, which a CPU runs channels-last: the first process evaluates alone, and DDP wants all alike."""

    class Convolution(TinyRecipe):
        def __init__(self) -> None:
            super().__init__()
            self.model.conv = torch.nn.Conv2d(3, 4, 3)
            self.layouts: list[tuple[int, ...]] = []

        def loss(self, model, batch, *, step, indices):
            self.layouts.append(self.model.conv.weight.stride())
            figures = super().loss(model, batch, step=step, indices=indices)
            return {**figures, "loss": figures["loss"] + self.model.conv.weight.square().mean()}

        def evaluate(self, model):
            return super().evaluate(model.to(memory_format=torch.channels_last))

    recipe = Convolution()
    train(recipe, replace(CONFIG, evaluate_every=2), tmp_path / "out")
    assert set(recipe.layouts) == {torch.empty(4, 3, 3, 3).stride()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_pauses_after_the_step(tmp_path: Path, number: signal.Signals) -> None:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    result = train(Interrupted(6, lambda: os.kill(os.getpid(), number)), CONFIG, tmp_path / "paused")
    assert (result.finished, result.step, result.checkpoint.name) == (False, 7, "step-00000007")
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    train(TinyRecipe(), CONFIG, tmp_path / "paused", resume=True)
    train(TinyRecipe(), CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "paused")


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # two at once may count as one: any thread may take a signal, and Python sees it later

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            train(Interrupted(6, twice), CONFIG, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000005"]


def test_worker_processes_make_the_same_batches_and_outlive_signals(tmp_path: Path) -> None:
    signalled = []

    def signal_workers() -> None:
        for child in multiprocessing.active_children():
            signalled.append(child.pid)
            os.kill(child.pid, signal.SIGINT)
            os.kill(child.pid, signal.SIGTERM)

    config = replace(CONFIG, num_workers=2)
    train(Interrupted(3, signal_workers), config, tmp_path / "workers")
    train(TinyRecipe(), CONFIG, tmp_path / "alone")
    assert len(signalled) == 2
    assert_same_run(tmp_path / "alone", tmp_path / "workers")
    assert multiprocessing.active_children() == []


def test_runs_outside_the_main_thread(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(train(TinyRecipe(), CONFIG, tmp_path)))
    thread.start()
    thread.join()
    assert results[0].finished


def test_a_loss_that_is_not_finite_stops_with_the_checkpoint_kept(tmp_path: Path) -> None:
    class Broken(TinyRecipe):
        def loss(self, model, batch, *, step, indices):
            figures = super().loss(model, batch, step=step, indices=indices)
            return {**figures, "loss": figures["loss"] * (float("inf") if step == 7 else 1.0)}

    with pytest.raises(TextlensError, match=r"step 8: the loss is inf .*/step-00000005"):
        train(Broken(), CONFIG, tmp_path / "broken")
    train(TinyRecipe(), CONFIG, tmp_path / "broken", resume=True)
    train(TinyRecipe(), CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_figures_that_are_not_finite_are_null_in_the_metrics(tmp_path: Path) -> None:
    class Undefined(TinyRecipe):
        def loss(self, model, batch, *, step, indices):
            figures = super().loss(model, batch, step=step, indices=indices)
            return {**figures, "accuracy": torch.tensor(float("nan"))}

    assert train(Undefined(), CONFIG, tmp_path).metrics["accuracy"] is None


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    recipe = TinyRecipe()
    before = torch.get_rng_state()
    train(recipe, CONFIG, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_old_checkpoints_go(tmp_path: Path) -> None:
    train(TinyRecipe(), replace(CONFIG, save_every=2, keep_checkpoints=3), tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000008", "step-00000010", "step-00000012"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 13),
        ("batch_size", 4),
        ("learning_rate", 0.01),
        ("seed", 1),
        ("ema_decay", 0.5),
        ("betas", (0.9, 0.99)),
    ],
)
def test_resume_with_other_settings_names_the_field(tmp_path: Path, name: str, value: object) -> None:
    train(TinyRecipe(), CONFIG, tmp_path, max_minutes=0)
    with pytest.raises(InputError, match=f"{name}=.* {value}".replace("(", r"\(").replace(")", r"\)")):
        train(TinyRecipe(), replace(CONFIG, **{name: value}), tmp_path, resume=True)


def test_how_often_to_save_may_change(tmp_path: Path) -> None:
    train(TinyRecipe(), CONFIG, tmp_path, max_minutes=0)
    train(TinyRecipe(), replace(CONFIG, save_every=1, keep_checkpoints=4, log_every=1), tmp_path, resume=True)
    assert len(checkpoints(tmp_path)) == 4


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not empty.*--resume"):
        train(TinyRecipe(), CONFIG, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        train(TinyRecipe(), CONFIG, tmp_path / "notes.txt")


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 9.0}\n')
    (tmp_path / ".saving-step-00000005").mkdir()
    result = train(TinyRecipe(), CONFIG, tmp_path, resume=True)
    assert result.finished
    assert read_metrics(tmp_path)[0]["loss"] != 9.0
    assert not (tmp_path / ".saving-step-00000005").exists()


def test_nothing_to_train_is_refused(tmp_path: Path) -> None:
    recipe = TinyRecipe()
    recipe.model.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter that requires a gradient"):
        train(recipe, CONFIG, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"accumulation": 0},
        {"evaluate_every": 0},
        {"optimizer": "sgd"},
        {"precision": "fp16"},
        {"ema_decay": 1.0},
        {"learning_rate": 0.0},
        {"gradient_clip": 0.0},
        {"warmup_steps": -1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_are_checked(changes: dict) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(CONFIG, **changes)


def test_a_batch_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size 8 .* accumulation 3"):
        train(TinyRecipe(), replace(CONFIG, accumulation=3), tmp_path)

"""The one training loop, the same from a single CPU core to many GPUs. A recipe per model says what to train.

Read `train` first: step, log, evaluate, save, each a short function over one `_Run`. What happens in a step depends on
the settings and the step's number alone, so that a run that was paused, killed and resumed ends with the very weights
of one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from ...encoders.loading.guard import loading
from ...errors import InputError, TextlensError
from ...folder_lock import is_lock, one_writer
from ...progress import progress_bar
from .batches import Part, batches
from .checkpoint import (
    Checkpoint,
    checkpoints,
    load_checkpoint,
    load_model_tensors,
    load_optimizer_tensors,
    load_tensors,
    model_tensors,
    optimizer_tensors,
    remove_leftovers,
    save_checkpoint,
)
from .distributed import is_first_process, join_group
from .metrics_file import append_metrics, drop_metrics_after, read_metrics
from .optimizer import ExponentialMovingAverage, build_optimizer, learning_rate_at, trainable_parameters
from .recipe import LoopConfig, Recipe
from .sharding import clip_gradients, evaluating, gather_rest, is_sharded, shard, whole
from .signals import stop_signals

__all__ = ["LoopConfig", "Recipe", "TrainResult", "train"]

# What may be changed between a pause and a resume: it has no part in what the weights become.
_FREE_FIELDS = {"sharding", "log_every", "evaluate_every", "save_every", "keep_checkpoints", "num_workers"}


@dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended. `finished` is False after a pause.

    metrics and evaluation: the last lines of each kind in metrics.jsonl, {} where there is none yet.
    skipped: the items that could not be read, "key: reason", as far as this process met them.
    """

    finished: bool
    step: int
    checkpoint: Path
    metrics: dict[str, Any]
    evaluation: dict[str, Any]
    skipped: tuple[str, ...] = ()


@dataclass
class _Run:
    """The one state that the steps of the loop share."""

    recipe: Recipe
    config: LoopConfig
    out: Path
    accelerator: Accelerator
    model: nn.Module  # recipe.model, wrapped for several processes unless it is sharded
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    ema: ExponentialMovingAverage | None
    step: int = 0  # steps done
    elapsed: float = 0.0  # seconds over all calls
    window: tuple[int, float] = (0, 0.0)  # steps and seconds spent in them since the last logged line
    skipped: dict[str, None] = field(default_factory=dict)  # unreadable items that this process met, "key: reason"
    num_skipped: int = 0  # of all processes together


def train(
    recipe: Recipe, config: LoopConfig, out: Path, *, resume: bool = False, max_minutes: float | None = None
) -> TrainResult:
    """Train `recipe.model` for `config.steps` steps; checkpoints and `metrics.jsonl` go to the folder `out`,
    which all processes must see.

    With `resume`, goes on from the newest checkpoint in `out` (from the start where there is none). `max_minutes`,
    SIGTERM and SIGINT only pause: the step is finished, a checkpoint written, and the result says `finished=False`.
    Items that cannot be read are skipped and counted (`skipped` in metrics.jsonl), up to `max_bad` of the source.
    `recipe.model` is left in eval mode and, when finished, with the averaged weights if there is an EMA: ready to be
    exported, unless it is sharded (then `checkpoint.load_trained` fills another one).

    Raises `InputError` for an `out` that is in use, settings that differ from those of the run to resume, and too many
    unreadable items; `TextlensError` when the loss or its gradient is no longer finite.
    """
    check_folder(out, resume)
    join_group()
    on_cpu = not torch.accelerator.is_available()
    accelerator = Accelerator(gradient_accumulation_steps=config.accumulation, cpu=on_cpu)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with writer(out), torch.random.fork_rng(devices=devices), stop_signals() as stop:
        run = _start(recipe, config, out, accelerator, resume)
        started, before = time.monotonic(), run.elapsed
        bar = progress_bar("steps", disable=not accelerator.is_main_process)
        with batches(recipe, config, run.step, accelerator) as parts, bar as shown:
            task = shown.add_task("training", total=config.steps, completed=run.step, note="")
            while run.step < config.steps:
                figures = _step(run, parts)
                run.elapsed = before + time.monotonic() - started
                shown.update(task, completed=run.step, note=f"loss {figures['loss']:.4f}")
                over_time = max_minutes is not None and time.monotonic() - started >= 60 * max_minutes
                paused = _agree(run, over_time or stop.is_set())
                _log(run, figures)
                if not paused or run.step == config.steps:  # who waits for the end does not wait for an evaluation
                    _evaluate(run)
                _save(run, now=paused)
                if paused:
                    break
    return _finish(run)


def _start(recipe: Recipe, config: LoopConfig, out: Path, accelerator: Accelerator, resume: bool) -> _Run:
    """Check everything, build what the loop needs, and take up the newest checkpoint."""
    check_folder(out, resume)
    if not trainable_parameters(recipe.model):
        raise InputError("The recipe's model has no parameter that requires a gradient; there is nothing to train.")
    accelerator.wait_for_everyone()  # every process has checked `out` before one writes to it
    # For dropout and its like; `train` gives the caller's random state back afterwards.
    torch.manual_seed(config.seed + accelerator.process_index)
    _train_mode(recipe.model)
    if config.sharding == "full" and accelerator.num_processes > 1:
        shard(recipe.model, recipe.blocks(), accelerator.device)
        model = recipe.model
    else:
        model = accelerator.prepare_model(recipe.model)
    parameters = trainable_parameters(recipe.model)
    optimizer = build_optimizer(
        parameters, config.optimizer, config.learning_rate, config.weight_decay, betas=config.betas
    )
    ema = None if config.ema_decay is None else ExponentialMovingAverage(parameters, config.ema_decay)
    run = _Run(recipe, config, out, accelerator, model, parameters, optimizer, ema)
    found = checkpoints(out)
    if found:
        with loading(found[-1], "a checkpoint"):
            _restore(run, load_checkpoint(found[-1]))
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        drop_metrics_after(out, run.step)
    evaluated = any(line["kind"] == "eval" and line["step"] == run.step for line in read_metrics(out))
    accelerator.wait_for_everyone()  # every process has read the metrics before one adds to them
    if run.step and not evaluated:
        _evaluate(run)  # which the pause left out, if it was due
    return run


def writer(out: Path) -> AbstractContextManager[None]:
    """Hold `out` for the block, in the first of several processes; see `one_writer`."""
    return one_writer(out) if is_first_process() else nullcontext()


def check_folder(out: Path, resume: bool) -> None:
    """Raises `InputError` for an `out` that is a file, or in use by a run that is not to be resumed."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; expected a folder for checkpoints. Name another one.")
    if not resume and out.is_dir() and any(not is_lock(path) for path in out.iterdir()):
        raise InputError(f"{out} is not empty. Use --resume to go on with the run in it, or name another folder.")


def _train_mode(model: nn.Module) -> None:
    """Training mode, but not for what is frozen: no dropout there, and no change to batch statistics."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _step(run: _Run, batches: Iterator[Part]) -> dict[str, float]:
    """One optimizer step over `accumulation` parts of the batch. Returns figures averaged over parts and processes."""
    began, config, accelerator = time.perf_counter(), run.config, run.accelerator
    rate = learning_rate_at(run.step, config.steps, config.learning_rate, config.min_learning_rate, config.warmup_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    parts = [next(batches) for _ in range(config.accumulation)]
    run.skipped |= dict.fromkeys(item for part in parts for item in part.skipped)
    gather_rest(run.recipe.model)
    with _autocast(run):
        shared = run.recipe.share(run.recipe.model, [part.batch for part in parts])
    losses = [_backward(run, part, arguments) for part, arguments in zip(parts, shared, strict=True)]
    means = accelerator.reduce(torch.stack([torch.stack(list(part.values())) for part in losses]).mean(0), "mean")
    clip = clip_gradients if is_sharded(run.recipe.model) else accelerator.clip_grad_norm_
    norm = clip(list(run.parameters.values()), config.gradient_clip or math.inf)
    figures = dict(zip(losses[0], means.tolist(), strict=True))
    _check_finite(run, figures["loss"], float(norm))
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.recipe.after_step()
    if run.ema is not None:
        run.ema.update(run.step)
    run.step += 1
    run.window = (run.window[0] + 1, run.window[1] + time.perf_counter() - began)
    return {**figures, "learning_rate": rate, "gradient_norm": float(norm)}


def _backward(run: _Run, part: Part, shared: dict[str, Any]) -> dict[str, Tensor]:
    """Add the gradient of one part of the batch; returns its figures as detached float32 scalars."""
    device = run.accelerator.device
    batch = send_to_device(part.batch, device, non_blocking=True)
    with run.accelerator.accumulate(run.model):
        with _autocast(run):
            figures = run.recipe.loss(run.model, batch, step=run.step, indices=part.indices, **shared)
        run.accelerator.backward(figures["loss"])
    return {name: figure.detach().to(device, torch.float32).reshape(()) for name, figure in figures.items()}


def _autocast(run: _Run) -> torch.autocast:
    """Not Accelerator(mixed_precision=…), which patches the model's `forward` and is set once for the whole process."""
    return torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=run.config.precision == "bf16")


def _check_finite(run: _Run, loss: float, norm: float) -> None:
    """Stop before the weights are spoilt. Both numbers are the same in every process, so all stop together."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    found = checkpoints(run.out)
    kept = f"The last good checkpoint is {found[-1]}." if found else "There is no checkpoint yet."
    raise TextlensError(
        f"Training stopped in step {run.step + 1}: the loss is {loss} and the gradient's norm {norm}; "
        f"expected finite numbers. {kept} Try a lower learning rate, a longer warm-up or a lower gradient_clip."
    )


def _log(run: _Run, figures: dict[str, float]) -> None:
    """A line in metrics.jsonl for the first step, every `log_every` steps, and the last."""
    if run.step != 1 and run.step % run.config.log_every and run.step != run.config.steps:
        return
    steps, seconds = run.window
    run.window = (0, 0.0)
    if run.accelerator.is_main_process:
        speed = {"samples_per_second": steps * run.config.batch_size / seconds, "elapsed": run.elapsed}
        append_metrics(run.out, "train", run.step, {**figures, **speed, "skipped": run.num_skipped})


def _evaluate(run: _Run) -> None:
    """The recipe's figures, every `evaluate_every` steps and at the end; training goes on as if it had not happened."""
    every = run.config.evaluate_every
    if run.step != run.config.steps and (every is None or run.step % every):
        return
    if run.accelerator.is_main_process or is_sharded(run.recipe.model):
        figures = _evaluation(run)
        if figures and run.accelerator.is_main_process:
            append_metrics(run.out, "eval", run.step, {**figures, "elapsed": run.elapsed})
    run.accelerator.wait_for_everyone()


def _evaluation(run: _Run) -> dict[str, float]:
    """Evaluate the averaged weights (or the plain ones); weights, modes and random state are as before afterwards."""
    model = run.recipe.model
    strides = {parameter: parameter.stride() for parameter in run.parameters.values()}
    device = run.accelerator.device
    devices = [device] if device.type == "cuda" else []
    swapped_in = run.ema.swapped_in() if run.ema else nullcontext()
    with swapped_in, evaluating(model), torch.random.fork_rng(devices=devices), torch.no_grad():
        figures = run.recipe.evaluate(model)
    # An image trunk's are channels-last by now; DDP's buckets must be laid out as in the other processes.
    for parameter, stride in strides.items():
        if parameter.stride() != stride:
            parameter.data = torch.empty_strided(
                parameter.shape, stride, dtype=parameter.dtype, device=parameter.device
            ).copy_(parameter.data)
    return figures


def _save(run: _Run, now: bool) -> None:
    """A checkpoint, every `save_every` steps, at the end, and `now`."""
    if not now and run.step % run.config.save_every and run.step != run.config.steps:
        return
    tensors = {
        "rng": _rng_states(run.accelerator),
        "model": model_tensors(run.recipe.model),
        "optimizer": optimizer_tensors(run.optimizer, run.parameters),
    }
    if run.ema is not None:
        tensors["ema"] = whole(run.ema.average)
    if run.accelerator.is_main_process:
        state = {"step": run.step, "elapsed": run.elapsed, "config": asdict(run.config), "skipped": list(run.skipped)}
        save_checkpoint(Checkpoint(state, tensors), run.out, run.config.keep_checkpoints)
    run.accelerator.wait_for_everyone()


def _restore(run: _Run, checkpoint: Checkpoint) -> None:
    """Make `run` what it was when `checkpoint` was written."""
    _check_same_settings(run.config, checkpoint.state.get("config", {}))
    load_model_tensors(run.recipe.model, checkpoint.tensors.get("model", {}))
    load_optimizer_tensors(run.optimizer, run.parameters, checkpoint.tensors.get("optimizer", {}))
    if run.ema is not None:
        load_tensors(run.ema.average, checkpoint.tensors.get("ema", {}), "moving average")
    rank = run.accelerator.process_index
    for name, state in checkpoint.tensors.get("rng", {}).items():
        try:
            if name == f"cpu.{rank}":
                torch.set_rng_state(state)
            elif name == f"cuda.{rank}" and run.accelerator.device.type == "cuda":
                torch.cuda.set_rng_state(state, run.accelerator.device)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"The checkpoint's rng.safetensors has no state of a generator in {name}: {error}"
            ) from error
    run.step, run.elapsed = checkpoint.state["step"], checkpoint.state.get("elapsed", 0.0)
    run.skipped = dict.fromkeys(checkpoint.state.get("skipped", ()) if run.accelerator.is_main_process else ())


def _check_same_settings(config: LoopConfig, saved: dict[str, Any]) -> None:
    before = LoopConfig(**{f.name: saved[f.name] for f in fields(LoopConfig) if f.name in saved})
    for name in (f.name for f in fields(LoopConfig) if f.name not in _FREE_FIELDS):
        if getattr(before, name) != getattr(config, name):
            raise InputError(
                f"The run to resume has {name}={getattr(before, name)!r}, but {getattr(config, name)!r} was asked for. "
                "Resume with the same settings, or start anew in another folder."
            )


def _rng_states(accelerator: Accelerator) -> dict[str, Tensor]:
    """torch's generator states of every process, so that a resumed run draws the same dropout."""
    device = accelerator.device
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    gathered = {kind: accelerator.gather(state.to(device)[None]).cpu() for kind, state in states.items()}
    return {f"{kind}.{rank}": row.clone() for kind, rows in gathered.items() for rank, row in enumerate(rows)}


def _finish(run: _Run) -> TrainResult:
    """Leave the result in `recipe.model` and say how it ended."""
    finished = run.step == run.config.steps
    if finished and run.ema is not None:
        run.ema.copy_to_model()
    run.recipe.model.eval()
    last = {line["kind"]: line for line in read_metrics(run.out)}
    return TrainResult(
        finished, run.step, checkpoints(run.out)[-1], last.get("train", {}), last.get("eval", {}), tuple(run.skipped)
    )


def _agree(run: _Run, pause: bool) -> bool:
    """Whether to pause now, in any process: clocks and signals differ, and all must stop at the same step.

    The processes add up their unreadable items, too; `InputError` in all of them where there are too many.
    """
    run.num_skipped = len(run.skipped)
    if run.accelerator.num_processes > 1:
        totals = torch.tensor([float(pause), float(run.num_skipped)], device=run.accelerator.device)
        anywhere, skipped = run.accelerator.reduce(totals).tolist()
        pause, run.num_skipped = anywhere > 0, int(skipped)
    if run.recipe.source is not None:
        run.recipe.source.check_unreadable(run.num_skipped, list(run.skipped))
    return pause

"""Run a recipe from its settings file: train every stage, save the model, and write its training.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ...encoders.clip.frozen_trunk import bf16_is_fast
from ...encoders.saved_models import read_json
from ...output_files import disk_writes, write_text
from ...progress import print_note
from .checkpoint import load_trained
from .distributed import join_group
from .loop import TrainResult, check_folder, train, writer
from .recipe import Recipe
from .settings import Stage, read_stages
from .sharding import is_sharded

RECORD = "training.json"


def run_file(
    recipe_class: type[Recipe], path: Path, out: Path, *, resume: bool = False, max_minutes: float | None = None
) -> TrainResult:
    """Run every stage of the settings file `path`; the finished model is in `out/model`.

    With `resume`, stages that are done are passed over and the one that was stopped goes on.
    """
    stages = read_stages(path, out)
    configs = [stage.settings(recipe_class.config_class, path) for stage in stages]  # all errors before any training
    check_folder(out, resume)
    with writer(out):
        return _run_stages(recipe_class, stages, configs, out, resume, max_minutes)


def _run_stages(
    recipe_class: type[Recipe],
    stages: Sequence[Stage],
    configs: Sequence[Any],
    out: Path,
    resume: bool,
    max_minutes: float | None,
) -> TrainResult:
    end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    for stage, config in zip(stages, configs, strict=True):
        done = (stage.out / "model" / RECORD).exists()
        if done and stage is not stages[-1]:
            continue
        minutes = None if end is None else max(0.0, (end - time.monotonic()) / 60)
        # The last model is saved in its place, not copied there: it may name its CLIP by a relative path.
        model = out / "model" if stage is stages[-1] else None
        shared = {"cache": out.parent / "cache", "model": model}
        result = run(recipe_class, config, stage.out, **shared, resume=resume, max_minutes=minutes)
        if not result.finished:
            break
    return result


def run(
    recipe_class: type[Recipe],
    config: Any,
    out: Path,
    *,
    cache: Path | None = None,
    model: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
) -> TrainResult:
    """Train by a recipe in `out`; once all steps are done the model is in the folder `model`, with its training.json.

    cache: folder for what runs may share, "cache" beside `out` unless given. model: `out/model` unless given. Other
    arguments: `loop.train`.
    """
    join_group()
    commit = current_commit()  # of the code that trains, not of what is there hours later
    before = _record_before(config)
    recipe = recipe_class(config, cache or out.parent / "cache")  # type: ignore[call-arg]
    for note in _notes(recipe) if PartialState().is_main_process else ():
        print_note(note)
    result = train(recipe, config.loop, out, resume=resume, max_minutes=max_minutes)
    if result.finished and PartialState().is_main_process:
        if is_sharded(recipe.model):  # this process has its share alone; on the CPU, for the whole may outgrow a GPU
            recipe = recipe_class(config, cache or out.parent / "cache")  # type: ignore[call-arg]
            load_trained(recipe.model.eval(), out)
        folder = model or out / "model"
        folder.mkdir(parents=True, exist_ok=True)
        with disk_writes(folder):
            recipe.save(folder)
        write_record(folder, recipe, commit, result, before)
    PartialState().wait_for_everyone()
    return result


def _notes(recipe: Recipe) -> list[str]:
    """What is to know before training."""
    notes = list(recipe.source.notes) if recipe.source else []
    device = PartialState().device
    if recipe.config.loop.precision == "bf16" and device.type == "cpu" and not bf16_is_fast(device):
        notes.append("this CPU has no bf16 instructions, so loop.precision bf16 is slow here; fp32 is faster")
    return notes


def write_record(
    folder: Path, recipe: Recipe, commit: str, result: TrainResult, before: dict[str, Any] | None = None
) -> None:
    """`training.json`: recipe, settings, seed, commit, steps, device, minutes, final metrics; of a later stage the
    record of the one before, as `started_from`."""
    import torch

    config = asdict(recipe.config)
    record = {
        "recipe": recipe.name,
        "settings": {**config, **recipe.record()},
        "seed": recipe.config.loop.seed,
        "commit": commit,
        "steps": result.step,
        "device": _device(),
        "torch": torch.__version__,
        "minutes": round(float(result.metrics.get("elapsed", 0.0)) / 60, 1),
        "final_metrics": {"train": result.metrics, "validation": result.evaluation},
    }
    if recipe.source and recipe.source.notes:
        record["data_notes"] = list(recipe.source.notes)
    if before is not None:
        record["started_from"] = before
    write_text(json.dumps(record, indent=1, default=list) + "\n", folder / RECORD)


def _record_before(config: Any) -> dict[str, Any] | None:
    """The record of the model that a stage starts from. Raises `InputError` for a damaged one, before any training."""
    start = getattr(config, "start", None)
    path = Path(start) / RECORD if isinstance(start, str) and start else None
    return read_json(path, "training") if path and os.path.lexists(path) else None


def current_commit() -> str:
    """The commit of the code that runs, "-dirty" behind it where tracked files differ; "unknown" without git."""
    here = Path(__file__).resolve().parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"

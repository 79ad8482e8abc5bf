"""Checkpoints that are there whole or not at all: safetensors and JSON, written aside, synced to disk, then renamed.

    out/step-00001000/model.safetensors       trainable parameters and buffers, by name
                      optimizer.safetensors   "<parameter name>/<state name>"
                      ema.safetensors         the moving average, where there is one
                      rng.safetensors         torch's generators, one per process
                      state.json              step, settings, elapsed seconds

A kill at any instant leaves the last whole checkpoint untouched: the folder gets its name only once every file is on
disk, and older ones go only after that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...encoders.loading.guard import is_finite
from ...errors import InputError
from ...input_files import check_regular, read_json_file
from ...output_files import disk_writes
from .optimizer import trainable_parameters
from .sharding import sharded_like, whole

TEMPORARY = ".saving-"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on: a JSON `state` with "step", and the named tensors of each file."""

    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints in `out`, oldest first. Half-written ones have another name and are not among them."""
    if not out.is_dir():
        return []
    found = [(int(match[1]), path) for path in out.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(checkpoint: Checkpoint, out: Path, keep: int = 2) -> Path:
    """Write `checkpoint` as `out/step-<step>`, then remove all but the newest `keep`. Returns the new folder."""
    final = out / f"step-{checkpoint.state['step']:08d}"
    temporary = out / f"{TEMPORARY}{final.name}"
    remove_leftovers(out)
    try:
        with disk_writes(final):
            _write(checkpoint, temporary)
        os.replace(temporary, final)
    except BaseException:  # a full disk gets its space back
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(out)
    for old in checkpoints(out)[:-keep]:
        _remove(old)
    return final


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, tensors in checkpoint.tensors.items():
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "state.json").write_text(json.dumps(checkpoint.state, indent=2) + "\n")
    for path in (*folder.iterdir(), folder):
        _sync(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint folder `path`. Raises `InputError` where a file is missing or damaged."""
    try:
        state = read_json_file(path / "state.json")
        _check_state(state)
        files = sorted(path.glob("*.safetensors"))
        for file in files:
            check_regular(file)
        tensors = {file.stem: load_file(file) for file in files}
        _check_finite(tensors)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"Checkpoint {path} cannot be read ({error}). Expected a folder that textlens wrote; "
            "remove it to go on from the one before."
        ) from error
    return Checkpoint(state, tensors)


def _check_state(state: Any) -> None:
    """Raise `InputError` unless state.json has what `loop` writes into it, of the right types."""
    kinds = {"step": int, "elapsed": int | float, "config": dict, "skipped": list}
    if not isinstance(state, dict):
        raise InputError(f"state.json holds {type(state).__name__}, expected an object")
    skipped = state.get("skipped")
    if isinstance(skipped, list) and not all(isinstance(one, str) for one in skipped):
        raise InputError("state.json has skipped items that are no text")
    for name, kind in kinds.items():
        value = state.get(name, [] if name == "skipped" else 0.0 if name == "elapsed" else {} if kind is dict else None)
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int | float) and value < 0):
            raise InputError(f"state.json has {name} = {str(value)[:60]!r}")


def _check_finite(tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    for kind in ("model", "ema", "optimizer"):
        bad = [name for name, tensor in tensors.get(kind, {}).items() if not is_finite(tensor, infinite=True)]
        if bad:
            raise InputError(f"{kind}.safetensors has NaN in {bad[0]}")


def remove_leftovers(out: Path) -> None:
    """Remove what a killed process left half-written or half-removed."""
    for path in out.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path)


def _remove(path: Path) -> None:
    """Rename first: a kill halfway through must not leave half a checkpoint under a good name."""
    doomed = path.with_name(f"{TEMPORARY}removed-{path.name}")
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def _sync(path: Path) -> None:
    """Have the system put a file (or the entries of a folder) on disk before we go on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- what goes into the files --------------------------------------------------------------------------------


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes in `model`: its trainable parameters and its persistent buffers, as `whole` gives them.

    Frozen parameters are left out: they come from wherever the recipe got them, and would be most of the bytes.
    """
    return whole(_trained_state(model))


def _trained_state(model: nn.Module) -> dict[str, Tensor]:
    persistent = model.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**trainable_parameters(model), **buffers}


@torch.no_grad()
def load_tensors(target: Mapping[str, Tensor], source: Mapping[str, Tensor], what: str) -> None:
    """Copy `source` into `target` in place. Raises `InputError` that names what differs in names, shapes or types."""
    missing, unexpected = sorted(target.keys() - source.keys()), sorted(source.keys() - target.keys())
    if missing or unexpected:
        raise InputError(
            f"The checkpoint's {what} does not fit this model: missing {missing[:5]}, unexpected {unexpected[:5]}. "
            "Resume with the recipe and the settings that wrote it."
        )
    for name, tensor in target.items():
        if tensor.shape != source[name].shape or tensor.dtype != source[name].dtype:
            raise InputError(
                f"The checkpoint's {what} has {name} as {tuple(source[name].shape)} {source[name].dtype}, "
                f"expected {tuple(tensor.shape)} {tensor.dtype}. Resume with the recipe and the settings that wrote it."
            )
        tensor.copy_(sharded_like(source[name], tensor))


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `model_tensors`."""
    load_tensors(_trained_state(model), tensors, "model")


def load_trained(model: nn.Module, out: Path) -> int:
    """Load what the newest checkpoint in `out` would evaluate (the moving average where there is one); returns its
    step.

    For the export of a run that is paused or ended in another process. Raises `InputError` where there is no
    checkpoint, or it does not fit `model`.
    """
    found = checkpoints(out)
    if not found:
        raise InputError(
            f"There is no checkpoint in {out}; expected a folder that `train` wrote, such as {out}/step-00001000."
        )
    checkpoint = load_checkpoint(found[-1])
    load_model_tensors(model, checkpoint.tensors.get("model", {}))
    if "ema" in checkpoint.tensors:
        load_tensors(trainable_parameters(model), checkpoint.tensors["ema"], "moving average")
    return int(checkpoint.state["step"])


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state as flat "<parameter name>/<state name>" tensors, as `whole` gives them. Rates follow from
    the step."""
    return whole(
        {
            f"{name}/{key}": value
            for name, parameter in parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
    )


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`, through `load_state_dict`, which places each tensor as its optimizer wants
    it.

    A parameter that never had a gradient has no state and may be missing; unknown names raise `InputError`.
    """
    state: dict[str, dict[str, Tensor]] = {}
    for flat, tensor in tensors.items():
        name, _, key = flat.rpartition("/")
        state.setdefault(name, {})[key] = tensor
    if unexpected := sorted(state.keys() - parameters.keys()):
        raise InputError(
            f"The checkpoint has optimizer state for {unexpected[:5]}, which this model does not train. "
            "Resume with the recipe and the settings that wrote it."
        )
    for name, values in state.items():
        _check_moments(name, values, parameters[name])
        for key in _LIKE_THE_PARAMETER & values.keys():
            values[key] = sharded_like(values[key], parameters[name])
    names = {id(parameter): name for name, parameter in parameters.items()}
    ordered = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    indexed = {i: state[name] for i, name in enumerate(ordered) if name in state}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": indexed, "param_groups": groups})


# What AdamW, Muon, and Adafactor (of vectors, of matrices) keep of a parameter.
_KEPT = ({"step", "exp_avg", "exp_avg_sq"}, {"momentum_buffer"}, {"step", "variance"}, {"step", "row_var", "col_var"})
_LIKE_THE_PARAMETER = {"exp_avg", "exp_avg_sq", "momentum_buffer", "variance"}


def _check_moments(name: str, values: Mapping[str, Tensor], parameter: nn.Parameter) -> None:
    """Raise `InputError` for state that the optimizer's next step could not use."""
    wrong = [key for key in _LIKE_THE_PARAMETER & values.keys() if values[key].shape != parameter.shape]
    wrong += ["step"] if "step" in values and values["step"].numel() != 1 else []
    if values.keys() not in _KEPT or wrong or any(not tensor.is_floating_point() for tensor in values.values()):
        found = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(values.items()))
        raise InputError(
            f"The checkpoint's optimizer has {found} of {name}, whose shape is {tuple(parameter.shape)}. "
            "Resume with the recipe and the settings that wrote it; else remove the checkpoint."
        )

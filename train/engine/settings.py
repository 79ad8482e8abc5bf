"""Settings files (YAML) and the training record (`training.json`) that goes with every set of trained weights."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import InputError

if TYPE_CHECKING:
    from .loop import TrainResult

Config = TypeVar("Config")


def read_settings(config_class: type[Config], path: Path) -> Config:
    """A dataclass of settings from a YAML file; unknown and missing names are errors that list the valid ones.

    `base: other.yaml` takes that file's settings (its path is relative to this one) and changes what stands beside it,
    in mappings such as `loop` name by name.
    """
    values = _load(path)
    known = {f.name: f for f in fields(config_class)}  # type: ignore[arg-type]
    required = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if not isinstance(values, dict) or set(values) - set(known) or required - set(values):
        got = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise InputError(f"{path} holds {got}; expected {', '.join(known)} (required: {', '.join(sorted(required))})")
    return config_class(**values)


def _load(path: Path, above: tuple[Path, ...] = ()) -> Any:
    """What a YAML file says, with its `base` filled in. above: the files that led here."""
    import yaml

    if path.resolve() in above:
        raise InputError(f"{path} is its own base, by way of {above[-1]}; expected a base that stands on its own")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read settings from {path}: {error}") from error
    if not isinstance(values, dict) or "base" not in values:
        return values
    base = _load(path.parent / str(values.pop("base")), (*above, path.resolve()))
    return _merged(base, values) if isinstance(base, dict) else base


def _merged(base: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    """Mappings in both are merged in turn; anything else is replaced."""
    return base | {
        name: _merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
        for name, value in changes.items()
    }


def current_commit() -> str:
    """The commit of the code that runs, "-dirty" behind it where tracked files differ; "unknown" without git."""
    here = Path(__file__).resolve().parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def write_training_record(
    folder: Path, recipe: str, settings: dict[str, Any], commit: str, result: TrainResult
) -> None:
    """Write `training.json`: recipe, settings, seed, commit, steps, device, time in minutes and final metrics.

    Of a second stage (settings with a `start` folder) it holds the record of the stage before, as `started_from`.
    """
    import torch

    record = {
        "recipe": recipe,
        "settings": settings,
        "seed": settings["loop"].get("seed", 0),
        "commit": commit,
        "steps": result.step,
        "device": _device(),
        "torch": torch.__version__,
        "minutes": round(float(result.metrics.get("elapsed", 0.0)) / 60, 1),
        "final_metrics": {"train": result.metrics, "validation": result.evaluation},
    }
    before = Path(settings.get("start") or "") / "training.json"
    if settings.get("start") and before.exists():
        record["started_from"] = json.loads(before.read_text(encoding="utf-8"))
    (folder / "training.json").write_text(json.dumps(record, indent=1, default=list) + "\n", encoding="utf-8")

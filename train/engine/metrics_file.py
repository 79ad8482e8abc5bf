"""`metrics.jsonl`: one JSON object a line for each logged step ("kind": "train") and evaluation ("kind": "eval")."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...input_files import read_text
from ...output_files import write_text

NAME = "metrics.jsonl"
MAX_BYTES = 4 << 30


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of `out/metrics.jsonl`, in order; none without the file. A last line cut short by a kill is skipped."""
    path = out / NAME
    text = read_text(path, MAX_BYTES) if os.path.lexists(path) else ""
    return [_entry(line, path, number) for number, line in enumerate(text.split("\n")[:-1], 1)]


def _entry(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        if isinstance(entry["step"], int) and isinstance(entry["kind"], str):
            return dict(entry)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path}, line {number}, is not one that training writes ({line[:60]!r}); remove that line")


def append_metrics(out: Path, kind: str, step: int, figures: dict[str, float]) -> None:
    """Add one line. A figure that is not finite is written as null, since JSON has no NaN."""
    values = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    with (out / NAME).open("a") as file:
        file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")


def drop_metrics_after(out: Path, step: int) -> None:
    """Forget the lines past `step`, which a resumed run writes again."""
    if not (out / NAME).exists():
        return
    kept = [line for line in read_metrics(out) if line["step"] <= step]
    write_text("".join(json.dumps(line) + "\n" for line in kept), out / NAME)

"""`metrics.jsonl`: one JSON object a line for each logged step ("kind": "train") and evaluation ("kind": "eval")."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

NAME = "metrics.jsonl"


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of `out/metrics.jsonl`, in order; none without the file. A last line cut short by a kill is skipped."""
    path = out / NAME
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


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
    temporary = out / f".{NAME}"
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    os.replace(temporary, out / NAME)

"""Evaluations in processes that can be killed: `python killable_runs.py ADDRESS`, then on stdin a folder for each run.

Each run is a process of its own. It is forked from this one, so that it need not import torch anew. Its number is
printed as it starts, its wait status as it ends. Images that are described are noted in FOLDER/described.txt.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from textlens.agent.models.server import ServerModel
from textlens.evals.harness.runner import EvalSettings, run
from textlens.evals.harness.task_kinds import open_task

sys.path.insert(0, str(Path(__file__).parent))
from tiny_benchmark import Looker

SECONDS = 0.004  # for each image


class SlowLooker(Looker):
    """Notes every image that it describes, in words that are not ASCII."""

    def __init__(self, notes: Path) -> None:
        super().__init__()
        self.notes = str(notes)

    def describe(self, images):
        with open(self.notes, "a") as file:
            file.writelines(f"{image.width}\n" for image in images)  # tells images of the tiny benchmark apart
        time.sleep(SECONDS * len(images))
        made = super().describe(images)
        return [replace(one, text=f"it — “ça” — is {one.text.rpartition(' ')[2]}") for one in made]


def evaluate(folder: Path, address: str) -> None:
    task = open_task(str(folder / "colours.yaml"), folder)
    settings = EvalSettings((0, 2), output=folder / "out", log_samples=True)
    run([task], {"looker": SlowLooker(folder / "described.txt")}, [], ServerModel(address), settings)


if __name__ == "__main__":
    for line in sys.stdin:
        if (process := os.fork()) == 0:
            try:
                evaluate(Path(line.strip()), sys.argv[1])
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)

"""`python ray_run.py SOURCE DST RAY_FOLDER [--kill]`: recaption on a Ray of this machine with two workers.

--kill: one of the workers gets a SIGKILL once the first part is there. Prints the exit signals seen, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from textlens.train.recaption.recaption import RecaptionSettings, recaption


def workers() -> list[int]:
    """Processes of the actors."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if b"ray::MapWorker" in (folder / "cmdline").read_bytes() and session(folder):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def session(folder: Path) -> bool:
    """Whether a process is of this test's Ray."""
    return f"TEXTLENS_RAY_TEST={os.getpid()}".encode() in (folder / "environ").read_bytes().split(b"\0")


def start(folder: str) -> None:
    """Ray gives up a start that takes some seconds, as it does where the processor is busy: so up to four times."""
    for turn in range(4):
        try:
            ray.init(
                address="local", num_cpus=2, include_dashboard=False, _temp_dir=f"{folder}/{turn}", log_to_driver=False,
                object_store_memory=80 * 2**20,
            )  # fmt: skip
            return
        except Exception as error:  # Ray's own is no more special
            print(error, file=sys.stderr)
            ray.shutdown()
    raise SystemExit("Ray does not start here")


def kill_one(out: Path, killed: list[int]) -> None:
    while not list(out.glob("*.parquet")):
        time.sleep(0.005)
    victim = workers()[0]
    os.kill(victim, signal.SIGKILL)
    killed.append(victim)


if __name__ == "__main__":
    source, out, folder = sys.argv[1:4]
    os.environ["TEXTLENS_RAY_TEST"] = str(os.getpid())
    start(folder)
    killed: list[int] = []
    if "--kill" in sys.argv:
        threading.Thread(target=kill_one, args=(Path(out), killed), daemon=True).start()
    settings = RecaptionSettings(source, Path(out), {"short": "scenes:coca"}, batch_size=2, workers=2)
    made = recaption(settings, "ray")
    print(json.dumps({"killed": len(killed), "images": made.images, "problems": made.problems}))

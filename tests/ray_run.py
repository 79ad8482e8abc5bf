"""Commands of textlens on a Ray of this machine with two workers.

As a script, `python ray_run.py RAY_FOLDER KILL_AFTER COMMAND …`: one of the workers gets a SIGKILL once there is a
parquet file in KILL_AFTER; "-" for none. Its process number stands on stderr.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra `ray`")
SECONDS = 600


def run_on_ray(*command: str, kill_after: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`textlens COMMAND`, which should name the engine and two workers."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as folder:  # Ray's sockets need a short path
        script = [sys.executable, __file__, folder, str(kill_after or "-")]
        return subprocess.run(
            [*script, *command], capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
        )


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
    import ray

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


def kill_one(out: Path) -> None:
    while not list(out.glob("*.parquet")):
        time.sleep(0.005)
    victim = workers()[0]
    os.kill(victim, signal.SIGKILL)
    print(f"killed {victim}", file=sys.stderr)


if __name__ == "__main__":
    from textlens.cli import main

    temporary, watched, *arguments = sys.argv[1:]
    os.environ["TEXTLENS_RAY_TEST"] = str(os.getpid())
    start(temporary)
    if watched != "-":
        threading.Thread(target=kill_one, args=(Path(watched),), daemon=True).start()
    sys.argv[1:] = arguments
    main()

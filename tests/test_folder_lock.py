"""A folder has one writer: the second is refused by name, a killed one blocks nobody, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.folder_lock import LOCK_NAME, one_writer
from textlens.scenes.scene_files import write_scenes

HOLD = """
import sys, time
from textlens.folder_lock import one_writer
with one_writer(sys.argv[1]):
    print(flush=True)
    time.sleep(60)
"""


@contextmanager
def other_writer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_second_writer_is_refused_with_the_first_ones_number_and_time_and_takes_over_after_a_kill(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "out"
    with other_writer(folder) as other:
        expected = rf"out is being written by process {other.pid} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d; wait"
        for _ in range(2):  # a refusal does not take the holder's name away
            with pytest.raises(InputError, match=expected), one_writer(folder):
                pass
        with pytest.raises(InputError, match=re.escape(f"process {other.pid}")):
            next(write_scenes(1, folder))
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert (folder / LOCK_NAME).exists()
    assert [row["image"] for row in write_scenes(1, folder)] == ["00000.png"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000.png",
        "metadata.jsonl",
        "questions.jsonl",
        "scenes.jsonl",
    ]


def test_blocks_of_one_thread_nest_and_other_threads_are_refused(tmp_path: Path) -> None:
    refused = []

    def second() -> None:
        try:
            with one_writer(tmp_path):
                pass
        except InputError as error:
            refused.append(str(error))

    with one_writer(tmp_path):
        with one_writer(tmp_path):
            pass
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()}" in refused[0]
    assert list(tmp_path.iterdir()) == []


def test_many_writers_in_turn_never_hold_it_together(tmp_path: Path) -> None:
    """The lock's file goes with each release, and a lock of a file that has gone is none."""
    held, together, done = [0], [], [0]

    def work() -> None:
        for _ in range(200):
            try:
                with one_writer(tmp_path / "out"):
                    held[0] += 1
                    together.append(held[0])
                    done[0] += 1
                    held[0] -= 1
            except InputError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(together) == {1}
    assert done[0] >= 50


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for place in ("out", "out/inside"):
        with pytest.raises(InputError, match="expected a folder"), one_writer(tmp_path / place):
            pass

"""SIGKILL, a full disk and company: nothing is doubled, lost or torn."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SECONDS = 300
KILLS, KILLS_OF_CHECKS = 22, 8
SIZES = (2,) * 32  # samples of each shard


class Runner:
    """Runs of `killable_recaptions.py`."""

    def __init__(self, process: subprocess.Popen, errors: Path) -> None:
        self.process, self.errors = process, errors

    def start(self, settings: dict, **more: object) -> int:
        return int(self.ask({"settings": settings, **more}))

    def wait(self, number: int) -> int:
        """Exit code, or less a signal."""
        return os.waitstatus_to_exitcode(int(self.ask({"wait": number})))

    def run(self, settings: dict, **more: object) -> int:
        return self.wait(self.start(settings, **more))

    def ask(self, told: dict) -> str:
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    errors = tmp_path_factory.mktemp("errors") / "stderr.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, str(Path(__file__).with_name("killable_recaptions.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        errors.open("w") as file,
        subprocess.Popen(command, text=True, env=environment, stderr=file, **pipes) as process,
    ):
        yield Runner(process, errors)
        process.stdin.close()
        process.wait(timeout=SECONDS)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def settled(folder):
    """Parts, with what the last line of each says but for its time."""
    found = {}
    for line in (folder / "parts.jsonl").read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        found[entry["part"]] = {key: value for key, value in entry.items() if key not in ("seconds", "written")}
    return found


def finished_lines(folder):
    path = folder / "parts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(folder, number):
    end = time.monotonic() + SECONDS
    while finished_lines(folder) < number:
        assert time.monotonic() < end, f"{finished_lines(folder)} of {number} parts"
        time.sleep(0.001)


def check_whole(folder, undisturbed):
    """Every part that has its name is whole, and none has a line without its file."""
    for path in folder.glob("*.parquet"):
        assert pq.read_table(path).num_rows == undisturbed[path.name]
    if (folder / "parts.jsonl").exists():
        assert {f"{part}.parquet" for part in settled(folder)} <= {path.name for path in folder.glob("*.parquet")}


@pytest.fixture
def settings(shards, tmp_path):
    source = shards(*SIZES)
    return {"source": source, "folder": str(tmp_path / "out"), "styles": {"short": "scenes:coca"}, "batch_size": 2}


def test_kills_lose_only_what_was_under_way(runner, settings, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    began = time.monotonic()
    assert runner.run({**settings, "folder": str(whole)}) == 0
    part = (time.monotonic() - began) / len(SIZES)  # seconds; kills come between parts and within them on any machine
    rows = {path.name: pq.read_table(path).num_rows for path in whole.glob("*.parquet")}
    rng = random.Random(11)
    for _ in range(KILLS):
        wanted = finished_lines(out) + rng.choice((0, 0, 0, 1, 1))
        number = runner.start(settings)
        wait_for_lines(out, wanted)
        time.sleep(rng.uniform(0, part))
        os.kill(number, signal.SIGKILL)
        assert runner.wait(number) == -signal.SIGKILL
        check_whole(out, rows)
    assert 0 < len(settled(out)) < len(SIZES)  # still in the middle
    with (out / "parts.jsonl").open("ab") as file:
        file.write(b'{"part": "00031", "sh')  # as a kill within a write leaves it
    assert runner.run(settings) == 0
    assert contents(out) == contents(whole)
    assert settled(out) == settled(whole)
    written = [json.loads(line)["part"] for line in (out / "parts.jsonl").read_text().splitlines() if line[-1] == "}"]
    assert len(written) == len(set(written)) == len(SIZES)

    deny = [pq.read_table(path)["short"][0].as_py().split()[1] for path in sorted(whole.glob("*.parquet"))[::5]]
    for turn in range(KILLS_OF_CHECKS):  # flags of all parts are written anew, and again
        number = runner.start(settings, deny=deny if turn % 2 == 0 else [])
        time.sleep(rng.uniform(0.1, 0.6))
        os.kill(number, signal.SIGKILL)
        runner.wait(number)
        check_whole(out, rows)
    assert runner.run(settings) == 0
    assert contents(out) == contents(whole)
    assert not list(out.glob("*.unfinished"))


def test_three_processes_share_the_work(runner, settings, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert runner.run({**settings, "folder": str(whole)}) == 0
    numbers = [runner.start(settings) for _ in range(3)]
    wait_for_lines(out, 3)
    os.kill(numbers[0], signal.SIGKILL)  # the others take over
    assert [runner.wait(number) for number in numbers] == [-signal.SIGKILL, 0, 0]
    assert contents(out) == contents(whole)
    assert settled(out) == settled(whole)
    written = [json.loads(line)["part"] for line in (out / "parts.jsonl").read_text().splitlines()]
    assert sorted(written) == sorted(settled(whole))  # each once


def test_two_configurations_at_once_are_not_mixed(runner, settings, tmp_path):
    numbers = [runner.start({**settings, "styles": {style: "scenes:coca"}}) for style in ("one", "other")]
    assert sorted(runner.wait(number) for number in numbers) == [0, 2]
    columns = {tuple(pq.read_schema(path).names) for path in (tmp_path / "out").glob("*.parquet")}
    assert len(columns) == 1
    assert "holds captions of another configuration" in runner.errors.read_text()


def test_files_that_may_not_grow_are_a_clear_error(runner, shards, tmp_path):
    settings = {"source": shards(1, 24, 1), "folder": str(tmp_path / "out"), "styles": {"short": "scenes:coca"}}
    assert runner.run({**settings, "folder": str(tmp_path / "whole")}) == 0
    size = (tmp_path / "whole" / "00001.parquet").stat().st_size
    assert runner.run(settings, file_size=size - 100) == 2
    told = runner.errors.read_text()
    assert "00001.parquet cannot be written (File too large); what is finished is kept: make room" in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    assert list(settled(tmp_path / "out")) == ["00000"]
    assert not list((tmp_path / "out").glob(".*.unfinished"))
    assert runner.run(settings) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_later(runner, shards, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        settings = {"source": shards(*[2] * 14), "folder": str(disk / "out"), "styles": {"short": "scenes:coca"}}
        assert runner.run({**settings, "folder": str(tmp_path / "whole")}) == 0
        assert runner.run(settings) == 2
        assert "No space left on device); what is finished is kept: make room" in runner.errors.read_text()
        done = settled(disk / "out")
        assert 0 < len(done) < 14
        assert runner.run(settings) == 2  # still full
        assert settled(disk / "out") == done
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert runner.run(settings) == 0
        assert contents(disk / "out") == contents(tmp_path / "whole")
        assert settled(disk / "out") == settled(tmp_path / "whole")
    finally:
        subprocess.run(["umount", disk], check=True)

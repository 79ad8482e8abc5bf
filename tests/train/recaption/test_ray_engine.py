"""A real Ray with two workers, one of them killed: the output is that of one process."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.train.recaption.recaption import RecaptionSettings, recaption

from .test_killed import contents, settled

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra `ray`")
SECONDS = 600


@needs_ray
def test_a_killed_worker_changes_nothing(shards, tmp_path):
    source = shards(*[2] * 10)
    recaption(RecaptionSettings(source, tmp_path / "whole", {"short": "scenes:coca"}, batch_size=2))
    script = Path(__file__).with_name("ray_run.py")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as folder:  # Ray's sockets need a short path
        command = [sys.executable, str(script), source, str(tmp_path / "out"), folder, "--kill"]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["killed"], told["problems"]) == (1, [])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert settled(tmp_path / "out") == settled(tmp_path / "whole")


def test_rows_name_parts_and_hold_no_image(shards, tmp_path):
    from dataclasses import asdict

    from textlens.train.recaption.ray_engine import RayWorker
    from textlens.train.recaption.source_parts import open_parts

    settings = RecaptionSettings(shards(3), tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    source = open_parts(settings.source)
    row = {"part": json.dumps(asdict(source.parts[0]))}
    assert len(row["part"]) < 500
    (tmp_path / "out" / "00000.parquet").unlink()
    told = RayWorker(os.getcwd(), settings.work(source))(row)
    assert json.loads(told["told"])["value"]["rows"] == 3
    assert (tmp_path / "out" / "00000.parquet").exists()


def test_errors_of_a_worker_come_back_as_values(shards, tmp_path):
    from textlens.train.recaption.ray_engine import RayWorker, _value
    from textlens.train.recaption.source_parts import open_parts

    settings = RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:nothing"})
    told = RayWorker(os.getcwd(), settings.work(open_parts(settings.source)))(
        {"part": '{"name": "a", "shard": null, "first": 0, "size": 1}'}
    )
    with pytest.raises(InputError, match="nothing"):
        _value(json.loads(told["told"]))


def test_without_ray_the_error_says_what_to_install(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'textlens\[ray\]'"):
        recaption(RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:coca"}), "ray")
    with pytest.raises(InputError, match="unknown engine 'spark'; expected local or ray"):
        recaption(RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:coca"}), "spark")

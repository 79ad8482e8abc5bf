"""A real Ray with two workers, one of them killed: the output is that of one process."""

import json
import os
import sys
from dataclasses import asdict
from functools import partial

import pytest
from textlens.encoders.cluster.ray_actors import Actor
from textlens.errors import InputError
from textlens.train.recaption.ray_engine import part_worker
from textlens.train.recaption.recaption import RecaptionSettings, recaption
from textlens.train.recaption.source_parts import open_parts

from ...ray_run import needs_ray, run_on_ray
from .test_killed import contents, settled


@needs_ray
def test_a_killed_worker_changes_nothing(shards, tmp_path):
    source, out = shards(*[2] * 10), tmp_path / "out"
    recaption(RecaptionSettings(source, tmp_path / "whole", {"short": "scenes:coca"}, batch_size=2))
    command = ["recaption", source, str(out), "--encoder", "short=scenes:coca", "--batch-size", "2", "--sheet", "0"]
    done = run_on_ray(*command, "--engine", "ray", "--workers", "2", kill_after=out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("killed") == 1
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["rows"], told["failed"], told["bad_shards"]) == (20, 0, 0)
    assert contents(out) == contents(tmp_path / "whole")
    assert settled(out) == settled(tmp_path / "whole")


def test_rows_name_parts_and_hold_no_image(shards, tmp_path):
    settings = RecaptionSettings(shards(3), tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    source = open_parts(settings.source)
    row = {"number": 0, "task": json.dumps(asdict(source.parts[0]))}
    assert len(row["task"]) < 500
    (tmp_path / "out" / "00000.parquet").unlink()
    told = Actor(os.getcwd(), partial(part_worker, settings.work(source)))(row)
    assert json.loads(told["told"])["value"]["rows"] == 3
    assert (tmp_path / "out" / "00000.parquet").exists()


def test_errors_of_a_worker_come_back_as_values(shards, tmp_path):
    settings = RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:nothing"})
    actor = Actor(os.getcwd(), partial(part_worker, settings.work(open_parts(settings.source))))
    told = actor({"number": 0, "task": '{"name": "a", "shard": null, "first": 0, "size": 1}'})
    assert "nothing" in json.loads(told["told"])["error"]
    lost = Actor(str(tmp_path / "elsewhere"), partial(part_worker, settings.work(open_parts(settings.source))))
    assert "expected one all share" in json.loads(lost({"number": 0, "task": "{}"})["told"])["error"]


def test_without_ray_the_error_says_what_to_install(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'textlens\[ray\]'"):
        recaption(RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:coca"}), "ray")
    with pytest.raises(InputError, match="unknown engine 'spark'; expected local or ray"):
        recaption(RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:coca"}), "spark")

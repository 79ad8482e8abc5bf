"""`textlens describe --engine ray`: the lines of the local engine, in the order of the images, whatever is wrong."""

import json
import os
import sys
from functools import partial

import pytest
from PIL import Image
from textlens.cli import app
from textlens.encoders.cluster.ray_actors import Actor, Cluster
from textlens.encoders.cluster.ray_describe import _result, _worker, describe_on_ray
from textlens.encoders.image_sources import DEFAULT_LIMITS
from textlens.encoders.pipeline import describe_stream
from textlens.encoders.registry import load_encoder
from textlens.errors import InputError
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from typer.testing import CliRunner

from ...ray_run import needs_ray, run_on_ray

SPEC = "scenes:coca"


@pytest.fixture
def pictures(tmp_path):
    """Names of 11 images; number 4 and 9 are none."""
    for number in range(11):
        path = tmp_path / f"{number:02d}.png"
        if number in (4, 9):
            path.write_bytes(b"no picture")
        else:
            Image.fromarray(render(scene_at(number, "test"))).save(path)
    return sorted(map(str, tmp_path.iterdir()))


@needs_ray
def test_lines_and_exit_code_are_those_of_the_local_engine(pictures):
    command = ["describe", *pictures, "--encoder", SPEC, "--batch-size", "1"]  # three tasks
    local = CliRunner().invoke(app, [*command, "--json"])
    done = run_on_ray(*command, "--json", "--engine", "ray", "--workers", "2")
    assert done.returncode == local.exit_code == 1, done.stderr
    assert done.stdout == local.stdout
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == pictures


@pytest.mark.parametrize(
    ("gpus", "workers", "taken"),
    [
        (0, 1, {"num_cpus": 8}), (0, 2, {"num_cpus": 8}), (0, 3, {"num_cpus": 5}), (0, 40, {"num_cpus": 1}),
        (2, 1, {"num_gpus": 1}),
    ],
)  # fmt: skip
def test_fewer_workers_than_cores_take_more_of_them(gpus, workers, taken):
    cluster = Cluster(ray=None, gpus=gpus, cpus=16, node_cpus=8)  # two machines
    assert cluster.resources(workers) == taken
    assert cluster.most_workers == (gpus or 16)


def test_a_worker_tells_what_the_stream_does(pictures):
    actor = Actor(os.getcwd(), partial(_worker, (SPEC,), None, 4, DEFAULT_LIMITS, False))
    row = {"number": 7, "task": json.dumps({"names": pictures, "is_first": True})}
    told = actor(row)
    assert told["number"] == 7
    found = list(map(_result, json.loads(told["told"])["value"]))
    assert found == list(describe_stream(pictures, {SPEC: load_encoder(SPEC)}, batch_size=4))
    assert [one.image for one in found if one.error] == [pictures[4], pictures[9]]


def test_only_the_first_images_can_condemn_an_encoder(pictures):
    class Broken:
        def describe(self, images):
            raise RuntimeError("out of order")

    with pytest.raises(InputError, match="failed for all 2 images of the first batch"):
        list(describe_stream(pictures[:2], {"broken": Broken()}))
    later = list(describe_stream(pictures[:2], {"broken": Broken()}, raise_if_all_fail=False))
    assert ["out of order" in one.error for one in later] == [True, True]


def test_what_cannot_be_done_is_an_error_that_says_what_to_do(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'textlens\[ray\]'"):
        list(describe_on_ray(pictures, [SPEC]))
    with pytest.raises(InputError, match="leave it out for stdin"):
        list(describe_on_ray([b"bytes"], [SPEC]))
    for options, message in (
        [["--engine", "ray", "--video"], "leave it out for --video"],
        [["--workers", "2"], "--engine ray"],
    ):
        failed = CliRunner().invoke(app, ["describe", pictures[0], *options])
        assert message in str(failed.exception)

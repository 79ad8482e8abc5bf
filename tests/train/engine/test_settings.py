"""Settings files: typed all the way down, with a `base` and `stages`; every error names file and key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import pytest
from textlens.errors import InputError
from textlens.train.engine.recipe import LoopConfig
from textlens.train.engine.settings import read_settings, read_stages, settings


@settings
class Example:
    clip: str
    loop: LoopConfig
    sizes: tuple[int, ...] = ()
    weights: Mapping[int, float] = field(default_factory=dict)
    start: str | None = None


LOOP = "loop: { steps: 10, batch_size: 4 }"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_changes_what_its_base_says(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "clip: one\nsizes: [1, 2]\nloop: { steps: 10, batch_size: 4, seed: 1 }")
    middle = write(tmp_path / "more" / "middle.yaml", "base: ../base.yaml\nsizes: [3]\nloop: { steps: 20 }")
    top = write(tmp_path / "top.yaml", "base: more/middle.yaml\nclip: two\nweights: { 3: 1 }")
    one = Example("one", LoopConfig(steps=20, batch_size=4, seed=1), (3,))
    assert read_settings(Example, middle) == one
    assert read_settings(Example, top) == replace(one, clip="two", weights={3: 1.0})


@settings
class WithData:
    loop: LoopConfig
    data: Mapping[str, Any]


def test_source_at_the_top_is_short_for_data_and_another_source_brings_its_own_settings(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", f"{LOOP}\ndata: {{ source: one, held_out: two, image: png }}")
    short = write(tmp_path / "short.yaml", "base: base.yaml\nsource: three\nimage_column: jpg\ntext_column: txt")
    assert read_settings(WithData, short).data == {"source": "three", "image": "jpg", "text": "txt"}
    same = write(tmp_path / "same.yaml", "base: base.yaml\ndata: { image: jpg }")
    assert read_settings(WithData, same).data == {"source": "one", "held_out": "two", "image": "jpg"}


def test_a_stage_goes_on_from_the_one_before(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.yaml",
        f"clip: one\n{LOOP}\nstages:\n- sizes: [1]\n- loop: {{ steps: 20 }}\n- start: else/where\n  clip: two",
    )
    stages = read_stages(path, tmp_path / "out")
    first, second, third = (stage.settings(Example, path) for stage in stages)
    assert [stage.out.name for stage in stages] == ["stage-1", "stage-2", "stage-3"]
    assert first == Example("one", LoopConfig(steps=10, batch_size=4), (1,))
    assert second.start == str(tmp_path / "out" / "stage-1" / "model")
    assert (second.loop.steps, second.loop.batch_size, second.sizes) == (20, 4, ())
    assert (third.start, third.clip, third.loop.steps) == ("else/where", "two", 10)
    with pytest.raises(InputError, match="has 3 stages"):
        read_settings(Example, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LOOP}\nclip: one\nclop: two", r"c.yaml: unknown key 'clop'; expected clip, loop, sizes"),
        ("clip: one\nloop: { steps: 10, batch_size: 4, warmup: 3 }", r"unknown key 'loop.warmup'; expected steps, "),
        (
            "clip: one\nloop: { steps: 10, batch_size: 4, learning_rate: '5e-4' }",
            "loop.learning_rate is '5e-4'.*quotes",
        ),
        ("clip: one\nloop: { steps: 10, batch_size: 4, learning_rate: .nan }", "loop.learning_rate is .*finite"),
        (f"clip: one\n{LOOP}\ndata: 3\nsource: x", "c.yaml: data is 3"),
        (f"clip: one\n{LOOP}\nvariants: 3", "c.yaml: variants is 3"),
        (f"clip: one\n{LOOP}\n? [a, b]\n: 3", "c.yaml"),
        (f"clip: one\n{LOOP}\n2020-01-01: 3", "c.yaml"),
        ("clip: one\nloop: { steps: 10 }", "c.yaml: loop.batch_size is missing"),
        ("clip: one\nloop: { steps: 10, batch_size: 0 }", "loop.batch_size is 0; input should be greater"),
        ("clip: one\nloop: { steps: 2.5, batch_size: 4 }", "loop.steps is 2.5; input should be a valid integer"),
        (
            "clip: one\nloop: { steps: 10, batch_size: 4, precision: fp16 }",
            "loop.precision is 'fp16'.*'fp32' or 'bf16'",
        ),
        (f"clip: 3\nsizes: [one]\n{LOOP}", "clip is 3; .*; sizes.0 is 'one'"),
        ("[1, 2]", "c.yaml holds list; expected names of settings"),
        ("", "c.yaml holds NoneType"),
        ("a: [", "cannot read settings from .*c.yaml"),
        (f"clip: one\n{LOOP}\nstages: 3", "c.yaml: stages is 3; expected a list"),
        ("base: nowhere.yaml", "nowhere.yaml cannot be read"),
        ("base: c.yaml", "c.yaml is its own base"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(Example, write(tmp_path / "c.yaml", text))


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "clip: one\nloop: { steps: 10, batch_size: 4, learning_rate: 1e-3 }")
    assert read_settings(Example, path).loop.learning_rate == 1e-3


def test_a_chain_of_bases_has_an_end(tmp_path: Path) -> None:
    for number in range(1500):
        write(tmp_path / f"{number}.yaml", f"base: {number + 1}.yaml\nclip: one")
    write(tmp_path / "1500.yaml", LOOP)
    assert read_settings(Example, tmp_path / "1490.yaml").clip == "one"
    with pytest.raises(InputError, match=r"0\.yaml has a base of a base.*20 deep"):
        read_settings(Example, tmp_path / "0.yaml")


def test_a_cycle_of_bases_and_a_pipe_as_base_are_errors(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.yaml", f"base: {(number + 1) % 3}.yaml")
    with pytest.raises(InputError, match=r"0\.yaml is its own base, by way of .*2\.yaml"):
        read_settings(Example, tmp_path / "0.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match=r"pipe\.yaml cannot be read \(it is a pipe\)"):
        read_settings(Example, write(tmp_path / "c.yaml", "base: pipe.yaml"))


def test_settings_from_python_are_checked_too() -> None:
    with pytest.raises(InputError, match="Example: sizes"):
        Example("one", LoopConfig(steps=1, batch_size=1), sizes="three")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown key 'step'"):
        LoopConfig(step=1, batch_size=1)  # type: ignore[call-arg]

"""The committed settings: each file says how it is run, suits its recipe, and starts from what another one leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from textlens.errors import InputError
from textlens.plugins import load
from textlens.scenes.caption_words import caption_words
from textlens.scenes.source import SceneData
from textlens.train.data.base import data_settings
from textlens.train.engine.recipe import LoopConfig
from textlens.train.engine.settings import Stage, parse, read_stages
from textlens.train.registry import recipes

CONFIGS = Path(str(files("textlens.scenes").joinpath("configs")))
FILES = sorted(CONFIGS.glob("*.yaml"))
COMMAND = re.compile(r"`textlens train (\S+) --config scenes/configs/(\S+) --out (\S+)`")


def command(path: Path) -> tuple[str, str, str]:
    """Recipe, file (with a variant), and folder that the head of a file names."""
    found = COMMAND.search(path.read_text())
    assert found, path
    return found[1], found[2], found[3]


def stages(path: Path) -> Iterator[Stage]:
    """Of a file and all its variants."""
    variants = yaml.safe_load(path.read_text()).get("variants", {})
    for name in variants or [""]:
        yield from read_stages(Path(f"{path}#{name}") if name else path, Path("runs") / path.stem)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_says_how_it_is_run(path: Path) -> None:
    recipe, name, _ = command(path)
    assert recipe in recipes()
    assert name.partition("#")[0] == path.name
    read_stages(CONFIGS / name, Path("runs"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_stage_suits_its_recipe(path: Path) -> None:
    config_class = load(recipes()[command(path)[0]]).config_class
    for stage in stages(path):
        stage.settings(config_class, path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_stage_has_a_schedule_and_known_data(path: Path) -> None:
    for stage in stages(path):
        assert parse(LoopConfig, stage.values["loop"], path.name).steps >= 240
        if "data" in stage.values:
            data = data_settings(stage.values["data"])
            assert isinstance(data, SceneData) or data.source.startswith("imagefolder:runs/")  # of `textlens scenes`


def test_who_starts_from_a_run_starts_from_what_another_file_leaves() -> None:
    left = {f"{stage.out}/model" for path in FILES for stage in read_stages(path, Path(command(path)[2]))}
    left |= {f"{command(path)[2]}/model" for path in FILES}
    for path in FILES:
        for stage in read_stages(path, Path(command(path)[2])):
            for key in ("start", "autoencoder"):
                value = stage.values.get(key)
                assert value is None or value.startswith("weights/") or value in left, (path, value)
                assert value is None or Path(value).parent != stage.out, f"{path} starts from its own output"


def changed(one: dict[str, Any], other: dict[str, Any], above: str = "") -> dict[str, Any]:
    """ "loop.steps" -> value, wherever `other` differs."""
    found: dict[str, Any] = {}
    for name in {**one, **other}:
        if isinstance(one.get(name), dict) and isinstance(other.get(name), dict):
            found |= changed(one[name], other[name], f"{above}{name}.")
        elif one.get(name) != other.get(name):
            found[above + name] = other.get(name)
    return found


def test_variants_differ_from_the_base_in_what_they_are_about_alone() -> None:
    path = CONFIGS / "claims.yaml"
    (base,), (muon,), (punctuation,) = (
        read_stages(Path(f"{path}#{name}"), Path("runs")) for name in ("base", "muon", "punctuation")
    )
    assert changed(base.values, muon.values) == {"loop.optimizer": "muon", "loop.learning_rate": 1.2e-2}
    assert changed(base.values, punctuation.values) == {"words": None, "encoder.keep_punctuation": True}
    with pytest.raises(InputError, match="no variant 'queries-6'; expected one of base, queries-5"):
        read_stages(Path(f"{path}#queries-6"), Path("runs"))


def test_a_base_may_have_variants(tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text("loop: {steps: 10}\nvariants: {long: {loop: {steps: 20}}}")
    (tmp_path / "above.yaml").write_text("base: claims.yaml#long\nloop: {seed: 2}")
    assert read_stages(tmp_path / "above.yaml", tmp_path)[0].values == {"loop": {"steps": 20, "seed": 2}}
    assert read_stages(tmp_path / "claims.yaml", tmp_path)[0].values == {"loop": {"steps": 10}}


def test_the_second_decoder_is_another_network_on_the_same_data() -> None:
    one = read_stages(CONFIGS / "text-to-image.yaml", Path("runs"))[0].values
    (other,) = (stage.values for stage in read_stages(CONFIGS / "text-to-image-second.yaml", Path("runs")))
    assert one["data"] == other["data"]
    assert one["clip"] == other["clip"]
    assert one["unet"]["down_block_types"] != other["unet"]["down_block_types"]
    assert one["scheduler"]["beta_schedule"] != other["scheduler"]["beta_schedule"]
    assert other["autoencoder"] == "weights/text_to_image/vae"  # that of the first


@pytest.mark.parametrize(
    ("name", "styles"),
    [
        ("caption-words.txt", ("descriptive", "listed", "loose")),
        ("caption-words-short.txt", ("short", "descriptive", "listed", "loose")),
    ],
)
def test_word_lists_are_those_of_the_captions(name: str, styles: tuple[str, ...]) -> None:
    assert tuple((CONFIGS / name).read_text().split()) == caption_words(styles)

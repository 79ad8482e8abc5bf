"""What the made world gives to the rest: its public names, and what it registers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import textlens.scenes
import typer
from PIL import Image
from textlens.plugins import load, registered
from textlens.scenes.source import SceneData
from textlens.train.engine.recipe import Recipe
from typer.testing import CliRunner


@pytest.mark.parametrize("name", textlens.scenes.__all__)
def test_public_names_load(name: str) -> None:
    assert getattr(textlens.scenes, name) is not None


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'draw'; it has .*parse_facts, render"):
        _ = textlens.scenes.draw


def test_what_is_registered_is_what_the_registries_expect() -> None:
    assert load(registered("SOURCES")["scenes"]) is SceneData
    recipe = load(registered("RECIPES")["language-model"])
    assert issubclass(recipe, Recipe)
    assert recipe.name == "language-model"
    assert len(load(registered("TOKENIZERS")["scenes"])(900, 32)) == 900


def test_the_command_writes_scenes(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(load(registered("COMMANDS")["scenes"]))
    result = CliRunner().invoke(app, ["3", "--out", str(tmp_path), "--split", "val", "--seed", "2", "--size", "32"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "scenes.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert [Image.open(tmp_path / row["image"]).size for row in rows] == [(32, 32)] * 3

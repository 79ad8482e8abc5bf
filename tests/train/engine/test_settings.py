"""Settings files: what a `base` gives, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.train.engine.settings import read_settings
from textlens.train.registry import RECIPES


@dataclass(frozen=True)
class Settings:
    clip: str
    styles: tuple[str, ...] = ()
    loop: Mapping[str, int] = field(default_factory=dict)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_changes_what_its_base_says(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "clip: one\nstyles: [short, loose]\nloop: { steps: 10, seed: 1 }")
    middle = write(tmp_path / "more" / "middle.yaml", "base: ../base.yaml\nstyles: [web]\nloop: { steps: 20 }")
    top = write(tmp_path / "top.yaml", "base: more/middle.yaml\nclip: two")
    assert read_settings(Settings, middle) == Settings("one", ["web"], {"steps": 20, "seed": 1})  # type: ignore[arg-type]
    assert read_settings(Settings, top) == Settings("two", ["web"], {"steps": 20, "seed": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("nowhere.yaml", "cannot read settings from .*nowhere.yaml"),
        ("top.yaml", "top.yaml is its own base"),
        ("middle.yaml", "top.yaml is its own base, by way of .*middle.yaml"),
        ("list.yaml", r"holds list; expected clip, styles, loop \(required: clip\)"),
        ("unknown.yaml", r"holds \['clip', 'colour'\]"),
    ],
)
def test_a_base_that_cannot_be_is_refused(tmp_path: Path, base: str, message: str) -> None:
    top = write(tmp_path / "top.yaml", f"base: {base}\nclip: one")
    write(tmp_path / "middle.yaml", f"base: ../{tmp_path.name}/top.yaml")
    write(tmp_path / "list.yaml", "[1, 2]")
    write(tmp_path / "unknown.yaml", "colour: red")
    with pytest.raises(InputError, match=message):
        read_settings(Settings, top)


def test_committed_settings_suit_the_commands_that_they_name() -> None:
    """Each file says how it is run; a stage starts from what another one leaves."""
    command = re.compile(r"textlens train (\S+) --config \S+ --out ([\w/-]+)")
    runs, starts = set(), set()
    for path in sorted(Path(str(files("textlens.scenes").joinpath("configs"))).rglob("*.yaml")):
        named = command.search(path.read_text())
        assert named, path
        recipe, out = named.groups()
        settings = read_settings(RECIPES[recipe][0], path)
        starts |= {(recipe, str(Path(settings.start).parent))} if getattr(settings, "start", None) else set()
        assert (recipe, out) not in runs, path
        runs.add((recipe, out))
    assert len(runs) > 30
    assert {(recipe, start) for recipe, start in starts if start.startswith("runs")} <= runs

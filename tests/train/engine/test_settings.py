"""Settings files: what a `base` gives, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.train.engine.settings import read_settings, read_stages


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


def test_a_variant_is_named_behind_the_file(tmp_path: Path) -> None:
    text = "clip: one\nloop: { steps: 10, seed: 1 }\nvariants:\n  long: { loop: { steps: 20 } }\n  other: { clip: two }"
    path = write(tmp_path / "claims.yaml", text)
    assert read_stages(path, tmp_path)[0].values == {"clip": "one", "loop": {"steps": 10, "seed": 1}}
    (long,) = read_stages(Path(f"{path}#long"), tmp_path)
    assert long.values == {"clip": "one", "loop": {"steps": 20, "seed": 1}}
    above = write(tmp_path / "above.yaml", "base: claims.yaml#other\nloop: { seed: 2 }")
    assert read_stages(above, tmp_path)[0].values == {"clip": "two", "loop": {"steps": 10, "seed": 2}}
    with pytest.raises(InputError, match="no variant 'short'; expected one of long, other"):
        read_stages(Path(f"{path}#short"), tmp_path)


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

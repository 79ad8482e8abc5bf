"""A toolkit by one mapping or YAML file: every key reaches its part, and every error names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.encoders.images import ImageError
from textlens.errors import InputError

SETTINGS = """
roots: [photos]
images: {mine: mine.png}
output_folder: out
encoders: [scenes:coca]
language_model: tiny
data_urls: false
max_pixels: 20
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("photos", "out"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "mine.png")
    Image.new("RGB", (4, 4), "lime").save(tmp_path / "photos" / "lime.png")
    Image.new("RGB", (5, 5)).save(tmp_path / "photos" / "large.png")
    (tmp_path / "tools.yaml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_key_reaches_its_part(place):
    toolkit = TextlensToolkit.from_settings("tools.yaml")
    assert toolkit.access.open("mine").getpixel((0, 0)) == (255, 0, 0)
    assert toolkit.access.open("lime.png").getpixel((0, 0)) == (0, 255, 0)
    with pytest.raises(ImageError, match="over the limit of 20"):
        toolkit.access.open("large.png")
    with pytest.raises(ImageError, match="data URLs are refused"):
        toolkit.access.open("data:image/png;base64,AAAA")
    assert toolkit.output.folder == place / "out"
    assert toolkit.models.describer.specs == ("scenes:coca",)
    assert toolkit.models.language_model.spec == "tiny"
    assert len(toolkit.get_tools()) == 5


def test_a_mapping_is_read_as_a_file_is():
    toolkit = TextlensToolkit.from_settings({"roots": ["photos"]})
    assert toolkit.access.open("lime.png").size == (4, 4)
    assert toolkit.output is None
    assert TextlensToolkit.from_settings({}).access.roots == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("root: [photos]", r"tools.yaml: unknown key 'root'; the keys are roots, images"),
        ("roots: photos", r"tools.yaml: roots is 'photos'; input should be a valid list"),
        ("max_pixels: 0", r"max_pixels is 0; input should be greater than 0"),
        ("encoders: [cocoa]", r"unknown encoder 'cocoa'"),
        ("encoders: []", r"encoders is \[\]"),
        ("language_model: gpt", r"unknown language model 'gpt'"),
        ("roots: [none]", r"no folder"),
        ("images: {a: none.png}", r"none.png: no such file"),
        ("images: {a: http://127.0.0.1:9/a.png}", r"network"),
        ("output_folder: none", r"no folder none"),
        ("[1, 2", r"cannot read settings from tools.yaml"),
        ("- roots", r"tools.yaml holds list; expected settings"),
        ("", r"tools.yaml holds NoneType"),
    ],
)
def test_errors_name_file_and_key(place, text, reason):
    (place / "tools.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        TextlensToolkit.from_settings("tools.yaml")


def test_a_missing_file_is_an_error():
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        TextlensToolkit.from_settings("none.yaml")

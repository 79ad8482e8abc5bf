"""Each image is described once by each encoder, also after a killed process; words of other weights are not taken."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from PIL import Image
from textlens.encoders.base import Description
from textlens.encoders.fingerprint import fingerprint
from textlens.evals.descriptions import describe_all


@dataclass
class Counting:
    """Writes the colour of an image; `weights` stand for a model's."""

    weights: torch.Tensor = field(default_factory=lambda: torch.zeros(3))
    config: str = "plain"
    seen: list[int] = field(default_factory=list)

    def describe(self, images):
        self.seen += [image.getpixel((0, 0))[0] for image in images]
        return [Description(f"colour {image.getpixel((0, 0))[0]}\nline", (), "counting") for image in images]


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (number, 0, 0))


EXPECTED = [f"colour {i}\nline" for i in range(70)]


def test_words_come_in_order_and_once(tmp_path):
    encoder = Counting()
    assert describe_all(40, picture, {"a": encoder}, tmp_path) == {"a": EXPECTED[:40]}
    assert describe_all(70, picture, {"a": encoder}, tmp_path) == {"a": EXPECTED}
    assert encoder.seen == list(range(70))


def test_an_unfinished_line_costs_itself_alone(tmp_path):
    describe_all(40, picture, {"a": Counting()}, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    encoder = Counting()
    assert describe_all(70, picture, {"a": encoder}, tmp_path) == {"a": EXPECTED}
    assert encoder.seen == list(range(39, 70))
    again = Counting()
    describe_all(70, picture, {"a": again}, tmp_path)
    assert again.seen == []


def test_a_cut_within_a_character_costs_its_line_alone(tmp_path):
    encoder = Counting()
    encoder.describe = lambda images: [Description("été", (), "counting") for _ in images]
    describe_all(2, picture, {"a": encoder}, tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex("é".encode()) + 1])
    again = Counting()
    assert describe_all(2, picture, {"a": again}, tmp_path) == {"a": ["été", "colour 1\nline"]}


@pytest.mark.parametrize("other", [Counting(torch.ones(3)), Counting(config="other")])
def test_other_weights_or_settings_describe_anew(tmp_path, other):
    describe_all(3, picture, {"a": Counting()}, tmp_path)
    describe_all(3, picture, {"a": other}, tmp_path)
    assert other.seen == [0, 1, 2]
    assert fingerprint(Counting()) == fingerprint(Counting()) != fingerprint(other)


def test_without_a_cache_all_is_described_each_time():
    encoder = Counting()
    describe_all(2, picture, {"a": encoder})
    assert describe_all(2, picture, {"a": encoder}) == {"a": EXPECTED[:2]}
    assert encoder.seen == [0, 1, 0, 1]

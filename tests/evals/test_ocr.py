from __future__ import annotations

import random

import pytest
from PIL import Image
from textlens.evals.ocr import evaluate, sheet
from textlens.evals.rendered_text import ROTATIONS, SIZES, load_photos, render_text, render_texts


def test_texts_are_drawn_by_the_seed_and_in_equal_shares() -> None:
    photos = list(load_photos().values())
    first, again = (render_texts(30, photos, random.Random(5)) for _ in range(2))
    assert [sample.text for sample in first] == [sample.text for sample in again]
    assert all(one.image.tobytes() == two.image.tobytes() for one, two in zip(first, again, strict=True))
    for size in SIZES:
        assert sum(sample.size == size for sample in first) == 30 / len(SIZES)
    for rotation in ROTATIONS:
        assert sum(sample.rotation == rotation for sample in first) == 30 / len(ROTATIONS)


def test_matplotlib_brings_a_photograph() -> None:
    assert "matplotlib/grace_hopper.jpg" in load_photos()


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_whole_text_is_in_the_picture(rotation: str) -> None:
    for seed in range(20):
        sample = render_text(56, rotation, [], random.Random(seed))
        edge = sample.image.copy()
        edge.paste(sample.image.getpixel((320, 240)), (1, 1, 639, 479))
        assert sample.text
        assert sample.image.size == (640, 480)
        assert len(sample.text.split("\n")) == sample.lines


def test_figures_by_kind_and_the_floor() -> None:
    samples = render_texts(15, [Image.new("RGB", (640, 480), "teal")], random.Random(0))
    figures = evaluate(samples, [sample.text for sample in samples])
    assert {"all", "size 12 px", "rotation tilted", "floor: blank"} < set(figures)
    assert figures["all"] == {"texts": 15, "cer": 0.0, "cer_without_spaces": 0.0, "right": 1.0, "blank": 0}
    assert figures["floor: blank"] == {"texts": 15, "cer": 1.0, "cer_without_spaces": 1.0, "right": 0.0, "blank": 15}


def test_the_sheet_shows_the_worst() -> None:
    samples = render_texts(6, [], random.Random(0))
    assert sheet(samples, [""] * 6, number=5).size == (4 * 320, 2 * 300)

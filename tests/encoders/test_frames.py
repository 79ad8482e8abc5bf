from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from textlens.encoders.frames import load_frames
from textlens.encoders.images import ImageError, ImageLimits

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]


def save_gif(path: Path, frames: int = 5) -> Path:
    pictures = [Image.new("RGB", (20, 10), colour) for colour in COLOURS[:frames]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_every_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    frames = load_frames(save_gif(tmp_path / name))
    assert [frame.mode for frame in frames] == ["RGB"] * 5
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert all(abs(a - b) < 12 for a, b in zip(frame.getpixel((5, 5)), colour, strict=True))


def test_frames_are_spread_evenly(tmp_path: Path) -> None:
    frames = load_frames(save_gif(tmp_path / "a.gif"), max_frames=3)
    assert [frame.getpixel((5, 5)) for frame in frames] == [COLOURS[i] for i in (0, 2, 4)]


def test_a_folder_of_frames_in_order_of_name(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        Image.new("RGB", (20, 10), COLOURS[number]).save(tmp_path / f"frame-{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    assert [frame.getpixel((0, 0)) for frame in load_frames(tmp_path)] == COLOURS[:3]


def test_one_picture_is_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), COLOURS[0]).save(tmp_path / "a.jpg")
    assert len(load_frames(tmp_path / "a.jpg")) == 1


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image files"):
        load_frames(tmp_path)
    with pytest.raises(ImageError, match=r"missing\.gif"):
        load_frames(tmp_path / "missing.gif")
    gif = save_gif(tmp_path / "a.gif")
    with pytest.raises(ImageError, match="over the limit"):
        load_frames(gif, limits=ImageLimits(max_pixels=100))
    data = gif.read_bytes()
    for length in range(20, len(data), 7):
        (tmp_path / "cut.gif").write_bytes(data[:length])
        try:
            load_frames(tmp_path / "cut.gif")
        except ImageError:
            continue

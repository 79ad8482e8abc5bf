"""Frames of a short video: an animated image, or a folder of frames."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .image_sources import DEFAULT_LIMITS, ImageError, ImageLimits, read_source
from .images import decoded, expand_images, load_image, named_errors
from .loading.pixel_decoding import open_image


def load_frames(path: str | Path, *, max_frames: int = 32, limits: ImageLimits = DEFAULT_LIMITS) -> list[Image.Image]:
    """At most `max_frames` RGB frames, evenly spaced: a folder's image files by name, or an animation's frames.

    A still image is one frame. Raises `ImageError` for anything else, and for frames that cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        names = [name for name in expand_images([str(path)]) if Path(name).is_file()]
        if not names:
            raise ImageError(f"{path} holds no image files; expected the frames of a video")
        return [load_image(names[i], limits=limits) for i in _spread(len(names), max_frames)]
    with named_errors(path):
        data = read_source(path, limits, False)
        first = decoded(data, limits, trusted=True)  # checks size, format and limits
    try:
        with open_image(data) as animation:
            count = getattr(animation, "n_frames", 1)
            if count == 1:
                return [first]
            return [_frame(animation, number, limits) for number in _spread(count, max_frames)]
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise ImageError(f"{path}: a later frame is damaged or cut short; save the file again") from error


def _frame(animation: Image.Image, number: int, limits: ImageLimits) -> Image.Image:
    animation.seek(number)
    return load_image(animation, limits=limits)


def _spread(count: int, number: int) -> list[int]:
    """`number` evenly spaced indices of 0 ... count - 1, first and last included."""
    if count <= number:
        return list(range(count))
    return [round(i * (count - 1) / max(1, number - 1)) for i in range(number)]

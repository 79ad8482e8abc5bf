from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from PIL import Image
from textlens.encoders import Description
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.images import ImageLimits
from textlens.encoders.pipeline import EncoderError, describe_stream, describe_videos
from textlens.errors import InputError


class Sizes:
    """Describes an image by its size, and refuses one that is 13 wide, as a model may refuse what it cannot take."""

    def __init__(self, spec: str = "sizes") -> None:
        self.spec = spec
        self.batches: list[int] = []

    def describe(self, images: Sequence[Image.Image]) -> list[Description]:
        self.batches.append(len(images))
        if any(image.width == 13 for image in images):
            raise ValueError("13 is unlucky")
        words = [(str(image.width), str(image.height)) for image in images]
        return [Description(" x ".join(pair), pair, self.spec) for pair in words]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{width}.png" for width in (10, 11, 12, 13, 14)]
    for path in paths:
        Image.new("RGB", (int(path.stem), 8)).save(path)
    return paths


def test_every_image_meets_every_encoder_in_order(files: list[Path]) -> None:
    files = [path for path in files if path.stem != "13"]
    first, second = Sizes("first"), Sizes("second")
    results = list(describe_stream(files, {"a": first, "b": second}, batch_size=3))
    assert [(r.image, r.encoder) for r in results] == [(str(path), spec) for path in files for spec in "ab"]
    assert [r.description.text for r in results if r.encoder == "a" and r.description] == [
        f"{path.stem} x 8" for path in files
    ]
    assert {r.description.encoder for r in results if r.encoder == "b" and r.description} == {"second"}
    assert first.batches == second.batches == [3, 1]


def test_bad_images_lose_only_themselves(files: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(files[0].read_bytes()[:40])
    sources = [files[0], damaged, files[3], tmp_path / "missing.png", files[4]]
    results = list(describe_stream(sources, {"sizes": Sizes()}, batch_size=5))
    assert [r.image for r in results] == [str(source) for source in sources]
    assert [r.description.text if r.description else None for r in results] == ["10 x 8", None, None, None, "14 x 8"]
    assert [r.error is None for r in results] == [True, False, False, False, True]
    assert "13 is unlucky" in str(results[2].error)
    assert "missing.png" in str(results[3].error)


def test_a_batch_without_one_readable_image_never_reaches_the_encoder(tmp_path: Path) -> None:
    encoder = Sizes()
    results = list(describe_stream([tmp_path / "a.png", tmp_path / "b.png"], {"sizes": encoder}))
    assert [r.description for r in results] == [None, None]
    assert encoder.batches == []


class Failing:
    """Raises what a broken model raises, a bug's AttributeError, for each image that is not spared."""

    def __init__(self, spared: int | None = None) -> None:
        self.spared = spared

    def describe(self, images: Sequence[Image.Image]) -> list[Description]:
        if any(image.width != self.spared for image in images):
            raise AttributeError("'NoneType' object has no attribute 'shape'")
        return [Description("spared", ("spared",), "failing")] * len(images)


def test_an_encoder_that_fails_for_every_image_is_named_once(files: list[Path], tmp_path: Path) -> None:
    sources = [tmp_path / "missing.png", *files]
    with pytest.raises(EncoderError, match=r"encoder failing failed for all 5 images .* AttributeError: 'NoneType'"):
        list(describe_stream(sources, {"sizes": Sizes(), "failing": Failing()}))


def test_whatever_an_encoder_raises_loses_its_image_alone(files: list[Path]) -> None:
    results = list(describe_stream(files, {"failing": Failing(spared=12)}))
    assert [r.description is not None for r in results] == [False, False, True, False, False]
    assert results[0].error == (
        f"{files[0]}: failing could not describe this image: AttributeError: 'NoneType' object has no attribute 'shape'"
    )
    (alone,) = describe_stream(files[:1], {"failing": Failing()})
    assert alone.error == results[0].error
    later = list(describe_stream(files[2:], {"failing": Failing(spared=12)}, batch_size=1))  # not in the first batch
    assert [r.error is None for r in later] == [True, False, False]


def test_a_video_that_an_encoder_fails_for_loses_no_other(files: list[Path]) -> None:
    class Videos(Failing):
        def describe_video(self, frames: Sequence[Image.Image]) -> Description:
            return self.describe(frames)[0]

    results = list(describe_videos([str(path) for path in files[2:4]], {"videos": Videos(spared=12)}))
    assert [r.error is None for r in results] == [True, False]
    assert str(files[3]) in str(results[1].error)


def test_json_lines_keep_the_contract(files: list[Path]) -> None:
    good, bad = describe_stream([files[0], files[3]], {"sizes": Sizes()}, batch_size=1)
    assert json.loads(json.dumps(good.as_json())) == {
        "image": str(files[0]),
        "encoder": "sizes",
        "text": "10 x 8",
        "tokens": ["10", "8"],
        "note": None,
        "error": None,
    }
    assert list(bad.as_json()) == list(good.as_json())
    assert (bad.as_json()["text"], bad.as_json()["tokens"]) == (None, None)


def test_sources_may_be_endless_and_threads_end_with_the_stream() -> None:
    def endless() -> Iterator[Image.Image]:
        for i in count(1):
            yield Image.new("RGB", (20 + i % 5, 4))

    before = threading.active_count()
    stream = describe_stream(endless(), {"sizes": Sizes()}, batch_size=4)
    assert [next(stream).error for _ in range(10)] == [None] * 10
    stream.close()
    assert threading.active_count() == before


def test_limits_and_arguments_are_passed_on(files: list[Path]) -> None:
    (result,) = describe_stream(files[:1], {"sizes": Sizes()}, limits=ImageLimits(max_pixels=79))
    assert result.error is not None
    assert "79" in result.error
    with pytest.raises(InputError, match="batch_size is 0"):
        describe_stream(files, {"sizes": Sizes()}, batch_size=0)
    with pytest.raises(InputError, match="no encoder"):
        describe_stream(files, {})


def test_a_real_captioner_gives_the_same_words_through_the_stream(
    tiny_coca: Callable[..., Clip], files: list[Path]
) -> None:
    captioner = CocaCaptioner(tiny_coca(), max_tokens=5)
    results = list(describe_stream(files, {"coca": captioner}, batch_size=2))
    expected = captioner.describe([Image.open(path).convert("RGB") for path in files])
    assert [r.description.text for r in results if r.description] == [one.text for one in expected]

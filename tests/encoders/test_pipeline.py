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
from textlens.encoders.pipeline import describe_stream
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


def test_faults_of_ours_are_not_taken_for_bad_images(files: list[Path]) -> None:
    class Broken:
        def describe(self, images: Sequence[Image.Image]) -> list[Description]:
            raise AttributeError("a bug")

    with pytest.raises(AttributeError, match="a bug"):
        list(describe_stream(files, {"broken": Broken()}))


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

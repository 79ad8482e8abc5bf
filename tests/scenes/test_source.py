"""Scenes as a source of training data: which sample shows what, and that held-out scenes stay held out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from textlens.errors import InputError
from textlens.scenes.captions import captions
from textlens.scenes.facts import facts_of, parse_facts
from textlens.scenes.rendering import render
from textlens.scenes.scene import held_out, scene_at
from textlens.scenes.scene_files import write_scenes
from textlens.scenes.source import SceneData, SceneSource
from textlens.train.data.base import Sample, data_settings
from textlens.train.engine.randomness import sample_rng
from textlens.train.evaluators import text_figures


def source(**settings: Any) -> SceneSource:
    return SceneData(**settings).open(image_size=32)


def objects(made: SceneSource, indices: range, seed: int = 0) -> list[int]:
    """How many objects the samples' captions tell of."""
    return [len(parse_facts(sample.text).triple) for sample in made.samples(indices, seed, image=False)]


def same(one: Sample, other: Sample) -> bool:
    pictures = [np.asarray(sample.image) for sample in (one, other)]
    return np.array_equal(*pictures) and (one.key, one.text, one.style) == (other.key, other.text, other.style)


@pytest.mark.parametrize("number", [0, 20])
def test_a_sample_follows_from_index_and_seed_alone(number: int) -> None:
    styles = {"descriptive": 0.5, "loose": 0.5}
    first, second = source(number=number, styles=styles), source(number=number, styles=styles)
    before = first.samples(range(12), 7)
    assert all(same(one, second.sample(i, 7)) for i, one in reversed(list(enumerate(before))))
    assert not all(same(one, first.sample(i, 8)) for i, one in enumerate(before))
    assert {sample.image.size for sample in before if sample.image} == {(32, 32)}
    assert first.sample(3, 7, image=False).image is None
    assert first.sample(3, 7, image=False).text == before[3].text


def test_image_and_caption_are_of_one_scene() -> None:
    made = source(number=20, one_object=0.5)
    for sample in made.samples(range(10), 0):
        scene = made.scene(sample.row)
        assert np.array_equal(np.asarray(sample.image), render(scene, 32))
        assert parse_facts(sample.text).triple == facts_of(scene).triple
    for i, sample in enumerate(source().samples(range(10), 4)):
        scene = scene_at(i, "train", 4)
        assert np.array_equal(np.asarray(sample.image), render(scene, 32))
        assert sample.text == captions(scene, "descriptive", sample_rng(4, i))


def test_each_epoch_shows_every_scene_once_in_another_order() -> None:
    made = source(number=20)
    epochs = [[made.row(index, 7) for index in range(20 * e, 20 * e + 20)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1]
    assert [made.row(index, 8) for index in range(20)] != epochs[0]
    assert source(number=5).scene(3) == made.scene(3)
    texts = {made.sample(index, 7).text for index in range(200) if made.row(index, 7) == 3}
    assert texts == {source(number=20).read(3, 0, 0).text}  # descriptive captions leave no choice


def test_captions_are_drawn_anew_by_weight() -> None:
    made = source(number=5, styles={"short": 3.0, "loose": 1.0, "web": 0.0})
    assert len({made.read(3, index, 0).text for index in range(30)}) > 5
    styles = Counter(made.read(3, index, 0, image=False).style for index in range(400))
    assert 0.68 < styles["short"] / 400 < 0.82
    assert set(styles) == {"short", "loose"}


@pytest.mark.parametrize("number", [0, 300])
def test_a_curriculum_shows_few_objects_first(number: int) -> None:
    made = source(number=number, curriculum={1: 100, 2: 200})
    assert set(objects(made, range(100))) == {1}
    assert set(objects(made, range(100, 200))) == {1, 2}
    assert set(objects(made, range(200, 320))) == {1, 2, 3, 4}


@pytest.mark.parametrize("number", [0, 400])
def test_one_object_comes_as_often_as_wanted(number: int) -> None:
    shares = [objects(source(number=number, one_object=share), range(400)).count(1) / 400 for share in (0.0, 0.6, 1.0)]
    assert 0.2 < shares[0] < 0.3
    assert 0.63 < shares[1] < 0.77  # beside a quarter of the rest
    assert shares[2] == 1


def test_near_duplicates_vary_one_scene_and_stay_in_the_split() -> None:
    made, plain = source(near_duplicates=4), source()
    for first in range(0, 80, 4):
        texts = [made.sample(index, 5, image=False).text for index in range(first, first + 4)]
        assert texts[0] not in texts[1:]
        assert len({len(parse_facts(text).place) for text in texts}) == 1
    assert made.sample(4, 5).text == plain.sample(4, 5).text != made.sample(5, 5).text != plain.sample(5, 5).text


def test_held_out_scenes_are_of_the_validation_split_and_never_trained_on() -> None:
    made = source(number=300, near_duplicates=1)
    samples = made.held_out(60)
    scenes = [scene_at(row, "val") for row in range(60)]
    for sample, scene in zip(samples, scenes, strict=True):
        assert np.array_equal(np.asarray(sample.image), render(scene, 32))
        assert parse_facts(sample.text).triple == facts_of(scene).triple
        assert sample.texts == (sample.text,)
    assert sum(held_out(scene, "val") for scene in scenes) > 6
    assert [one.text for one in source(seed=5).held_out(3)] == [one.text for one in samples[:3]]
    for row in range(300):
        assert not held_out(made.scene(row), "val")
        assert not held_out(made.scene(row), "test")
    assert not {sample.text for sample in samples} & {made.read(row, 0, 0, image=False).text for row in range(300)}


def test_a_limit_on_held_out_objects_shows_each_number_as_often() -> None:
    made = source(held_out_objects=3)
    assert [len(made.held_out_scene(row).objects) for row in range(6)] == [1, 2, 3, 1, 2, 3]


def test_texts_are_scored_by_the_facts_of_their_scenes() -> None:
    made = source(held_out_objects=2)
    samples = made.held_out(12)
    right = text_figures(made, [sample.text for sample in samples], samples)
    assert {f"{kind}_f1" for kind in ("noun", "colour", "place", "background", "pair")} < set(right)
    assert all(right[name] == 1 for name in right if name.endswith("_f1"))
    wrong = text_figures(made, [sample.text for sample in samples[1:]] + ["nothing"], samples)
    assert wrong["pair_f1"] < 0.3
    assert wrong["cider_d"] < right["cider_d"]


def test_a_list_of_captions_is_one_of_each_scene() -> None:
    made = source(number=30, styles={"short": 1, "listed": 1}, seed=2)
    texts = list(made.captions())
    assert texts == list(made.captions())
    assert len(texts) == 30
    for row, text in enumerate(texts):
        assert parse_facts(text).pair <= facts_of(scene_at(row, seed=2)).pair
    assert texts != list(source(number=30, styles={"short": 1, "listed": 1}, seed=3).captions())
    with pytest.raises(InputError, match=r"data\.number is 0"):
        next(source().captions())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"styles": {"poem": 1.0}}, "styles is {'poem': 1.0}; expected positive weights of short, descriptive"),
        ({"styles": {"short": 0.0}}, "styles is {'short': 0.0}; expected positive weights"),
        ({"near_duplicates": 0}, "near_duplicates is 0"),
        ({"near_duplicates": 4, "number": 10}, "near_duplicates is 4 with 10 scenes; expected number 0"),
        ({"one_object": 1.5}, "one_object is 1.5"),
        ({"curriculum": {"5": 10}}, "curriculum.5"),
        ({"held_out_objects": 5}, "held_out_objects is 5"),
        ({"split": "val"}, "unknown key 'split'"),
        ({"number": "many"}, "number is 'many'"),
    ],
)
def test_bad_settings_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_settings({"source": "scenes", **changes})


def test_one_scene_alone_goes_with_any_curriculum() -> None:
    assert source(number=1, curriculum={1: 100}).row(5, 0) == 0


def test_styles_are_drawn_by_sample_and_anew_in_each_epoch():
    source = SceneData(styles={"web": 0.1, "descriptive": 0.9}, number=50).open(image_size=32)
    drawn = [source.sample(index, 4, image=False) for index in range(2000)]
    assert drawn[100:110] == [source.sample(index, 4, image=False) for index in range(100, 110)]
    web = sum(sample.style == "web" for sample in drawn)
    assert abs(web - 200) <= 4 * (2000 * 0.1 * 0.9) ** 0.5
    of_scene = [sample.style for sample in drawn if sample.row == 7]
    assert len(of_scene) == 40
    assert len(set(of_scene)) == 2


def test_held_out_captions_have_the_style_that_was_asked_for():
    short = SceneData(held_out_style="short").open(image_size=32).held_out(5)
    long = SceneData().open(image_size=32).held_out(5)
    assert all(len(one.text) < len(other.text) for one, other in zip(short, long, strict=True))
    with pytest.raises(InputError, match="held_out_style is 'poem'; expected one of short"):
        SceneData(held_out_style="poem")


def test_written_scenes_are_an_image_folder_with_a_column_for_each_style(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    records = list(write_scenes(8, tmp_path / "scenes", "train"))
    for style in ("web", "descriptive"):
        data = data_settings({"source": f"imagefolder:{tmp_path / 'scenes'}", "text": style, "held_out_share": 0.0})
        samples = [data.open().read(row, row, 0) for row in range(8)]
        assert [sample.text for sample in samples] == [record["captions"][style] for record in records]
    assert samples[0].image.size == (64, 64)

"""The made world: what a scene may hold, that drawing is exact, and that the splits keep their combinations apart."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.scenes.rendering import glyph_mask, render
from textlens.scenes.scene import held_out, sample_scene, scene_at, vary_scene
from textlens.scenes.scene_files import record, scenes_dataset, write_scenes
from textlens.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOURS,
    HELD_OUT_COUNTS,
    NOUNS,
    PICTURES,
    PLACES,
    SPLITS,
    Scene,
    SceneObject,
)

SOME = 400


def scenes(split: str, seed: int = 3) -> list[Scene]:
    return [scene_at(index, split, seed) for index in range(SOME)]


def test_world_is_as_large_as_promised():
    assert len(PICTURES) >= 32
    assert len(COLOURS) == 8
    assert len(PLACES) == 5
    assert len(BACKGROUNDS) == 6
    assert not set(COLOURS) & set(BACKGROUNDS), "a colour word that is a background word makes loose words ambiguous"


def test_objects_stand_in_places_of_their_own_in_order():
    for scene in scenes("train"):
        order = [PLACES.index(thing.place) for thing in scene.objects]
        assert order == sorted(set(order))
        assert 1 <= len(scene.objects) <= 4


def test_scene_depends_on_split_seed_and_index_alone():
    assert scene_at(7, "val", 2) == scene_at(7, "val", 2)
    others = {scene_at(7, "val", 3), scene_at(8, "val", 2), scene_at(7, "train", 2)}
    assert scene_at(7, "val", 2) not in others


def test_every_word_and_number_of_objects_occurs_in_training():
    drawn = [scene_at(index) for index in range(3000)]
    assert {thing.noun for scene in drawn for thing in scene.objects} == set(NOUNS)
    assert {thing.colour for scene in drawn for thing in scene.objects} == set(COLOURS)
    shares = Counter(len(scene.objects) for scene in drawn)
    assert all(0.2 < shares[number] / 3000 < 0.3 for number in (1, 2, 3, 4))


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_combinations_show_in_their_split_alone(split):
    for scene in scenes(split):
        assert not any(held_out(scene, other) for other in ("val", "test") if other != split)
    if split != "train":
        assert sum(held_out(scene, split) for scene in scenes(split)) > SOME / 10


def test_held_out_counts_show_in_their_split():
    noun, number = sorted(HELD_OUT_COUNTS["test"])[0]
    assert not HELD_OUT_COUNTS["test"] & HELD_OUT_COUNTS["val"]
    assert not HELD_OUT_COLOURS["test"] & HELD_OUT_COLOURS["val"]
    colour = next(colour for colour in COLOURS if (noun, colour) not in HELD_OUT_COLOURS["test"])
    several = Scene(
        "white", tuple(SceneObject(noun, colour, "small", place, 0.5, 0.5, 0.2) for place in PLACES[:number])
    )
    assert held_out(several, "test")
    assert not held_out(several, "val")
    assert not held_out(Scene("white", several.objects[:1]), "test")


def test_every_noun_has_its_own_picture():
    masks = {noun: glyph_mask(noun, 18).tobytes() for noun in NOUNS}
    assert len(set(masks.values())) == len(NOUNS)
    assert all(max(glyph_mask(noun, 28).shape[:2]) == 28 for noun in NOUNS)


@pytest.mark.parametrize("size", [32, 64, 200])
def test_render_shows_background_and_exact_colour_at_any_size(size):
    scene = Scene("mint", (SceneObject("square", "yellow", "large", "top left", 0.23, 0.23, 28 / 64),))
    image = render(scene, size)
    assert image.shape == (size, size, 3)
    assert tuple(image[-1, -1]) == BACKGROUNDS["mint"]
    assert tuple(image[round(0.23 * size), round(0.23 * size)]) == COLOURS["yellow"]
    yellow_share = (image[:, :, 0] > 215).mean()
    assert yellow_share == pytest.approx((28 / 64) ** 2, rel=0.05)


def test_objects_stay_on_the_canvas_and_in_their_place():
    for scene in scenes("test"):
        for thing in scene.objects:
            if thing.place != "center":
                assert ("top" in thing.place) == (thing.y < 0.5)
                assert ("left" in thing.place) == (thing.x < 0.5)
            half = thing.extent / 2
            assert half - 0.03 <= min(thing.x, thing.y) <= max(thing.x, thing.y) <= 1.03 - half


def test_write_scenes_keeps_the_contract(tmp_path):
    rows = list(write_scenes(5, tmp_path, "test", seed=9))
    lines = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert lines == rows
    for index, line in enumerate(lines):
        scene = scene_at(index, "test", 9)
        assert list(line) == ["image", "background", "objects", "captions", "questions"]
        assert [list(thing) for thing in line["objects"]] == [["noun", "colour", "size", "place"]] * len(scene.objects)
        assert all(len(question["answers"]) == 10 for question in line["questions"])
        assert np.array_equal(np.asarray(Image.open(tmp_path / line["image"])), render(scene, 64))


def test_bad_requests_write_nothing(tmp_path):
    (tmp_path / "scenes.jsonl").write_text("precious")
    for arguments in ({"number": 0}, {"number": 1, "split": "tset"}, {"number": 1, "size": 0}):
        with pytest.raises(InputError, match="expected"):
            list(write_scenes(out=tmp_path, **arguments))
    assert (tmp_path / "scenes.jsonl").read_text() == "precious"
    with pytest.raises(InputError, match="1 to 4"):
        sample_scene(random.Random(0), num_objects=5)


def test_scenes_as_a_data_set():
    dataset = scenes_dataset(4, "val", seed=1)
    expected = record(scene_at(2, "val", 1), "", "val", 1, 2)
    row = dataset[2]
    assert np.array_equal(np.asarray(row["image"]), render(scene_at(2, "val", 1)))
    assert {name: row[name] for name in ("background", "captions", "objects", "questions")} == {
        name: expected[name] for name in ("background", "captions", "objects", "questions")
    }


def test_varied_scenes_differ_and_keep_their_split():
    for index in range(300):
        scene = scene_at(index, "train", 4)
        varied = vary_scene(scene, random.Random(index))
        assert varied != scene
        assert len(varied.objects) == len(scene.objects)
        assert not held_out(varied, "val")
        assert not held_out(varied, "test")
        places = [thing.place for thing in varied.objects]
        assert places == sorted(set(places), key=PLACES.index)

"""The probe: what it looks at, how its answers become facts, that it learns, and that a saved one is the same."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from textlens.errors import InputError
from textlens.scenes.evals.probe import (
    CROP,
    KINDS_JUDGED,
    Probe,
    ProbeConfig,
    ProbeNet,
    ProbeRecipe,
    ProbeTraining,
    _facts,
    cut_out,
    labels,
    load_probe,
    main,
)
from textlens.scenes.evals.testbed import pictures
from textlens.scenes.facts import facts_of
from textlens.scenes.scene import scene_at
from textlens.scenes.world import BACKGROUNDS, COLOURS, NOUNS, PLACES, Scene, SceneObject
from textlens.train.data.pixels import pixels
from textlens.train.engine.loop import LoopConfig
from textlens.train.engine.run import run

TINY = ProbeConfig(channels=(4, 4, 4), hidden=8, background_hidden=4)


def test_what_stands_in_a_place_is_seen_whole():
    scenes = [scene_at(index, "test", num_objects=1) for index in range(40)]
    views = cut_out(pixels(pictures(scenes), 64))
    assert views.shape == (40, 5, 3, CROP, CROP)
    whole = pixels(pictures(scenes), 64)
    for scene, image, seen in zip(scenes, whole, views, strict=True):
        (thing,) = scene.objects
        paper = torch.tensor(BACKGROUNDS[scene.background]).view(3, 1, 1) / 127.5 - 1
        inked = [((view - paper).abs().sum(0) > 0.05).sum().item() for view in seen]
        all_ink = ((image - paper).abs().sum(0) > 0.05).sum().item()
        assert inked[PLACES.index(thing.place)] == all_ink  # nothing of it is cut off
        assert max(inked) == inked[PLACES.index(thing.place)]


def test_right_answers_are_the_facts_of_the_scene():
    scenes = [scene_at(index, "test") for index in range(50)]
    right = labels(scenes)
    rows = zip(*(right[name].tolist() for name in ("nouns", "colours", "background")), strict=True)
    for scene, row in zip(scenes, rows, strict=True):
        found, true = _facts(*row), facts_of(scene)
        assert all(getattr(found, kind) == getattr(true, kind) for kind in KINDS_JUDGED)
        assert found.size == frozenset()


def test_half_an_answer_is_no_pair():
    none, no_colour = len(NOUNS), len(COLOURS)
    star = NOUNS.index("star")
    facts = _facts([star, none, none, none, none], [no_colour, 0, no_colour, no_colour, no_colour], 1)
    assert facts.noun == {"star"}
    assert facts.colour == {"red"}
    assert facts.place == {"top left", "top right"}
    assert facts.background == {"gray"}
    assert facts.pair == facts.triple == frozenset()


def test_batch_is_of_the_train_split_and_follows_from_index_and_seed():
    recipe = ProbeRecipe(ProbeTraining(LoopConfig(1, 1), TINY))
    batch = recipe.batch([3, 4], 7)
    assert torch.equal(batch["pixels"], pixels(pictures([scene_at(3, "train", 7), scene_at(4, "train", 7)]), 64))
    assert torch.equal(batch["nouns"][1:], recipe.batch([4], 7)["nouns"])


def test_it_learns_colours_and_places_in_a_moment_and_is_saved_whole(tmp_path):
    config = ProbeConfig(channels=(8, 8, 8), hidden=32, background_hidden=16)
    loop = LoopConfig(steps=30, batch_size=32, learning_rate=1e-2, num_workers=0)
    result = run(ProbeRecipe, ProbeTraining(loop, config), tmp_path / "run")
    assert result.finished
    assert result.evaluation["place"] > 0.9
    assert result.evaluation["colour"] > 0.6  # the best constant text has 0.4
    assert result.evaluation["background"] > 0.6  # and here 0.3

    probe = load_probe(tmp_path / "run" / "model")
    images = pictures([scene_at(index, "test") for index in range(8)])
    facts = probe.facts(images)
    assert probe.facts(images, batch_size=3) == facts
    larger = [image.resize((128, 128), Image.Resampling.NEAREST) for image in images]
    assert [one.place for one in probe.facts(larger)] == [one.place for one in facts]
    assert probe.facts([]) == []
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert (record["recipe"], record["steps"], record["settings"]["probe"]["hidden"]) == ("probe", 30, 32)


def test_new_weights_follow_from_the_seed_alone():
    one, same, other = (
        ProbeRecipe(ProbeTraining(LoopConfig(1, 1, seed=seed), TINY)).net.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["noun.weight"], other["noun.weight"])


def test_command_line_prints_its_score(tmp_path, capsys):
    main(out=tmp_path / "run", steps=1, number=4)
    assert capsys.readouterr().out.startswith("| F1 | noun | colour | place | background | pair | triple |")
    with pytest.raises(InputError, match="not empty"):
        main(out=tmp_path / "run", steps=1, number=4)
    main(out=tmp_path / "run", steps=1, resume=True, number=4)


def test_what_is_no_probe_says_so(tmp_path):
    with pytest.raises(InputError, match="does not hold a probe"):
        load_probe(tmp_path)
    (tmp_path / "config.json").write_text('{"channels": [4, 4, 4], "layers": 3}')
    with pytest.raises(InputError, match="layers"):
        load_probe(tmp_path)


def test_a_blank_picture_shows_nothing_once_the_answers_are_none():
    net = ProbeNet(TINY).eval()
    torch.nn.init.zeros_(net.noun.weight)
    torch.nn.init.zeros_(net.colour.weight)
    with torch.no_grad():
        net.noun.bias.copy_(torch.eye(len(NOUNS) + 1)[-1])
        net.colour.bias.copy_(torch.eye(len(COLOURS) + 1)[-1])
    (facts,) = Probe(net).facts([Image.fromarray(np.full((64, 64, 3), 255, np.uint8))])
    assert facts.triple == facts.place == frozenset()
    assert len(facts.background) == 1


def test_labels_hold_none_where_nothing_stands():
    scene = Scene("mint", (SceneObject("star", "blue", "small", "center", 0.5, 0.5, 0.3),))
    right = labels([scene])
    assert right["nouns"].tolist() == [[74, 74, NOUNS.index("star"), 74, 74]]
    assert right["colours"].tolist() == [[8, 8, 4, 8, 8]]

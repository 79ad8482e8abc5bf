"""Whether drawings show what their captions say: the rows, their floor and ceiling, the table and the sheet."""

import numpy as np
import pytest
import torch
from textlens.encoders.redraw.redrawer import Redrawer
from textlens.scenes.evals import drawn_facts as evaluation
from textlens.scenes.evals.probe import ProbeConfig, ProbeNet, save_probe
from textlens.scenes.evals.testbed import pictures
from textlens.scenes.facts import Facts, parse_facts
from textlens.train.data.pixels import pixels

from ...pipelines import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def redrawer(folder):
    return Redrawer.from_pretrained(folder, "cpu")


def test_captions_are_true_and_always_the_same():
    test = evaluation.captioned_scenes(6)
    assert [parse_facts(text).triple for text in test.texts] == [facts.triple for facts in test.facts]
    assert test == evaluation.captioned_scenes(6)
    assert evaluation.captioned_scenes(6, "loose").texts != test.texts


def test_drawings_are_scored_by_their_own_scenes_and_the_floor_by_others():
    test = evaluation.captioned_scenes(40)
    images = pictures(test.scenes)
    known = {id(image): facts for image, facts in zip(images, test.facts, strict=True)}
    judges = {
        "knows": lambda seen: [known[id(image)] for image in seen],
        "blind": lambda seen: [Facts(place=frozenset({"center"})) for _ in seen],
    }
    rows = evaluation.judged({"right": images, "turned": [*images[1:], images[0]]}, judges, test.facts, floor="right")
    triples = {(row.pictures, row.judge): row.scores["triple"].recall for row in rows}
    floor = "drawn for other captions (floor)"
    assert list(triples) == [
        (name, judge) for name in ("right", "turned", floor) for judge in ("knows", "blind")
    ]  # both judges side by side
    assert triples["right", "knows"] == 1
    assert triples["turned", "knows"] < 0.1
    assert triples[floor, "knows"] < 0.1
    assert triples["right", "blind"] == 0
    right = next(row for row in rows if row.judge == "blind")
    assert right.scores["place"].recall == sum("center" in f.place for f in test.facts) / sum(
        len(f.place) for f in test.facts
    )


def test_each_guidance_scale_draws_all_captions(redrawer):
    test = evaluation.captioned_scenes(3)
    drawn = evaluation.draw_sets(redrawer, test, [1.0, 2.5], steps=2, seed=4, batch_size=2)
    assert list(drawn) == ["drawn, guidance 1", "drawn, guidance 2.5"]
    expected = redrawer.draw(test.texts, guidance_scale=2.5, num_inference_steps=2, seed=4, batch_size=2)
    for one, other in zip(drawn["drawn, guidance 2.5"], expected, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_autoencoder_row_is_what_the_pipeline_s_own_gives_back(redrawer):
    images = pictures(evaluation.captioned_scenes(5).scenes)
    found = evaluation.through_autoencoder(redrawer, images, batch_size=2)
    vae = redrawer.pipeline.vae
    with torch.no_grad():
        expected = vae.decode(vae.encode(pixels(images, 64)).latent_dist.mean).sample
    values = pixels(found, 64)
    assert len(found) == 5
    assert (values - expected.clamp(-1, 1)).abs().max() < 0.02


def test_table():
    test = evaluation.captioned_scenes(10)
    rows = evaluation.judged({"real": list(range(10))}, {"me": lambda _: test.facts}, test.facts, floor="real")
    lines = evaluation.table(rows).splitlines()
    assert lines[0] == "| pictures | judge | noun | colour | place | background | triple | triple F1 |"
    assert lines[2] == "| real | me | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |"


def test_command_line(folder, tmp_path, capsys):
    torch.manual_seed(0)
    config = ProbeConfig(channels=(4, 4, 4), hidden=8, background_hidden=4)
    save_probe(ProbeNet(config), config, tmp_path / "probe")
    settings = {"decoder": str(folder), "number": 12, "steps": 1, "probe": tmp_path / "probe"}
    evaluation.main(**settings, guidance=[1.0, 3.0])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[1] for line in lines] == ["CoCa captioner", "probe"] * 5
    assert lines[0][0] == "real renders (ceiling)"
    assert float(lines[0][2]) > 0.9
    assert lines[6][0] == "drawn, guidance 3"
    assert float(lines[6][6]) < 0.5  # random weights draw nothing

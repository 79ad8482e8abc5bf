"""Whether drawings show what their captions say: the rows, their floor and ceiling, the table and the sheet."""

import pytest
import torch
from textlens.encoders.redraw.redrawer import Redrawer
from textlens.scenes.evals import drawn_facts as evaluation
from textlens.scenes.evals.probe import ProbeConfig, ProbeNet, save_probe
from textlens.scenes.evals.testbed import captions_of, first_scenes, pictures
from textlens.scenes.facts import Facts, facts_of, parse_facts
from textlens.train.data.pixels import pixels

from ...pipelines import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def redrawer(folder):
    return Redrawer.from_pretrained(folder, "cpu")


def test_captions_are_true_and_always_the_same():
    scenes = first_scenes(6)
    assert [parse_facts(text).triple for text in captions_of(scenes)] == [facts_of(scene).triple for scene in scenes]
    assert captions_of(scenes, "loose") == captions_of(scenes, "loose") != captions_of(scenes)


def test_drawings_are_scored_by_their_own_scenes_and_the_floor_by_others():
    scenes = first_scenes(40)
    images, true = pictures(scenes), [facts_of(scene) for scene in scenes]
    known = {id(image): facts for image, facts in zip(images, true, strict=True)}
    judges = {
        "knows": lambda seen: [known[id(image)] for image in seen],
        "blind": lambda seen: [Facts(place=frozenset({"center"})) for _ in seen],
    }
    rows = evaluation.judged({"right": images, "turned": [*images[1:], images[0]]}, judges, true, floor="right")
    triples = {name: scores["triple"].recall for name, scores in rows.items()}
    floor = "drawn for other captions (floor)"
    assert list(triples) == [
        (name, judge) for name in ("right", "turned", floor) for judge in ("knows", "blind")
    ]  # both judges side by side
    assert triples["right", "knows"] == 1
    assert triples["turned", "knows"] < 0.1
    assert triples[floor, "knows"] < 0.1
    assert triples["right", "blind"] == 0
    there = sum("center" in facts.place for facts in true) / sum(len(facts.place) for facts in true)
    assert rows["right", "blind"]["place"].recall == there


def test_autoencoder_row_is_what_the_pipeline_s_own_gives_back(redrawer):
    images = pictures(first_scenes(5))
    found = evaluation.through_autoencoder(redrawer, images, batch_size=2)
    vae = redrawer.pipeline.vae
    with torch.no_grad():
        expected = vae.decode(vae.encode(pixels(images, 64)).latent_dist.mean).sample
    values = pixels(found, 64)
    assert len(found) == 5
    assert (values - expected.clamp(-1, 1)).abs().max() < 0.02


def test_table():
    true = [facts_of(scene) for scene in first_scenes(10)]
    rows = evaluation.judged({"real": list(range(10))}, {"me": lambda _: true}, true, floor="real")
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

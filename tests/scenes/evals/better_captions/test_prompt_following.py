"""How well text-to-image models follow prompts: what is scored against what, means over seeds, ceiling and floor."""

import math

import pytest
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.errors import InputError
from textlens.scenes.evals.better_captions import prompt_following as evaluation
from textlens.scenes.evals.drawn_facts import captioner_judge
from textlens.scenes.evals.testbed import DEFAULT_CLIP, captions_of, first_scenes, mismatched, pictures
from textlens.scenes.facts import facts_of

from ....pipelines import tiny_pipeline


@pytest.fixture(scope="module")
def clip():
    return Clip.from_pretrained(DEFAULT_CLIP)


def test_a_drawing_is_scored_by_what_the_prompt_names_alone(clip):
    scenes = first_scenes(12)
    scorer = evaluation.Scorer(clip, lambda images: [facts_of(scene) for scene in scenes])
    short = scorer(pictures(scenes), captions_of(scenes, "short"))
    assert short["facts"] == short["objects"] == 100  # though it leaves out where things stand
    others = scorer(pictures(scenes), mismatched(captions_of(scenes, "descriptive")))
    assert others["objects"] < 20
    assert others["CLIP score"] < scorer(pictures(scenes), captions_of(scenes, "descriptive"))["CLIP score"]


def test_upsampled_prompts_are_drawn_and_short_ones_meant():
    scenes = first_scenes(3)
    sets = evaluation.prompt_sets(scenes, "tiny")
    assert list(sets) == ["web", "short", "descriptive", "short, upsampled"]
    assert list(sets["short, upsampled"].meant) == captions_of(scenes, "short")
    drawn = zip(sets["short, upsampled"].drawn, sets["short"].drawn, strict=True)
    assert all(len(longer) > len(short) for longer, short in drawn)
    assert "short, upsampled" not in evaluation.prompt_sets(scenes, None)


def test_rows_are_ceiling_models_and_floor_with_means_over_seeds(clip, tmp_path):
    folder = str(tiny_pipeline(tmp_path / "tiny"))
    scenes = first_scenes(4)
    scorer = evaluation.Scorer(clip, captioner_judge(clip))
    prompts = {"short": evaluation.Prompts(*[captions_of(scenes, "short")] * 2)}
    table = evaluation.evaluate(
        {"two": [folder, folder], "one": [folder]}, prompts, scenes, scorer, guidance=1, steps=1
    )
    assert list(table) == [evaluation.CEILING, "two", "one", evaluation.FLOOR]
    assert table["two"]["short"]["CLIP score"][0] == pytest.approx(table["one"]["short"]["CLIP score"][0])
    assert table["two"]["short"]["CLIP score"][1] == pytest.approx(0, abs=1e-6)  # the same model twice
    assert math.isnan(table["one"]["short"]["facts"][1])
    assert table[evaluation.CEILING]["short"]["objects"][0] > 60
    text = evaluation.as_tables(table)
    assert text.count("| short |") == 3
    assert "nan" not in text
    evaluation.plot(table, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").width > 1000


def test_names_take_several_folders():
    assert evaluation.folders_of(["web=a,b", "short=c"]) == {"web": ["a", "b"], "short": ["c"]}
    with pytest.raises(InputError, match="NAME=FOLDER"):
        evaluation.folders_of(["web"])
    with pytest.raises(InputError, match="name of a row"):
        evaluation.folders_of([f"{evaluation.FLOOR}=a"])

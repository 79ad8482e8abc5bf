"""The weights that come along: small enough, with the record of how they were made, and as good as the README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from textlens import ImageReader
from textlens.encoders.pipeline import describe_stream
from textlens.encoders.registry import REDRAW_ENCODER, WEIGHTS, load_encoder
from textlens.prompting.fewshot import pseudo_shots
from textlens.scenes.evals.dediffusion_facts import write
from textlens.scenes.evals.language_model_answers import (
    ask,
    draw_questions,
    example_shots,
    folder_completer,
    no_context,
    true_captions,
)
from textlens.scenes.evals.testbed import first_scenes, pictures
from textlens.scenes.facts import score_texts

FOLDERS = sorted({path for path in (*WEIGHTS.iterdir(), *(WEIGHTS / "scenes").iterdir()) if path.is_dir()})
FOLDERS = [path for path in FOLDERS if path.name not in ("__pycache__", "scenes")]
SCENES = ("scenes:dediffusion", "scenes:decap")
MIB = 2**20
LIMITS = {"coca": 8 * MIB, "decap": 5 * MIB, "language_model": 12 * MIB, "text_to_image": 18 * MIB}


def test_all_weights_together_are_small() -> None:
    sizes = {path: path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()}
    photos = [size for path, size in sizes.items() if path.relative_to(WEIGHTS).parts[0].startswith("photo-")]
    assert sum(sizes.values()) <= 96e6
    assert sum(photos) <= 40e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_says_how_it_was_made(folder: Path) -> None:
    record = json.loads((folder / "training.json").read_text())
    assert {"recipe", "settings", "seed", "commit", "device", "minutes", "final_metrics"} <= set(record)
    if record["recipe"] != "tags":  # which is calibrated, not trained
        assert record["steps"] == record["settings"]["loop"]["steps"]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= LIMITS.get(folder.name, 48 * MIB)


@pytest.mark.parametrize("folder", ["scenes/dediffusion", "photo-dediffusion"])
def test_dediffusion_saw_neither_captions_nor_labels(folder: str) -> None:
    stage = json.loads((WEIGHTS / folder / "training.json").read_text())
    while stage:
        assert stage["recipe"] == "dediffusion"
        assert stage["settings"]["caption_weight"] == stage["settings"]["clip_weight"] == 0
        stage = stage.get("started_from")


def test_dediffusion_is_what_redraws_and_names_what_is_there() -> None:
    encoder = load_encoder(REDRAW_ENCODER)
    assert encoder.config.num_queries <= 24
    scenes = first_scenes(120, 3)
    written = write(encoder, pictures(scenes))
    assert written.surviving == 1
    scores = score_texts(written.texts, scenes)
    others = score_texts(written.texts, [*scenes[1:], scenes[0]])
    for kind, least in {"background": 0.95, "colour": 0.85, "noun": 0.75, "place": 0.65}.items():
        assert scores[kind].f1 >= least
        assert scores[kind].f1 > others[kind].f1 + 0.2


def test_decap_reads_images_though_it_learnt_from_captions_alone() -> None:
    record = json.loads((WEIGHTS / "scenes" / "decap" / "training.json").read_text())
    assert record["recipe"] == "decap"
    encoder = load_encoder("scenes:decap")
    scenes = first_scenes(60, 3)
    texts = [one.text for one in encoder.describe(pictures(scenes))]
    scores, others = score_texts(texts, scenes), score_texts(texts, [*scenes[1:], scenes[0]])
    for kind, least in {"background": 0.8, "colour": 0.8, "noun": 0.45}.items():
        assert scores[kind].f1 >= least
        assert scores[kind].f1 > others[kind].f1 + 0.2


def test_the_small_language_model_answers_from_its_context() -> None:
    complete, asked = folder_completer(WEIGHTS / "language_model"), draw_questions(30)
    shots = example_shots(true_captions)
    true = ask("true", complete, asked, true_captions, shots=shots)
    blank = ask("blank", complete, asked, no_context, shots=pseudo_shots(shots, len(shots)))
    assert true.failures == 0
    assert true.accuracy["all"] >= 0.7
    assert true.accuracy["all"] > blank.accuracy["all"] + 0.35


def test_asked_of_an_image_with_what_comes_along() -> None:
    scenes = first_scenes(40, 2)
    questions = ["What color is the background?"] * len(scenes)
    answers = ImageReader.from_specs(SCENES, "tiny").ask(pictures(scenes), questions)
    assert all(answer.error is None for answer in answers)
    assert {one.encoder for answer in answers for one in answer.descriptions} == set(SCENES)
    assert sum(answer.answer == scene.background for answer, scene in zip(answers, scenes, strict=True)) >= 30


@pytest.mark.parametrize("spec", ["coca", "tags", "decap", "dediffusion"])
def test_photographs_of_any_shape_and_colour_mode_have_words(spec: str, tmp_path: Path) -> None:
    grey = Image.linear_gradient("L").resize((300, 200))
    pictures = {
        "thin.png": grey.resize((1, 4000)),
        "flat.png": grey.resize((4000, 1)),
        "grey.jpg": grey,
        "cmyk.jpg": grey.convert("RGB").convert("CMYK"),
        "alpha.png": grey.convert("RGBA"),
        "one.png": grey.resize((1, 1)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    rows = list(describe_stream([str(tmp_path / name) for name in pictures], {spec: load_encoder(spec)}))
    assert [row.error for row in rows] == [None] * len(pictures)
    assert all(isinstance(row.description.text, str) for row in rows if row.description)
    grey.resize((10_000, 10_000)).save(tmp_path / "huge.png")
    huge = next(iter(describe_stream([str(tmp_path / "huge.png")], {spec: load_encoder(spec)})))
    assert "100,000,000 pixels, over the limit" in str(huge.error)

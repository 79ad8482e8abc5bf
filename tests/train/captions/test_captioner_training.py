"""The captioner recipe: what learns and what stays, which captions teach it, and that the finished folder tells its
style."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.metrics.word_overlap import overlap
from textlens.prompting.faithfulness.content_words import caption_words, joined_words
from textlens.train.captions.captioner_training import CaptionerConfig, CaptionerRecipe, freeze_others
from textlens.train.coca import CocaConfig, new_clip
from textlens.train.engine.loop import LoopConfig, train
from textlens.train.engine.run import run
from textlens.train.engine.settings import read_settings
from textlens.train.registry import run_recipe

from ..tiny_coca import MODEL, TOKENIZER
from .captioned_data import write_synthetic

LOOP = LoopConfig(steps=6, batch_size=8, learning_rate=3e-3, num_workers=0, save_every=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    new_clip(MODEL, 0, tokenizer=TOKENIZER).save_pretrained(folder)
    return str(folder)


def configured(base: str, spec: str, synthetic: str, *, style: str = "descriptive", blend_style: str = "", **values):
    blend = {"captions": synthetic, "style": blend_style or style, "share": 1.0, "held_out": True}
    data = {"source": spec, "text": "json:captions", "held_out_share": 0.2, "crop_scale": None, "blend": blend}
    given = {"loop": LOOP, "data": data, "start": base, "style": style, **values}
    return CaptionerConfig(**given)


def build(config: CaptionerConfig, cache: Path = Path("unused")) -> CaptionerRecipe:
    return CaptionerRecipe(config, cache)


def changed(recipe: CaptionerRecipe, out: Path) -> set[str]:
    """The parameters that training changes."""
    before = {name: tensor.clone() for name, tensor in recipe.clip.model.named_parameters()}
    train(recipe, recipe.config.loop, out)
    return {name for name, tensor in recipe.clip.model.named_parameters() if not torch.equal(tensor, before[name])}


def test_the_decoder_learns_and_both_embeddings_stay(base, spec, synthetic, tmp_path):
    recipe = build(configured(base, spec, synthetic))
    samples = recipe.source.held_out(4)
    images, texts = [sample.image for sample in samples], [sample.text for sample in samples]
    before = recipe.clip.embed_images(images), recipe.clip.embed_texts(texts)
    learnt = changed(recipe, tmp_path / "run")
    assert learnt == {name for name, _ in recipe.clip.model.named_parameters() if name.startswith("text_decoder.")}
    assert torch.equal(recipe.clip.embed_images(images), before[0])
    assert torch.equal(recipe.clip.embed_texts(texts), before[1])


def test_other_parts_learn_where_asked(base, spec, synthetic, tmp_path):
    recipe = build(configured(base, spec, synthetic, trained=["decoder", "text", "image"]))
    towers = {name.partition(".")[0] for name in changed(recipe, tmp_path / "run")}
    assert towers == {"text_decoder", "text", "visual"}
    with pytest.raises(InputError, match=r"trained\.0 is 'pooler'"):
        configured(base, spec, synthetic, trained=["pooler"])


def test_the_loss_falls_and_the_figures_tell_words(base, spec, synthetic, tmp_path):
    config = configured(base, spec, synthetic, loop=replace(LOOP, steps=20, save_every=20, log_every=1))
    recipe = build(config)
    train(recipe, config.loop, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["caption"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    samples = recipe.source.held_out(20)
    with torch.no_grad():
        figures = recipe.evaluate(recipe.model)
    texts = [one.text for one in CocaCaptioner(recipe.clip).describe([sample.image for sample in samples])]
    own = [caption_words(text).content for text in texts]
    expected = overlap(own, [joined_words(sample.texts).content for sample in samples])
    assert figures["content_precision"] == pytest.approx(expected.precision)
    assert figures["content_recall"] == pytest.approx(expected.recall)
    assert figures["words"] == pytest.approx(sum(len(text.split()) for text in texts) / len(texts))
    assert "cider_d" in figures


def test_only_captions_of_the_style_are_trained_on(base, spec, tmp_path):
    missing = {number: {"descriptive": None} for number in range(0, 40, 2)}
    recipe = build(configured(base, spec, write_synthetic(tmp_path / "half", missing)))
    batch = recipe.batch(range(32), 0)
    samples = recipe.source.samples(range(32), 0, image=False)
    expected = [place for place, sample in enumerate(samples) if sample.text.startswith("descriptive")]
    assert batch["captioned"].tolist() == expected
    assert 4 < len(expected) < 28


def test_data_of_another_style_are_refused(base, spec, synthetic):
    with pytest.raises(InputError, match="none of 64 samples is of style 'poem', but descriptive"):
        build(configured(base, spec, synthetic, style="poem", blend_style="descriptive"))
    scenes = {"source": "scenes", "styles": {"short": 1.0, "web": 1.0}}
    with pytest.raises(InputError, match="is of style 'descriptive', but short, web"):
        build(configured(base, spec, synthetic, data=scenes))
    with pytest.raises(InputError, match="views is 3; expected 1 unless a timm tower stays frozen"):
        build(configured(base, spec, synthetic, views=3))


def test_the_folder_tells_its_style_and_base(base, spec, synthetic, tmp_path):
    config = configured(base, spec, synthetic, num_beams=3)
    result = run(CaptionerRecipe, config, tmp_path / "run")
    assert result.finished
    folder = tmp_path / "run" / "model"
    captioner = CocaCaptioner.from_pretrained(str(folder))
    assert (captioner.style, captioner.search.num_beams) == ("descriptive", 3)
    record = json.loads((folder / "training.json").read_text())
    assert (record["recipe"], record["settings"]["style"], record["settings"]["start"]) == (
        "captioner",
        "descriptive",
        base,
    )
    assert record["data_notes"] == ["40 of 40 items have a descriptive caption in " + synthetic]
    assert CocaCaptioner.from_pretrained(base).style is None


def test_stop_and_resume_are_an_uninterrupted_run(base, spec, synthetic, tmp_path):
    config = configured(base, spec, synthetic, dropout=0.2, label_smoothing=0.1)
    run(CaptionerRecipe, config, tmp_path / "whole" / "run")
    stopped = run(CaptionerRecipe, config, tmp_path / "parts" / "run", max_minutes=0.0)
    assert not stopped.finished
    assert run(CaptionerRecipe, config, tmp_path / "parts" / "run", resume=True).finished
    one, other = (
        Clip.from_pretrained(tmp_path / name / "run" / "model").model.state_dict() for name in ("whole", "parts")
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_longer_captions_than_the_base_was_trained_on(base, spec, synthetic, tmp_path):
    config = configured(base, spec, synthetic, context_length=40, trained=["decoder", "text"])
    recipe, first = build(config), Clip.from_pretrained(base)
    assert recipe.clip.context_length == 40
    texts = ["a picture of a dog", "two cats"]
    torch.testing.assert_close(recipe.clip.embed_texts(texts), first.embed_texts(texts))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        old = first.model(pixels, first.tokenize(texts))["logits"]
        new = recipe.clip.model(pixels, recipe.clip.tokenize(texts))["logits"]
    torch.testing.assert_close(new[:, : old.shape[1]], old)
    run(CaptionerRecipe, config, tmp_path / "run")
    loaded = CocaCaptioner.from_pretrained(str(tmp_path / "run" / "model"))
    assert loaded.search.max_tokens == 39
    assert loaded.clip.tokenize(["dog " * 60]).shape == (1, 40)
    with pytest.raises(InputError, match=r"context_length is 8, but .* was trained with 24"):
        build(configured(base, spec, synthetic, context_length=8))
    with pytest.raises(InputError, match="expected that of a new model in its text_cfg"):
        CocaConfig(loop=LOOP, data=config.data, model=MODEL, context_length=40)


def test_photo_coca_keeps_its_shared_tower_and_trains_on_its_features(spec, synthetic, tmp_path):
    start = str(WEIGHTS / "photo-coca")
    config = configured(start, spec, synthetic, trained=["decoder", "text"], views=2, context_length=48)
    recipe = build(config, tmp_path / "cache")
    learning = {name for name, weight in recipe.clip.model.named_parameters() if weight.requires_grad}
    assert not any(name.startswith(("visual.trunk", "visual.head")) for name in learning)
    assert {"visual.cells.weight", "visual.positions", "text.positional_embedding"} <= learning
    assert recipe.batch([0, 1], 0)["pixels"].shape == (2, 9, 1280)
    assert len(list((tmp_path / "cache" / "features").glob("*.npy"))) == 2
    recipe.save(tmp_path / "model")
    saved = CocaCaptioner.from_pretrained(str(tmp_path / "model"))
    (sample,) = recipe.source.held_out(1)
    assert saved.describe([sample.image])[0].text
    with safe_open(tmp_path / "model" / "open_clip_model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if name.startswith(("visual.trunk", "visual.head"))]  # noqa: SIM118


def test_scenes_train_one_of_their_styles(base, tmp_path):
    path = tmp_path / "short.yaml"
    data = {"source": "scenes", "number": 30, "styles": {"short": 1.0}, "held_out_style": "short"}
    values = {"start": base, "style": "short", "data": data, "validation_images": 6}
    path.write_text(yaml.safe_dump({**values, "loop": {"steps": 2, "batch_size": 4, "num_workers": 0}}))
    result = run_recipe("captioner", path, tmp_path / "run")
    assert {"noun_f1", "content_recall"} <= set(result.evaluation)
    assert CocaCaptioner.from_pretrained(str(tmp_path / "run" / "model")).style == "short"


@pytest.mark.parametrize("style", ["short", "descriptive"])
def test_committed_settings_are_read(style):
    path = Path(str(WEIGHTS)).parent / "configs" / f"photo-captioner-{style}.yaml"
    config = read_settings(CaptionerConfig, path)
    assert (config.style, config.data.blend.style, config.start) == (style, style, "weights/photo-coca")


def test_freezing_is_by_part(base):
    model = Clip.from_pretrained(base).model
    freeze_others(model, ["text"])
    assert {name.partition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad} == {"text"}

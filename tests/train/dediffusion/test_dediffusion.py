"""De-Diffusion's recipe: what is frozen, what learns, and that texts are scored on their exact loss."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files

import pytest
import torch
import torch.nn.functional as F
import yaml
from datasets import Dataset
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip import get_model_config
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.scenes.scene import render, scene_at
from textlens.train.coca import new_clip
from textlens.train.dediffusion.dediffusion import DediffusionRecipe, DediffusionTraining, train_dediffusion
from textlens.train.dediffusion.frozen_decoder import FrozenDecoder
from textlens.train.engine.settings import read_settings
from textlens.train.registry import RECIPES
from textlens.train.text_to_image.diffusion import min_snr_weights
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...pipelines import tiny_pipeline

TOWER = {"context_length": 64, "vocab_size": 1920, "width": 32, "heads": 2, "layers": 1}
COCA = {
    "embed_dim": 32,
    "pad_id": 1917,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16, "output_tokens": True,
    },
    "text_cfg": TOWER | {"hf_tokenizer_name": "local", "pad_id": 1917, "eos_id": 1919, "output_tokens": True},
    "multimodal_cfg": TOWER | {"attn_pooler_heads": 2},
}  # fmt: skip
SIZES = {"num_queries": 5, "depth": 2, "width": 32, "heads": 2}
LOOP = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "num_workers": 0, "save_every": 3}


def save_clip(model, folder):
    """Random weights; the tokenizer of `weights/coca`, which takes seconds to build anew."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Clip.from_config(model, tokenizer_folder=WEIGHTS / "coca").save_pretrained(folder)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> DediffusionTraining:
    folder = tmp_path_factory.mktemp("models")
    save_clip(COCA, folder / "clip")
    tiny_pipeline(folder / "decoder")
    return DediffusionTraining(
        decoder=str(folder / "decoder"),
        clip=str(folder / "clip"),
        encoder=SIZES,
        loop=LOOP,
        validation_images=6,
    )


@pytest.fixture
def make(config, tmp_path):
    return lambda **changes: DediffusionRecipe(dataclasses.replace(config, **changes), tmp_path / "latents")


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


def record_tasks(recipe):
    """What the decoder is asked: (latents, noise, timesteps, hidden states) of each call."""
    calls, own = [], recipe.decoder.loss
    recipe.decoder.loss = lambda *task: calls.append(task) or own(*task)
    return calls


@pytest.mark.parametrize("estimator", ["gumbel", "policy"])
def test_texts_of_one_image_differ_in_words_alone(make, estimator):
    recipe = make(estimator=estimator, samples_per_image=3, timestep_range=[400, 600])
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


def test_the_words_to_write_may_be_those_of_captions(make):
    recipe = make(caption_styles=["descriptive"])
    assert {"star", "red", "background"} <= set(recipe.vocabulary.words)
    assert not {"isolated", "bench", "picture"} & set(recipe.vocabulary.words)
    assert figures(recipe)["loss"].isfinite()


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


def test_kept_latents_are_those_of_the_images(make):
    recipe = make(scenes=6)
    batch = recipe.batch(range(4), 0)
    rows = [recipe.source.scenes.row(index, 0) for index in range(4)]
    images = [recipe.source.scenes.image(row) for row in rows]
    assert set(batch) == {"pixels", "latents"}
    assert torch.equal(batch["pixels"], recipe.clip.pixels(images))
    from textlens.train.data.pixels import pixels

    torch.testing.assert_close(batch["latents"], recipe.decoder.encode_images(pixels(images, 64)), rtol=0, atol=2e-3)
    assert figures(recipe)["loss"].isfinite()


def test_evaluation_scores_decoded_strings(make):
    recipe = make()
    found = recipe.evaluate(recipe.model.eval())
    assert found == recipe.evaluate(recipe.model)
    kinds = {f"{kind}_f1" for kind in ("noun", "colour", "place", "background", "pair")}
    losses = {"diffusion", "diffusion_without_words", "diffusion_with_captions"}
    assert set(found) == kinds | losses | {"surviving", "words", "distinct"}
    assert found["words"] == 5
    assert found["surviving"] == 1.0
    seen = recipe._validation
    true = [f"{s.background} " + " ".join(f"{t.colour} {t.noun} {t.place}" for t in s.objects) for s in seen.scenes]
    words = [recipe.decoder.tokenizer(text, add_special_tokens=False).input_ids for text in true]
    length = max(map(len, words))
    told = seen.score([(row * length)[:length] for row in words], recipe.vocabulary)
    assert min(told[f"{kind}_f1"] for kind in ("noun", "colour", "background")) == 1.0
    assert told["diffusion"] != found["diffusion"]


def test_validation_shows_as_many_objects_as_the_end_of_training(make):
    assert {len(scene.objects) for scene in make(one_object=1.0)._validation.scenes} == {1}
    loop = LOOP | {"steps": 10, "batch_size": 10}
    assert make(curriculum={1: 50, 3: 100}, loop=loop).most_objects == 3
    assert make(curriculum={1: 50, 3: 99}, loop=loop).most_objects == 4


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    loop = LOOP | {"ema_decay": 0.5}
    assert train_dediffusion(dataclasses.replace(config, loop=loop), out).finished
    return out / "model"


def test_trained_folder_is_an_encoder(trained):
    encoder = Dediffusion.from_pretrained(trained)
    images = [Image.fromarray(render(scene_at(i))) for i in range(2)]
    assert all(len(description.tokens) == 5 for description in encoder.describe(images))
    record = json.loads((trained / "training.json").read_text())
    assert (record["recipe"], record["steps"], record["settings"]["source"]) == ("dediffusion", 3, "scenes")
    assert {"diffusion", "noun_f1", "surviving"} <= set(record["final_metrics"]["validation"])


def test_second_stage_goes_on_from_the_first(config, trained, tmp_path):
    second = dataclasses.replace(config, start=str(trained), estimator="policy", samples_per_image=2)
    recipe = DediffusionRecipe(second, tmp_path / "latents")
    first = Dediffusion.from_pretrained(trained).model.state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in recipe.model.state_dict().items())
    assert any(p.requires_grad for p in recipe.model.parameters())
    train_dediffusion(second, tmp_path / "two")
    record = json.loads((tmp_path / "two" / "model" / "training.json").read_text())
    assert record["started_from"] == json.loads((trained / "training.json").read_text())


def test_second_stage_may_leave_out_words_that_it_is_not_sure_of(make, trained, tmp_path):
    careful = make(start=str(trained), min_probability=0.5)
    assert careful.evaluate(careful.model.eval())["words"] < 5
    assert careful.encoder.config.min_probability == 0.5
    careful.encoder.save_pretrained(tmp_path / "careful")
    assert make(start=str(tmp_path / "careful")).encoder.config.min_probability == 0.5


@pytest.mark.parametrize("head", ["tied", "linear"])
def test_second_stage_may_be_held_to_fewer_words(config, make, tmp_path, head):
    first = make(encoder=SIZES | {"head": head})
    first.encoder.save_pretrained(tmp_path / "first")
    held = make(start=str(tmp_path / "first"), caption_styles=["descriptive"])
    kept = held.vocabulary.words
    assert {"star", "red"} <= set(kept) < set(first.vocabulary.words)
    pixels = held.batch(range(2), 0)["pixels"]
    places = [first.vocabulary.words.index(word) for word in kept]
    torch.testing.assert_close(held.model(pixels), first.model(pixels)[..., places])


def test_continuous_run_leaves_figures_and_no_encoder(config, tmp_path):
    assert train_dediffusion(dataclasses.replace(config, continuous=True), tmp_path / "run").finished
    assert [path.name for path in (tmp_path / "run" / "model").iterdir()] == ["training.json"]
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert "noun_f1" not in record["final_metrics"]["validation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "reinforce"}, "expected gumbel or policy"),
        ({"estimator": "policy"}, "at least 2"),
        ({"estimator": "policy", "samples_per_image": 2, "clip_weight": 1.0}, "soft words"),
        ({"tau_end": 0.0}, "temperatures above 0"),
        ({"continuous": True, "entropy_weight": 1.0}, "no words to weigh"),
        ({"random_backbone": True}, "needs train_backbone"),
        ({"source": "imagefolder:photos", "scenes": 10}, "set it to 0"),
        ({"timestep_range": [900, 100]}, "timestep_range"),
        ({"timestep_range": [0, 2000]}, "timestep_range"),
        ({"decoder": "no/where/at/all"}, "does not load as a text-to-image model"),
        ({"encoder": SIZES | {"num_queries": 63}}, "at most 62"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_teacher_must_share_the_decoders_tokens(config, make, tmp_path):
    text = COCA["text_cfg"] | {"vocab_size": 1100, "pad_id": 1097, "eos_id": 1099}
    multimodal = COCA["multimodal_cfg"] | {"vocab_size": 1100}
    other = COCA | {"pad_id": 1097, "text_cfg": text, "multimodal_cfg": multimodal}
    new_clip(other, seed=0).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="not the decoder's"):
        make(clip=str(tmp_path / "other"), clip_weight=1.0)


def test_teacher_reads_one_hot_words_as_their_text(make):
    recipe = make(clip_weight=1.0, caption_weight=1.0)
    pixels = recipe.batch(range(2), 0)["pixels"]
    places = torch.tensor([[5, 6, 7], [8, 8, 9]])
    texts = recipe.vocabulary.texts(recipe.vocabulary.ids[places])
    expected = 1 - (recipe.clip.embed_pixels(pixels) * recipe.clip.embed_texts(texts)).sum(1).mean()
    one_hot = F.one_hot(places, len(recipe.vocabulary)).float()
    torch.testing.assert_close(recipe.teacher.distance(pixels, one_hot), expected)
    twice = recipe.teacher.distance(pixels, one_hot.repeat_interleave(2, 0))
    torch.testing.assert_close(twice, expected)


def test_teacher_writes_the_captions_words_in_order(make):
    recipe = make(caption_weight=1.0)
    pixels = recipe.batch(range(3), 0)["pixels"]
    found = recipe.teacher.caption_words(pixels, 4)
    kept = set(recipe.vocabulary.ids.tolist())
    for row, caption in zip(found.tolist(), CocaCaptioner(recipe.clip).generate(pixels), strict=True):
        words = [token for token in caption.ids if token in kept][:4]
        assert recipe.vocabulary.ids[row[: len(words)]].tolist() == words
        assert set(row[len(words) :]) <= {-100}


def test_committed_small_configuration():
    assert "dediffusion" in RECIPES
    config = read_settings(DediffusionTraining, files("textlens.scenes").joinpath("configs") / "scenes.yaml")
    assert (config.source, config.start, config.clip_weight, config.caption_weight) == ("scenes", None, 0, 0)
    assert config.encoder["num_queries"] <= 24


# The real configuration, block by block, at a reduced width.
UNET = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [8, 16, 32, 32], "attention_head_dim": [1, 2, 4, 4], "use_linear_projection": True,
    "cross_attention_dim": 32, "norm_num_groups": 4,
}  # fmt: skip
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [4, 4, 8, 8], "layers_per_block": 2, "norm_num_groups": 4, "sample_size": 64,
    "scaling_factor": 0.18215,
}  # fmt: skip
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True,
    "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "epsilon",
}  # fmt: skip


def save_stable_diffusion_2(folder):
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "coca", model_max_length=77)
    tokenizer.pad_token = "!"  # as in Stable Diffusion 2
    text = CLIPTextConfig(
        vocab_size=1920, hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
        hidden_act="gelu", projection_dim=16, max_position_embeddings=77, bos_token_id=1918, eos_token_id=1919,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(**VAE), text_encoder=CLIPTextModel(text), tokenizer=tokenizer,
        unet=UNet2DConditionModel(**UNET), scheduler=PNDMScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def save_coca_l14(folder):
    model = get_model_config("coca_ViT-L-14")
    tower = {"vocab_size": 1920, "width": 32, "heads": 2, "layers": 1}
    model["embed_dim"] = 32
    model["vision_cfg"] |= {"image_size": 28, "layers": 2, "width": 64, "head_width": 32}
    model["text_cfg"] |= tower | {"hf_tokenizer_name": "local"}
    model["multimodal_cfg"] |= tower | {"attn_pooler_heads": 2}
    save_clip(model, folder)


def test_three_steps_of_the_real_configuration(tmp_path):
    """`configs/sd2-coca-l14.yaml` itself; widths, folders, and the number of samples are all that is changed."""
    save_stable_diffusion_2(tmp_path / "decoder")
    save_coca_l14(tmp_path / "clip")
    photos = [Image.effect_noise((90, 70), 50 + i).convert("RGB") for i in range(8)]
    Dataset.from_dict({"jpg": photos}).save_to_disk(str(tmp_path / "photos"))
    real = yaml.safe_load((files("textlens.configs") / "sd2-coca-l14.yaml").read_text())
    small = {"steps": 3, "batch_size": 4, "accumulation": 2, "warmup_steps": 1, "num_workers": 0}
    config = DediffusionTraining(
        **real | {
            "decoder": str(tmp_path / "decoder"), "clip": str(tmp_path / "clip"), "source": str(tmp_path / "photos"),
            "encoder": real["encoder"] | {"width": 32, "heads": 2}, "loop": real["loop"] | small,
            "validation_images": 2,
        }
    )  # fmt: skip
    assert (config.encoder["num_queries"], config.encoder["depth"]) == (75, 5)
    result = train_dediffusion(config, tmp_path / "run")
    assert (result.finished, result.step) == (True, 3)
    assert result.metrics["loss"] == pytest.approx(1.0, abs=0.5)  # a random U-Net against unit noise
    text = Dediffusion.from_pretrained(tmp_path / "run" / "model").describe(photos[:1])[0]
    assert len(text.tokens) == 75
    decoder = FrozenDecoder.from_pretrained(tmp_path / "decoder")
    frame = decoder.tokenizer("star", padding="max_length").input_ids
    assert frame[3:] == [0] * 74
    assert Clip.from_pretrained(tmp_path / "clip").model.visual.attn_pool is not None

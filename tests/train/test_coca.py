"""The CoCa recipe: what a batch holds, what each loss trains, and that a trained folder is a model like any other."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.errors import InputError
from textlens.metrics.caption_metrics import caption_scores
from textlens.train.coca import CocaConfig, CocaRecipe, contrastive_loss, new_clip, words_in, words_loss
from textlens.train.engine.checkpoint import checkpoints, load_checkpoint
from textlens.train.engine.loop import LoopConfig, train
from textlens.train.engine.run import run
from textlens.train.registry import run_recipe

from .tiny_coca import MODEL, TOKENIZER
from .tiny_source import TinyData

LOOP = LoopConfig(steps=4, batch_size=6, learning_rate=1e-3, num_workers=0, save_every=2, ema_decay=0.9)
CONFIG = CocaConfig(loop=LOOP, data=TinyData(), model=MODEL, tokenizer=TOKENIZER)
SCENES = replace(CONFIG, data={"source": "scenes", "styles": {"descriptive": 0.5, "loose": 0.5}})


def build(config: CocaConfig = CONFIG) -> CocaRecipe:
    return CocaRecipe(config, Path("unused"))


def loss(recipe: CocaRecipe, batch: dict) -> dict:
    (shared,) = recipe.share(recipe.model, [batch])
    return recipe.loss(recipe.model, batch, step=0, indices=range(len(batch["text"])), **shared)


@pytest.fixture(scope="module")
def recipe():
    return build()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("coca") / "run"
    return out, run(CocaRecipe, CONFIG, out)


def test_training_begins_with_a_new_model_or_a_trained_one():
    with pytest.raises(InputError, match="neither of model and start"):
        replace(CONFIG, model=None)
    with pytest.raises(InputError, match="both of model and start"):
        replace(CONFIG, start="runs/coca/model")


@torch.no_grad()
def test_evaluation_is_of_held_out_images(recipe):
    samples = recipe.source.held_out(256)
    figures = recipe.evaluate(recipe.model.eval())
    image = recipe.clip.embed_images([sample.image for sample in samples])
    text = recipe.clip.embed_texts([sample.text for sample in samples])
    expected = contrastive_loss(image, text, recipe.clip.model.logit_scale.exp())
    assert figures["contrastive"] == pytest.approx(float(expected), rel=1e-4)
    every = recipe.clip.embed_texts([text for sample in samples for text in sample.texts])
    nearest = (image @ every.T).argmax(1) // 3  # three captions an image
    assert figures["image_to_text_r1"] == pytest.approx(100 * float((nearest == torch.arange(12)).float().mean()))
    written = [found.text for found in CocaCaptioner(recipe.clip).describe([sample.image for sample in samples])]
    scores = caption_scores(written, [sample.texts for sample in samples], meteor=False).scores
    assert figures["cider_d"] == pytest.approx(100 * scores["CIDEr-D"])


@torch.no_grad()
def test_scenes_add_their_facts():
    recipe = build(replace(SCENES, validation_images=8))
    assert {"noun_f1", "cider_d", "text_to_image_r10"} <= set(recipe.evaluate(recipe.model.eval()))


def test_new_weights_are_finite_and_depend_on_the_seed_alone():
    one, same, other = (new_clip(MODEL, seed, tokenizer=TOKENIZER).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    spread = new_clip(MODEL, 1, 0.5, TOKENIZER).model.visual.positional_embedding.std().item()
    assert spread == pytest.approx(0.5, rel=0.2)
    assert not torch.equal(one["text_decoder.text_projection"], other["text_decoder.text_projection"])
    assert one["text_decoder.text_projection"].std().item() == pytest.approx(32**-0.5, rel=0.05)


@pytest.mark.parametrize("crop_scale", [None, (0.5, 1.0)])
def test_batch_is_a_function_of_index_and_seed(crop_scale):
    recipe = build(replace(CONFIG, data=TinyData(crop_scale=crop_scale)))
    whole = recipe.batch(range(8), 0)
    parts = [recipe.batch([0, 1, 2], 0), recipe.batch(range(3, 8), 0)]
    assert torch.equal(whole["pixels"], torch.cat([part["pixels"] for part in parts]))
    assert torch.equal(whole["text"], torch.cat([part["text"] for part in parts]))
    assert not torch.equal(whole["pixels"], recipe.batch(range(8), 1)["pixels"])


def test_training_crops_where_the_source_says_so_and_evaluation_never_does():
    plain, cropped = build(), build(replace(CONFIG, data=TinyData(crop_scale=(0.3, 0.5))))
    assert not torch.equal(plain.batch([3], 0)["pixels"], cropped.batch([3], 0)["pixels"])
    epoch = TinyData().size
    rows = [cropped.source.row(3, 0), *(cropped.source.row(index, 0) for index in range(epoch, 2 * epoch))]
    again = epoch + rows[1:].index(rows[0])  # the same item in the next epoch
    assert not torch.equal(cropped.batch([3], 0)["pixels"], cropped.batch([again], 0)["pixels"])
    assert torch.equal(plain.batch([3], 0)["pixels"], plain.batch([again], 0)["pixels"])
    image = [sample.image for sample in plain.source.samples([3], 0)]
    assert torch.equal(plain.batch([3], 0)["pixels"], plain.clip.pixels(image))


def test_captioned_rows_are_those_of_the_captioned_styles():
    recipe = build(replace(SCENES, captioned=["descriptive"]))
    batch = recipe.batch(range(30), 0)
    styles = [sample.style for sample in recipe.source.samples(range(30), 0)]
    assert batch["captioned"].tolist() == [i for i, style in enumerate(styles) if style == "descriptive"]
    assert 0 < len(batch["captioned"]) < 30
    share = build(replace(CONFIG, captioned_share=0.5)).batch(range(60), 0)["captioned"]
    assert 15 < len(share) < 45


def test_caption_loss_is_open_clips_on_the_captioned_rows():
    recipe = build(replace(SCENES, captioned=["descriptive"]))
    batch = recipe.batch(range(8), 0)
    rows = batch["captioned"]
    out = recipe.clip.model(batch["pixels"][rows], batch["text"][rows])
    expected = F.cross_entropy(out["logits"].permute(0, 2, 1), out["labels"], ignore_index=recipe.clip.pad_id)
    losses = loss(recipe, batch)
    torch.testing.assert_close(losses["caption"], expected.detach())
    total = CONFIG.contrastive_weight * losses["contrastive"] + CONFIG.caption_weight * losses["caption"]
    torch.testing.assert_close(losses["loss"].detach(), total)


def test_batch_without_captioned_rows_trains_the_contrastive_loss_alone(recipe):
    losses = loss(recipe, recipe.batch(range(4), 0) | {"captioned": torch.empty(0, dtype=torch.long)})
    assert losses["caption"] == 0
    assert losses["loss"].isfinite()


def test_contrastive_loss_knows_the_pairs():
    image = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    right, wrong = (contrastive_loss(image, text, torch.tensor(100.0)) for text in (image, image.flip(0)))
    assert right < wrong
    logits = 7 * image @ image.T
    expected = -torch.log_softmax(logits, 1).diagonal().mean()  # symmetric, so both directions are equal
    torch.testing.assert_close(contrastive_loss(image, image, torch.tensor(7.0)), expected)


def test_every_part_learns(recipe):
    recipe.model.zero_grad()
    loss(recipe, recipe.batch(range(6), 0))["loss"].backward()
    still = [name for name, p in recipe.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def first_step(config: CocaConfig, out: Path) -> tuple[dict, list]:
    """The gradient of each parameter, as Adam's first moment has it, and the figures."""
    result = train(build(config), config.loop, out)
    names = ("loss", "contrastive", "caption", "word", "token_accuracy", "gradient_norm")
    moments = load_checkpoint(checkpoints(out)[-1]).tensors["optimizer"]
    return {name: m for name, m in moments.items() if name.endswith("exp_avg")}, [result.metrics[n] for n in names]


def test_four_parts_of_a_batch_are_one_batch(tmp_path):
    """The losses look across parts: the contrastive one at all features, the others at all tokens and words."""
    loop = LoopConfig(steps=1, batch_size=16, num_workers=0, gradient_clip=None)
    config = replace(CONFIG, loop=loop, word_weight=0.5, captioned_share=0.7)
    whole, figures = first_step(config, tmp_path / "whole")
    parts, same = first_step(replace(config, loop=replace(loop, accumulation=4)), tmp_path / "parts")
    assert same == pytest.approx(figures, rel=1e-4)
    for name, moment in whole.items():
        torch.testing.assert_close(parts[name], moment, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_scale_above_the_cap_comes_back(recipe):
    scale = recipe.clip.model.logit_scale
    before = scale.detach().clone()
    with torch.no_grad():
        scale.fill_(math.log(100) + 0.5)
    recipe.after_step()
    assert scale.item() == pytest.approx(math.log(100))
    recipe.model.zero_grad()
    loss(recipe, recipe.batch(range(6), 0))["loss"].backward()
    assert scale.grad.abs() > 0
    with torch.no_grad():
        scale.copy_(before)


def test_trained_folder_is_loaded_by_clip_and_captioner(trained):
    out, result = trained
    assert result.finished
    clip = Clip.from_pretrained(out / "model")
    (sample,) = TinyData().open(image_size=32).held_out(1)
    assert len(CocaCaptioner(clip, max_tokens=5).describe([sample.image])) == 1
    record = json.loads((out / "model" / "training.json").read_text())
    assert (record["recipe"], record["steps"], record["settings"]["loop"]["batch_size"]) == ("coca", 4, 6)
    assert record["settings"]["data"]["source"] == "tiny"
    assert record["final_metrics"]["validation"]["image_to_text_r1"] <= 100


def test_a_stage_goes_on_from_the_one_before(trained, tmp_path):
    out, _ = trained
    first = Clip.from_pretrained(out / "model")
    config = replace(CONFIG, model=None, tokenizer=None, start=str(out / "model"), word_weight=1.0)
    recipe = build(config)
    assert all(torch.equal(a, b) for a, b in zip(recipe.clip.model.parameters(), first.model.parameters(), strict=True))
    result = run(CocaRecipe, config, tmp_path / "two")
    assert result.metrics["word"] > 0
    Clip.from_pretrained(tmp_path / "two" / "model")  # strict: the word classifier is left out
    record = json.loads((tmp_path / "two" / "model" / "training.json").read_text())
    assert record["started_from"] == json.loads((out / "model" / "training.json").read_text())


def test_settings_file_names_what_is_wrong(tmp_path):
    path = tmp_path / "config.yaml"
    good = "model: coca_ViT-B-32\nloop: { steps: 1, batch_size: 1 }\n"
    for data, message in (
        ("{ source: scenes, stlyes: {} }", "stlyes"),
        ("{ source: scenes, styles: { poem: 1.0 } }", "poem"),
    ):
        path.write_text(f"{good}data: {data}")
        with pytest.raises(InputError, match=f"config.yaml: data: .*{message}"):
            run_recipe("coca", path, tmp_path / "run")
    with pytest.raises(InputError, match="expected one of autoencoder, captioner, clip, coca, "):
        run_recipe("cocoa", path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_words_loss_counts_each_word_once_rare_ones_most_and_special_tokens_not():
    ids = torch.tensor([[0, 3, 4, 1], [0, 3, 3, 1]])  # start 0, end 1; word 3 is in both texts, word 4 in one
    assert words_in(ids, 5, [0, 1]).tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]
    common, rare = math.log(1 + 2 / 2), math.log(1 + 2 / 1)
    rarity = torch.tensor([9.0, 9.0, 9.0, common, rare])
    even = torch.zeros(2, 5)
    assert words_loss(even, ids, rarity, [0, 1]).item() == pytest.approx(math.log(5))
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    logs = logits.log_softmax(-1)
    first = -(common * logs[0, 3] + rare * logs[0, 4]) / (common + rare)
    assert words_loss(logits, ids, rarity, [0, 1]).item() == pytest.approx(((first - logs[1, 3]) / 2).item())
    both = torch.stack([logits, even])  # of images and of texts
    expected = (words_loss(logits, ids, rarity, [0, 1]) + words_loss(even, ids, rarity, [0, 1])) / 2
    assert words_loss(both, ids, rarity, [0, 1]).item() == pytest.approx(expected.item())


def test_dropout_changes_training_alone_and_no_names(recipe):
    dropped = build(replace(CONFIG, dropout=0.5))
    dropped.clip.model.load_state_dict(recipe.clip.model.state_dict())
    batch = recipe.batch(range(4), 0)
    arguments = [batch[name] for name in ("pixels", "text", "captioned")]
    with torch.no_grad():
        same, other = dropped.model.eval()(*arguments)[2], dropped.model.train()(*arguments)[2]
        expected = recipe.model.eval()(*arguments)[2]
    torch.testing.assert_close(same, expected)
    assert (other - expected).abs().max() > 0.01

"""Words to images and back: what is drawn follows from text, seed and place in the list; pictures of it; bad input."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from safetensors.torch import load_file, save_file
from textlens.encoders.base import Description
from textlens.encoders.redraw.comparison import SIDE, TEXT_WIDTH, comparison, sheet, wrapped
from textlens.encoders.redraw.recreate import check_output, image_or_text, recreate
from textlens.encoders.redraw.redrawer import Redrawer, noise_generator
from textlens.encoders.redraw.stable_diffusion import chosen_variant
from textlens.errors import InputError

from ...pipelines import tiny_pipeline

TEXTS = ["a red star", "", "two blue cats in the center", "a green letter B", "a red star"]
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT_ENCODER, TOKENS = "text_encoder/model.safetensors", "embeddings.token_embedding.weight"
FEW = {"num_inference_steps": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def redrawer(folder):
    return Redrawer.from_pretrained(folder, "cpu")


@pytest.fixture(scope="module")
def drawn(redrawer):
    return redrawer.draw(TEXTS, **FEW)


def values(image):
    return np.asarray(image, np.int16)


def test_one_image_per_text_empty_ones_too(redrawer, drawn):
    assert [(image.mode, image.size) for image in drawn] == [("RGB", (64, 64))] * 5
    assert redrawer.image_size == 64
    assert redrawer.draw([]) == []


def test_noise_follows_from_seed_and_place_not_from_the_batch(redrawer, drawn):
    for batch_size in (1, 2):
        again = redrawer.draw(TEXTS, batch_size=batch_size, **FEW)
        for one, other in zip(drawn, again, strict=True):
            assert np.abs(values(one) - values(other)).max() <= 1  # kernels for another batch round otherwise
    assert np.abs(values(drawn[0]) - values(drawn[4])).mean() > 3  # the same text from other noise
    other_seed = redrawer.draw(TEXTS[:1], seed=1, **FEW)[0]
    assert np.abs(values(drawn[0]) - values(other_seed)).mean() > 3


def test_the_text_and_its_guidance_count(redrawer):
    one, other = redrawer.draw(TEXTS[:1], **FEW)[0], redrawer.draw(TEXTS[2:3], **FEW)[0]
    unguided = redrawer.draw(TEXTS[:1], guidance_scale=1, **FEW)[0]
    assert np.abs(values(one) - values(other)).mean() > 0.1
    assert np.abs(values(one) - values(unguided)).mean() > 0.1


def test_it_is_what_the_pipeline_itself_draws(redrawer, folder):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    noise = torch.randn(1, 4, 8, 8, generator=noise_generator(seed=0, index=0))
    expected = pipeline(TEXTS[0], latents=noise, guidance_scale=2.0, num_inference_steps=4).images[0]
    found = redrawer.draw(TEXTS[:1], guidance_scale=2.0, num_inference_steps=4)[0]
    assert np.abs(values(expected) - values(found)).max() <= 1


def test_stored_half_precision_is_computed_in_float32(redrawer, tmp_path):
    redrawer.pipeline.to(torch.float16).save_pretrained(tmp_path / "half")
    redrawer.pipeline.to(torch.float32)
    pipeline = Redrawer.from_pretrained(str(tmp_path / "half"), "cpu").pipeline
    assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.float32}


def test_nothing_is_printed(folder, capfd):
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    Redrawer.from_pretrained(folder, "cpu").draw(["a cat"], **FEW)
    assert capfd.readouterr() == ("", "")
    assert diffusers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_scale": 0.5}, "guidance_scale is 0.5"),
        ({"num_inference_steps": 0}, "expected 1 to 1000"),
        ({"num_inference_steps": 1001}, "expected 1 to 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_settings(redrawer, settings, message):
    with pytest.raises(InputError, match=message):
        redrawer.draw(["a cat"], **settings)


def test_one_text_is_no_list_of_texts(redrawer):
    with pytest.raises(InputError, match="a list of texts"):
        redrawer.draw("a cat")


def test_what_is_no_pipeline_says_so(folder, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        Redrawer.from_pretrained(tmp_path / "none")
    with pytest.raises(InputError, match="model_index"):
        Redrawer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not load"):
        Redrawer.from_pretrained(f"{tmp_path}/none")
    for broken, spoil, message in (
        ("index", lambda to: _without(to / "model_index.json", "text_encoder"), "text_encoder"),
        ("part", lambda to: shutil.rmtree(to / "unet"), "config.json"),
        ("cut", lambda to: (to / UNET).write_bytes(b"{}"), "cannot be read, missing or damaged"),
        ("words", lambda to: (to / TEXT_ENCODER).write_bytes(b"12345678{}"), "header"),
        ("weight", lambda to: _without_weight(to / UNET, "conv_in.bias"), "lacks 1 weights, such as unet.conv_in.bias"),
        (
            "word",
            lambda to: _without_weight(to / TEXT_ENCODER, TOKENS),
            f"lacks 1 weights, such as text_encoder.{TOKENS}",
        ),
        ("tokenizer", lambda to: shutil.rmtree(to / "tokenizer"), "tokenizer .* knows"),
    ):
        shutil.copytree(folder, tmp_path / broken)
        spoil(tmp_path / broken)
        with pytest.raises(InputError, match=message):
            Redrawer.from_pretrained(tmp_path / broken)


def _without(path, name):
    index = json.loads(path.read_text())
    del index[name]
    path.write_text(json.dumps(index))


def _without_weight(path, name):
    weights = load_file(path)
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})


def _variant(folder, to, name):
    """The pipeline with its weights as a variant alone, as `save_pretrained(variant=...)` names them."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    for path in to.glob("*/*model.safetensors"):
        path.rename(path.with_name(path.name.replace("model.", f"model.{name}.")))
    return to


def test_weights_that_are_there_as_a_variant_alone_load(folder, drawn, tmp_path):
    only = _variant(folder, tmp_path / "half", "fp16")
    for variant in (None, "fp16"):
        again = Redrawer.from_pretrained(only, "cpu", variant=variant).draw(TEXTS[:1], batch_size=1, **FEW)[0]
        assert np.abs(values(again) - values(drawn[0])).max() <= 1
    assert chosen_variant(only) == "fp16"
    with pytest.raises(InputError, match="no weights of the variant 'bf16'; expected one of: fp16"):
        Redrawer.from_pretrained(only, "cpu", variant="bf16")
    with pytest.raises(InputError, match="no weights of the variant 'fp16'; expected one of: those without"):
        Redrawer.from_pretrained(folder, "cpu", variant="fp16")
    _without_weight(only / TEXT_ENCODER.replace("model.", "model.fp16."), TOKENS)
    with pytest.raises(InputError, match=f"lacks 1 weights, such as text_encoder.{TOKENS}"):
        Redrawer.from_pretrained(only, "cpu")


def test_of_several_variants_one_must_be_named(folder, tmp_path):
    _variant(folder, tmp_path, "fp16")
    shutil.copy(tmp_path / UNET.replace("model.", "model.fp16."), tmp_path / UNET.replace("model.", "model.bf16."))
    with pytest.raises(InputError, match="several variants alone; expected one of: bf16, fp16"):
        chosen_variant(tmp_path)
    assert chosen_variant(tmp_path, "bf16") == "bf16"
    assert chosen_variant(folder) is None
    assert chosen_variant("some/hub-id", "fp16") == "fp16"


# --- pictures of it


def test_comparison_shows_both_images_enlarged_and_all_words():
    image, drawn = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    picture = comparison(image, "a red square", drawn)
    colours = {colour: count for count, colour in picture.getcolors(1 << 24)}
    assert colours[(255, 0, 0)] == colours[(0, 0, 255)] == SIDE * SIDE
    without = comparison(None, "a red square", drawn)
    assert picture.width - without.width > SIDE
    assert (255, 0, 0) not in {colour for _, colour in without.getcolors(1 << 24)}
    long = comparison(image, "a red square " * 100, drawn)
    assert long.width == picture.width
    assert long.height > 3 * SIDE


def test_comparison_shows_images_of_any_shape_alike():
    drawn = Image.new("RGB", (512, 512))
    for size in ((2000, 10), (10, 2000), (4000, 3000), (50, 50)):
        picture = comparison(Image.new("L", size), "", drawn)
        assert picture.height < 600
        assert picture.width < 512 * 2 + TEXT_WIDTH + 100


def test_words_are_wrapped_and_none_is_lost():
    text = "a very " + "long" * 100 + " word, and " + "some more words " * 20
    font = ImageFont.load_default(17)
    lines = wrapped(text, font, 200)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= 200 for line in lines)
    assert wrapped("", font, 200) == []


def test_sheet_holds_every_picture():
    pictures = [Image.new("RGB", (10 + i, 20), (i, 0, 0)) for i in range(1, 6)]
    whole = sheet(pictures, columns=2)
    assert whole.size == (15 + 14, 60)
    assert {colour for _, colour in whole.getcolors()} == {(i, 0, 0) for i in range(1, 6)} | {(255, 255, 255)}


# --- around the whole circle


class Describer:
    def describe(self, images):
        return [Description(f"an image of {image.width} pixels", (), "fake") for image in images]


def test_recreate_draws_from_the_words_alone(redrawer):
    image = Image.new("RGB", (32, 32), "red")
    made = recreate(image, redrawer, Describer(), **FEW)
    assert made.text == "an image of 32 pixels"
    assert made.image is image
    again = recreate("an image of 32 pixels", redrawer, **FEW)
    assert again.image is None
    assert np.array_equal(values(made.drawn), values(again.drawn))
    assert made.picture.width > again.picture.width
    with pytest.raises(InputError, match="no encoder"):
        recreate(image, redrawer)


def test_words_are_rewritten_before_they_are_drawn(redrawer):
    made = recreate("a red star", redrawer, rewrite=lambda text: f"{text} in the center", **FEW)
    assert (made.original, made.text) == ("a red star", "a red star in the center")
    plain = recreate("a red star in the center", redrawer, **FEW)
    assert plain.original is None
    assert np.array_equal(values(made.drawn), values(plain.drawn))
    assert made.picture.width - plain.picture.width > TEXT_WIDTH  # both texts are shown


def test_guidance_leads_away_from_negatives(redrawer):
    plain, away = (redrawer.draw(["a red star"], negative=text, **FEW)[0] for text in ("", "two blue cats"))
    assert np.abs(values(plain) - values(away)).mean() > 1
    with pytest.raises(InputError, match="surrogate"):
        redrawer.draw(["a red star"], negative="\udcff")


def test_an_argument_is_an_image_or_a_text(tmp_path):
    path = tmp_path / "one star.png"
    Image.new("RGB", (8, 8), "red").save(path)
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    url = "data:image/png;hex," + "".join(f"%{byte:02x}" for byte in data.getvalue())
    for argument in (str(path), str(tmp_path / "*.png"), url):
        found = image_or_text(argument)
        assert isinstance(found, Image.Image)
        assert found.getpixel((0, 0)) == (255, 0, 0)
    texts = ("", "a red star", "a cat [2 of 3]", "what is this?", "x" * 5000, "a\0b", "version 1.5", "the end.")
    assert [image_or_text(text) for text in texts] == list(texts)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("missing.png", "no such image"),
        ("photos/*.JPG", "no such image"),
        (".", "a folder"),
        ("two/*.png", "several images"),
        ("two/broken.gif", "broken.gif"),
        ("https://example.com/a.png", "network"),
        ("data:image/png;base64,AAAA", "data:"),
    ],
)
def test_what_is_hardly_a_text_is_an_error(argument, message, tmp_path, monkeypatch):
    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "two" / name)
    (tmp_path / "two" / "broken.gif").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        image_or_text(argument)


def test_outputs_are_checked_before_the_work(tmp_path):
    check_output(tmp_path / "out.png")
    check_output(tmp_path / "out.JPG")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "out.png", "no folder"),
        (tmp_path / "out", "no ending"),
        (tmp_path / "out.txt", "no ending"),
    ):
        with pytest.raises(InputError, match=message):
            check_output(path)
    assert list(tmp_path.iterdir()) == []
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    check_output(tmp_path / "in.png", "a text")
    with pytest.raises(InputError, match="the image to describe"):
        check_output(tmp_path / "in.png", str(tmp_path / "." / "in.png"))

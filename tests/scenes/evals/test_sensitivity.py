"""What the loss hears of a wrong word: one word differs, the noise does not; one decoder hears, another cannot."""

import json
from collections import Counter

import pytest
import torch
from PIL import Image
from textlens.errors import InputError
from textlens.scenes.evals import sensitivity as evaluation
from textlens.scenes.evals.sensitivity import WORDS, captions_by_word, sensitivity, with_one_wrong
from textlens.scenes.facts import facts_of, parse_facts
from textlens.scenes.scene import scene_at
from textlens.train.dediffusion.frozen_decoder import FrozenDecoder
from textlens.train.engine.randomness import sample_noise, sample_rng

from ...pipelines import tiny_components, tiny_pipeline

SCENES = [scene_at(index, "test", 1) for index in range(60)]


@pytest.fixture(scope="module")
def decoder():
    return FrozenDecoder(**tiny_components())


@pytest.mark.parametrize("word", WORDS)
def test_exactly_one_word_is_wrong(word):
    for index, scene in enumerate(SCENES):
        wrong = with_one_wrong(scene, word, sample_rng(0, index))
        differing = [kind for kind in ("noun", "colour", "size", "place") for a, b in zip(
            scene.objects, wrong.objects, strict=True) if getattr(a, kind) != getattr(b, kind)]  # fmt: skip
        assert differing == ([] if word == "background" else [word])
        assert (wrong.background != scene.background) == (word == "background")
        assert len(facts_of(wrong).place) == len(scene.objects)  # never two in one place


def test_captions_differ_in_that_word_alone():
    texts = captions_by_word(SCENES, "descriptive")
    assert list(texts) == ["right", *WORDS]
    for i, scene in enumerate(SCENES):
        assert parse_facts(texts["right"][i]).triple == facts_of(scene).triple
        right = Counter(texts["right"][i].split())
        for word in WORDS:
            assert parse_facts(texts[word][i]).size == facts_of(scene).size
            # Beside the word itself at most "a" -> "an", and the other word of a place, a letter or a number.
            assert 0 < (Counter(texts[word][i].split()) - right).total() <= 3
    colours = zip(texts["right"], texts["colour"], strict=True)
    assert all(parse_facts(one).noun == parse_facts(other).noun for one, other in colours)
    assert texts == captions_by_word(SCENES, "descriptive")


def test_points_are_means_of_paired_losses(decoder):
    points = sensitivity(decoder, 10, (100, 900), batch_size=4)
    assert [point.timestep for point in points] == [100, 900]
    assert points[0].alpha_bar == pytest.approx(float(decoder.scheduler.alphas_cumprod[100]))
    latents = decoder.encode_images(evaluation._images(decoder, SCENES[:10]))
    noise = sample_noise(latents.shape[1:], 1, range(10))
    texts = captions_by_word(SCENES[:10], "descriptive")
    timesteps = torch.full((10,), 900)
    with torch.no_grad():
        right, wrong = (
            decoder.loss(latents, noise, timesteps, decoder.encode_texts(texts[name])) for name in ("right", "noun")
        )
    assert points[1].loss == pytest.approx(float(right.mean()), rel=1e-4)
    assert points[1].differences["noun"] == pytest.approx(float((wrong - right).mean()), rel=1e-2, abs=1e-7)
    assert points[1].errors["noun"] == pytest.approx(float((wrong - right).std()) / 10**0.5, rel=1e-2)
    assert points[1].errors["noun"] > 0


def test_a_decoder_that_does_not_read_hears_nothing(decoder):
    deaf = FrozenDecoder(**tiny_components())
    torch.nn.init.zeros_(deaf.text_encoder.get_input_embeddings().weight)
    (point,) = sensitivity(deaf, 6, (500,))
    assert all(difference == 0 for difference in point.differences.values())
    (point,) = sensitivity(decoder, 6, (500,))
    assert all(difference != 0 for difference in point.differences.values())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_loss_is_of_what_the_pipeline_predicts(prediction_type):
    decoder = FrozenDecoder(**tiny_components(prediction_type=prediction_type))
    (point,) = sensitivity(decoder, 4, (999,))
    # Of nothing but noise: ε is the noise, of variance 1; v is nearly minus the latents.
    latents = decoder.encode_images(evaluation._images(decoder, SCENES[:4]))
    with torch.no_grad():
        noise = sample_noise(latents.shape[1:], 1, range(4))
        hidden = decoder.encode_texts(captions_by_word(SCENES[:4], "descriptive")["right"])
        noisy = decoder.scheduler.add_noise(latents, noise, torch.full((4,), 999))
        found = decoder.unet(noisy, 999, encoder_hidden_states=hidden).sample
        alpha = decoder.scheduler.alphas_cumprod[999]
        wanted = noise if prediction_type == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * latents
    assert point.loss == pytest.approx(float((found - wanted).square().mean()), rel=1e-3)


def test_command_line_prints_a_table_and_draws_the_plot(tmp_path, capsys):
    folder = str(tiny_pipeline(tmp_path / "tiny"))
    evaluation.main(decoder=folder, scenes=2, plot_out=tmp_path / "plot.png")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| t | alpha_bar | loss | noun wrong | colour wrong | place wrong | background wrong |"
    assert len(lines) == 2 + len(evaluation.GRID) + 1
    assert lines[-1].startswith("| standard error at most | | | ")
    assert min(Image.open(tmp_path / "plot.png").size) > 500
    evaluation.main(decoder=folder, scenes=2, json_out=True)
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [point["timestep"] for point in points] == list(evaluation.GRID)
    with pytest.raises(InputError, match="no folder"):
        evaluation.main(decoder=folder, plot_out=tmp_path / "none" / "plot.png")

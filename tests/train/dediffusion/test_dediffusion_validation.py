"""Held-out validation: what the strings are worth, on any data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from textlens.scenes.source import SceneData
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.dediffusion.dediffusion_validation import draw_validation

LOSSES = {"diffusion", "diffusion_with_other_words", "diffusion_without_words", "diffusion_with_captions"}
WORDS = {"surviving", "words", "distinct"}


@pytest.fixture(scope="module")
def recipe(config, tmp_path_factory):
    return DediffusionRecipe(config, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def seen(recipe):
    return draw_validation(recipe.clip, recipe.decoder, recipe.source.held_out(6), timesteps=(600, 900))


def exact(seen, texts):
    """The mean loss by hand, one sample at a time."""
    rows = zip(seen.task.latents, seen.task.noise, seen.task.timesteps, texts, strict=True)
    decoder = seen.decoder
    with torch.no_grad():
        losses = [decoder.loss(x[None], e[None], t[None], decoder.encode_texts([text])) for x, e, t, text in rows]
    return torch.cat(losses).mean().item()


def test_evaluation_is_on_held_out_images_of_real_data(recipe, monkeypatch):
    monkeypatch.setattr(recipe.source, "read", None)  # no training item is touched
    found = recipe.evaluate(recipe.model.eval())
    assert found == recipe.evaluate(recipe.model)
    assert set(found) == LOSSES | WORDS
    assert (found["words"], found["surviving"]) == (5, 1.0)


def test_each_loss_is_that_of_its_texts(seen, recipe):
    ids = [[int(recipe.vocabulary.ids[7 * row + place]) for place in range(4)] for row in range(6)]
    texts = recipe.vocabulary.texts(ids)
    found = seen.score(ids, recipe.vocabulary) | seen.bounds
    captions = [max(sample.texts, key=len) for sample in seen.samples]
    assert captions[0] == "a red picture number 1000"
    expected = {
        "diffusion": exact(seen, texts),
        "diffusion_with_other_words": exact(seen, texts[1:] + texts[:1]),
        "diffusion_without_words": exact(seen, [""] * 6),
        "diffusion_with_captions": exact(seen, captions),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert len({round(loss, 6) for loss in expected.values()}) == 4


def test_noise_and_timesteps_are_fixed(seen, recipe):
    again = draw_validation(recipe.clip, recipe.decoder, recipe.source.held_out(6), timesteps=(600, 900))
    assert torch.equal(seen.task.noise, again.task.noise)
    assert seen.task.timesteps.tolist() == [600, 650, 700, 750, 800, 850]


def test_images_alone_have_no_captions_to_compare_with(recipe):
    samples = [replace(sample, text="", texts=()) for sample in recipe.source.held_out(3)]
    seen = draw_validation(recipe.clip, recipe.decoder, samples, timesteps=(0, 1000))
    assert set(seen.bounds) == {"diffusion_without_words"}


def test_a_source_adds_its_own_figures(make):
    recipe = make(data=SceneData())
    found = recipe.evaluate(recipe.model.eval())
    facts = {f"{kind}_f1" for kind in ("noun", "colour", "place", "background", "pair")}
    assert set(found) == LOSSES | WORDS | facts


def test_where_nothing_is_held_out_there_are_no_figures(make, monkeypatch):
    recipe = make()
    monkeypatch.setattr(recipe.source, "held_out", lambda number: [])
    assert recipe.evaluate(recipe.model.eval()) == {}

"""Soft tokens: the relaxation itself, and that they enter the text encoder exactly where ids do."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from textlens.errors import InputError
from textlens.train.dediffusion.frozen_decoder import FrozenDecoder
from textlens.train.dediffusion.soft_tokens import (
    gumbel_noise,
    gumbel_softmax,
    mix,
    padded_ids,
    sample_words,
    soft_embeddings,
    temperature_at,
    token_embedding,
)
from textlens.train.text_to_image.diffusion import noised_and_target

from ...pipelines import tiny_components, tiny_pipeline

WORDS = "red star top left blue cat mint"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return FrozenDecoder.from_pretrained(tiny_pipeline(tmp_path_factory.mktemp("decoder")))


@pytest.fixture(scope="module")
def kept(decoder):
    """Ids of a small vocabulary: the words of `WORDS` and some more."""
    found = decoder.tokenizer("a the of with " + WORDS, add_special_tokens=False).input_ids
    return torch.tensor(sorted(set(found)))


def one_hot(ids, kept):
    return (ids.unsqueeze(-1) == kept).float()


def test_temperature_falls_exponentially_from_start_to_end():
    values = [temperature_at(step, 101, 2.0, 0.3) for step in range(101)]
    assert values[0] == 2.0
    assert values[-1] == pytest.approx(0.3)
    assert values[50] == pytest.approx(math.sqrt(2.0 * 0.3))
    ratios = {round(after / before, 9) for before, after in pairwise(values)}
    assert len(ratios) == 1
    assert {temperature_at(step, 10, 0.7, 0.7) for step in range(10)} == {0.7}
    assert temperature_at(0, 1, 2.0, 0.3) == 2.0


def test_noise_is_gumbels_and_keyed_by_sample():
    noise = gumbel_noise((40, 300), 3, range(8))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)
    assert noise.isfinite().all()
    assert torch.equal(noise[5:7], gumbel_noise((40, 300), 3, [5, 6]))
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, gumbel_noise((40, 300), 3, range(8), stream=1))
    assert not torch.equal(noise, gumbel_noise((40, 300), 4, range(8)))


def test_low_temperature_turns_mixtures_into_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    noise = gumbel_noise((3,), 0, range(20_000))
    words = sample_words(logits, noise)
    shares = words.bincount(minlength=3) / 20_000
    torch.testing.assert_close(shares, logits[0].softmax(-1), atol=0.012, rtol=0)
    assert torch.equal(gumbel_softmax(logits, noise, 0.3).argmax(-1), words)
    highest = [gumbel_softmax(logits, noise, t).amax(-1).mean().item() for t in (2.0, 0.3, 0.01)]
    assert highest == sorted(highest)
    assert highest[-1] > 0.98


def test_straight_through_has_hard_values_and_soft_gradients():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 7, generator=generator, requires_grad=True)
    noise, direction = torch.randn(4, 5, 7, generator=generator), torch.randn(4, 5, 7, generator=generator)
    hard, soft = (gumbel_softmax(logits, noise, 0.5, hard=kind) for kind in (True, False))
    assert set(hard.detach().unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hard.sum(-1), torch.ones(4, 5))
    gradients = [torch.autograd.grad((tokens * direction).sum(), logits)[0] for tokens in (hard, soft)]
    assert torch.equal(*gradients)
    assert gradients[0].any()


def test_frame_and_padding_are_the_tokenizers_own(decoder):
    ids = torch.tensor([decoder.tokenizer(WORDS, add_special_tokens=False).input_ids] * 2)
    expected = decoder.tokenizer([WORDS] * 2, padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(padded_ids(decoder.tokenizer, ids), expected)
    full = padded_ids(decoder.tokenizer, ids[:, :1].expand(2, 62))
    assert full.shape == (2, 64)
    assert full[:, -1].eq(decoder.tokenizer.eos_token_id).all()
    with pytest.raises(InputError, match="at most 62"):
        padded_ids(decoder.tokenizer, ids[:, :1].expand(2, 63))


def test_padding_with_another_token_than_the_end():
    tokenizer = tiny_components()["tokenizer"]
    ids = torch.tensor([tokenizer("cat", add_special_tokens=False).input_ids])
    assert padded_ids(tokenizer, ids)[0, 3:].eq(tokenizer.pad_token_id).all()
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("hard", [False, True])
def test_one_hot_tokens_are_bit_equal_to_ids(decoder, kept, hard):
    ids = torch.tensor([decoder.tokenizer(WORDS, add_special_tokens=False).input_ids])
    tokens = one_hot(ids, kept)
    if hard:
        tokens = gumbel_softmax(3 * tokens, torch.zeros(()), 0.9, hard=True)
    soft = decoder.encode_soft(mix(tokens, decoder.token_embeddings[kept]))
    padded = decoder.tokenizer([WORDS], padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(soft, decoder.text_encoder(padded).last_hidden_state)
    assert torch.equal(soft, decoder.encode_ids(ids))
    assert torch.equal(soft, decoder.encode_texts([WORDS]))
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    losses = [decoder.loss(latents, noise, torch.tensor([700]), h) for h in (soft, decoder.encode_texts([WORDS]))]
    assert torch.equal(*losses)


def test_rows_stay_exact_under_autocast(decoder, kept):
    words = decoder.token_embeddings[kept]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mix(torch.eye(len(kept))[None], words)[0], words)


def test_soft_tokens_reach_only_their_own_and_later_positions(decoder, kept):
    words = decoder.token_embeddings[kept]
    tokens = torch.full((1, 6, len(kept)), 1 / len(kept))
    changed = tokens.clone()
    changed[0, 3] = one_hot(kept[:1], kept)
    one, other = (decoder.encode_soft(mix(t, words)) for t in (tokens, changed))
    assert torch.equal(one[:, :4], other[:, :4])
    assert not torch.isclose(one[:, 4:], other[:, 4:]).all(-1).any()  # padding positions too: the U-Net reads them


@pytest.mark.parametrize("fails", [False, True])
def test_hook_is_removed_even_on_errors(decoder, fails):
    embedding = token_embedding(decoder.text_encoder)
    ids = decoder.tokenizer([WORDS], padding="max_length", return_tensors="pt").input_ids
    before = decoder.text_encoder(ids).last_hidden_state
    width = 16 if not fails else 5
    if fails:
        with pytest.raises(RuntimeError):
            decoder.encode_soft(torch.ones(1, 3, width))
    else:
        decoder.encode_soft(torch.ones(1, 3, width))
    assert not embedding._forward_hooks
    assert torch.equal(decoder.text_encoder(ids).last_hidden_state, before)
    with pytest.raises(ValueError, match="mine"), soft_embeddings(decoder.text_encoder, torch.ones(1, 1, 16)):
        raise ValueError("mine")
    assert not embedding._forward_hooks


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_gradient_through_the_soft_path_is_that_of_finite_differences(tmp_path, prediction_type):
    """In fp64, from the logits through text encoder and U-Net to the diffusion loss."""
    decoder = FrozenDecoder.from_pretrained(tiny_pipeline(tmp_path, prediction_type=prediction_type)).double()
    words = decoder.token_embeddings[torch.arange(300, 340)]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 40, generator=generator, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 3, 40, generator=generator, dtype=torch.float64)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator, dtype=torch.float64)
    gumbel = gumbel_noise((3, 40), 0, range(2)).double()
    timesteps = torch.tensor([300, 800])

    def loss(values: torch.Tensor) -> torch.Tensor:
        tokens = gumbel_softmax(values, gumbel, 0.7)
        hidden = decoder.encode_soft(mix(tokens, words))
        # `decoder.loss` itself ends in float32, too coarse for a difference.
        noised, target = noised_and_target(decoder.scheduler, latents, noise, timesteps)
        return (decoder.unet(noised, timesteps, hidden).sample - target).square().mean()

    (gradient,) = torch.autograd.grad(loss(logits), logits)
    step = 1e-4
    with torch.no_grad():
        difference = (loss(logits + step * direction) - loss(logits - step * direction)) / (2 * step)
    slope = (gradient * direction).sum()
    assert slope.abs() > 1e-7
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=0)

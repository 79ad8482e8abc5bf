"""The policy gradient is the exact one on average; figures and the reward against collapse say what they promise."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from textlens.train.dediffusion.soft_tokens import gumbel_noise, sample_words
from textlens.train.dediffusion.text_objectives import (
    expected_repeats,
    leave_one_out_advantages,
    mutual_information,
    policy_loss,
    usage_entropy,
    word_figures,
    word_loss,
)


def reward(words: torch.Tensor) -> torch.Tensor:
    """Of two words out of three: (..., 2) -> (...), with an interaction that no single position can see."""
    table = torch.tensor([[0.1, 0.9, 0.2], [0.4, 0.0, 0.3], [0.7, 0.5, 1.5]])
    return table[words[..., 0], words[..., 1]]


def test_policy_gradient_is_that_of_the_expected_reward():
    logits = torch.tensor([[[0.3, -0.2, 0.1], [0.5, 0.0, -0.4]]], requires_grad=True)  # (1, 2, 3)
    every = torch.tensor(list(product(range(3), repeat=2)))  # all nine texts
    chances = logits[0].softmax(-1)
    expected_reward = (chances[0, every[:, 0]] * chances[1, every[:, 1]] * reward(every)).sum()
    (exact,) = torch.autograd.grad(-expected_reward, logits)
    images = 40_000
    many = logits.expand(images, -1, -1)
    words = sample_words(many.detach().unsqueeze(1), gumbel_noise((3, 2, 3), 0, range(images)))  # (B, K, N)
    (found,) = torch.autograd.grad(policy_loss(many, words, reward(words)), logits)
    torch.testing.assert_close(found, exact, atol=0.004, rtol=0)
    assert exact.abs().max() > 0.05


def test_advantages_leave_the_text_itself_out():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    expected = torch.tensor([[1 - 4.0, 2 - 3.5, 6 - 1.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(leave_one_out_advantages(rewards), expected)


def test_a_better_text_becomes_likelier():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    words = torch.tensor([[[0, 1], [2, 2]]])
    (gradient,) = torch.autograd.grad(policy_loss(logits, words, torch.tensor([[1.0, 3.0]])), logits)
    after = (logits - gradient).log_softmax(-1)
    assert after[0, 0, 2] > after[0, 0, 0]
    assert after[0, 1, 2] > after[0, 1, 1]


def test_information_is_nothing_for_words_by_lot_and_all_for_a_code():
    assert mutual_information(torch.full((6, 2, 6), 1 / 6)).item() == pytest.approx(0, abs=1e-6)
    assert mutual_information(torch.eye(6).unsqueeze(1).expand(6, 2, 6)).item() == pytest.approx(math.log(6))
    half = torch.tensor([[[0.5, 0.5, 0.0, 0.0]], [[0.0, 0.0, 0.5, 0.5]]])  # which half it is tells the image
    assert mutual_information(half).item() == pytest.approx(math.log(2))


def test_information_of_words_that_are_certain_has_a_finite_gradient():
    logits = torch.tensor([[[200.0, 0.0, 0.0]], [[0.0, 200.0, 0.0]]], requires_grad=True)  # others underflow to 0
    (gradient,) = torch.autograd.grad(mutual_information(logits.softmax(-1)), logits)
    assert gradient.isfinite().all()


def test_expected_repeats_is_the_mean_over_drawn_texts():
    assert expected_repeats(torch.eye(4)[torch.tensor([[0, 0, 0, 2]])]).item() == pytest.approx(6 / 4)
    assert expected_repeats(torch.eye(4).unsqueeze(0)) == 0
    logits = torch.tensor([[[0.3, -0.2, 0.1], [0.5, 0.0, -0.4]]])
    drawn = sample_words(logits.unsqueeze(1), gumbel_noise((20_000, 2, 3), 0, range(1)))[0]  # (K, N)
    equal = (drawn[:, 0] == drawn[:, 1]).float().mean().item()  # one pair, counted for both of two words
    assert expected_repeats(logits.softmax(-1)).item() == pytest.approx(equal, abs=0.015)


def test_usage_entropy_tells_collapse_from_certainty():
    same = torch.zeros(6, 2, 6)
    same[:, :, 0] = 1.0
    different = torch.eye(6).unsqueeze(1).expand(6, 2, 6)
    assert usage_entropy(same) < 1e-30
    assert usage_entropy(different).item() == pytest.approx(math.log(6))
    assert usage_entropy(torch.full((6, 2, 6), 1 / 6)).item() == pytest.approx(math.log(6))


def test_figures_of_a_text():
    same = F.one_hot(torch.tensor([[4, 4, 4, 4], [1, 2, 1, 3]])).float()
    assert word_figures(same)["distinct"].item() == pytest.approx((1 / 4 + 3 / 4) / 2)
    figures = word_figures(torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]]))
    assert figures["entropy"].item() == pytest.approx(math.log(2) / 2)
    assert figures["max_probability"].item() == pytest.approx(0.75)
    assert figures["distinct"].item() == pytest.approx(0.5)


def test_word_loss_counts_given_words_alone():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[4, -100, -100], [0, 1, -100]])
    chosen = logits.log_softmax(-1)[[0, 1, 1], [0, 0, 1], [4, 0, 1]]
    torch.testing.assert_close(word_loss(logits, targets), -chosen.mean())
    assert word_loss(logits, torch.full((2, 3), -100)) == 0

"""Draws follow the sample, not the batch, the process or the order."""

from __future__ import annotations

import torch
from textlens.train.engine.batches import index_ranges
from textlens.train.engine.randomness import sample_integers, sample_noise, sample_rng, sample_seed


def test_noise_does_not_depend_on_the_split_of_the_batch() -> None:
    whole = sample_noise((2, 3), 5, range(8))
    assert whole.shape == (8, 2, 3)
    assert torch.equal(torch.cat([sample_noise((2, 3), 5, [0, 1, 2]), sample_noise((2, 3), 5, range(3, 8))]), whole)
    assert torch.equal(sample_noise((2, 3), 5, [6, 1]), whole[[6, 1]])
    assert sample_noise((2, 3), 5, []).shape == (0, 2, 3)


def test_noise_differs_by_seed_index_and_stream_and_is_normal() -> None:
    rows = [sample_noise((4,), seed, [index], stream) for seed in (0, 1) for index in (0, 1) for stream in (0, 1)]
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 8
    many = sample_noise((4,), 0, range(5000))
    assert abs(float(many.mean())) < 0.03
    assert abs(float(many.std()) - 1) < 0.03
    assert abs(float((many[1:] * many[:-1]).mean())) < 0.03  # neighbours are not alike


def test_integers_are_uniform_and_keyed_by_sample() -> None:
    drawn = sample_integers(10, 3, range(5000), stream=2)
    assert torch.equal(sample_integers(10, 3, [4999, 7], stream=2), drawn[[4999, 7]])
    counts = torch.bincount(drawn, minlength=10)
    assert len(counts) == 10
    assert int(counts.min()) > 400
    assert sample_rng(3, 7).random() == sample_rng(3, 7).random() != sample_rng(3, 8).random()
    assert 0 <= sample_seed(-1, 2**40) < 2**63


def test_every_split_covers_the_same_samples_in_each_step() -> None:
    """Gathered in order of rank, part by part, the samples are 0, 1, 2, … for any number of processes."""
    for processes, parts in [(1, 1), (2, 1), (1, 4), (2, 2), (4, 2)]:
        shares = [list(index_ranges(1, 3, 16, parts, rank, processes)) for rank in range(processes)]
        assert all(len(share) == 2 * parts for share in shares)
        order = [index for ranges in zip(*shares, strict=True) for one in ranges for index in one]
        assert order == list(range(16, 48))

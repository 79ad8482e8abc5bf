import pytest
import torch
from textlens.metrics.retrieval import own_recall


def test_own_recall_counts_the_ranks():
    similarity = torch.tensor([[3.0, 1, 2], [3.0, 1, 2], [3.0, 1, 2]])  # ranks 1, 3, 2
    assert own_recall(similarity, (1, 2, 3)) == pytest.approx({1: 100 / 3, 2: 200 / 3, 3: 100})


def test_ties_are_chance():
    assert own_recall(torch.zeros(20, 20), (1, 5, 30)) == pytest.approx({1: 5, 5: 25, 30: 100})

from __future__ import annotations

import pytest
import torch
from textlens.metrics.calibration import expected_calibration_error, reliability


def test_bins_of_known_predictions() -> None:
    chances = torch.tensor([0.0, 0.1, 0.5, 0.5, 0.95, 1.0])
    right = torch.tensor([False, False, True, False, True, True])
    first, middle, last = reliability(chances, right, bins=10)
    assert (first.low, first.high, first.number, first.right) == (0.0, 0.1, 2, 0.0)  # 0 and an upper edge belong to it
    assert (middle.low, middle.number, middle.right) == (0.4, 2, 0.5)
    assert (last.high, last.number, last.chance, last.right) == (1.0, 2, pytest.approx(0.975), 1.0)
    assert expected_calibration_error(chances, right, bins=10) == pytest.approx((2 * 0.05 + 0 + 2 * 0.025) / 6)


def test_the_error_is_zero_when_chances_hold_and_one_when_they_never_do() -> None:
    right = torch.tensor([True] * 7 + [False] * 3)
    assert expected_calibration_error(torch.full((10,), 0.7), right) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(torch.ones(4), torch.zeros(4, dtype=torch.bool)) == 1

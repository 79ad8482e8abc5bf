"""What a diffusion loss is made of: the noised latents, what is to be predicted from them, and each sample's weight.

All of it follows a diffusers scheduler's noise schedule and prediction type, so that training a model and training
through a frozen one agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError

VALIDATION_TIMESTEPS = (200, 500, 800, 950)  # thousandths of the schedule


def noised_and_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """latents, noise (B, C, h, w), timesteps (B,) -> the noised latents and what the U-Net is to predict from them."""
    kind = scheduler.config.prediction_type
    targets = {
        "epsilon": lambda: noise,
        "v_prediction": lambda: scheduler.get_velocity(latents, noise, timesteps),
        "sample": lambda: latents,
    }
    if kind not in targets:
        raise InputError(f"the scheduler predicts {kind!r}; expected one of {', '.join(targets)}")
    return scheduler.add_noise(latents, noise, timesteps), targets[kind]()


def min_snr_weights(scheduler: Any, timesteps: Tensor, clamp: float) -> Tensor:
    """(B,) weights of min-SNR-γ (Hang et al. 2023, arXiv 2303.09556), γ = `clamp`, for the scheduler's prediction type.

    They weigh the error of the clean latents with min(SNR, γ), which leaves little to the noisiest timesteps.
    """
    alpha_bar = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    return {
        "epsilon": (clamp / snr).clamp(max=1.0),  # min(SNR, γ) / SNR, and 1 where nothing but noise is left
        "v_prediction": snr.clamp(max=clamp) / (snr + 1),
        "sample": snr.clamp(max=clamp),
    }[scheduler.config.prediction_type]


def squared_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """(B, C, h, w) both -> (B,) float32: the mean squared error of each sample."""
    return F.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)


def loss_and_gaps(losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Losses at each of `VALIDATION_TIMESTEPS`, with the right text first -> figures: the first, and how much greater
    the others are; over all timesteps and at each."""
    table = torch.tensor(list(losses.values()), dtype=torch.float64)  # (names, T)
    table[1:] -= table[0].clone()
    figures = {name: float(row.mean()) for name, row in zip(losses, table, strict=True)}
    for name, row in zip(losses, table.tolist(), strict=True):
        figures |= {f"{name}_{t}": value for t, value in zip(VALIDATION_TIMESTEPS, row, strict=True)}
    return figures


def checked_timesteps(wanted: tuple[int, int] | None, number: int) -> tuple[int, int]:
    """The first timestep to train and the one past the last, of a schedule with `number`; all of them for None."""
    low, high = wanted or (0, number)
    if not 0 <= low < high <= number:
        raise InputError(f"timestep_range is {[low, high]}; expected 0 <= first < end <= {number}")
    return low, high

"""The U-Net of a text-to-image model: a new one, or a trained one of which some modules begin anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from ...errors import InputError
from .autoencoder import latent_factor


def new_unet(settings: Mapping[str, Any], vae: Any, text_encoder: Any, seed: int) -> Any:
    """A `UNet2DConditionModel` with fresh weights, a function of the seed alone, whose sizes fit the other two."""
    sizes = {
        "sample_size": vae.config["sample_size"] // latent_factor(vae),
        "in_channels": vae.config["latent_channels"],
        "out_channels": vae.config["latent_channels"],
        "cross_attention_dim": text_encoder.config.hidden_size,
    }
    wrong = {name: value for name, value in settings.items() if sizes.get(name, value) != value}
    if wrong:
        raise InputError(f"the settings of unet say {wrong}; autoencoder and text encoder make it {sizes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return UNet2DConditionModel(**{**settings, **sizes})
        except (TypeError, ValueError) as error:
            raise InputError(f"diffusers cannot build a U-Net from these settings: {error}") from error


def reset_modules(model: nn.Module, parts: Sequence[str], seed: int) -> None:
    """Draw the weights anew, by the seed, of all modules below one whose dotted name holds one of `parts`.

    Raises `InputError` for a part that no such module has.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in parts:
            for module in _modules_of(model, part):
                module.reset_parameters()


def _modules_of(model: nn.Module, part: str) -> list[Any]:
    """The modules with weights of their own whose dotted name holds `part`."""
    named = [(name.split("."), module) for name, module in model.named_modules()]
    found = [module for names, module in named if part in names and hasattr(module, "reset_parameters")]
    if not found:
        known = sorted({name for names, _ in named for name in names if name and not name.isdigit()})
        raise InputError(f"reset names {part!r}, which the U-Net does not have; expected some of {', '.join(known)}")
    return found

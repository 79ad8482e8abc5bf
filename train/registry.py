"""Every recipe by its name: a settings file in, a trained model out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..scenes.language_model.language_model import LanguageModelConfig, train_language_model
from .coca import CocaConfig, train_coca
from .decap import DecapTraining, train_decap
from .dediffusion.dediffusion import DediffusionTraining, train_dediffusion
from .engine.loop import TrainResult
from .engine.settings import read_settings
from .text_to_image.autoencoder import AutoencoderConfig, train_autoencoder
from .text_to_image.text_to_image import TextToImageConfig, train_text_to_image

Train = Callable[..., TrainResult]
RECIPES: dict[str, tuple[type, Train]] = {
    "autoencoder": (AutoencoderConfig, train_autoencoder),
    "coca": (CocaConfig, train_coca),
    "decap": (DecapTraining, train_decap),
    "dediffusion": (DediffusionTraining, train_dediffusion),
    "language-model": (LanguageModelConfig, train_language_model),
    "text-to-image": (TextToImageConfig, train_text_to_image),
}


def run_recipe(
    name: str, config: Path, out: Path, *, resume: bool = False, max_minutes: float | None = None
) -> TrainResult:
    """Run the recipe `name` with the settings file `config` in the folder `out`."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    config_class, train = RECIPES[name]
    return train(read_settings(config_class, config), out, resume=resume, max_minutes=max_minutes)

"""Every recipe by its name: a settings file in, a trained model out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..plugins import load, registered
from .engine.loop import TrainResult
from .engine.run import run_file

_OWN = {
    "autoencoder": "textlens.train.text_to_image.autoencoder:AutoencoderRecipe",
    "captioner": "textlens.train.captions.captioner_training:CaptionerRecipe",
    "clip": "textlens.train.clip_training:ClipRecipe",
    "coca": "textlens.train.coca:CocaRecipe",
    "decap": "textlens.train.decap:DecapRecipe",
    "dediffusion": "textlens.train.dediffusion.dediffusion:DediffusionRecipe",
    "feature-decoder": "textlens.train.dediffusion.feature_training:FeatureDecoderRecipe",
    "self-critical": "textlens.train.captions.self_critical:SelfCriticalRecipe",
    "text-to-image": "textlens.train.text_to_image.text_to_image:TextToImageRecipe",
}


def recipes() -> Mapping[str, str]:
    """Name -> "module:class", those of plug-ins among them."""
    return {**_OWN, **registered("RECIPES")}


def run_recipe(
    name: str, config: Path, out: Path, *, resume: bool = False, max_minutes: float | None = None
) -> TrainResult:
    """Run the recipe `name` with the settings file `config` in the folder `out`."""
    if name not in recipes():
        raise InputError(f"unknown recipe {name!r}: expected one of {', '.join(sorted(recipes()))}")
    return run_file(load(recipes()[name]), config, out, resume=resume, max_minutes=max_minutes)

"""De-Diffusion's recipe with tiny models, on pictures of several sizes with several captions."""

from __future__ import annotations

import dataclasses

import pytest
from textlens.scenes.tokenizer import build_tokenizer
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.dediffusion.dediffusion_config import DediffusionTraining

from ...pipelines import tiny_pipeline
from ..tiny_source import TinyData
from .tiny_models import COCA, LOOP, SIZES, save_clip


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> DediffusionTraining:
    folder = tmp_path_factory.mktemp("models")
    save_clip(COCA, folder / "clip")
    tiny_pipeline(folder / "decoder")
    return DediffusionTraining(
        decoder=str(folder / "decoder"),
        clip=str(folder / "clip"),
        encoder=SIZES,
        data=TinyData(),
        cache_latents=False,
        loop=LOOP,
        validation_images=6,
    )


@pytest.fixture(scope="session")
def other_tokenizer():
    """Of 1100 tokens, with other ids than the tiny decoder's."""
    return build_tokenizer(1100, 64)


@pytest.fixture
def make(config, tmp_path):
    return lambda **changes: DediffusionRecipe(dataclasses.replace(config, **changes), tmp_path / "cache")

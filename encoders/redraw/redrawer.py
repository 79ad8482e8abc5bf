"""Words -> image, by any diffusers `StableDiffusionPipeline`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from PIL.Image import Image
from transformers.utils import logging as transformers_logging

from ...errors import InputError, check_range, encoding_error
from ...progress import progress_bar
from ..registry import WEIGHTS
from ..saved_models import quiet
from .stable_diffusion import load_pipeline

DEFAULT_DECODER = str(WEIGHTS / "text_to_image")
GUIDANCE_SCALE = 3.0  # best for De-Diffusion's text in the paper (arXiv 2311.00618, table 1)
NUM_INFERENCE_STEPS = 50


class Redrawer:
    """Draws one image per text with a `StableDiffusionPipeline` and its own scheduler."""

    def __init__(self, pipeline: Any, *, name: str = "pipeline") -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = DEFAULT_DECODER,
        device: str | torch.device | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        variant: str | None = None,
    ) -> Redrawer:
        """Load a folder or a hub id, safetensors only, onto `device` (by default a GPU if there is one).

        variant: of the weight files, such as "fp16"; by default none, or the only one that a folder has.
        Raises `InputError`, see `load_pipeline`.
        """
        pipeline = load_pipeline(source, dtype=dtype, variant=variant)
        return cls(pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), name=str(source))

    @property
    def image_size(self) -> int:
        """Side of the drawn images, in pixels."""
        return int(self.pipeline.unet.config.sample_size) * int(self.pipeline.vae_scale_factor)

    def draw(
        self,
        texts: Sequence[str],
        *,
        guidance_scale: float = GUIDANCE_SCALE,
        num_inference_steps: int = NUM_INFERENCE_STEPS,
        seed: int = 0,
        batch_size: int = 16,
        negative: str = "",
    ) -> list[Image]:
        """One RGB image per text, in order; texts may be empty. What is longer than the text encoder's context is cut,
        with a warning.

        guidance_scale: of classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598); 1 is none.
        negative: what is not to be drawn; guidance leads away from it, so that it needs a scale above 1.
        seed: image i's noise depends on `seed` and i alone, whatever the batch size and device.
        Raises `InputError` for settings out of range, and for a text that is `encoding_error`.
        """
        if isinstance(texts, str):
            raise InputError(f"got one text, {texts[:40]!r}; expected a list of texts")
        check_range("guidance_scale", guidance_scale, 1)
        check_range("num_inference_steps", num_inference_steps, 1, self.pipeline.scheduler.config.num_train_timesteps)
        check_range("seed", seed, 0)
        check_range("batch_size", batch_size, 1)
        for text in [*texts, negative]:
            if reason := encoding_error(text, "the text"):  # the tokenizer's own error is unclear
                raise InputError(reason)
        images: list[Image] = []
        # diffusers lists all that is cut, padding included
        with quiet(diffusers_logging, transformers_logging), progress_bar("steps") as bar:
            self._warn_of_cut(texts)
            batches = -(-len(texts) // batch_size)
            task = bar.add_task("drawing", total=batches * num_inference_steps, note="")

            def on_step_end(pipeline: Any, step: int, timestep: int, state: dict[str, Any]) -> dict[str, Any]:
                bar.advance(task)
                return state

            for start in range(0, len(texts), batch_size):
                part = list(texts[start : start + batch_size])
                drawn = self.pipeline(
                    part,
                    negative_prompt=[negative] * len(part) if negative else None,
                    guidance_scale=guidance_scale,
                    num_inference_steps=num_inference_steps,
                    generator=[noise_generator(seed, i) for i in range(start, start + len(part))],
                    callback_on_step_end=on_step_end,
                )
                images += drawn.images
        return images

    def _warn_of_cut(self, texts: Sequence[str]) -> None:
        tokenizer = self.pipeline.tokenizer
        most = tokenizer.model_max_length
        cut = [text for text in texts if len(tokenizer(text).input_ids) > most]
        if cut:
            told = f"the text encoder reads {most} tokens; {len(cut)} of {len(texts)} texts are longer"
            warnings.warn(f"{told}, such as {cut[0][:60]!r} ...; the rest of them is not drawn", stacklevel=3)


def noise_generator(seed: int, index: int) -> torch.Generator:
    """Generates the noise of image `index`; on the CPU, for the same noise on every device."""
    mixed = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> 1))

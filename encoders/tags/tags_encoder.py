"""A classifier's likely classes as an encoder: "likely: golden retriever (0.81), tennis ball (0.07)".

The classifier reads the mean of a CLIP's patch tokens, which of a timm tower is what ImageNet's classifier reads, so an
image that other encoders describe too runs through the tower once. Chances are calibrated by temperature scaling (Guo
et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import InputError, check_range
from ..base import Description
from ..clip.clip import Clip, load_clip
from ..clip.space import clip_spec, space_name, space_of
from ..loading.guard import loading
from ..loading.size_limit import no_larger_than, tensor_shapes
from ..saved_models import CONFIG_NAME, checkpoint_folder, load_weights, read_config, save_config, save_weights

if TYPE_CHECKING:
    from PIL.Image import Image

KIND = "classifier of tags"
WEIGHTS_NAME = "classifier.safetensors"
MOST = 0.99  # shown, however certain


@dataclass(frozen=True)
class TagsConfig:
    """The content of config.json."""

    clip: str  # open_clip "model/tag", or a folder relative to the checkpoint's if it starts with "."
    width: int  # W of that CLIP's patch tokens
    names: Sequence[str]  # of the classes in order; those of one name are one tag, their chances added
    temperature: float = 1.0  # divides the logits
    threshold: float = 0.1  # no tag with a smaller chance is shown
    max_tags: int = 5

    def __post_init__(self) -> None:
        if not self.names or not all(isinstance(name, str) and name.strip() for name in self.names):
            raise InputError(f"names of a {KIND} must be one word or more for each class")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; expected more than 0")
        check_range("threshold", self.threshold, 0, 1)
        check_range("max_tags", self.max_tags, 1)


@dataclass(frozen=True)
class Tags:
    """An `Encoder`; blank where no tag reaches the threshold. Score: "chance" of the likeliest tag, shown or not.

    classifier: Linear(W, classes). Raises `InputError` unless it fits the config, and the config the CLIP.
    """

    config: TagsConfig
    clip: Clip
    classifier: nn.Linear
    spec: str = field(default="tags", kw_only=True)

    def __post_init__(self) -> None:
        width = self.clip.patch_shape[1]
        if (width, space_name(self.clip)) != (self.config.width, space_of(self.config.clip)):
            raise InputError(
                f"this {KIND} reads the patch tokens of {space_of(self.config.clip)!r} ({self.config.width} numbers), "
                f"but those of {space_name(self.clip)!r} ({width}) are in use; load that CLIP, or make tags for this"
            )
        shape, expected = tuple(self.classifier.weight.shape), (len(self.config.names), width)
        if shape != expected:
            raise InputError(f"the {KIND} has weights of shape {shape}; expected (classes, width), {expected}")

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The distinct names, in order of the classes."""
        return tuple(dict.fromkeys(self.config.names))

    @cached_property
    def tag_of_class(self) -> Tensor:
        """(classes,) place of each class's name in `vocabulary`."""
        place = {name: i for i, name in enumerate(self.vocabulary)}
        return torch.tensor([place[name] for name in self.config.names], device=self.classifier.weight.device)

    @torch.inference_mode()
    def describe(self, images: Sequence[Image]) -> list[Description]:
        """The likely tags of RGB images of any size, in order."""
        if not images:
            return []
        return [self._description(row) for row in self.chances(self.logits(images))]

    @torch.no_grad()
    def logits(self, images: Sequence[Image], *, batch_size: int = 32) -> Tensor:
        """(B, classes) float32 of RGB images of any size, before the temperature."""
        starts = range(0, len(images), batch_size)
        batches = (self.clip.pixels(images[i : i + batch_size]) for i in starts)
        return torch.cat([self.classifier(self.clip.patch_tokens(pixels).mean(1).float()) for pixels in batches])

    def chances(self, logits: Tensor, temperature: Tensor | None = None) -> Tensor:
        """(B, classes) logits -> (B, tags) chances in order of `vocabulary`; `temperature`: the config's unless given;
        differentiable."""
        shares = (logits / (self.config.temperature if temperature is None else temperature)).softmax(-1)
        return shares.new_zeros(len(shares), len(self.vocabulary)).index_add(1, self.tag_of_class, shares)

    def _description(self, chances: Tensor) -> Description:
        """chances: (tags,)"""
        best = chances.topk(min(self.config.max_tags, len(chances)))
        ranked = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        shown = [(self.vocabulary[tag], chance) for chance, tag in ranked if chance >= self.config.threshold]
        parts = ", ".join(f"{name} ({min(chance, MOST):.2f})" for name, chance in shown)
        words = tuple(word for name, _ in shown for word in name.split())
        return Description(f"likely: {parts}" if shown else "", words, self.spec, {"chance": float(best.values[0])})

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json and classifier.safetensors (in `dtype` if given); the CLIP is named, not copied."""
        folder = Path(folder)
        save_weights(self.classifier.state_dict(), folder / WEIGHTS_NAME, dtype)
        save_config(replace(self.config, clip=clip_spec(self.clip, folder)), folder)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        clip: Clip | None = None,
        device: str | torch.device = "cpu",
        spec: str = "tags",
    ) -> Tags:
        """Read what `save_pretrained` wrote, from a folder or a Hugging Face hub id.

        clip: by default loaded as the config names it. spec: the `encoder` of descriptions.
        """
        folder = checkpoint_folder(source, KIND)
        with loading(folder, KIND):
            config = read_config(TagsConfig, folder, KIND)
            with no_larger_than(tensor_shapes(folder / WEIGHTS_NAME), folder / CONFIG_NAME):
                classifier = nn.Linear(config.width, len(config.names))
            load_weights(classifier, folder / WEIGHTS_NAME)
            return cls(config, clip or load_clip(config.clip, folder, KIND, device), classifier.to(device), spec=spec)

"""A captioner with one voice: a trained CoCa fine-tuned on captions of one style, short or descriptive ones.

As for DALL-E 3 (Betker et al. 2023, "Improving Image Generation with Better Captions"), each style starts from the same
base, and a small set of captions is enough. The caption loss alone is trained; by default the decoder alone learns, so
that both embeddings stay what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from ...encoders.clip.timm_tokens import TimmTokens
from ...encoders.coca.captioner import SETTINGS_NAME, CaptionerSettings
from ...encoders.saved_models import save_config
from ...errors import InputError
from ..coca import CocaConfig, CocaRecipe
from ..data.base import Data, Sample
from ..engine.recipe import Count, LoopConfig, Share
from ..engine.settings import settings
from ..evaluators import word_figures

Part = Literal["decoder", "text", "image"]
_SAMPLES = 64  # looked at for one of the style


@settings
class FineTuningConfig:
    """Settings that every fine-tuning of a captioner has."""

    loop: LoopConfig
    data: Data  # image-text pairs
    start: str  # folder of a trained CoCa, or open_clip's "model/tag"
    # what learns: the caption decoder, the text tower that feeds it (which changes text embeddings), the image tower
    trained: Annotated[Sequence[Part], Field(min_length=1)] = ("decoder",)
    views: Count = 1  # of an image by a frozen timm tower, as of `coca`; their features are kept on disk
    dropout: Share = 0.0
    num_beams: Count = 1  # with which the finished captioner decodes
    validation_images: Count = 256

    def as_coca(self) -> CocaConfig:
        """The same as settings of the recipe `coca`, with no other loss than that of captions."""
        return CocaConfig(
            loop=self.loop,
            data=self.data,
            start=self.start,
            views=self.views,
            caption_weight=1.0,
            contrastive_weight=0.0,
            dropout=self.dropout,
            validation_images=self.validation_images,
        )


@settings
class CaptionerConfig(FineTuningConfig):
    """Settings of the recipe `captioner`. Captions of other styles, where the source names styles, train nothing."""

    style: Annotated[str, Field(min_length=1)] = field(kw_only=True)  # kept with the model: "short", "descriptive"
    context_length: Count | None = None  # tokens of a caption, where the base was trained on shorter ones
    label_smoothing: Share = 0.0

    def as_coca(self) -> CocaConfig:
        """As that of `FineTuningConfig`, on captions of this style."""
        return replace(
            super().as_coca(),
            context_length=self.context_length,
            captioned=(self.style,),
            label_smoothing=self.label_smoothing,
        )


class CaptionerRecipe(CocaRecipe):
    """A CoCa and captions of one style -> a captioner of that style."""

    name = "captioner"
    config_class: type[FineTuningConfig] = CaptionerConfig

    def __init__(self, config: FineTuningConfig, cache: Path) -> None:
        super().__init__(config.as_coca(), cache)
        self.config: Any = config
        freeze_others(self.clip.model, config.trained, tuple(self.clip.weights_from))
        self._check_data()
        trunk = getattr(self.clip.model.visual, "trunk", None)
        frozen = trunk is not None and not any(weight.requires_grad for weight in trunk.parameters())
        if frozen and isinstance(self.clip.model.visual, TimmTokens) and self.source.size is not None:
            self._features = self._tower_features(cache / "features")
        elif config.views > 1:
            raise InputError(f"views is {config.views}; expected 1 unless a timm tower stays frozen on finite data")

    def _check_data(self) -> None:
        samples = self.source.samples(range(_SAMPLES), self.config.loop.seed, image=False)
        styles = {sample.style for sample in samples}
        if not styles & {"", self.config.style}:
            raise InputError(
                f"none of {_SAMPLES} samples is of style {self.config.style!r}, but {', '.join(sorted(styles))}; "
                "expected captions of the style that is trained: set data.styles or data.blend.style"
            )

    def _text_figures(self, written: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
        return super()._text_figures(written, samples) | word_figures(written, samples)

    def save(self, folder: Path) -> None:
        """An open_clip folder, in bf16, whose captioner.json tells the style."""
        super().save(folder)
        made = CaptionerSettings(num_beams=self.config.num_beams, style=self.config.style)
        save_config(made, folder, SETTINGS_NAME)


def freeze_others(coca: Any, trained: Sequence[Part], shared: Sequence[str] = ()) -> None:
    """Leave gradients to these parts of an open_clip CoCa alone. shared: modules of other models, frozen always.

    The decoder of a timm tower's CoCa includes what makes tokens of the tower's features: no embedding depends on it.
    """
    coca.requires_grad_(False)
    visual = coca.visual
    tokens = [visual.norm, visual.cells, visual.whole] if isinstance(visual, TimmTokens) else []
    parts: dict[Part, list[nn.Module]] = {
        "decoder": [coca.text_decoder, *tokens],
        "text": [coca.text],
        "image": [visual],
    }
    for part in trained:
        for module in parts[part]:
            module.requires_grad_(True)
    if "decoder" in trained and isinstance(visual, TimmTokens):
        visual.positions.requires_grad_(True)
    for place in shared:
        coca.get_submodule(place).requires_grad_(False)

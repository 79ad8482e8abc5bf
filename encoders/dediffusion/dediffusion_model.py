"""De-Diffusion's network: image backbone, attentional pooler, and a head that gives every query its word.

Source: Wei et al., "De-Diffusion Makes Text a Strong Cross-Modal Interface", CVPR 2024, arXiv 2311.00618. The tied head
is ours: its weights are the text encoder's own token embeddings.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ..decap.memory import space_name
from ..saved_models import space_of
from .pooler import AttentionalPooler
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from ..clip.clip import Clip

Head = Literal["linear", "tied"]
MAX_LOGIT_SCALE = 100.0  # as in CLIP


@dataclass(frozen=True)
class DediffusionConfig:
    """What config.json holds. Sizes by default are the paper's: about 135M weights with CLIP's vocabulary.

    head: "linear" (the paper's), or "tied": each query is projected to the text encoder's width and compared (cosine
    times a learnt scale, `logit_scale` at first) with the frozen token embeddings of the kept words.
    keep_punctuation, words: of `Vocabulary`.
    min_probability: words that are less likely are left out of descriptions; they stand where a query has nothing to
    add and many words would do as well. 0 writes a word for each query.
    train_backbone: train the image tower too; then it is saved with the rest, and `backbone` gives its architecture.
    The others are filled in by `Dediffusion.new`. backbone: "model/tag" of open_clip, or a folder relative to the
    checkpoint's own if it starts with ".". patch_width, vocabulary_size, text_width: of the backbone's patch tokens,
    the kept words, the token embeddings (0 with a linear head).
    """

    num_queries: int = 75
    depth: int = 5
    width: int = 1024
    heads: int = 16
    mlp_ratio: float = 4.0
    head: Head = "tied"
    logit_scale: float = 1 / 0.07
    keep_punctuation: bool = False
    words: Sequence[str] | None = None
    min_probability: float = 0.0
    train_backbone: bool = False
    backbone: str = ""
    patch_width: int = 0
    vocabulary_size: int = 0
    text_width: int = 0

    def __post_init__(self) -> None:
        for name in ("num_queries", "depth", "width", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.head not in get_args(Head):
            raise InputError(f"unknown head {self.head!r}; expected one of {', '.join(get_args(Head))}")
        if self.mlp_ratio <= 0 or not 0 < self.logit_scale <= MAX_LOGIT_SCALE:
            raise InputError(
                f"got mlp_ratio={self.mlp_ratio}, logit_scale={self.logit_scale}; "
                f"expected above 0, and above 0 up to {MAX_LOGIT_SCALE:g}"
            )
        if not 0 <= self.min_probability < 1:
            raise InputError(f"min_probability is {self.min_probability}; expected at least 0 and below 1")

    def vocabulary(self, tokenizer: CLIPTokenizer) -> Vocabulary:
        """The words of the text encoder's tokenizer that may be written."""
        return Vocabulary.from_tokenizer(tokenizer, keep_punctuation=self.keep_punctuation, words=self.words)

    @property
    def space(self) -> str:
        """Name of the backbone's CLIP: "coca" for the folder "../coca"."""
        return space_of(self.backbone)

    def filled_in(self, clip: Clip, vocabulary_size: int, text_width: int) -> DediffusionConfig:
        """With the name and the sizes of the parts it is used with."""
        return replace(
            self,
            backbone=space_name(clip),
            patch_width=clip.patch_shape[1],
            vocabulary_size=vocabulary_size,
            text_width=text_width if self.head == "tied" else 0,
        )


class DediffusionModel(nn.Module):
    """Pixels (B, 3, H, W), as `clip.pixels` makes them, to logits (B, N, V) over the kept vocabulary.

    clip: the backbone. Frozen, it is no sub-module: not trained, not saved, yet moved along by `to`. With
    `train_backbone` the model has a copy of it, whose image tower is the sub-module `backbone`.
    embeddings: (V, W) token embeddings of the kept words, for the tied head; frozen, normalised and saved.
    Other weights are random, of torch's global generator.
    """

    def __init__(self, config: DediffusionConfig, clip: Clip, embeddings: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.clip = copy.deepcopy(clip) if config.train_backbone else clip  # the caller's CLIP must not change
        self.pooler = AttentionalPooler(
            config.num_queries, config.depth, config.width, config.heads, config.patch_width, config.mlp_ratio
        )
        self.head = _new_head(config, embeddings)
        self.clip.model.visual.requires_grad_(False)
        if config.train_backbone:
            self.backbone: nn.Module = self.clip.model.visual
            _require_grad_where_used(self.clip)

    def patch_tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, patch_width), with the backbone's own norm; without gradient where it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train_backbone):
            return self.clip.patch_tokens(pixels, normalize=True)

    def read(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, P, patch_width) -> (B, N, width): what each query gathered, the input of `head`."""
        return self.pooler(patches.to(self.pooler.queries.dtype))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.read(self.patch_tokens(pixels)))

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Cap the tied head's scale at `MAX_LOGIT_SCALE`, after an optimizer step. In place: a clamp in the forward pass
        has no gradient above the cap, so the scale could not come back."""
        if isinstance(self.head, TiedHead):
            self.head.log_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DediffusionModel:
        super()._apply(fn, recurse)
        self.clip.model._apply(fn)  # a frozen backbone is no sub-module, yet must be on the same device
        return self


class TiedHead(nn.Module):
    """Hidden states (B, N, width) -> logits (B, N, V): scaled cosines with the text encoder's embeddings (V, W)."""

    embeddings: Tensor

    def __init__(self, width: int, embeddings: Tensor, logit_scale: float) -> None:
        super().__init__()
        self.projection = nn.Linear(width, embeddings.shape[1])
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)))
        self.register_buffer("embeddings", F.normalize(embeddings.detach().float(), dim=-1))

    def forward(self, hidden: Tensor) -> Tensor:
        queries = F.normalize(self.projection(hidden), dim=-1)  # (B, N, W)
        return F.linear(queries * self.log_scale.exp(), self.embeddings)


def _new_head(config: DediffusionConfig, embeddings: Tensor | None) -> nn.Module:
    if config.head == "linear":
        return nn.Linear(config.width, config.vocabulary_size)
    expected = (config.vocabulary_size, config.text_width)
    if embeddings is None or tuple(embeddings.shape) != expected:
        got = "none" if embeddings is None else tuple(embeddings.shape)
        raise InputError(f"the tied head got embeddings of shape {got}; expected {expected}, one row per kept word")
    return TiedHead(config.width, embeddings, config.logit_scale)


def _require_grad_where_used(clip: Clip) -> None:
    """Train what patch tokens depend on: DDP fails on parameters without gradient, such as CLIP's projection."""
    parameters = list(clip.model.visual.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    with torch.enable_grad():
        pixels = torch.zeros(1, 3, *clip.image_size, device=clip.device, dtype=clip.dtype)
        tokens = clip.patch_tokens(pixels, normalize=True)
    gradients = torch.autograd.grad(tokens.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)

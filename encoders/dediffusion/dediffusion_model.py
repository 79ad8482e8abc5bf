"""De-Diffusion's network: image backbone -> attentional pooler -> head over words.

Source: Wei et al., "De-Diffusion Makes Text a Strong Cross-Modal Interface", CVPR 2024, arXiv 2311.00618. The tied head
(the weights are the text encoder's token embeddings) is ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError, check_range
from ..clip.clip import Clip
from .patch_grid import patch_grid
from .pooler import AttentionalPooler
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Head = Literal["linear", "tied"]
MAX_LOGIT_SCALE = 100.0  # as in CLIP


@dataclass(frozen=True)
class DediffusionConfig:
    """The content of config.json. Default sizes are the paper's: about 135M weights with CLIP's vocabulary."""

    num_queries: int = 75  # words per image
    depth: int = 5  # blocks of the pooler
    width: int = 1024
    heads: int = 16
    mlp_ratio: float = 4.0
    head: Head = "tied"  # "linear" is the paper's
    logit_scale: float = 1 / 0.07  # initial scale of the tied head
    keep_punctuation: bool = False  # see `Vocabulary`
    words: Sequence[str] | None = None  # see `Vocabulary`
    min_probability: float = 0.0  # less likely words are left out of descriptions; 0 keeps one word per query
    distinct: bool = False  # no word twice in a description: a query whose word is taken writes its next best
    word_bias: Sequence[float] | None = None  # added to the logits where words are chosen; one for each kept word
    grid: int | None = None  # patch tokens are averaged to grid x grid, with learned positions; None: as they are
    train_backbone: bool = False  # train and save the image tower too; `backbone` still gives its architecture
    # Filled in by `Dediffusion.new`:
    backbone: str = ""  # open_clip "model/tag", or a folder relative to the checkpoint's if it starts with "."
    patch_width: int = 0  # of the backbone's patch tokens
    vocabulary_size: int = 0  # V, the kept words
    text_width: int = 0  # of the token embeddings; 0 with a linear head

    def __post_init__(self) -> None:
        for name in ("num_queries", "depth", "width", "heads"):
            check_range(name, getattr(self, name), 1)
        if self.grid is not None:
            check_range("grid", self.grid, 1)
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

    def vocabulary(self, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """The words that may be written, of the text encoder's tokenizer."""
        return Vocabulary.from_tokenizer(tokenizer, keep_punctuation=self.keep_punctuation, words=self.words)


class DediffusionModel(nn.Module):
    """Pixels (B, 3, H, W) of `clip.pixels` -> logits (B, N, V): N queries, V kept words.

    clip: the backbone. Frozen, it is no sub-module (neither trained nor saved), yet moves along with `to`. With
    `train_backbone` the model holds a copy, whose image tower is the sub-module `backbone`.
    embeddings: (V, W) token embeddings of the kept words, for the tied head; normalised, frozen and saved.
    Other weights are random, from torch's global generator.
    """

    def __init__(self, config: DediffusionConfig, clip: Clip, embeddings: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.clip = copy.deepcopy(clip) if config.train_backbone else clip  # the caller's CLIP must not change
        self.pooler = AttentionalPooler(
            config.num_queries,
            config.depth,
            config.width,
            config.heads,
            config.patch_width,
            config.mlp_ratio,
            num_positions=(config.grid or 0) ** 2,
        )
        self.head = _new_head(config, embeddings)
        self.clip.model.visual.requires_grad_(False)
        if config.train_backbone:
            self.backbone: nn.Module = self.clip.model.visual
            _require_grad_where_used(self.clip)

    def forward(self, pixels: Tensor | None = None, *, patches: Tensor | None = None) -> Tensor:
        """patches: those of `patch_tokens`, in place of pixels, where they are known."""
        if patches is None:
            if pixels is None:
                raise InputError("got neither pixels nor patches; expected one of them")
            patches = self.patch_tokens(pixels)
        return self.head(self.read(patches))

    def patch_tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, patch_width), normalised; without gradient if the backbone is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train_backbone):
            return patch_grid(self.clip, pixels, self.config.grid)

    def read(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, P, patch_width) -> pooled queries (B, N, width), the input of `head`."""
        return self.pooler(patches.to(self.pooler.queries.dtype))

    def clamp_scale(self) -> None:
        """Cap the tied head's logit scale, in place; call it after each optimizer step. No-op for a linear head."""
        if isinstance(self.head, TiedHead):
            self.head.clamp_scale()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DediffusionModel:
        super()._apply(fn, recurse)
        self.clip.model._apply(fn)  # a frozen backbone is no sub-module
        return self


class TiedHead(nn.Module):
    """Hidden states (B, N, width) -> logits (B, N, V): scaled cosines with the text encoder's embeddings (V, W)."""

    embeddings: Tensor

    def __init__(self, width: int, embeddings: Tensor, logit_scale: float) -> None:
        super().__init__()
        self.projection = nn.Linear(width, embeddings.shape[1])
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)))
        self.register_buffer("embeddings", F.normalize(embeddings.detach().float(), dim=-1))
        # Older checkpoints hold scales above the cap, which `forward` used to clamp.
        self.register_load_state_dict_post_hook(_clamp_loaded_scale)

    def forward(self, hidden: Tensor) -> Tensor:
        queries = F.normalize(self.projection(hidden), dim=-1)  # (B, N, W)
        return F.linear(queries * self.log_scale.exp(), self.embeddings)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """In place, not in `forward`: above a clamp there is no gradient, so the scale could never come back."""
        self.log_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))


def _clamp_loaded_scale(head: TiedHead, _: object) -> None:
    head.clamp_scale()


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
    parameters = list(clip.model.visual.requires_grad_(True).parameters())
    with torch.enable_grad():
        pixels = torch.zeros(1, 3, *clip.image_size, device=clip.device, dtype=clip.dtype)
        tokens = clip.patch_tokens(pixels, normalize=True)
    gradients = torch.autograd.grad(tokens.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)

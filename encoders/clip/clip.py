"""An open_clip model (CLIP or CoCa) with its preprocessing and tokenizer: embeddings, patch tokens, text <-> ids.

CLIP: Radford et al. 2021, arXiv 2103.00020. CoCa: Yu et al. 2022, arXiv 2205.01917.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.coca_model import CoCa
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import image_transform_v2
from PIL.Image import Image
from torch import Tensor, nn

from ...errors import InputError
from ..loading.guard import loading
from ..loading.size_limit import folder_shapes, no_larger_than, tensor_shapes
from ..saved_models import CONFIG_NAME, checkpoint_folder, load_weights, save_tokenizer
from .caption_text import CaptionText, unpadded
from .frozen_trunk import remember_features
from .open_clip_files import (
    CLIP_CONFIG_NAME,
    WEIGHTS_NAME,
    build_model,
    load_tokenizer,
    named_config,
    preprocess_of,
    published_model,
    read_config,
    save_folder,
)
from .parts import LazyTransformer, check_part_names, transformers_source
from .timm_tokens import TimmTokens

# "Resize the shorter side to 224" would enlarge a strip of 1 x 64,000,000 pixels 224 times each way. Only its middle
# survives the centre crop, so strips are cropped to this aspect ratio first.
MAX_ASPECT = 32
UNSEEN_PART = 200_000_000  # weights at most of a part that is on the hub alone
HUB = "hf-hub:"  # open_clip's mark of models on the Hugging Face hub


class Clip(CaptionText):
    """An open_clip model in eval mode. Build it with `from_pretrained` (weights) or `from_config` (random weights)."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        model_cfg: Mapping[str, Any],
        *,
        name: str,
        weights_from: Mapping[str, str] | None = None,
    ) -> None:
        """weights_from: of parts that are not saved with it: the folder (absolute) or hub id for each, see `parts`."""
        self.model: Any = model.eval()  # open_clip's models have no common base class
        self.weights_from = dict(weights_from or {})
        self._others: list[Any] = []  # whose parts it shares
        if isinstance(self.model.visual, TimmModel | TimmTokens):
            remember_features(self.model.visual.trunk)
        super().__init__(tokenizer, name=name)
        self.model_cfg = dict(model_cfg)
        self.embed_dim: int = model_cfg["embed_dim"]  # D of the shared space
        self.image_size: tuple[int, int] = tuple(preprocess_of(model).input_size[1:])  # (height, width) in pixels
        self._transform = image_transform_v2(preprocess_of(model), is_train=False)
        self._check_vocabulary()

    @classmethod
    def from_pretrained(
        cls, spec: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Clip:
        """Load a local folder (`open_clip_config.json`, `open_clip_model.safetensors`, tokenizer files), the same from
        the hub ("hf-hub:ID"), or "model_name/pretrained_tag" from open_clip's list.

        Raises `InputError` for unknown names, folders without config or weights, and weights that do not fit.
        """
        on_hub = str(spec).startswith(HUB)
        folder = (
            checkpoint_folder(str(spec).removeprefix(HUB), "open_clip model") if on_hub else Path(spec).expanduser()
        )
        if folder.exists() or isinstance(spec, Path):
            with loading(folder, "open_clip model"):
                return cls._from_folder(folder, str(spec), device, dtype)
        model, model_cfg = published_model(str(spec))
        tokenizer = load_tokenizer(str(spec).split("/", 1)[0])
        return cls(model.to(device, dtype), tokenizer, model_cfg, name=str(spec))

    @classmethod
    def _from_folder(cls, folder: Path, name: str, device: str | torch.device, dtype: torch.dtype) -> Clip:
        config = read_config(folder)
        parts = check_part_names(config.get("weights_from", {}), folder / CLIP_CONFIG_NAME)
        parts = {place: str((folder / one).resolve()) if one[:1] == "." else one for place, one in parts.items()}
        shapes = tensor_shapes(folder / WEIGHTS_NAME)
        for one in parts.values():
            shapes |= folder_shapes(transformers_source(one)) or {one: (UNSEEN_PART,)}
        with no_larger_than(shapes, folder / CLIP_CONFIG_NAME):
            model = build_model(config["model_cfg"], config.get("preprocess_cfg"), folder)
        others = [_take_part(model, *part, folder, device) for part in parts.items()]
        load_weights(model, folder / WEIGHTS_NAME, elsewhere=tuple(parts), config_name=CLIP_CONFIG_NAME)
        tokenizer = load_tokenizer(f"local-dir:{folder}")
        clip = cls(model.to(device, dtype), tokenizer, config["model_cfg"], name=name, weights_from=parts)
        clip._others = others
        return clip

    @classmethod
    def from_config(
        cls,
        config: str | Mapping[str, Any],
        *,
        tokenizer_folder: str | Path | None = None,
        preprocess: Mapping[str, Any] | None = None,
        name: str = "random",
    ) -> Clip:
        """Random weights (torch's global generator), from an open_clip architecture name or `model_cfg`.

        tokenizer_folder: a transformers tokenizer; needed if `text_cfg.hf_tokenizer_name` is local. preprocess:
        open_clip's `preprocess_cfg`.
        """
        model_cfg = named_config(config) if isinstance(config, str) else dict(config)
        text_cfg = model_cfg.get("text_cfg", {})
        context_length = text_cfg.get("context_length", 77)
        source = tokenizer_folder or text_cfg.get("hf_tokenizer_name")
        if source:
            if not text_cfg.get("hf_tokenizer_name"):
                raise InputError("a tokenizer_folder needs text_cfg.hf_tokenizer_name, or reloading would ignore it")
            kwargs = {"tokenizer_mode": text_cfg.get("tokenizer_mode"), **text_cfg.get("tokenizer_kwargs", {})}
            tokenizer: Any = HFTokenizer(transformers_source(str(source)), context_length=context_length, **kwargs)
        else:
            tokenizer = SimpleTokenizer(context_length=context_length, **text_cfg.get("tokenizer_kwargs", {}))
        return cls(build_model(model_cfg, preprocess), tokenizer, model_cfg, name=name)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, weights (in `dtype` if given) and tokenizer files, as `from_pretrained` reads them."""
        save_folder(Path(folder), self.model, self.model_cfg, dtype, self.weights_from)
        if isinstance(self.tokenizer, HFTokenizer):
            save_tokenizer(self.tokenizer, Path(folder))

    @property
    def is_coca(self) -> bool:
        return isinstance(self.model, CoCa)

    @property
    def can_embed_texts(self) -> bool:
        """Whether the text tower is here: that of a registry package may be missing, for images need none."""
        tower = getattr(getattr(self.model, "text", None), "transformer", None)
        return not isinstance(tower, LazyTransformer) or tower.is_here()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def pixels(self, images: Sequence[Image], *, device: str | torch.device | None = None) -> Tensor:
        """RGB images of any size -> (B, 3, H, W) by open_clip's eval transform, in the model's dtype.

        device: the model's by default; forked data workers must not use a GPU.
        """
        device = device or self.device
        if not images:
            return torch.empty(0, 3, *self.image_size, device=device, dtype=self.dtype)
        return torch.stack([self._transform(self._cut_strip(image)) for image in images]).to(device, self.dtype)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D) float32, L2-normalised; differentiable. Runs the image tower alone."""
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1)

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image], *, batch_size: int = 64) -> Tensor:
        """RGB images -> (B, D) float32, L2-normalised, on the model's device."""
        starts = range(0, len(images), batch_size)
        return self._joined([self.embed_pixels(self.pixels(images[i : i + batch_size])) for i in starts])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """Texts -> (N, D) float32, L2-normalised, on the model's device. Runs the text tower alone."""
        starts = range(0, len(texts), batch_size)
        ids = (self._unpadded(self.tokenize(texts[i : i + batch_size])).to(self.device) for i in starts)
        return self._joined([F.normalize(self.model.encode_text(part).float(), dim=-1) for part in ids])

    def patch_tokens(self, pixels: Tensor, *, normalize: bool = False) -> Tensor:
        """(B, 3, H, W) -> (B, P, W): the last block's patch tokens (CoCa's own output is pooled); differentiable.

        normalize: apply the tower's next norm: that of the attentional pooler if there is one, else the final one.
        Of a timm tower: the last feature map of its trunk, normalised by the trunk itself.
        """
        trunk = getattr(self.model.visual, "trunk", None)
        if trunk is not None:
            features = trunk.forward_features(pixels)
            tokens = rearrange(features, "b w h v -> b (h v) w") if features.ndim == 4 else features
            return tokens[:, getattr(trunk, "num_prefix_tokens", 0) :]
        features = self.model.visual.forward_intermediates(pixels, indices=1, intermediates_only=True)
        tokens = rearrange(features["image_intermediates"][-1], "b w h v -> b (h v) w")
        return self._patch_norm(tokens) if normalize else tokens

    @cached_property
    def patch_shape(self) -> tuple[int, int]:
        """(P, W) of `patch_tokens`."""
        with torch.no_grad():
            tokens = self.patch_tokens(torch.zeros(1, 3, *self.image_size).to(self.device, self.dtype))
        return tokens.shape[1], tokens.shape[2]

    def _patch_norm(self, tokens: Tensor) -> Tensor:
        visual = self.model.visual
        pooler = getattr(visual, "attn_pool", None)
        norm = pooler.ln_k if pooler is not None else getattr(visual, "ln_post", None)
        if norm is None:
            raise InputError(f"the image tower {type(visual).__name__} has no final norm; call with normalize=False")
        return norm(tokens)

    def _unpadded(self, ids: Tensor) -> Tensor:
        """`unpadded` where the tower masks padding."""
        text = getattr(self.model, "text", None)
        return unpadded(ids, text.config.pad_token_id) if isinstance(text, HFTextEncoder) else ids

    def _cut_strip(self, image: Image) -> Image:
        width, height = image.size
        limit = MAX_ASPECT * min(width, height)
        if max(width, height) <= limit or preprocess_of(self.model).resize_mode == "squash":
            return image
        left, top = max(0, (width - limit) // 2), max(0, (height - limit) // 2)
        return image.crop((left, top, min(width, left + limit), min(height, top + limit)))

    def _joined(self, chunks: list[Tensor]) -> Tensor:
        return torch.cat(chunks) if chunks else torch.empty(0, self.embed_dim, device=self.device)

    def _check_vocabulary(self) -> None:
        text_cfg = self.model_cfg["text_cfg"]
        if "hf_model_name" in text_cfg:
            return
        simple = isinstance(self.tokenizer, SimpleTokenizer)
        size = int(self.tokenizer.vocab_size) if simple else len(self.tokenizer.tokenizer)
        rows = text_cfg.get("vocab_size", 49408)
        if size > rows:
            raise InputError(
                f"the tokenizer of {self.name} has {size} tokens, its model only {rows}; put the tokenizer's files "
                "beside the weights and set text_cfg.hf_tokenizer_name (else open_clip takes its own 49,408 tokens)"
            )
        pools_highest = text_cfg.get("pool_type", "argmax") == "argmax" and not text_cfg.get("embed_cls", False)
        if pools_highest and self.eos_id is not None and self.eos_id != size - 1:
            raise InputError(
                f"{self.name} pools its text at the highest id (pool_type 'argmax'), but end-of-text is {self.eos_id} "
                f"of {size}; make it the highest, or set pool_type to 'eos' with eos_id {self.eos_id}"
            )


def load_clip(spec: str, folder: Path, kind: str, device: str | torch.device) -> Clip:
    """The CLIP that the config of a `kind` in `folder` names as `spec` (see `space.clip_spec`)."""
    if not spec.startswith("."):
        return Clip.from_pretrained(spec, device=device)
    path = (folder / spec).resolve()
    if not path.is_dir():
        raise InputError(
            f"the CLIP of the {kind} in {folder} is missing: {CONFIG_NAME} names it as {spec!r}, that is {path}; "
            "put it there, or give another to `from_pretrained`"
        )
    return _shared_clip(path, device)


_shared: WeakValueDictionary[tuple[Path, str], Clip] = WeakValueDictionary()


def _shared_clip(folder: Path, device: str | torch.device) -> Clip:
    """The CLIP in a folder, the same object for all who ask while one of them holds it. Not to be trained."""
    key = (folder, str(device))
    clip = _shared.get(key)
    if clip is None:
        clip = _shared[key] = Clip.from_pretrained(folder, device=device)
    return clip


def _take_part(model: nn.Module, place: str, source: str, folder: Path, device: str | torch.device) -> Clip | None:
    """Put the part that `weights_from` names in its place; the model that it is shared with, if there is one.

    source: an absolute path, or a hub id.
    """
    if (Path(source) / CLIP_CONFIG_NAME).is_file():
        other = _shared_clip(Path(source), device)
        put_part(model, place, other)
        return other
    try:
        model.get_submodule(place)
    except AttributeError as error:
        raise InputError(f"{folder}: weights_from names {place!r}, which {error}; expected a part of it") from error
    model.set_submodule(place, LazyTransformer(source))
    return None


def put_part(model: nn.Module, place: str, other: Clip) -> None:
    """Let `model` share a part of another model. Raises `InputError` unless both have it, and of the same shapes."""
    try:
        own, part = model.get_submodule(place), other.model.get_submodule(place)
    except AttributeError as error:
        raise InputError(f"{place!r} is to be shared with {other.name}: {error}; expected a part of both") from error
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (own, part)]
    if shapes[0] != shapes[1]:
        raise InputError(f"the {place} of {other.name} is of another kind than this model's; expected the same")
    model.set_submodule(place, part)

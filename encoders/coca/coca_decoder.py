"""KV-cached decoding with the weights of an open_clip CoCa (arXiv 2205.01917), one token at a time.

Ours, because open_clip's `generate` has no cache, and does not run with transformers 5.24. Against plain full-prefix
decoding the cache is 7.2 times as fast with ViT-B/32 and 3.5 times with the small CoCa (batch 32, one thread), against
open_clip's with an older transformers 6 times (two threads), same words: `python benchmarks/captioning.py --batch-sizes
32 --max-tokens 12`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.coca_model import CoCa
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn

from ...errors import InputError


class CachedCoca:
    """A `StepDecoder` over one batch of images; rows (R) are images x beams, the beams of an image side by side.

    image_tokens: (B, N, W), second output of the image tower; their keys and values are computed once.
    capacity: most tokens that will be fed.
    """

    def __init__(self, model: CoCa, image_tokens: Tensor, *, capacity: int, num_beams: int = 1) -> None:
        check_cacheable(model)
        self.text: Any = model.text
        self.decoder: Any = model.text_decoder
        self.position = 0
        rows = image_tokens.shape[0] * num_beams
        self.num_beams = num_beams
        self.text_cache = [_empty_cache(b, rows, capacity, image_tokens) for b in self.text.transformer.resblocks]
        self.decoder_cache = [_empty_cache(b, rows, capacity, image_tokens) for b in self.decoder.resblocks]
        self.image_cache = [_image_keys_values(block, image_tokens) for block in self.decoder.cross_attn]

    def step(self, tokens: Tensor) -> Tensor:
        """(R,) int64 -> (R, V) logits of the next token; equal to the last row of `model(image, text)["logits"]`."""
        text, decoder = self.text, self.decoder
        x = text.token_embedding(tokens) + text.positional_embedding[self.position]  # (R, D)
        for block, cache in zip(text.transformer.resblocks, self.text_cache, strict=True):
            x = self._self_attend(block, x, cache)
        # open_clip's decoder gets the tokens before the final norm if there is a class token, else after it.
        x = text.ln_final(x) if text.cls_emb is None else x
        layers = zip(decoder.resblocks, decoder.cross_attn, self.decoder_cache, self.image_cache, strict=True)
        for block, cross, cache, image in layers:
            x = self._cross_attend(cross, self._self_attend(block, x, cache), image)
        self.position += 1
        return decoder.ln_final(x) @ decoder.text_projection

    def select_images(self, images: Tensor) -> None:
        """Keep only these images, (I,) int64, with all of their beams."""
        self.image_cache = [cache[:, images] for cache in self.image_cache]
        beams = torch.arange(self.num_beams, device=images.device)
        rows = (images.unsqueeze(1) * self.num_beams + beams).flatten()
        for caches in (self.text_cache, self.decoder_cache):
            caches[:] = [cache[:, rows] for cache in caches]

    def select_beams(self, rows: Tensor) -> None:
        """Row i continues row `rows[i]`, (R,) int64. Image keys and values are shared by beams, so they stay."""
        for cache in (*self.text_cache, *self.decoder_cache):
            seen = cache[:, :, :, : self.position]
            seen.copy_(seen[:, rows])

    def _self_attend(self, block: Any, x: Tensor, cache: Tensor) -> Tensor:
        attn = block.attn
        qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        qkv = rearrange(qkv, "r (three h d) -> three r h d", three=3, h=attn.num_heads)
        cache[:, :, :, self.position] = qkv[1:]
        keys, values = cache[:, :, :, : self.position + 1]
        mixed = F.scaled_dot_product_attention(qkv[0].unsqueeze(2), keys, values)
        return _finish_block(block, x, rearrange(mixed, "r h 1 d -> r (h d)"))

    def _cross_attend(self, block: Any, x: Tensor, image: Tensor) -> Tensor:
        attn = block.attn
        width = attn.embed_dim
        query = F.linear(block.ln_1(x), attn.in_proj_weight[:width], attn.in_proj_bias[:width])
        # The beams of an image share its keys: no copies, no reordering.
        query = rearrange(query, "(b k) (h d) -> b h k d", k=self.num_beams, h=attn.num_heads)
        mixed = F.scaled_dot_product_attention(query, image[0], image[1])
        return _finish_block(block, x, rearrange(mixed, "b h k d -> (b k) (h d)"))


def check_cacheable(model: nn.Module) -> None:
    """Raise `InputError` unless `model` is a CoCa with a causal text tower of plain open_clip blocks."""
    if not isinstance(model, CoCa):
        raise InputError(f"captions need a CoCa, got a {type(model).__name__}; take a model such as coca_ViT-B-32")
    text = model.text
    if not isinstance(text, TextTransformer) or text.attn_mask is None:
        raise InputError("CoCa captions need open_clip's causal text tower; this model has another kind")
    if not all(isinstance(block, ResidualAttentionBlock) for block in text.transformer.resblocks):
        raise InputError("this CoCa's text tower has custom blocks; expected open_clip's residual attention blocks")


def _empty_cache(block: Any, rows: int, capacity: int, like: Tensor) -> Tensor:
    heads = block.attn.num_heads
    return like.new_empty(2, rows, heads, capacity, block.attn.embed_dim // heads)  # keys and values


def _image_keys_values(block: Any, image_tokens: Tensor) -> Tensor:
    """(B, N, W) -> (2, B, H, N, W / H)."""
    attn, width = block.attn, block.attn.embed_dim
    projected = F.linear(block.ln_1_kv(image_tokens), attn.in_proj_weight[width:], attn.in_proj_bias[width:])
    return rearrange(projected, "b n (two h d) -> two b h n d", two=2, h=attn.num_heads).contiguous()


def _finish_block(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    x = x + block.ls_1(block.attn.out_proj(mixed))
    return x + block.ls_2(block.mlp(block.ln_2(x)))

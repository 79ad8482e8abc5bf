"""The encoder that training begins with: a new one, or a trained one to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from ...encoders.clip.clip import Clip
from ...encoders.clip.open_clip_files import build_model, preprocess_of
from ...encoders.dediffusion.dediffusion_encoder import Dediffusion
from ...errors import InputError
from .decoder import Decoder
from .dediffusion_config import DediffusionTraining


def build_encoder(config: DediffusionTraining, clip: Clip, decoder: Decoder) -> Dediffusion:
    """The encoder that the settings name, in fp32; it writes words of the decoder's tokenizer."""
    words = config.allowed_words()
    if config.start is None:
        encoder = new_encoder(config, clip, decoder, words)
    else:
        encoder = load_encoder(config.start, clip, decoder)
        encoder = encoder if words is None else restrict_vocabulary(encoder, words, decoder)
    if config.min_probability is not None:
        encoder.model.config = replace(encoder.config, min_probability=config.min_probability)
    if config.distinct is not None:
        encoder.model.config = replace(encoder.config, distinct=config.distinct)
    return encoder


def new_encoder(
    config: DediffusionTraining, clip: Clip, decoder: Decoder, words: Sequence[str] | None = None
) -> Dediffusion:
    """Fresh weights, a function of the seed alone. words: that may be written; None for those of `config.encoder`.

    For continuous embeddings the head writes into the space of the token embeddings, at first near their mean.
    """
    embeddings = decoder.token_embeddings.float()  # (total, D)
    sizes = config.encoder if words is None else replace(config.encoder, words=words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.loop.seed)
        backbone = reset_image_tower(clip) if config.random_backbone else clip
        encoder = Dediffusion.new(sizes, backbone, decoder.tokenizer, embeddings)
        if config.continuous:
            head = nn.Linear(sizes.width, embeddings.shape[1])
            nn.init.normal_(head.weight, std=float(embeddings.std()) * sizes.width**-0.5)
            head.bias.data = embeddings[encoder.vocabulary.ids].mean(0)
            encoder.model.head = head
    return encoder


def load_encoder(folder: str, clip: Clip, decoder: Decoder) -> Dediffusion:
    """A trained encoder. Raises `InputError` where its words are not those of the decoder."""
    encoder = Dediffusion.from_pretrained(folder, backbone=clip)
    kept = encoder.config.vocabulary(decoder.tokenizer)
    if not torch.equal(kept.ids, encoder.vocabulary.ids) or kept.words != encoder.vocabulary.words:
        raise InputError(f"the encoder in {folder} was trained for the words of another text encoder; start anew")
    return encoder


def restrict_vocabulary(encoder: Dediffusion, words: Sequence[str], decoder: Decoder) -> Dediffusion:
    """The encoder with those of its words alone that are in `words`; all other weights stay."""
    kept = sorted(set(words).intersection(encoder.vocabulary.words))
    config = replace(encoder.config, words=kept, word_bias=None)
    restricted = Dediffusion.new(config, encoder.clip, decoder.tokenizer, decoder.token_embeddings)
    rows = torch.isin(encoder.vocabulary.ids, restricted.vocabulary.ids)  # both are in ascending order
    by_word = ("head.embeddings", "head.weight", "head.bias")  # the first of a tied head, the others of a linear one
    state = encoder.model.state_dict()
    restricted.model.load_state_dict({name: x[rows] if name in by_word else x for name, x in state.items()})
    return restricted


def reset_image_tower(clip: Clip) -> Clip:
    """A copy whose image tower has random weights, of torch's global generator."""
    copy = deepcopy(clip)
    fresh: Any = build_model(clip.model_cfg, asdict(preprocess_of(clip.model)))
    copy.model.visual = fresh.visual.eval()
    return copy

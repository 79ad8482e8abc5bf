"""Two attention layers, written down rather than learnt, that look a word up: put before the layers of a trained Llama.

"Where is the star?" wants what followed "star" in the context, "What color is the star?" what stood before it. Two
layers of attention find that: previous-token heads write into each token what stood before it, and induction heads go
from a word to what stands beside the same word earlier (Elhage et al. 2021; Olsson et al. 2022, arXiv 2209.11895). The
small language model had not found them in thousands of steps. Here they are there from the start, in the spirit of
mimetic initialization (Trockman & Kolter 2023, arXiv 2305.09828). They tell tokens apart by directions of the
embeddings, and places by distance; they know nothing of the world, and what to do with a word that is looked up, the
layers behind them have to learn. As embeddings move, the heads lose their aim: both should be frozen together.

So that no word is overlooked, embeddings are made alike where it does not matter to the layers behind: all of one
length, with the same share of one direction. The output layer keeps those it had, as weights of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import InputError

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaAttention

OFFSETS = (1, 2, 3, 4)  # how many tokens away a neighbour may stand
ASKED = 5  # how many tokens before its answer a question's last word stands: "star", "?", "\n", "Short", "answer", ":"
LOOKUP_LAYERS = 2
_PREVIOUS_OFFSETS = (ASKED, *OFFSETS)  # a previous-token head for each
_PREVIOUS = 45.0  # logit of the token that a previous-token head looks for
_MATCH = 30.0  # logit of a token that is the same
_APART = 12.0  # how much lower it is in the question itself
_QUESTION, _CONTEXT = 8, (15, 120)  # how many tokens before the answer they stand
_BEYOND = 0.05  # what distances beyond both weigh
_PAIRS = (1.0, 1.0, 1.0, 0.7, 0.5, 0.4, 0.3)  # weights of the fastest rotations, which tell neighbours apart
_SLOW = 0.018  # radians a token; slower rotations tell content alone, up to some fifty tokens away
_ROOM = 0.2  # size of a neighbour in its room, beside the token's own
_FOUND = 0.5  # of what is looked up
_SHARED = 2.0  # of a token in the direction that all share, where its root mean square is 1
_RIDGE = 0.5
_LEAST = 1e-6  # a size to divide by
_OFTEN, _SELDOM = 500, 10  # a token that occurs more often counts no more; one that occurs less, not at all
_NAMING_STEPS = 300
_LENGTHS = 3.0  # what equal lengths weigh beside unlike directions
_NAMING_RATE = 0.02  # learning rate


@dataclass(frozen=True)
class _Directions:
    """Of the residual stream, as (rows, width) where they are several."""

    turns: Tensor  # (dim / 2,) radians a token, by pair of a head's dimensions
    slow: Tensor  # (kept,) the dimensions of a head that turn slowly: those tell content
    size: Tensor  # () root mean square of embeddings
    tokens: Tensor  # (V, width) new embeddings, of size 1
    constant: Tensor  # (width,) every token is 1 along it
    rooms: dict[int, Tensor]  # offset -> (width, kept): where the neighbour that stands so far away is kept
    name: Tensor  # (kept, width) what tells tokens apart
    copied: Tensor  # (dim, width) what is copied of a token that is found


@torch.no_grad()
def add_lookup_layers(llama: LlamaForCausalLM, counts: Tensor, seed: int = 0) -> LlamaForCausalLM:
    """The same model with two more layers before its own. counts: (V,) how often each token occurs in what the model
    reads; tokens that occur fewer than ten times are not seen to. seed: of the directions, random at first.

    The first layer has a previous-token head for each of `OFFSETS` and for `ASKED`. The second looks up the token that
    stood `ASKED` before: for each of `OFFSETS` a head goes to what stands so far behind it elsewhere, all other heads
    go to where it stands itself and take what stood before that; all keep away from the question itself. What is found
    is written as part of its embedding; the MLPs of both layers begin with nothing.

    Raises `InputError` where the model is too small for that.
    """
    directions, grown = _directions(llama, counts, seed), _grown(llama, seed)
    grown.model.embed_tokens.weight.copy_(directions.size * directions.tokens)
    for layer in grown.model.layers[:LOOKUP_LAYERS]:
        attention = layer.self_attn
        for module in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, layer.mlp.down_proj):
            module.weight.zero_()
    _previous_token_heads(grown.model.layers[0].self_attn, directions)
    _induction_heads(grown.model.layers[1].self_attn, directions, grown.config.max_position_embeddings)
    return grown


def _grown(llama: LlamaForCausalLM, seed: int) -> LlamaForCausalLM:
    """A copy with two new layers in front, and an output layer of its own."""
    from transformers import LlamaForCausalLM

    config = copy.deepcopy(llama.config)
    config.num_hidden_layers += LOOKUP_LAYERS
    config.tie_word_embeddings = False
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        grown = LlamaForCausalLM(config)
    grown.generation_config = llama.generation_config
    grown.model.norm.load_state_dict(llama.model.norm.state_dict())
    for new, old in zip(grown.model.layers[LOOKUP_LAYERS:], llama.model.layers, strict=True):
        new.load_state_dict(old.state_dict())
    grown.lm_head.load_state_dict(llama.lm_head.state_dict())
    return grown


def _directions(llama: LlamaForCausalLM, counts: Tensor, seed: int) -> _Directions:
    config = llama.config
    heads, width = config.num_attention_heads, config.hidden_size
    dim = config.head_dim or width // heads
    base = config.to_dict()["rope_parameters"]["rope_theta"]
    turns = base ** (-torch.arange(dim // 2) / (dim // 2))
    slow = (torch.cat([turns, turns]) < _SLOW).nonzero().flatten()
    kept = len(slow)
    least = 1 + len(_PREVIOUS_OFFSETS) * kept + max(kept, dim)
    if heads < len(_PREVIOUS_OFFSETS) or config.num_key_value_heads != heads or width < least:
        raise InputError(
            f"{heads} heads ({config.num_key_value_heads} of keys) over a width of {width} are too few for lookup "
            f"layers; expected at least {len(_PREVIOUS_OFFSETS)}, each with its own keys, over a width of {least}"
        )
    embeddings, share = llama.model.embed_tokens.weight.float().cpu(), counts.clamp(max=_OFTEN) * (counts >= _SELDOM)
    share = (share / share.sum())[:, None]
    size = (embeddings.square().mean(1, keepdim=True).sqrt() * share).sum()
    tokens = _normalized(embeddings)  # as norms leave them
    axes = torch.linalg.eigh(tokens.T @ (tokens * share)).eigenvectors
    # embeddings vary least along the first axes: one that all tokens share, from which heads tell positions, whatever
    # stands there, then rooms where neighbours are kept; a token is known by the axes that are left
    shared, content = axes[:, 0], axes[:, 1 + len(_PREVIOUS_OFFSETS) * kept :]
    rooms = {offset: axes[:, 1 + i * kept : 1 + (i + 1) * kept] for i, offset in enumerate(_PREVIOUS_OFFSETS)}
    tokens = _normalized(_normalized(tokens @ content @ content.T) + _SHARED * shared)
    generator = torch.Generator().manual_seed(seed)
    name = _names(tokens @ content, share[:, 0], kept, generator) @ content.T
    copied = _orthonormal(content.shape[1], dim, generator).T @ content.T
    return _Directions(turns, slow, size, tokens, shared / (tokens @ shared).mean(), rooms, name, copied)


def _previous_token_heads(attention: LlamaAttention, to: _Directions) -> None:
    """Write into each token, room by room, what stood before it."""
    dim, kept, weights = attention.head_dim, len(to.slow), torch.tensor(_PAIRS[: attention.head_dim // 2])
    for head, offset in enumerate(_PREVIOUS_OFFSETS):
        peak = torch.polar(_PREVIOUS * weights / weights.sum(), -offset * to.turns[: len(weights)])
        _prefer(attention, head, peak, to.constant)
        rows = slice(head * dim, head * dim + kept)
        attention.v_proj.weight[rows], attention.o_proj.weight[:, rows] = to.name, _ROOM * to.size * to.rooms[offset]


def _induction_heads(attention: LlamaAttention, to: _Directions, length: int) -> None:
    """Attend to other occurrences of the word that was asked for. length: the most tokens of a text."""
    dim, kept, width = attention.head_dim, len(to.slow), len(to.constant)
    alike = (_MATCH * dim**0.5 / kept) ** 0.5
    elsewhere = _elsewhere(to.turns[to.turns >= _SLOW], length)
    for head in range(attention.config.num_attention_heads):
        rows, slow = slice(head * dim, (head + 1) * dim), head * dim + to.slow
        _prefer(attention, head, elsewhere, to.constant)
        attention.q_proj.weight[slow] = alike * to.rooms[ASKED].T / _ROOM
        if head < len(OFFSETS):
            attention.k_proj.weight[slow] = alike * to.rooms[OFFSETS[head]].T / _ROOM
            read, written = to.copied, to.copied.T * (width / dim) ** 0.5
        else:
            attention.k_proj.weight[slow] = alike * to.name
            before = to.rooms[OFFSETS[(head - len(OFFSETS)) % len(OFFSETS)]].T / _ROOM
            read = torch.cat([before, torch.zeros(dim - kept, width)])
            written = torch.cat([to.name.T, torch.zeros(width, dim - kept)], 1) * (width / kept) ** 0.5
        attention.v_proj.weight[rows], attention.o_proj.weight[:, rows] = read, _FOUND * to.size * written


def _normalized(tokens: Tensor) -> Tensor:
    """(V, width), the root mean square of each row 1."""
    return tokens / tokens.square().mean(1, keepdim=True).sqrt().clamp(min=_LEAST)


def _prefer(attention: LlamaAttention, head: int, rotations: Tensor, constant: Tensor) -> None:
    """Have a head prefer distances: the logit of a token `distance` before is the real part of the sum of `rotations`
    (n,), complex, each turned by `distance` times its speed, the fastest first. constant: direction (width,) in which
    every token is 1."""
    dim = attention.head_dim
    rows, strength = head * dim + torch.arange(len(rotations)), rotations.abs().sqrt() * dim**0.25
    query = torch.polar(strength, rotations.angle())
    attention.q_proj.weight[rows] = torch.outer(query.real, constant)
    attention.q_proj.weight[rows + dim // 2] = torch.outer(query.imag, constant)
    attention.k_proj.weight[rows] = torch.outer(strength, constant)


def _elsewhere(turns: Tensor, length: int) -> Tensor:
    """Rotations (n,), complex, for `_prefer`: `_APART` lower in the question itself than in the context before it, as
    near as least squares come to that. turns: (n,) radians a token; length: the most tokens of a text."""
    distance = torch.arange(length)
    angles = torch.outer(distance, turns).double()
    rotated = torch.cat([angles.cos(), angles.sin(), torch.ones(length, 1)], 1)
    asked, told = distance < _QUESTION, (distance >= _CONTEXT[0]) & (distance < _CONTEXT[1])
    weights = 4.0 * asked + told + _BEYOND * (distance >= _CONTEXT[1])
    weighted = rotated * weights[:, None]
    ridge = torch.diag(torch.tensor([_RIDGE] * 2 * len(turns) + [0.0]))
    found = torch.linalg.solve(weighted.T @ rotated + ridge, -_APART * weighted.T @ asked.double())
    return torch.complex(found[: len(turns)], -found[len(turns) : -1]).to(torch.complex64)


def _names(tokens: Tensor, share: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(size, width): directions in which tokens (V, width) are as long as one another and as unlike as can be."""
    used = share > 0
    tokens, share = tokens[used], share[used]
    names = (torch.randn(size, tokens.shape[1], generator=generator) / tokens.shape[1] ** 0.5).requires_grad_()
    wanted = torch.eye(len(tokens)) * size
    weights = share[:, None] * share
    weights.fill_diagonal_(0)
    weights = weights / weights.sum() + torch.diag(share) * _LENGTHS
    optimizer = torch.optim.Adam([names], lr=_NAMING_RATE)
    with torch.enable_grad():
        for _ in range(_NAMING_STEPS):
            written = tokens @ names.T
            loss = ((written @ written.T - wanted).square() * weights).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return names.detach()


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns), random orthonormal columns."""
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator))[0]

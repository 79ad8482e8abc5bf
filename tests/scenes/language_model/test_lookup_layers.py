from __future__ import annotations

from typing import Any

import pytest
import torch
from textlens.errors import InputError
from textlens.scenes.language_model.lookup_layers import ASKED, LOOKUP_LAYERS, OFFSETS, add_lookup_layers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = 400


def llama(**changes: int) -> LlamaForCausalLM:
    sizes: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 1, "num_attention_heads": 6, **changes}
    config = LlamaConfig(vocab_size=TOKENS, intermediate_size=64, tie_word_embeddings=True, **sizes)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # as trained embeddings do, they have something in common
        model.model.embed_tokens.weight.add_(torch.randn(model.config.hidden_size) * model.config.initializer_range)
    return model


@pytest.fixture(scope="module")
def counts() -> Tensor:
    return 1000 / torch.arange(1, TOKENS + 1)  # as words of a language are: a few very often, most seldom


@pytest.fixture(scope="module")
def grown(counts: Tensor) -> LlamaForCausalLM:
    return add_lookup_layers(llama(), counts)


@pytest.fixture(scope="module")
def attention(grown: LlamaForCausalLM) -> tuple[Tensor, ...]:
    """(B, H, T, T) of each layer, for 30 different tokens, in another order a second time."""
    rng = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(20):
        once = torch.randperm(100, generator=rng)[:30]
        rows.append(torch.cat([once, once[torch.randperm(30, generator=rng)]]))
    grown.set_attn_implementation("eager")
    with torch.no_grad():
        return (torch.stack(rows), *grown(torch.stack(rows), output_attentions=True).attentions)


@pytest.mark.parametrize("head", range(len(OFFSETS) + 1))
def test_heads_of_the_first_layer_look_at_the_token_so_far_before(attention: tuple[Tensor, ...], head: int) -> None:
    offset = (ASKED, *OFFSETS)[head]
    found = attention[1][:, head].argmax(-1)[:, offset:]
    expected = torch.arange(found.shape[1]).expand_as(found)
    assert (found == expected).float().mean() > 0.99


@pytest.mark.parametrize("head", range(6))
def test_heads_of_the_second_layer_look_up_what_stood_before(attention: tuple[Tensor, ...], head: int) -> None:
    offset = OFFSETS[head] if head < len(OFFSETS) else 0
    ids, start = attention[0], 30 + ASKED
    asked = ids[:, 30:-ASKED]
    there = (ids[:, None, :30] == asked[..., None]).int().argmax(-1) + offset  # (B, 25)
    share = attention[2][:, head, start:].gather(-1, there[..., None])[..., 0][there < 30]
    assert share.mean() > 0.9
    assert share.median() > 0.99


def test_the_models_own_layers_stay(grown: LlamaForCausalLM) -> None:
    before = llama()
    assert grown.config.num_hidden_layers == len(grown.model.layers) == LOOKUP_LAYERS + 1
    assert torch.equal(grown.lm_head.weight, before.lm_head.weight)
    own = grown.model.layers[-1].state_dict()
    assert all(torch.equal(own[name], value) for name, value in before.model.layers[0].state_dict().items())


@pytest.mark.parametrize("changes", [{"num_attention_heads": 4}, {"num_key_value_heads": 2}, {"head_dim": 64}])
def test_too_small_a_model_is_an_error(counts: Tensor, changes: dict[str, int]) -> None:
    with pytest.raises(InputError, match="lookup"):
        add_lookup_layers(llama(**changes), counts)

from __future__ import annotations

import pytest
import torch
from textlens.encoders.dediffusion.pooler import AttentionalPooler
from torch import Tensor
from torch.nn import functional as F


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pooler() -> AttentionalPooler:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AttentionalPooler(num_queries=6, depth=2, width=32, heads=4, input_width=20).eval()


def test_every_query_reads_every_image(pooler: AttentionalPooler) -> None:
    found = pooler(noise(3, 9, 20))
    assert found.shape == (3, 6, 32)
    assert (found[0] - found[1]).abs().amax(dim=-1).min() > 1e-3
    between = F.cosine_similarity(found[0, :, None], found[0, None], dim=-1) - torch.eye(6)
    assert between.max() < 0.9  # positions start on different words


def test_images_do_not_see_one_another(pooler: AttentionalPooler) -> None:
    patches = noise(4, 9, 20)
    alone = torch.cat([pooler(one[None]) for one in patches])
    torch.testing.assert_close(pooler(patches), alone)


def test_patches_are_a_set_of_any_size(pooler: AttentionalPooler) -> None:
    patches = noise(2, 9, 20)
    torch.testing.assert_close(pooler(patches.flip(1)), pooler(patches))
    assert pooler(patches[:, :4]).shape == (2, 6, 32)


def test_queries_see_one_another(pooler: AttentionalPooler) -> None:
    patches = noise(1, 9, 20)
    before = pooler(patches)
    with torch.no_grad():
        pooler.queries[0] += 1 * noise(32)
    assert (pooler(patches) - before).abs().amax(dim=-1).min() > 1e-4


def test_without_their_output_layers_the_blocks_pass_the_queries_on(pooler: AttentionalPooler) -> None:
    with torch.no_grad():
        for block in pooler.blocks:
            for last in (block.self_attention.out_proj, block.cross_attention.out_proj, block.mlp[-1]):
                last.weight.zero_()
                last.bias.zero_()
    expected = pooler.norm(pooler.queries).expand(2, -1, -1)
    torch.testing.assert_close(pooler(noise(2, 9, 20)), expected)


def test_a_block_is_attention_by_the_book(pooler: AttentionalPooler) -> None:
    """Against the formula, written out in fp64."""
    pooler.double()
    block, queries, context = pooler.blocks[0], noise(2, 6, 32).double(), noise(2, 9, 32).double()

    def attend(layer: torch.nn.MultiheadAttention, x: Tensor, y: Tensor) -> Tensor:
        weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
        q, k, v = (F.linear(z, w, b) for z, w, b in zip((x, y, y), weights, biases, strict=True))
        heads = []
        for i in range(0, 32, 8):
            scores = q[..., i : i + 8] @ k[..., i : i + 8].mT / 8**0.5
            heads.append(scores.softmax(-1) @ v[..., i : i + 8])
        return layer.out_proj(torch.cat(heads, dim=-1))

    x = block.self_norm(queries)
    expected = queries + attend(block.self_attention, x, x)
    expected = expected + attend(block.cross_attention, block.cross_norm(expected), context)
    expected = expected + block.mlp(block.mlp_norm(expected))
    torch.testing.assert_close(block(queries, context), expected)


def test_every_weight_gets_a_gradient(pooler: AttentionalPooler) -> None:
    patches = noise(2, 9, 20).requires_grad_()
    pooler.train()(patches).square().mul(noise(2, 6, 32)).sum().backward()
    for name, parameter in pooler.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert patches.grad is not None
    assert patches.grad.abs().sum() > 0


def test_places_are_told_apart_where_there_are_positions() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pooler = AttentionalPooler(num_queries=6, depth=1, width=32, heads=4, input_width=20, num_positions=9).eval()
    patches = noise(2, 9, 20)
    assert (pooler(patches.flip(1)) - pooler(patches)).abs().max() > 1e-3

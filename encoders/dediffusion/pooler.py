"""Learned queries that gather what they need from an image's patch tokens: one output per query."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionalPooler(nn.Module):
    """De-Diffusion's pooler (arXiv 2311.00618): patch tokens (B, P, input_width) -> (B, num_queries, width).

    depth: blocks of self-attention among the queries, cross-attention to the patches and an MLP. The patch tokens carry
    their place in the image already; the queries are told apart by what each has learnt. Random weights are of torch's
    global generator.
    """

    def __init__(
        self, num_queries: int, depth: int, width: int, heads: int, input_width: int, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        # As large as what a norm lets through: smaller ones would start, and easily stay, on the same word everywhere.
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.input_norm = nn.LayerNorm(input_width)
        self.input_projection = nn.Linear(input_width, width)
        self.blocks = nn.ModuleList(PoolerBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> Tensor:
        context = self.input_projection(self.input_norm(patches))  # (B, P, W)
        queries = self.queries[None]  # (1, N, W)
        for block in self.blocks:
            queries = block(queries, context)  # (B, N, W)
        return self.norm(queries)


class PoolerBlock(nn.Module):
    """Self-attention, cross-attention and MLP, each normalised in front and added to what came in."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Queries (B, N, W) and projected patches (B, P, W) -> (B, N, W).

        Queries of the first block may be (1, N, W): no image has reached them yet, so they are computed once per batch.
        """
        x = self.self_norm(queries)
        queries = queries + self.self_attention(x, x, x, need_weights=False)[0]
        x = self.cross_norm(queries).expand(len(context), -1, -1)
        queries = queries + self.cross_attention(x, context, context, need_weights=False)[0]
        return queries + self.mlp(self.mlp_norm(queries))

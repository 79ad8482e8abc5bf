"""De-Diffusion's attentional pooler (arXiv 2311.00618): patch tokens -> one output per learned query."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionalPooler(nn.Module):
    """Patch tokens (B, P, input_width) -> (B, num_queries, width), through `depth` blocks.

    num_positions: P, for learned position embeddings; 0 for none: the patch tokens of a transformer carry their place
    already. Each query is learned. Weights are random, from torch's global generator.
    """

    def __init__(
        self,
        num_queries: int,
        depth: int,
        width: int,
        heads: int,
        input_width: int,
        mlp_ratio: float = 4.0,
        *,
        num_positions: int = 0,
    ) -> None:
        super().__init__()
        # Standard deviation 1, as after a norm: smaller queries start, and often stay, on the same word everywhere.
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.input_norm = nn.LayerNorm(input_width)
        self.input_projection = nn.Linear(input_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(num_positions, width)) if num_positions else None
        self.blocks = nn.ModuleList(PoolerBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> Tensor:
        context = self.input_projection(self.input_norm(patches))  # (B, P, W)
        if self.positions is not None:
            context = context + self.positions
        queries = self.queries[None]  # (1, N, W)
        for block in self.blocks:
            queries = block(queries, context)  # (B, N, W)
        return self.norm(queries)


class PoolerBlock(nn.Module):
    """Pre-norm self-attention, cross-attention and MLP.

    Not `nn.TransformerDecoderLayer`, whose parameter names would break the checkpoints, and which cannot compute the
    first self-attention once for the batch.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Queries (B, N, W), or (1, N, W) in the first block, and projected patches (B, P, W) -> (B, N, W)."""
        x = self.self_norm(queries)
        queries = queries + self.self_attention(x, x, x, need_weights=False)[0]
        x = self.cross_norm(queries).expand(len(context), -1, -1)
        queries = queries + self.cross_attention(x, context, context, need_weights=False)[0]
        return queries + self.mlp(self.mlp_norm(queries))

"""Projection of embeddings onto a support memory: exact softmax attention in constant memory.

DeCap's formula (Li et al., ICLR 2023, arXiv 2303.03032, eq. 2), by the one-pass softmax of Milakov and Gimelshein
(arXiv 1805.02867). Not by torch's `scaled_dot_product_attention`, which needs a copy of the memory in fp32: for 100,000
entries it takes 6.8 times as long with 1 query, 1.9 with 32, 1.1 with 256 (`benchmarks/decap.py attention`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError

QUERIES_AT_ONCE = 1024


@dataclass(frozen=True)
class ProjectionResult:
    """Projections of B queries."""

    embeddings: Tensor  # (B, D) fp32, unit length
    discarded_mass: Tensor  # (B,) share of the softmax outside `top_k`; 0 without `top_k`


@dataclass(frozen=True)
class Neighbours:
    """The k nearest entries of B queries, best first."""

    indices: Tensor  # (B, k) int64
    similarities: Tensor  # (B, k) fp32 cosines


@torch.no_grad()
def project(
    queries: Tensor, memory: Tensor, temperature: float, *, top_k: int | None = None, exclude: Tensor | None = None
) -> ProjectionResult:
    """`normalize(softmax(normalize(queries) @ memory.T / temperature) @ memory)`, summed in fp32.

    queries: (B, D). memory: (N, D) unit rows of any float type. top_k: use the k nearest entries alone.
    exclude: (B,) index of one entry to leave out per query (leave-one-out), -1 for none.
    """
    if temperature <= 0:
        raise InputError(f"temperature is {temperature}; it must be above 0 (DeCap: 1/100 for images, 1/150 for video)")
    _check(queries, memory, exclude)
    parts = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        attend = _Attention(queries[rows], memory, None if exclude is None else exclude[rows])
        parts.append(attend.full(temperature) if top_k is None else attend.top(temperature, top_k))
    return ProjectionResult(torch.cat([p.embeddings for p in parts]), torch.cat([p.discarded_mass for p in parts]))


@torch.no_grad()
def nearest(queries: Tensor, memory: Tensor, k: int = 1) -> Neighbours:
    """The `k` entries of largest cosine for each of (B, D) queries (all of them in a smaller memory)."""
    _check(queries, memory, None)
    parts = [_Attention(rows, memory, None).search(k)[0] for rows in queries.split(QUERIES_AT_ONCE)]
    return Neighbours(torch.cat([p.indices for p in parts]), torch.cat([p.similarities for p in parts]))


class _Attention:
    """One block of queries against the whole memory, chunk by chunk."""

    def __init__(self, queries: Tensor, memory: Tensor, exclude: Tensor | None) -> None:
        self.queries = F.normalize(queries.to(memory.device, torch.float32), dim=-1)
        self.memory = memory
        self.exclude = None if exclude is None else exclude.to(memory.device)

    def full(self, temperature: float) -> ProjectionResult:
        rows, width = self.queries.shape
        maximum = self.queries.new_full((rows, 1), -torch.inf)
        denominator = self.queries.new_zeros(rows, 1)
        numerator = self.queries.new_zeros(rows, width)
        for _, chunk, similarities in self._chunks():
            logits = similarities.div_(temperature)
            new_maximum = torch.maximum(maximum, logits.amax(dim=1, keepdim=True))
            # -inf - -inf would be NaN, as long as all entries so far are excluded.
            anchor = new_maximum.clamp(min=torch.finfo(torch.float32).min)
            rescale = torch.exp(maximum - anchor)
            weights = logits.sub_(anchor).exp_()
            denominator = denominator * rescale + weights.sum(dim=1, keepdim=True)
            numerator = torch.addmm(numerator * rescale, weights, chunk)
            maximum = new_maximum
        return ProjectionResult(F.normalize(numerator / denominator, dim=-1), self.queries.new_zeros(rows))

    def top(self, temperature: float, k: int) -> ProjectionResult:
        found, log_mass = self.search(k, temperature)
        weights = torch.exp(found.similarities / temperature - log_mass)  # (B, k), of the softmax over all entries
        entries = self.memory[found.indices].float()  # (B, k, D)
        embeddings = F.normalize(torch.einsum("bk,bkd->bd", weights, entries), dim=-1)
        return ProjectionResult(embeddings, (1 - weights.sum(dim=1)).clamp(min=0))

    def search(self, k: int, temperature: float = 1.0) -> tuple[Neighbours, Tensor]:
        """The k nearest entries, and the log of the softmax denominator over all, (B, 1)."""
        if k < 1:
            raise InputError(f"top_k is {k}; it must be at least 1")
        rows = len(self.queries)
        best = self.queries.new_empty(rows, 0)
        indices = torch.empty(rows, 0, dtype=torch.long, device=best.device)
        log_mass = self.queries.new_full((rows, 1), -torch.inf)
        for start, _, similarities in self._chunks():
            mass = torch.logsumexp(similarities / temperature, dim=1, keepdim=True)
            log_mass = torch.logaddexp(log_mass, mass)
            values, places = similarities.topk(min(k, similarities.shape[1]), dim=1)
            best, indices = torch.cat([best, values], dim=1), torch.cat([indices, places + start], dim=1)
            best, order = best.topk(min(k, best.shape[1]), dim=1)
            indices = indices.gather(1, order)
        return Neighbours(indices, best), log_mass

    def _chunks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(first row, fp32 chunk (C, D), cosines (B, C)); one reused buffer, which stays in the CPU's cache."""
        size = min(len(self.memory), 4096 if self.memory.device.type == "cpu" else 65536)
        buffer = self.memory.new_empty(size, self.memory.shape[1], dtype=torch.float32)
        with torch.autocast(self.memory.device.type, enabled=False):
            for start in range(0, len(self.memory), size):
                rows = self.memory[start : start + size]
                chunk = buffer[: len(rows)].copy_(rows)
                similarities = self.queries @ chunk.T
                self._mask(similarities, start)
                yield start, chunk, similarities

    def _mask(self, similarities: Tensor, start: int) -> None:
        if self.exclude is None:
            return
        columns = self.exclude - start
        inside = (self.exclude >= 0) & (columns >= 0) & (columns < similarities.shape[1])
        similarities[inside.nonzero().squeeze(1), columns[inside]] = -torch.inf


def _check(queries: Tensor, memory: Tensor, exclude: Tensor | None) -> None:
    if len(memory) == 0:
        raise InputError("the support memory is empty; build it from at least one caption")
    if queries.ndim != 2 or queries.shape[1] != memory.shape[1]:
        raise InputError(
            f"queries have shape {tuple(queries.shape)}, but the support memory holds embeddings of {memory.shape[1]} "
            "numbers; use the CLIP that the memory was built with"
        )
    check_finite(queries)
    if exclude is not None and (exclude.shape != (len(queries),) or bool((exclude >= len(memory)).any())):
        raise InputError(f"exclude must hold one index below {len(memory)} for each of {len(queries)} queries")
    if exclude is not None and len(memory) == 1 and bool((exclude == 0).any()):
        raise InputError("the support memory holds one entry, and that one is excluded; build it from more captions")


def check_finite(embeddings: Tensor) -> None:
    """Raise `InputError` for NaN and infinite embeddings, which would decode to fluent nonsense."""
    bad = (~torch.isfinite(embeddings).all(dim=-1)).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            f"{len(bad)} of {len(embeddings)} embeddings hold NaN or infinity (first: row {bad[0]}); "
            "check the images and the CLIP weights that made them"
        )

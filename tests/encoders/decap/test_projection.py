from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from textlens.encoders.decap.projection import nearest, project
from textlens.errors import InputError
from torch import Tensor
from torch.nn import functional as F


def unit(rows: int, width: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def plain(queries: Tensor, memory: Tensor, temperature: float, left_out: dict[int, int] | None = None) -> Tensor:
    """The formula as the paper writes it, in fp64."""
    memory = memory.double()
    logits = F.normalize(queries.double(), dim=-1) @ memory.T / temperature
    for row, column in (left_out or {}).items():
        logits[row, column] = -torch.inf
    return F.normalize(logits.softmax(-1) @ memory, dim=-1)


def clustered(queries: Tensor, entries: int, width: int) -> Tensor:
    """A memory with entries near each query, so that the softmax is sharp in places."""
    near = queries.repeat(3, 1) + 0.2 * unit(3 * len(queries), width, seed=2)
    return F.normalize(torch.cat([unit(entries, width, seed=1), near]), dim=-1).half()


@pytest.mark.parametrize("temperature", [1 / 100, 1 / 150, 1.0])
@pytest.mark.parametrize("entries", [1, 4095, 4096, 13_000])  # chunks of 4096 on a CPU
def test_projection_is_the_plain_formula(entries: int, temperature: float) -> None:
    queries = 3 * unit(7, 64)  # of any length
    memory = clustered(queries, entries, 64)
    result = project(queries, memory, temperature)
    assert result.embeddings.dtype == torch.float32
    torch.testing.assert_close(result.embeddings.double(), plain(queries, memory, temperature), rtol=0, atol=1e-5)
    assert result.discarded_mass.tolist() == [0.0] * 7


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 5), entries=st.integers(1, 40), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_projection_of_any_shape(rows: int, entries: int, width: int, seed: int) -> None:
    queries, memory = unit(rows, width, seed), unit(entries, width, seed + 100).half()
    expected = plain(queries, memory, 0.05)
    torch.testing.assert_close(project(queries, memory, 0.05).embeddings.double(), expected, rtol=0, atol=1e-5)


def test_more_queries_than_one_block() -> None:
    queries, memory = unit(1500, 8), unit(50, 8, seed=1).half()
    expected = plain(queries, memory, 0.1)
    torch.testing.assert_close(project(queries, memory, 0.1).embeddings.double(), expected, rtol=0, atol=1e-5)


def test_leave_one_out_wherever_the_entry_lies() -> None:
    queries = unit(6, 32)
    memory = torch.cat([queries, unit(9000, 32, seed=1)]).half()
    exclude = torch.tensor([0, 1, -1, 3, 9005, 4096])
    expected = plain(queries, memory, 0.01, {row: i for row, i in enumerate(exclude.tolist()) if i >= 0})
    result = project(queries, memory, 0.01, exclude=exclude)
    torch.testing.assert_close(result.embeddings.double(), expected, rtol=0, atol=1e-5)
    assert (result.embeddings * queries).sum(-1)[2] > 0.999  # it kept its own entry, which outweighs all others
    assert (result.embeddings * queries).sum(-1)[0] < 0.9


def test_leave_one_out_of_a_whole_first_chunk_seen_so_far() -> None:
    memory = unit(2, 4).half()
    result = project(unit(1, 4, seed=5), memory, 0.01, exclude=torch.tensor([0]))
    torch.testing.assert_close(result.embeddings[0], F.normalize(memory[1].float(), dim=0))


@pytest.mark.parametrize("k", [1, 5, 20_000])
def test_top_k_keeps_the_largest_weights_and_reports_the_rest(k: int) -> None:
    queries = unit(4, 32)
    memory = clustered(queries, 9000, 32)
    weights = (queries.double() @ memory.double().T / 0.05).softmax(-1)
    top = weights.topk(min(k, len(memory)), dim=1)
    expected = F.normalize(torch.einsum("bk,bkd->bd", top.values, memory.double()[top.indices]), dim=-1)
    result = project(queries, memory, 0.05, top_k=k)
    torch.testing.assert_close(result.embeddings.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.discarded_mass.double(), 1 - top.values.sum(1), rtol=0, atol=1e-5)
    left_out = project(queries, memory, 0.05, top_k=k, exclude=torch.tensor([9000, 9001, 9002, 9003]))
    assert not torch.equal(left_out.embeddings, result.embeddings)


def test_nearest_across_chunks() -> None:
    queries, memory = unit(3, 16), unit(9000, 16, seed=1).half()
    expected = (queries @ memory.float().T).topk(4, dim=1)
    found = nearest(queries, memory, 4)
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.similarities, expected.values)
    assert nearest(queries, memory[:2], 4).indices.shape == (3, 2)


@pytest.mark.parametrize(
    ("queries", "memory", "options", "message"),
    [
        (unit(1, 4), torch.empty(0, 4), {}, "empty"),
        (unit(1, 5), unit(3, 4), {}, "use the CLIP"),
        (torch.tensor([[1.0, torch.nan]]), unit(3, 2), {}, "NaN"),
        (torch.tensor([[1.0, torch.inf]]), unit(3, 2), {}, "NaN or infinity"),
        (unit(1, 4), unit(3, 4), {"temperature": 0.0}, "temperature is 0"),
        (unit(1, 4), unit(3, 4), {"top_k": 0}, "top_k is 0"),
        (unit(1, 4), unit(3, 4), {"exclude": torch.tensor([3])}, "index below 3"),
        (unit(1, 4), unit(1, 4), {"exclude": torch.tensor([0])}, "one entry"),
    ],
)
def test_bad_input(queries: Tensor, memory: Tensor, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        project(queries, memory, **{"temperature": 0.01, **options})


MILLION = """
import json, resource, torch
from textlens.encoders.decap.projection import project
torch.set_num_threads(1)
memory = torch.empty(1_000_000, 512, dtype=torch.float16)
for rows in memory.split(50_000):
    rows.copy_(torch.randn(len(rows), 512))
    rows /= 512 ** 0.5
result = project(torch.randn(256, 512), memory, 0.01)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "finite": bool(torch.isfinite(result.embeddings).all())}))
"""


@pytest.mark.soak
def test_a_million_entries_take_at_most_4_gb() -> None:
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["finite"]
    assert measured["peak"] < 4e9


def test_memory_does_not_grow_with_the_entries() -> None:
    """The same claim at a size for a quick test: the 200,000 x 256 entries would be 0.2 GB in fp32, the logits too."""
    code = (
        MILLION.replace("1_000_000, 512", "200_000, 256")
        .replace("512", "256")
        .replace("result =", "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\nresult =")
        .replace('"peak": peak', '"peak": peak - before')
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["finite"]
    assert measured["peak"] < 0.1e9

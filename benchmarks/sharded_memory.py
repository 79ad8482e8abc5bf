"""What each process holds of a model of open_clip with `loop.sharding: full`, by the sizes of its shards.

    torchrun --nproc-per-node 2 benchmarks/sharded_memory.py [--model ViT-B-32]

In MB of float32: parameters, gradients and AdamW's moments after one step, and what a step gathers of the parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import open_clip
import torch
import torch.distributed as dist
from accelerate import PartialState
from textlens.train.engine.distributed import join_group
from textlens.train.engine.optimizer import build_optimizer, trainable_parameters
from textlens.train.engine.sharding import blocks_of, local, shard
from torch import Tensor


def megabytes(tensors: Iterable[Tensor]) -> float:
    return round(sum(4 * local(tensor).numel() for tensor in tensors) / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    given = parser.parse_args()
    join_group()
    model = open_clip.create_model(given.model)
    whole, blocks = megabytes(model.parameters()), blocks_of(model)
    sizes = [megabytes(block.parameters()) for block in blocks]
    shard(model, blocks, PartialState().device)
    parameters = trainable_parameters(model)
    optimizer = build_optimizer(parameters, "adamw", 1e-3)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    held = {
        "parameters": megabytes(parameters.values()),
        "gradients": megabytes(p.grad for p in parameters.values() if p.grad is not None),
        "moments": megabytes(moments),
    }
    every: list[dict[str, float]] = [{}] * dist.get_world_size()
    dist.all_gather_object(every, held)
    if dist.get_rank() == 0:
        print(f"{given.model}: {whole} MB, unsharded {4 * whole:.1f} MB with gradients and moments")
        for rank, one in enumerate(every):
            print(f"process {rank}: {one}, {sum(one.values()):.1f} MB")
        print(
            f"gathered: {whole - sum(sizes):.1f} MB, and of {len(blocks)} blocks one at a time, up to {max(sizes)} MB"
        )


if __name__ == "__main__":
    main()

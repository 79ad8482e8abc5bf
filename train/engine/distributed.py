"""What several processes need: gathering with gradients, for contrastive losses, and an orderly end."""

from __future__ import annotations

import atexit
from functools import cache
from typing import Any

import torch.distributed as dist
from torch import Tensor


@cache
def leave_group_at_exit() -> None:
    """Have this process leave its group before the interpreter ends, once for all calls.

    A group that is still open then has been seen to abort the process ("terminate called", gloo) after all was done.
    """
    atexit.register(_leave_group)


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def gather_with_grad(rows: Tensor) -> Tensor:
    """(N, ...) in each of W processes -> (W * N, ...) in all of them, in order of rank; itself where there is one
    process.

    For contrastive losses (CLIP, Radford et al. 2021). Each process may compute the loss over all W * N rows, or over
    its own N rows against all: the gradients of the W processes are summed on the way back, and DDP then averages, so
    both give exactly the gradient of one process that holds the full batch. N must be the same everywhere (the training
    loop sees to that).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    import torch.distributed._functional_collectives as collectives

    name = "all_gather_single_autograd"  # all_gather_tensor_autograd in older versions of torch
    gather: Any = getattr(collectives, name, None) or collectives.all_gather_tensor_autograd
    gathered: Tensor = gather(rows.contiguous(), 0, dist.group.WORLD)
    return gathered


def sum_over_processes(values: Tensor, *, mean: bool = False) -> Tensor:
    """The sum (or mean) of a tensor over all processes, without gradient; itself where there is one process."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size() if mean else total

"""What several processes need: gathering with gradients, for contrastive losses, and an orderly end."""

from __future__ import annotations

import atexit
from functools import cache

import torch
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
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows.contiguous()))


def sum_over_processes(values: Tensor, *, mean: bool = False) -> Tensor:
    """The sum (or mean) of a tensor over all processes, without gradient; itself where there is one process."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size() if mean else total

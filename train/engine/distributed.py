"""What several processes need: one group, gathering with gradients, for contrastive losses, and an orderly end."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

# Longer than an evaluation, which one process does while the others wait. torchrun sees to processes that die.
_TIMEOUT = timedelta(hours=6)


@cache
def join_group() -> None:
    """Join the group of torchrun's processes, if it started this one, and take the GPU that is this process's own.

    To be called before any model is built: until then "cuda" is the first GPU, in every process.
    """
    # cpu=True lets Accelerate join torchrun's group on CPU-only hosts.
    several = {"timeout": _TIMEOUT} if "LOCAL_RANK" in os.environ else {}
    PartialState(cpu=not torch.accelerator.is_available(), **several)
    # A group that is still open at the end of the process has been seen to abort it ("terminate called", gloo).
    atexit.register(_leave_group)


def is_first_process() -> bool:
    """Whether this is the only one of torchrun's processes, or the first."""
    return os.environ.get("RANK", "0") == "0"


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

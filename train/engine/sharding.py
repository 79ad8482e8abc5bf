"""FSDP2 (`fully_shard` of torch): each process holds its share of every parameter, its gradient, state and average.

Not through accelerate's plugin, which shards on accelerators alone: nothing of it could run, or be tested, on CPUs.

    blocks    a model's layers: each gathered for its own forward and backward pass, wherever it is called from
    the rest  embeddings, heads, norms: gathered together, by the model's forward pass or by `gather_rest`
    scalars   such as a temperature: whole in each process
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import get_total_norm

from .distributed import is_first_process, sum_over_processes


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The outermost members of lists and sequences in `module`, such as the layers of a transformer."""
    listed = isinstance(module, nn.ModuleList | nn.Sequential)
    parts = [
        [child] if listed and not isinstance(child, nn.ModuleList) else blocks_of(child) for child in module.children()
    ]
    return [block for part in parts for block in part if next(block.parameters(), None) is not None]


def shard(model: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Shard `model` and `blocks`, its own and frozen ones beside it, in place; all hold what the first process held.

    A block whose parameters are used outside of it, too, stays with the rest of the model.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    used = _uses(model)
    alone = [b for b in dict.fromkeys(blocks) if all(used[p] <= number for p, number in _uses(b).items())]
    scalars = {p for unit in (*alone, model) for p in unit.parameters() if p.ndim == 0}
    for unit in (*alone, model):
        _as_in_the_first_process(unit.to(device))
        fully_shard(unit, mesh=mesh, reshard_after_forward=unit is not model, ignored_params=scalars)
    gathering: Any = model
    gathering.gather_rest = lambda: None  # calling any forward method gathers what is in no block
    register_fsdp_forward_method(model, "gather_rest")
    gather_rest(model)
    for block in alone:  # once outside of inference mode, in which torch would make what training cannot use
        gather_blocks(block)
        _scatter(block)
    _scatter(model)


def _uses(module: nn.Module) -> Counter[nn.Parameter]:
    return Counter(p for part in module.modules() for p in part.parameters(recurse=False))


@torch.no_grad()
def _as_in_the_first_process(module: nn.Module) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.contiguous()
            dist.broadcast(tensor.data, 0)


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


@torch.no_grad()
def gather_rest(model: nn.Module) -> None:
    """Gather what is in no block, for calls of parts of `model`, until its next backward pass; nothing if unsharded."""
    if isinstance(model, FSDPModule):
        gathering: Any = model
        gathering.gather_rest()


@torch.no_grad()
def gather_blocks(*parts: nn.Module) -> None:
    """Gather the blocks in `parts` until the evaluation ends; nothing if unsharded.

    For what reads the weights of blocks without calling them, or calls them as often as its own output says: writing.
    """
    for unit in (unit for part in parts for unit in part.modules() if isinstance(unit, FSDPModule)):
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()


def _scatter(model: nn.Module) -> None:
    for unit in model.modules():
        if isinstance(unit, FSDPModule):
            unit.reshard()
            unit.set_reshard_after_forward(not hasattr(unit, "gather_rest"), recurse=False)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Parts of `model` may be called in the block, in eval mode and by all processes alike; afterwards all is sharded
    again, and each module in its own mode."""
    modes = {module: module.training for module in model.modules()}
    gather_rest(model)
    model.eval()
    yield
    _scatter(model)
    for module, training in modes.items():
        module.training = training


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradient down to a norm of `limit`, and return its norm before, over all shards."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    shards = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    scalars = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    for gradient in scalars:
        gradient.copy_(sum_over_processes(gradient, mean=True))
    squares = [sum_over_processes(get_total_norm(shards).square())] if shards else []
    norm = torch.stack([*squares, *(gradient.square() for gradient in scalars)]).sum().sqrt()
    torch._foreach_mul_([*shards, *scalars], (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor, in the same memory; all of one that is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, target: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, sharded as `target` is."""
    if not isinstance(target, DTensor):
        return tensor
    return distribute_tensor(tensor, target.device_mesh, target.placements, src_data_rank=None)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, contiguous on the CPU of the first process; {} in the others, which must call it, too."""
    found = {}
    for name, tensor in tensors.items():
        gathered = tensor.detach()
        if isinstance(gathered, DTensor):
            gathered = gathered.full_tensor()
        if is_first_process():
            found[name] = gathered.cpu().contiguous()
    return found

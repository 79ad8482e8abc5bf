"""What turns gradients into weights: the optimizer, its schedule, and the moving average (EMA) of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .sharding import local

OptimizerName = Literal["adamw", "adafactor", "muon"]
_TABLES = ("embed", "wte", "wpe", "head")  # parts of the names of embeddings and of heads over words


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name; tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def build_optimizer(
    parameters: Mapping[str, nn.Parameter],
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), Adafactor (Shazeer & Stern 2018; torch's, the variant of Big Vision) or Muon
    (Jordan et al. 2024) for the matrices within a model, with AdamW for all else: embeddings, heads, norms, biases.

    Only matrices decay: biases, norms and scalar temperatures (fewer than two dimensions) are left alone. `betas` are
    AdamW's; Adafactor keeps factored second moments and scales the learning rate by the size of each weight. Muon's
    steps are scaled to the size of AdamW's, so that one learning rate fits both.
    """
    if name == "muon":
        inner = {key: p for key, p in parameters.items() if p.ndim == 2 and not any(part in key for part in _TABLES)}
        rest = {key: p for key, p in parameters.items() if key not in inner}
        parts: list[torch.optim.Optimizer] = []
        if inner:
            scale = "match_rms_adamw"
            parts.append(torch.optim.Muon(inner.values(), learning_rate, weight_decay, adjust_lr_fn=scale))
        if rest:
            parts.append(build_optimizer(rest, "adamw", learning_rate, weight_decay, betas))
        return _Together(*parts)
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim == 1]
    scalars = [p for p in parameters.values() if p.ndim == 0]  # by themselves: they are never sharded
    decays = ((matrices, weight_decay), (vectors, 0.0), (scalars, 0.0))
    groups = [{"params": some, "weight_decay": decay} for some, decay in decays if some]
    if name == "adafactor":
        return torch.optim.Adafactor(groups, lr=learning_rate)
    # torch takes many tensors at once where it can, but not by itself where they are sharded
    foreach = True if any(isinstance(p, DTensor) for p in parameters.values()) else None
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, foreach=foreach)


class _Together(torch.optim.Optimizer):
    """Several optimizers, each of its own parameters, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([p for part in parts for group in part.param_groups for p in group["params"]], {})
        self._gather()

    def _gather(self) -> None:
        """The parts' own groups and states: what is set here is set there."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state = defaultdict(dict, {p: own for part in self.parts for p, own in part.state.items()})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()
        self._gather()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        first = 0
        for part in self.parts:
            count = sum(len(group["params"]) for group in part.param_groups)
            own = {i - first: one for i, one in state_dict["state"].items() if first <= i < first + count}
            part.load_state_dict({"state": own, "param_groups": part.state_dict()["param_groups"]})
            first += count
        self._gather()


def learning_rate_at(step: int, steps: int, peak: float, floor: float = 0.0, warmup_steps: int = 0) -> float:
    """Learning rate of step `step` (from 0) of `steps`: linear warm-up to `peak`, then a half cosine that ends at
    `floor`.

    A function of the step alone, so that a pause, a resume or a slow machine changes nothing.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class ExponentialMovingAverage:
    """A second copy of the trainable weights that follows them slowly: `ema = decay * ema + (1 - decay) * weight`.

    The decay itself warms up as min(decay, (1 + step) / (10 + step)), as in diffusers, so that short runs forget their
    random start.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = parameters
        self.average = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (from 0)."""
        average_into = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        averages = [local(average) for average in self.average.values()]
        average_into(averages, [local(p.detach()) for p in self.parameters.values()], step)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the model's trainable weights with the average."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.average[name])

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model holds the average inside the block, and its own weights again (bit-equal) after it."""
        own: dict[str, Tensor] = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(own[name])

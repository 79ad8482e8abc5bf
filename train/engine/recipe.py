"""What a training run is given: the settings of the loop, and a recipe that says what to train and towards what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from torch import Tensor, nn

from ...errors import InputError
from .optimizer import OptimizerName


@dataclass(frozen=True)
class LoopConfig:
    """Settings of a run. `batch_size` counts samples per step over all processes and all `accumulation` parts together.

    steps: optimizer steps, fixed at the start; the schedule is a function of them.
    learning_rate, min_learning_rate, warmup_steps: linear warm-up to the first, then a half cosine down to the second.
    weight_decay: of matrices alone. betas: AdamW's.
    optimizer: of `build_optimizer`. gradient_clip: greatest norm of the whole gradient; None for no
    limit. ema_decay: keep a moving average of the weights, used to evaluate and as the result; None for none.
    precision: "bf16" computes the loss under autocast; weights and optimizer stay float32.
    evaluate_every: steps between evaluations (there is one at the end in any case); None for only the last.
    num_workers: processes that make batches ahead of the model; 0 makes them in between the steps.
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    min_learning_rate: float = 0.0
    warmup_steps: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float | None = 1.0
    accumulation: int = 1
    optimizer: OptimizerName = "adamw"
    ema_decay: float | None = None
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    log_every: int = 50
    evaluate_every: int | None = None
    save_every: int = 500
    keep_checkpoints: int = 2
    num_workers: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("warmup_steps", "min_learning_rate", "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 0.")
        if self.learning_rate <= 0 or (self.gradient_clip is not None and self.gradient_clip <= 0):
            raise InputError(
                f"learning_rate is {self.learning_rate} and gradient_clip {self.gradient_clip}; expected both above 0 "
                "(gradient_clip may be None, for no limit)."
            )
        for name in ("steps", "batch_size", "accumulation", "log_every", "save_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise InputError(
                f"evaluate_every is {self.evaluate_every}; expected at least 1, or None for only at the end."
            )
        for name, choices in (("optimizer", get_args(OptimizerName)), ("precision", ("fp32", "bf16"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise InputError(
                f"ema_decay is {self.ema_decay}; expected at least 0 and less than 1, or None for no average."
            )


class Recipe(Protocol):
    """What to train, on what, and towards what."""

    model: nn.Module
    """Its `requires_grad` parameters are trained; frozen sub-modules run in eval mode."""

    def batch(self, indices: Sequence[int], seed: int) -> Any:
        """The samples with these global indices, as CPU tensors, nested in dicts, lists or tuples.

        A pure function of both arguments: it runs in worker processes, ahead of the model.
        """
        ...

    def loss(self, model: nn.Module, batch: Any, *, step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        """The mean "loss" over the batch (on the model's device), and further scalar figures to log.

        Must call `model(...)` itself (with several processes it is DDP's wrapper, with nothing but `forward`). Noise is
        drawn with `randomness.sample_noise(shape, seed, indices)`, keyed by sample.
        """
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures of the validation split, {} for none; on the main process, in eval mode and without gradients."""
        ...

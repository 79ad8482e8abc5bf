"""What a training run is given: the settings of the loop, and a recipe that says what to train and towards what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from ...errors import InputError
from ..data.base import DataSource
from .optimizer import OptimizerName
from .settings import settings
from .sharding import blocks_of

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@settings
class LoopConfig:
    """Settings of the training loop."""

    steps: Count  # optimizer steps; the schedule is a function of them
    batch_size: Count  # samples per step, over all processes and all `accumulation` parts together
    learning_rate: Positive = 1e-3  # reached after a linear warm-up
    min_learning_rate: NonNegative = 0.0  # where the half cosine after the warm-up ends
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: NonNegative = 0.0  # of matrices alone
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's
    gradient_clip: Positive | None = 1.0  # greatest norm of the whole gradient; None for no limit
    accumulation: Count = 1  # parts that a batch is computed in
    optimizer: OptimizerName = "adamw"
    ema_decay: Share | None = None  # moving average of the weights, evaluated and exported; None for none
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights and optimizer stay float32
    sharding: Literal["none", "full"] = "none"  # full: FSDP2 over the processes; of one process nothing changes
    log_every: Count = 50
    evaluate_every: Count | None = None  # None: at the end alone
    save_every: Count = 500
    keep_checkpoints: Count = 2
    num_workers: Annotated[int, Field(ge=0)] = 1  # processes that make batches; 0: in the training process

    def __post_init__(self) -> None:
        if self.sharding == "full" and self.optimizer != "adamw":
            raise InputError(
                f"sharding is full, with optimizer {self.optimizer}; expected adamw, which works value by value: set "
                "optimizer to adamw, or sharding to none"
            )


class Recipe(ABC):
    """What to train, on what, and towards what. A subclass is built as `SomeRecipe(config, cache)`.

    config: of `config_class`, with a field `loop`. cache: folder for what may be computed once and shared by runs.
    """

    name: str  # on the command line and in training.json
    config_class: type[Any]
    config: Any
    model: nn.Module  # its `requires_grad` parameters are trained; frozen sub-modules run in eval mode
    source: DataSource | None = None  # whose skipped items the loop counts

    @abstractmethod
    def batch(self, indices: Sequence[int], seed: int) -> Any:
        """The samples with these global indices, as CPU tensors, nested in dicts, lists or tuples.

        A pure function of both arguments: it runs in worker processes, ahead of the model.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, *, step: int, indices: Sequence[int], **shared: Any) -> dict[str, Any]:
        """The mean "loss" over the batch (on the model's device), and further scalar figures to log.

        Must call `model(...)` itself, before any part of it (with several processes it is DDP's wrapper, with nothing
        but `forward`). Noise is drawn with `randomness.sample_noise(shape, seed, indices)`, keyed by sample. shared: of
        `share`.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures of the held-out samples; on the main process, in eval mode and without gradients.

        With `loop.sharding` on all processes, which must call blocks of the model alike: see `sharding.gather_blocks`.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained model, as its users load it."""

    def share(self, model: nn.Module, parts: Sequence[Any]) -> Sequence[dict[str, Any]]:
        """For each part of a batch, arguments of its `loss` that depend on the whole batch. No gradient is kept.

        The loop divides each part's loss by their number: a loss that a part shares with the others is multiplied.
        """
        return [{} for _ in parts]

    def after_step(self) -> None:  # noqa: B027 - most recipes need nothing here
        """What has to hold for the weights after each optimizer step, such as a cap on a scale."""

    def blocks(self) -> list[nn.Module]:
        """What `loop.sharding` gathers one by one, frozen modules beside `model` among them.

        All processes must call each equally often in a step.
        """
        return blocks_of(self.model)

    def record(self) -> dict[str, Any]:
        """Further facts for training.json."""
        return {}

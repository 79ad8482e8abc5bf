"""Recipes that train in milliseconds, with what the loop must handle: dropout, a frozen part, a buffer, keyed noise."""

from __future__ import annotations

import torch
from textlens.train.engine.distributed import gather_with_grad
from textlens.train.engine.loop import LoopConfig
from textlens.train.engine.randomness import sample_generator, sample_noise
from textlens.train.engine.recipe import Recipe
from torch import nn
from torch.nn.functional import cross_entropy, normalize

SETTINGS = {"steps": 6, "batch_size": 8, "learning_rate": 0.02, "weight_decay": 0.1, "log_every": 1, "num_workers": 0}
MEAN = LoopConfig(**SETTINGS, accumulation=2, ema_decay=0.9)
CONTRASTIVE = LoopConfig(**SETTINGS, gradient_clip=None)


class TinyModel(nn.Module):
    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5)).requires_grad_(False)
        self.hidden = nn.Linear(8, 16)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(16, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
        return self.out(self.dropout(torch.relu(self.hidden(self.frozen(x)))))


class TinyRecipe(Recipe):
    """Fit the sum and the product of signs of six numbers, seen through noise."""

    name = "tiny"

    def __init__(self, dropout: float = 0.1) -> None:
        self.model = TinyModel(dropout)
        self.seen: list[list[int]] = []

    def batch(self, indices, seed):
        x = torch.stack([torch.randn(6, generator=sample_generator(seed, i, stream=7)) for i in indices])
        return {"x": x, "y": torch.stack([x.sum(1), x.sign().prod(1)], 1)}

    def loss(self, model, batch, *, step, indices):
        self.seen.append(list(indices))
        error = model(batch["x"] + 0.1 * sample_noise((6,), 5, indices)) - batch["y"]
        return {"loss": error.float().square().mean(), "absolute_error": error.abs().mean()}

    def evaluate(self, model):
        """Draws from the global generator on purpose: training must go on as if it had not."""
        batch = self.batch(range(10_000, 10_016), seed=9)
        return {"error": float((model(batch["x"]) - batch["y"]).square().mean()), "random": float(torch.rand(()))}

    def save(self, folder):
        torch.save(self.model.state_dict(), folder / "tiny.pt")


class TiedModel(nn.Module):
    """Two layers with one weight; the first is in a list."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.layers = nn.ModuleList([nn.Linear(6, 6, bias=False)])
        self.last, self.out = nn.Linear(6, 6, bias=False), nn.Linear(6, 2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        self.last.weight = self.layers[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.last(torch.relu(self.layers[0](x))))


class TiedRecipe(TinyRecipe):
    def __init__(self) -> None:
        super().__init__()
        self.model = TiedModel()


class ContrastiveRecipe(TinyRecipe):
    """Match each sample with itself among all samples of all processes; `local` scores only this process's own rows."""

    def __init__(self, local: bool = False) -> None:
        super().__init__(dropout=0.0)
        self.local = local

    def loss(self, model, batch, *, step, indices):
        one, other = model(torch.cat([batch["x"], batch["x"].roll(1, dims=1)])).chunk(2)
        one, other = normalize(one, dim=1), normalize(other, dim=1)
        everyone = gather_with_grad(other)
        first = (indices[0] % len(everyone)) if self.local else 0
        rows = one if self.local else gather_with_grad(one)
        labels = torch.arange(first, first + len(rows))
        return {"loss": cross_entropy(5 * rows @ everyone.T, labels)}

    def evaluate(self, model):
        return {}

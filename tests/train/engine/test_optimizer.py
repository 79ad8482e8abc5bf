"""The schedule's values, the grouping of weights, the moving average."""

from __future__ import annotations

import copy

import pytest
import torch
from textlens.train.engine.optimizer import (
    ExponentialMovingAverage,
    build_optimizer,
    learning_rate_at,
    trainable_parameters,
)
from torch import nn


def test_schedule_warms_up_and_falls_along_a_half_cosine() -> None:
    rates = [learning_rate_at(step, 14, peak=1.0, floor=0.2, warmup_steps=4) for step in range(15)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[9] == pytest.approx(0.6)  # halfway down
    assert rates[14] == pytest.approx(0.2)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[4] - rates[5] == pytest.approx(rates[13] - rates[14])  # symmetric: flat at both ends


def test_schedule_without_warmup_or_with_nothing_else() -> None:
    assert learning_rate_at(0, 10, peak=0.3) == 0.3
    assert [learning_rate_at(step, 2, peak=1.0, warmup_steps=2) for step in range(2)] == [0.5, 1.0]


def test_muon_has_the_matrices_within_and_adamw_the_rest() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.ModuleDict({"embed": nn.Embedding(7, 4), "inner": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
        model["head"] = nn.Linear(4, 7, bias=False)
    parameters = trainable_parameters(model)

    def move(optimizer: torch.optim.Optimizer, steps: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        for _ in range(steps):
            model["head"](model["norm"](model["inner"](model["embed"].weight))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    optimizer = build_optimizer(parameters, "muon", 1e-9, weight_decay=0.0)
    before = parameters["inner.weight"].detach().clone()
    move(optimizer, 1)
    moved = torch.linalg.svdvals(before - parameters["inner.weight"].detach()) / (0.1 * 0.2 * 4**0.5)
    assert moved[:3].min() > 0.5  # all directions alike, as Muon's steps are, but for the mean: the norm takes it away
    assert moved.max() < 1.5
    kept = {name: set(optimizer.state[p]) for name, p in parameters.items()}
    assert [name for name, own in kept.items() if own == {"momentum_buffer"}] == ["inner.weight"]
    assert all("exp_avg" in own for name, own in kept.items() if name != "inner.weight")

    saved = copy.deepcopy(optimizer.state_dict())
    weights = {name: p.detach().clone() for name, p in parameters.items()}
    move(optimizer, 2)
    expected = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(weights[name])
    anew = build_optimizer(parameters, "muon", 1e-9, weight_decay=0.0)
    anew.load_state_dict(saved)
    move(anew, 2)
    assert all(torch.equal(expected[name], p) for name, p in parameters.items())


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_optimizer_holds_each_trainable_weight_once(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].requires_grad_(False)
    model[3].weight = model[0].weight  # tied
    parameters = trainable_parameters(model)
    assert list(parameters) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.bias"]
    groups = build_optimizer(parameters, name, 0.1, weight_decay=0.5).param_groups
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups] == [
        (0.5, [2]),
        (0.0, [1, 1, 1, 1]),
    ]


def test_average_is_exact_and_its_decay_warms_up() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    ema, expected = ExponentialMovingAverage({"weight": weight}, decay=0.3), weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            weight += step + 1
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
        ema.update(step)
    assert 5 / 14 > 0.3 > 3 / 12  # both sides of the minimum were taken
    torch.testing.assert_close(ema.average["weight"], expected, rtol=1e-14, atol=0.0)


def test_swapping_in_the_average_gives_the_weights_back_to_the_bit() -> None:
    weight = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    ema = ExponentialMovingAverage({"weight": weight}, decay=0.9)
    with torch.no_grad():
        weight.mul_(1.37)
    own, average = weight.detach().clone(), ema.average["weight"].clone()
    with ema.swapped_in():
        assert torch.equal(weight, average)
    assert torch.equal(weight, own)
    assert torch.equal(ema.average["weight"], average)

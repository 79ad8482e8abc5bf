"""A judge of pictures that shares nothing with the CoCa: a small convolutional net names what stands in each place.

    python -m textlens.scenes.evals.probe --out runs/probe

It looks at the five places one by one, with the same weights: noun (or none) and colour (or none) of what is in the
middle of the cut-out; and at the coarse whole for the background. It is trained on real renders of the train split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from einops import rearrange
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...encoders.saved_models import CONFIG_NAME, save_config, save_weights
from ...errors import InputError, shortened
from ...train.data.pixels import pixels
from ...train.engine.randomness import sample_noise
from ...train.engine.recipe import Count, LoopConfig, NonNegative, Recipe
from ...train.engine.run import run
from ...train.engine.settings import settings
from ..facts import KINDS, Facts, Score, facts_of, score_facts
from ..scene import scene_at
from ..world import BACKGROUNDS, COLOURS, NOUNS, PLACES, Scene
from .tables import facts_table
from .testbed import SEED, pictures

SIZE, CROP = 64, 32  # pixels per side of the picture, and of what is cut out of it around a place
KINDS_JUDGED = tuple(kind for kind in KINDS if kind != "size")
_CORNERS = {
    "top left": (0, 0),
    "top right": (0, 32),
    "center": (16, 16),
    "bottom left": (32, 0),
    "bottom right": (32, 32),
}
_COLOURS, _BACKGROUNDS = tuple(COLOURS), tuple(BACKGROUNDS)
_WEIGHTS_NAME = "model.safetensors"
_VALIDATION_SCENES = 256


@settings
class ProbeConfig:
    """Sizes of the net, and the noise it learns with."""

    channels: tuple[int, int, int] = (32, 64, 96)  # of the three convolutions
    hidden: Count = 192  # width before nouns and colours
    background_hidden: Count = 64  # width before the background
    noise: NonNegative = 0.1  # spread on training pixels in [-1, 1], so that a drawing need not be exact to be read


@settings
class ProbeTraining:
    """Settings of the recipe."""

    loop: LoopConfig
    probe: ProbeConfig = field(default_factory=ProbeConfig)


class ProbeNet(nn.Module):
    """(B, 3, 64, 64) in [-1, 1] -> nouns (B, 5, 75), colours (B, 5, 9), the last of each for none; background (B, 6).

    The five places stand in the order of `PLACES`.
    """

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        first, second, third = config.channels
        self.look = nn.Sequential(
            *_convolution(3, first, kernel=5),  # 16 x 16
            *_convolution(first, second, kernel=3),  # 8 x 8
            *_convolution(second, third, kernel=3),  # 4 x 4
            nn.Flatten(),
            *_linear(third * (CROP // 8) ** 2, config.hidden),
        )
        self.noun = nn.Linear(config.hidden, len(NOUNS) + 1)
        self.colour = nn.Linear(config.hidden, len(COLOURS) + 1)
        coarse = 3 * (SIZE // 8) ** 2
        self.background = nn.Sequential(
            nn.AvgPool2d(8),
            nn.Flatten(),
            *_linear(coarse, config.background_hidden),
            nn.Linear(config.background_hidden, len(BACKGROUNDS)),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.look(cut_out(images).flatten(0, 1))
        by_place = rearrange(seen, "(b p) d -> b p d", p=len(PLACES))
        return self.noun(by_place), self.colour(by_place), self.background(images)


def _convolution(channels: int, out: int, kernel: int) -> tuple[nn.Module, ...]:
    """Halves height and width."""
    return nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()


def _linear(width: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, out, bias=False), nn.BatchNorm1d(out), nn.ReLU()


def cut_out(images: Tensor) -> Tensor:
    """(B, 3, 64, 64) -> (B, 5, 3, 32, 32): the part of the picture that holds what stands in each place."""
    corners = [_CORNERS[place] for place in PLACES]
    return torch.stack([images[..., top : top + CROP, left : left + CROP] for top, left in corners], dim=1)


@dataclass(frozen=True)
class Probe:
    """A trained net, in eval mode."""

    net: ProbeNet

    @torch.inference_mode()
    def facts(self, images: Sequence[Image.Image], *, batch_size: int = 256) -> list[Facts]:
        """What each picture (any size, square) shows; `size` stays empty, since the probe does not judge it."""
        device = next(self.net.parameters()).device
        found: list[Facts] = []
        for start in range(0, len(images), batch_size):
            answers = self.net(pixels(images[start : start + batch_size], SIZE).to(device))
            found += [_facts(*row) for row in zip(*(answer.argmax(-1).tolist() for answer in answers), strict=True)]
        return found


def _facts(nouns: Sequence[int], colours: Sequence[int], background: int) -> Facts:
    """From the numbers of a picture's five nouns and colours, where the number past the last word means none."""
    shown = [
        (NOUNS[noun] if noun < len(NOUNS) else None, _COLOURS[colour] if colour < len(_COLOURS) else None, place)
        for noun, colour, place in zip(nouns, colours, PLACES, strict=True)
    ]
    whole = [(noun, colour, place) for noun, colour, place in shown if noun and colour]
    return Facts(
        noun=frozenset(noun for noun, _, _ in shown if noun),
        colour=frozenset(colour for _, colour, _ in shown if colour),
        place=frozenset(place for noun, colour, place in shown if noun or colour),
        background=frozenset({_BACKGROUNDS[background]}),
        pair=frozenset((noun, colour) for noun, colour, _ in whole),
        triple=frozenset(whole),
    )


class ProbeRecipe(Recipe):
    """Real renders of the train split, and what they show."""

    name = "probe"
    config_class = ProbeTraining
    config: ProbeTraining

    def __init__(self, config: ProbeTraining, cache: Path | None = None) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            self.net = ProbeNet(config.probe)
        self.model: nn.Module = self.net

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels (B, 3, 64, 64) in [-1, 1]; numbers of nouns (B, 5), colours (B, 5), background (B,)."""
        scenes = [scene_at(index, "train", seed) for index in indices]
        return {"pixels": pixels(pictures(scenes, SIZE), SIZE), **labels(scenes)}

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The sum of the three cross-entropies, each a mean over places."""
        noise = sample_noise(batch["pixels"].shape[1:], self.config.loop.seed, indices).to(batch["pixels"].device)
        answers = model(batch["pixels"] + self.config.probe.noise * noise)
        wanted = (batch["nouns"], batch["colours"], batch["background"])
        losses = [F.cross_entropy(a.flatten(0, -2), w.flatten()) for a, w in zip(answers, wanted, strict=True)]
        return {"loss": torch.stack(losses).sum()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """F1 of each kind of fact on validation scenes."""
        scores = judged_facts(Probe(self.net), "val", _VALIDATION_SCENES)
        return {kind: scores[kind].f1 for kind in KINDS_JUDGED}

    def save(self, folder: Path) -> None:
        """As `load_probe` reads it."""
        save_probe(self.net, self.config.probe, folder)


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """nouns (B, 5), colours (B, 5), background (B,), int64: the right answers."""
    nouns = torch.full((len(scenes), len(PLACES)), len(NOUNS))
    colours = torch.full((len(scenes), len(PLACES)), len(COLOURS))
    for row, scene in enumerate(scenes):
        for thing in scene.objects:
            place = PLACES.index(thing.place)
            nouns[row, place], colours[row, place] = NOUNS.index(thing.noun), _COLOURS.index(thing.colour)
    background = torch.tensor([_BACKGROUNDS.index(scene.background) for scene in scenes])
    return {"nouns": nouns, "colours": colours, "background": background}


def judged_facts(probe: Probe, split: str, number: int) -> dict[str, Score]:
    """How well the probe reads real renders of the first `number` scenes of a split."""
    scenes = [scene_at(index, split, SEED) for index in range(number)]
    return score_facts(probe.facts(pictures(scenes)), [facts_of(scene) for scene in scenes])


def save_probe(net: ProbeNet, config: ProbeConfig, folder: Path) -> None:
    """Write config.json and model.safetensors."""
    save_weights(net.state_dict(), folder / _WEIGHTS_NAME)
    save_config(config, folder)


def load_probe(folder: Path) -> Probe:
    """Read what `save_probe` wrote. Raises `InputError` where it is missing, damaged, or does not fit."""
    try:
        saved: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        net = ProbeNet(ProbeConfig(**saved))
        net.load_state_dict(load_file(folder / _WEIGHTS_NAME), strict=True)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder} does not hold a probe ({shortened(error, 300)}); expected the folder `model` that "
            "`python -m textlens.scenes.evals.probe --out FOLDER` writes into FOLDER"
        ) from error
    return Probe(net.eval())


def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints; the probe goes into its folder `model`.")],
    steps: Annotated[int, typer.Option(min=1, help="Of 64 scenes each.")] = 1000,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    number: Annotated[int, typer.Option(min=1, help="Test scenes to measure it on.")] = 1000,
) -> None:
    """Train a probe and print how well it reads real renders of the test split."""
    loop = LoopConfig(
        steps, batch_size=64, learning_rate=3e-3, min_learning_rate=3e-5, warmup_steps=min(50, steps // 4),
        weight_decay=1e-4, log_every=20,
    )  # fmt: skip
    if run(ProbeRecipe, ProbeTraining(loop), out, resume=resume).finished:
        probe = load_probe(out / "model")
        typer.echo(facts_table({"probe on real renders": judged_facts(probe, "test", number)}, KINDS_JUDGED))


if __name__ == "__main__":
    typer.run(main)

"""How much one wrong word raises the diffusion loss, by timestep. `python -m textlens.scenes.evals.sensitivity --help`

The loss of scenes with one noun (colour, place, background) of the caption replaced by another, minus the loss with the
right caption, on the same noise. Where the difference is nothing, no encoder can learn that kind of word from the loss.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from ...encoders.redraw.recreate import check_output
from ...encoders.redraw.redrawer import DEFAULT_DECODER
from ...progress import progress_bar
from ...train.data.pixels import pixels
from ...train.dediffusion.frozen_decoder import FrozenDecoder
from ...train.engine.randomness import sample_noise, sample_rng
from ..captions import captions
from ..world import BACKGROUNDS, COLOURS, NOUNS, PLACES, Scene
from .tables import markdown
from .testbed import SEED, device, first_scenes, pictures

WORDS = ("noun", "colour", "place", "background")
GRID = tuple(range(50, 1000, 100))  # thousandths of the schedule


@dataclass(frozen=True)
class Point:
    """At one timestep: the mean loss with the right caption, and by kind of word how much greater it is with one wrong.

    errors: of each difference the standard error over scenes.
    """

    timestep: int
    alpha_bar: float
    loss: float
    differences: Mapping[str, float]
    errors: Mapping[str, float]


def with_one_wrong(scene: Scene, word: str, rng: random.Random) -> Scene:
    """The scene with one word of a kind in `WORDS` replaced by another; a place by one where nothing stands."""
    if word == "background":
        return replace(scene, background=rng.choice([one for one in BACKGROUNDS if one != scene.background]))
    chosen = rng.randrange(len(scene.objects))
    thing = scene.objects[chosen]
    taken = {other.place for other in scene.objects}
    others: dict[str, list[str]] = {
        "noun": [noun for noun in NOUNS if noun != thing.noun],
        "colour": [colour for colour in COLOURS if colour != thing.colour],
        "place": [place for place in PLACES if place not in taken],
    }
    changed = replace(thing, **{word: rng.choice(others[word])})  # type: ignore[arg-type]
    return replace(scene, objects=(*scene.objects[:chosen], changed, *scene.objects[chosen + 1 :]))


def captions_by_word(scenes: Sequence[Scene], style: str) -> dict[str, list[str]]:
    """ "right" -> the captions of all scenes; each of `WORDS` -> the same captions with one such word wrong."""
    right = {"right": list(scenes)}
    wrong = {
        word: [with_one_wrong(scene, word, sample_rng(SEED, i, stream)) for i, scene in enumerate(scenes)]
        for stream, word in enumerate(WORDS)
    }
    # A caption's own choices are drawn anew from the same state, so that nothing else differs.
    return {
        name: [captions(scene, style, sample_rng(SEED, i, len(WORDS))) for i, scene in enumerate(ones)]
        for name, ones in {**right, **wrong}.items()
    }


@torch.inference_mode()
def sensitivity(
    decoder: FrozenDecoder, number: int = 128, grid: Sequence[int] = GRID, *, style: str = "descriptive",
    batch_size: int = 64,
) -> list[Point]:  # fmt: skip
    """One point per entry of `grid` (thousandths of the schedule), over the first `number` test scenes."""
    scenes = first_scenes(number)
    latents = _batched(lambda part: decoder.encode_images(_images(decoder, part)), scenes, batch_size)
    noise = sample_noise(latents.shape[1:], SEED, range(number)).to(latents.device)
    hidden = {
        name: _batched(decoder.encode_texts, texts, batch_size)
        for name, texts in captions_by_word(scenes, style).items()
    }
    alphas = decoder.scheduler.alphas_cumprod
    points = []
    with progress_bar("losses") as bar:
        task = bar.add_task("measuring", total=len(grid) * len(hidden) * number, note="")
        for part in grid:
            timestep = part * decoder.num_timesteps // 1000
            losses: dict[str, Tensor] = {}
            for name, states in hidden.items():
                losses[name] = _losses(decoder, latents, noise, timestep, states, batch_size)
                bar.advance(task, number)
            points.append(_point(timestep, float(alphas[timestep]), losses))
    return points


def _images(decoder: FrozenDecoder, scenes: Sequence[Scene]) -> Tensor:
    return pixels(pictures(scenes, decoder.image_size), decoder.image_size).to(decoder.device)


def _batched(function: Callable[[Sequence], Tensor], items: Sequence, batch_size: int) -> Tensor:
    return torch.cat([function(items[start : start + batch_size]) for start in range(0, len(items), batch_size)])


def _losses(
    decoder: FrozenDecoder, latents: Tensor, noise: Tensor, timestep: int, hidden: Tensor, batch_size: int
) -> Tensor:
    """(N,) of latents, noise (N, C, h, w) and hidden states (N, L, D), all at one timestep."""
    parts = zip(*(tensor.split(batch_size) for tensor in (latents, noise, hidden)), strict=True)
    return torch.cat(
        [decoder.loss(x, e, torch.full((len(x),), timestep, device=x.device), states) for x, e, states in parts]
    )


def _point(timestep: int, alpha_bar: float, losses: Mapping[str, Tensor]) -> Point:
    differences = {word: losses[word] - losses["right"] for word in WORDS}
    return Point(
        timestep,
        alpha_bar,
        float(losses["right"].mean()),
        {word: float(values.mean()) for word, values in differences.items()},
        {word: float(values.std()) / math.sqrt(len(values)) for word, values in differences.items()},
    )


def table(points: Sequence[Point]) -> str:
    """Markdown: one line per timestep, and last the largest standard error of each column."""
    lines = [
        [
            f"{one.timestep}",
            f"{one.alpha_bar:.2f}",
            f"{one.loss:.4f}",
            *(f"{one.differences[word]:+.4f}" for word in WORDS),
        ]
        for one in points
    ]
    largest = [f"{max(point.errors[word] for point in points):.4f}" for word in WORDS]
    head = ["t", "alpha_bar", "loss", *(f"{word} wrong" for word in WORDS)]
    return markdown(head, [*lines, ["standard error at most", "", "", *largest]])


def plot(points: Sequence[Point], title: str, path: Path) -> None:
    """The differences against the timestep, with bars of two standard errors; symmetric log scale, as they span it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for word, marker in zip(WORDS, "osD^", strict=True):
        differences = [point.differences[word] for point in points]
        errors = [2 * point.errors[word] for point in points]
        axes.errorbar([p.timestep for p in points], differences, errors, label=word, marker=marker, capsize=3)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(bottom=min(-2e-4, *(p.differences[word] - 2 * p.errors[word] for p in points for word in WORDS)))
    axes.set(xlabel="timestep (more noise to the right)", ylabel="loss with one word wrong - loss with the right one")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(title="wrong word")
    figure.savefig(path, dpi=130)


def main(
    decoder: Annotated[str, typer.Option(help="Folder or hub id of a StableDiffusionPipeline.")] = DEFAULT_DECODER,
    scenes: Annotated[int, typer.Option(min=2, help="Test scenes.")] = 128,
    style: Annotated[str, typer.Option(help="Caption style.")] = "descriptive",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    plot_out: Annotated[Path | None, typer.Option("--plot", help="Picture to write, docs/sensitivity.png.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object per timestep.")] = False,
) -> None:
    """Print, by timestep, how much the loss grows by one wrong noun, colour, place or background."""
    if plot_out:
        check_output(plot_out)
    model = FrozenDecoder.from_pretrained(decoder).to(device())
    points = sensitivity(model, scenes, style=style, batch_size=batch_size)
    if plot_out:
        plot(points, f"What the loss hears of a wrong word: {Path(decoder).name}, {scenes} scenes", plot_out)
    typer.echo("\n".join(json.dumps(vars(point)) for point in points) if json_out else table(points))


if __name__ == "__main__":
    typer.run(main)

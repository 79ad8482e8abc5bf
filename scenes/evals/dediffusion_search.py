"""Where the decoder's loss leads if nothing is learnt. `python -m textlens.scenes.evals.dediffusion_search --help`

From the words that an encoder writes about an image, each position in turn tries other words and keeps the one with the
lowest loss of the frozen text-to-image model. The mean of many noises stands for the loss itself; how the texts found
do on noise that the search has not seen, and on facts, tells what the loss asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
import typer
from torch import Tensor

from ...encoders.dediffusion.dediffusion_encoder import Dediffusion
from ...encoders.redraw.redrawer import DEFAULT_DECODER
from ...train.dediffusion.decoder import Denoising
from ...train.dediffusion.dediffusion_validation import Validation, draw_validation
from ...train.dediffusion.frozen_decoder import FrozenDecoder
from ...train.engine.randomness import sample_integers, sample_noise, sample_rng
from ..source import FACTS, SceneData
from .dediffusion_facts import DEFAULT_ENCODER
from .redrawn import MOST_OBJECTS
from .tables import markdown
from .testbed import device

TIMESTEPS = (650, 1000)  # the noisiest third, where words matter most
_TRIED = 1  # a stream of random numbers


def draw_tasks(seen: Validation, number: int, seed: int) -> list[Denoising]:
    """The images of `seen` with `number` noises and timesteps each, other ones than its own."""
    latents = seen.task.latents
    rows, (low, high) = range(len(latents)), TIMESTEPS
    return [
        Denoising(
            latents,
            sample_noise(latents.shape[1:], seed, rows, stream).to(latents.device),
            (low + sample_integers(high - low, seed, rows, stream)).to(latents.device),
        )
        for stream in range(1, number + 1)
    ]


def losses(decoder: FrozenDecoder, tasks: list[Denoising], ids: Tensor) -> Tensor:
    """(M, K, N) ids, K texts of each of M images -> (M, K): the mean over the tasks of the exact loss."""
    hidden = decoder.encode_ids(ids.flatten(0, 1))
    return torch.stack([task.losses(decoder, hidden) for task in tasks]).mean(0)


@torch.no_grad()
def sweep(
    decoder: FrozenDecoder, tasks: list[Denoising], ids: Tensor, logits: Tensor, words: Tensor, tried: int, seed: int
) -> Tensor:
    """One pass over all positions. words (M, N) places in a vocabulary with `ids` (V,) -> (M, N).

    tried: how many other words for each position, half of them the likeliest by logits (M, N, V), half sampled.
    """
    rows, words = range(len(words)), words.clone()
    for position in range(words.shape[1]):
        likely = logits[:, position].topk(tried - tried // 2).indices
        drawn = [sample_rng(seed + position, row, _TRIED).choices(range(len(ids)), k=tried // 2) for row in rows]
        others = torch.tensor(drawn, dtype=torch.int64, device=words.device).view(len(words), -1)
        choices = torch.cat([words[:, position, None], likely, others], dim=1)  # (M, K)
        texts = words.unsqueeze(1).repeat(1, choices.shape[1], 1)
        texts[:, :, position] = choices
        best = losses(decoder, tasks, ids[texts]).argmin(1, keepdim=True)
        words[:, position] = choices.gather(1, best).squeeze(1)
    return words


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: the loss on noise of its own, and F1 of facts."""
    names = ("diffusion", *(f"{kind}_f1" for kind in FACTS))
    lines = ([name, *(f"{figures[key]:.3f}" for key in names)] for name, figures in rows.items())
    return markdown(["words", "loss", *FACTS], lines)


def main(
    encoder: Annotated[str, typer.Option(help="Folder or hub id of a trained De-Diffusion.")] = DEFAULT_ENCODER,
    decoder: Annotated[
        str, typer.Option(help="StableDiffusionPipeline (folder, hub id) whose loss is asked.")
    ] = DEFAULT_DECODER,
    number: Annotated[int, typer.Option(min=1, help=f"Validation scenes, of 1-{MOST_OBJECTS} objects.")] = 16,
    sweeps: Annotated[int, typer.Option(min=1, help="Passes over all positions.")] = 2,
    noises: Annotated[int, typer.Option(min=1, help="Noises of each image that a text is scored on.")] = 24,
    tried: Annotated[int, typer.Option(min=2, help="Other words tried for each position.")] = 16,
) -> None:
    """Print how loss and facts change as single words are replaced by ones that lower the loss."""
    describer = Dediffusion.from_pretrained(encoder, device=device())
    vocabulary, model = describer.vocabulary, FrozenDecoder.from_pretrained(decoder).to(device())
    source = SceneData(held_out_objects=MOST_OBJECTS).open(image_size=model.image_size)
    samples, evaluators = source.held_out(number), source.evaluators
    seen = draw_validation(describer.clip, model, samples, timesteps=TIMESTEPS, evaluators=evaluators)
    with torch.no_grad(), torch.autocast(device(), torch.bfloat16):
        logits = describer.model(seen.pixels).float()
        words, ids = [logits.argmax(-1)], vocabulary.ids.to(logits.device)
        for i in range(1, sweeps + 1):
            tasks = draw_tasks(seen, noises, i)
            words.append(sweep(model, tasks, ids, logits, words[-1], tried, seed=i * logits.shape[1]))
        names = ["of the encoder", *(f"after {i} sweep{'s' * (i > 1)}" for i in range(1, sweeps + 1))]
        written = [vocabulary.ids[one.cpu()] for one in words]
        rows = {name: seen.score(one.tolist(), vocabulary) for name, one in zip(names, written, strict=True)}
        bounds = seen.bounds
    typer.echo(table(rows))
    typer.echo(
        f"\nloss without words {bounds['diffusion_without_words']:.3f}, "
        f"with descriptive captions {bounds['diffusion_with_captions']:.3f}"
    )
    for text in vocabulary.texts(written[-1])[:6]:
        typer.echo(f"    {text}")


if __name__ == "__main__":
    typer.run(main)

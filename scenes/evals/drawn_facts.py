"""Does the decoder draw what the text says? `python -m textlens.scenes.evals.drawn_facts --help`

Captions of test scenes are drawn, and two judges read the drawings: the small CoCa's captioner, whose words are parsed
into facts, and (with --probe) a probe that shares nothing with it, see `probe.py`. Beside them in the same table:
the judges on the real renders (ceiling), on those sent through the decoder's autoencoder (what a perfect U-Net could
reach), and the drawings judged by the scenes of other captions (floor).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from ...encoders.clip.clip import Clip
from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.redraw.redrawer import DEFAULT_DECODER, GUIDANCE_SCALE, NUM_INFERENCE_STEPS, Redrawer
from ...train.data.pixels import pixels
from ..facts import Facts, Score, facts_of, parse_facts, score_facts
from ..world import Scene
from .probe import load_probe
from .tables import markdown
from .testbed import DEFAULT_CLIP, captions_of, first_scenes, mismatched, pictures

KINDS = ("noun", "colour", "place", "background", "triple")

Judge = Callable[[Sequence[Image.Image]], list[Facts]]
Rows = Mapping[tuple[str, str], Mapping[str, Score]]
"""Which pictures, and who judges them -> scores of what is read in them against the scenes they should show."""


def captioner_judge(clip: Clip) -> Judge:
    """The facts that a CoCa's captions state."""
    captioner = CocaCaptioner(clip)
    return lambda images: [parse_facts(words.text) for words in captioner.describe(images)]


@torch.inference_mode()
def through_autoencoder(redrawer: Redrawer, images: Sequence[Image.Image], batch_size: int = 32) -> list[Image.Image]:
    """The images as the pipeline's autoencoder gives them back."""
    vae, processor = redrawer.pipeline.vae, redrawer.pipeline.image_processor
    found: list[Image.Image] = []
    for start in range(0, len(images), batch_size):
        values = pixels(images[start : start + batch_size], redrawer.image_size).to(vae.device, vae.dtype)
        decoded = vae.decode(vae.encode(values).latent_dist.mean).sample
        found += processor.postprocess(decoded, output_type="pil")
    return found


def judged(
    sets: Mapping[str, Sequence[Image.Image]], judges: Mapping[str, Judge], true: Sequence[Facts], floor: str
) -> Rows:
    """Each set of pictures by each judge, then the floor: set `floor` scored against the next scene."""
    read = {(pictures, judge): judges[judge](images) for pictures, images in sets.items() for judge in judges}
    others = {("drawn for other captions (floor)", judge): read[floor, judge] for judge in judges}
    rows = {name: score_facts(facts, true) for name, facts in read.items()}
    return rows | {name: score_facts(facts, mismatched(true)) for name, facts in others.items()}


def evaluate(
    redrawer: Redrawer, judges: Mapping[str, Judge], scenes: Sequence[Scene], drawn: Mapping[str, list[Image.Image]]
) -> Rows:
    """All rows: the ceiling, the autoencoder alone, each set of drawings, and the floor from the first of these."""
    real = pictures(scenes, redrawer.image_size)
    fixed = {"real renders (ceiling)": real, "real, through the autoencoder": through_autoencoder(redrawer, real)}
    return judged({**fixed, **drawn}, judges, [facts_of(scene) for scene in scenes], floor=next(iter(drawn)))


def table(rows: Rows) -> str:
    """Recall of each kind, in which `triple` is the share of objects right in noun, colour and place."""
    lines = (
        [*name, *(f"{scores[kind].recall:.3f}" for kind in KINDS), f"{scores['triple'].f1:.3f}"]
        for name, scores in rows.items()
    )
    return markdown(["pictures", "judge", *KINDS, "triple F1"], lines)


def main(
    decoder: Annotated[str, typer.Option(help="Folder or hub id of a StableDiffusionPipeline.")] = DEFAULT_DECODER,
    number: Annotated[int, typer.Option(min=2, help="Test scenes.")] = 256,
    guidance: Annotated[list[float] | None, typer.Option(help="Guidance scale; may be given several times.")] = None,
    probe: Annotated[Path | None, typer.Option(help="Folder of a trained probe, such as runs/probe/model.")] = None,
    clip: Annotated[Path, typer.Option(help="Folder of the CoCa whose captioner judges.")] = DEFAULT_CLIP,
    style: Annotated[str, typer.Option(help="Caption style to draw.")] = "descriptive",
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = NUM_INFERENCE_STEPS,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """Print how much of its text a decoder draws, by judge and guidance scale."""
    judges = {"CoCa captioner": captioner_judge(Clip.from_pretrained(clip))}
    if probe:
        judges["probe"] = load_probe(probe).facts
    redrawer, scenes = Redrawer.from_pretrained(decoder), first_scenes(number)
    settings: dict[str, Any] = {"num_inference_steps": steps, "seed": seed, "batch_size": batch_size}
    texts = captions_of(scenes, style)
    drawn = {
        f"drawn, guidance {scale:g}": redrawer.draw(texts, guidance_scale=scale, **settings)
        for scale in guidance or [GUIDANCE_SCALE]
    }
    typer.echo(table(evaluate(redrawer, judges, scenes, drawn)))


if __name__ == "__main__":
    typer.run(main)

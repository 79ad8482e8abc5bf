"""What De-Diffusion's words say, and whether they are right. `python -m textlens.scenes.evals.dediffusion_facts --help`

Facts are parsed from the text, the decoded string that anybody else would get, and scored as F1, which penalises naming
everything. All on the test split; the targets are of scenes with 1-3 objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from PIL.Image import Image

from ...encoders.clip.clip import Clip
from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.dediffusion.dediffusion_encoder import Dediffusion
from ...encoders.redraw.redrawer import GUIDANCE_SCALE, Redrawer
from ..facts import Score
from ..included import FOLDER
from ..world import Scene
from . import redrawn
from .coca_facts import shows_held_out
from .redrawn import MOST_OBJECTS, REDRAWN, Drawer, Figures, Originals, load_originals
from .tables import facts_table, markdown
from .testbed import DEFAULT_CLIP, by_count, captions_of, device, first_scenes, floor_scores, mismatched, pictures
from .testbed import scores_by_subset as scored

FEW = f"1-{MOST_OBJECTS} objects"
TARGETS = {"background": 0.99, "colour": 0.90, "noun": 0.90, "place": 0.75}  # F1 on scenes of 1-3 objects
TARGET_REDRAWN = 0.70  # of their objects, with the right noun and colour
DEFAULT_ENCODER = str(FOLDER / "dediffusion")


@dataclass(frozen=True)
class Written:
    """texts of an encoder; surviving: the share whose ids come back when the text is encoded again."""

    texts: list[str]
    surviving: float


def write(encoder: Dediffusion, images: Sequence[Image], num_tokens: int | None = None) -> Written:
    """The texts of images, cut to the first `num_tokens` words where that is given."""
    found = encoder.describe(images, num_tokens=num_tokens)
    ids = dict(zip(encoder.vocabulary.words, encoder.vocabulary.ids.tolist(), strict=True))
    rows = [[ids[word] for word in one.tokens] for one in found]
    return Written([one.text for one in found], encoder.vocabulary.share_surviving(rows))


def facts_rows(
    written: Sequence[str], captioned: Sequence[str], scenes: Sequence[Scene]
) -> dict[str, dict[str, Score]]:
    """Scores of an encoder's texts: scenes of 1-3 objects, those of them with held-out combinations, and by number of
    objects; beside them, of 1-3 objects, a captioner's texts (the ceiling) and the floor.
    """
    apart = {f"{FEW}, held-out combinations": lambda scene: _has_few(scene) and shows_held_out(scene)}
    return {
        **scored(written, scenes, {FEW: _has_few, **apart, **by_count()}),
        **scored(captioned, scenes, {f"CoCa captioner (ceiling), {FEW}": _has_few}),
        f"constant text (floor), {FEW}": floor_scores([scene for scene in scenes if _has_few(scene)]),
    }


def _has_few(scene: Scene) -> bool:
    return len(scene.objects) <= MOST_OBJECTS


def against_targets(scores: Mapping[str, Score]) -> str:
    """One line: each target, and by how much it is met or missed."""
    parts = []
    for kind, target in TARGETS.items():
        found = scores[kind].f1
        verdict = "met" if found >= target else f"missed by {target - found:.3f}"
        parts.append(f"{kind} {found:.3f} of {target:.2f} {verdict}")
    return "; ".join(parts)


def redrawn_rows(written: Sequence[str], originals: Originals, drawer: Drawer) -> dict[str, Figures]:
    """Drawings from an encoder's texts between those from full captions and those from another image's text."""
    texts = {
        "De-Diffusion": written,
        "descriptive caption (ceiling)": captions_of(originals.scenes),
        "another image's text (floor)": mismatched(written),
    }
    return {name: originals.measure(drawer.draw(one, GUIDANCE_SCALE)) for name, one in texts.items()}


def main(
    encoder: Annotated[str, typer.Option(help="Folder or hub id of a trained De-Diffusion.")] = DEFAULT_ENCODER,
    decoder: Annotated[
        str | None, typer.Option(help=f"StableDiffusionPipeline (folder, hub id) to redraw {REDRAWN} images with.")
    ] = None,
    number: Annotated[int, typer.Option(min=50, help="Test scenes.")] = 1000,
    examples: Annotated[int, typer.Option(min=0, help="Texts to show.")] = 6,
    clip: redrawn.ClipOption = DEFAULT_CLIP,
    probe: redrawn.ProbeOption = redrawn.DEFAULT_PROBE,
    steps: redrawn.StepsOption = redrawn.STEPS,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print how many facts of a scene an encoder's words state rightly; with --decoder, how well they are drawn."""
    describer = Dediffusion.from_pretrained(encoder, device=device())
    scenes = first_scenes(number)
    written = write(describer, pictures(scenes))
    captioned = CocaCaptioner(Clip.from_pretrained(clip, device=device())).describe(pictures(scenes))
    rows = facts_rows(written.texts, [one.text for one in captioned], scenes)
    drawn: dict[str, Figures] = {}
    if decoder:
        originals, drawer = load_originals(REDRAWN, clip, probe), Drawer(Redrawer.from_pretrained(decoder), steps)
        drawn = redrawn_rows(write(describer, originals.images).texts, originals, drawer)
    if json_out:
        facts = {name: {kind: score.f1 for kind, score in scores.items()} for name, scores in rows.items()}
        figures = {name: vars(one) for name, one in drawn.items()}
        typer.echo(json.dumps({"facts": facts, "surviving": written.surviving, "redrawn": figures}))
        return
    typer.echo(f"{facts_table(rows)}\n\ntargets, {FEW}: {against_targets(rows[FEW])}")
    typer.echo(f"{written.surviving:.1%} of texts give the same ids when encoded again\n")
    for text, caption in zip(written.texts[:examples], captions_of(scenes), strict=False):
        typer.echo(f"{caption}\n    {text}")
    if decoder:
        table = markdown(["drawn from", *redrawn.COLUMNS], ([name, *redrawn.cells(one)] for name, one in drawn.items()))
        typer.echo(f"\n{table}\n\ntarget: {TARGET_REDRAWN:.2f} of objects right; {drawer.cost}")


if __name__ == "__main__":
    typer.run(main)

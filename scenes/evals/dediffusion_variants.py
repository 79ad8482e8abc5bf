"""De-Diffusion encoders side by side, and their texts cut short.

    python -m textlens.scenes.evals.dediffusion_variants --help

One table for the paper's ablations: number of words, punctuation, temperature, backbone. `scenes/configs/claims.yaml`
has the settings to train such encoders with, on equal budgets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...encoders.clip.clip import Clip
from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.dediffusion.dediffusion_encoder import Dediffusion
from ...encoders.redraw.recreate import check_output
from ...encoders.redraw.redrawer import GUIDANCE_SCALE, Redrawer
from ...evals.encoder_variants import named_folders
from ..facts import Score, score_texts
from ..world import Scene
from . import redrawn
from .dediffusion_facts import DEFAULT_ENCODER, write
from .reconstruction import numbers
from .redrawn import MOST_OBJECTS, REDRAWN, Drawer, Figures, Originals, load_originals
from .tables import markdown
from .testbed import DEFAULT_CLIP, captions_of, device, first_scenes, floor_scores, mismatched, pictures

KINDS = ("noun", "colour", "place", "background", "pair", "triple")
Redraw = Callable[[Sequence[str]], Figures | None]


@dataclass(frozen=True)
class Variant:
    """What one kind of text says and what is drawn from it; surviving is None for texts that no encoder wrote.

    bound: a floor or a ceiling rather than a thing to compare.
    """

    name: str
    surviving: float | None
    scores: Mapping[str, Score]
    figures: Figures | None
    bound: bool = False


def variants(
    encoders: Mapping[str, Dediffusion], scenes: Sequence[Scene], redraw: Redraw, tokens: Sequence[int] = ()
) -> list[Variant]:
    """Each encoder with its whole text, or cut to the first so many `tokens` where it writes as many."""
    found, images = [], pictures(scenes)
    for name, encoder in encoders.items():
        queries = encoder.config.num_queries
        fitting = [count for count in tokens if count <= queries]
        for count in fitting or [queries]:
            written = write(encoder, images, count)
            shown = f"{name}, first {count}" if fitting else f"{name} ({queries} words)"
            found.append(Variant(shown, written.surviving, score_texts(written.texts, scenes), redraw(written.texts)))
    return found


def bounds(encoder: Dediffusion, captioner: CocaCaptioner, scenes: Sequence[Scene], redraw: Redraw) -> list[Variant]:
    """Ceilings: the true caption and a captioner's. Floors: an encoder's text of another image, and the best that any
    one text can score."""
    images = pictures(scenes)
    written = write(encoder, images).texts
    texts = {
        "descriptive caption (ceiling)": captions_of(scenes),
        "CoCa caption (ceiling)": [one.text for one in captioner.describe(images)],
        "another image's text (floor)": mismatched(written),
    }
    rows = [Variant(name, None, score_texts(each, scenes), redraw(each), bound=True) for name, each in texts.items()]
    return [*rows, Variant("constant text (floor)", None, floor_scores(scenes), None, bound=True)]


def redraw_with(drawer: Drawer, originals: Originals) -> Redraw:
    """Draws as many of the texts as there are originals, which are the first of the scenes."""
    return lambda texts: originals.measure(drawer.draw(texts[: len(originals.scenes)], GUIDANCE_SCALE))


def table(rows: Sequence[Variant]) -> str:
    """Markdown: F1 of the texts' facts, the share of texts whose ids survive, and `redrawn.COLUMNS`."""
    lines = []
    for row in rows:
        surviving = "-" if row.surviving is None else f"{row.surviving:.3f}"
        lines.append(
            [row.name, *(f"{row.scores[kind].f1:.3f}" for kind in KINDS), surviving, *redrawn.cells(row.figures)]
        )
    return markdown(["texts", *KINDS, "ids survive", *redrawn.COLUMNS], lines)


def as_json(row: Variant) -> dict[str, Any]:
    """One line of output."""
    f1 = {kind: row.scores[kind].f1 for kind in KINDS}
    figures = vars(row.figures) if row.figures else None
    return {"name": row.name, "surviving": row.surviving, "f1": f1, "figures": figures}


def plot(rows: Sequence[Variant], path: Path) -> None:
    """F1 by variant; where they were drawn, similarity and objects right too. Dotted: the constant text."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if not row.bound]
    floor = next(row for row in rows if row.name.startswith("constant text"))
    names = [row.name for row in shown]
    drawn = [row.figures for row in shown if row.figures]
    figure = Figure(figsize=(12 if drawn else 6, 5), layout="constrained")
    panels = figure.subplots(1, 2 if drawn else 1, squeeze=False)[0]
    for i, kind in enumerate(KINDS[:4]):
        panels[0].plot(names, [row.scores[kind].f1 for row in shown], marker="o", color=f"C{i}", label=kind)
        panels[0].axhline(floor.scores[kind].f1, linestyle=":", color=f"C{i}")
    panels[0].set_title("F1 of the facts in the text (dotted: the best constant text)", fontsize=9)
    if drawn:
        panels[1].plot(names, [one.similarity for one in drawn], marker="o", label="CLIP similarity")
        panels[1].plot(names, [one.pair["probe"] for one in drawn], marker="o", label="noun, colour (probe)")
        panels[1].plot(names, [one.triple["probe"] for one in drawn], marker="o", label="noun, colour, place (probe)")
        panels[1].set_title("drawn again", fontsize=9)
    for panel in panels:
        panel.set_ylim(0, 1.02)
        panel.tick_params("x", rotation=45)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(
    encoders: Annotated[list[str] | None, typer.Argument(metavar="[NAME=FOLDER]...", help="Encoders.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Cut the texts to these numbers of words: 1,2,4,8,20.")] = None,
    decoder: Annotated[str | None, typer.Option(help=f"Also redraw {REDRAWN} images with this pipeline.")] = None,
    number: Annotated[int, typer.Option(min=2, help="Test scenes, of 1-3 objects.")] = 1000,
    clip: redrawn.ClipOption = DEFAULT_CLIP,
    probe: redrawn.ProbeOption = redrawn.DEFAULT_PROBE,
    steps: redrawn.StepsOption = redrawn.STEPS,
    plot_out: Annotated[Path | None, typer.Option("--plot", help="Picture to write.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Compare encoders, or one encoder's texts cut to several lengths, by what they say and what is drawn from them."""
    if plot_out:
        check_output(plot_out)
    counts = numbers(tokens, int) if tokens else []
    folders = named_folders(encoders or [f"De-Diffusion={DEFAULT_ENCODER}"])
    loaded = {name: Dediffusion.from_pretrained(folder, device=device()) for name, folder in folders.items()}
    captioner = CocaCaptioner(Clip.from_pretrained(clip, device=device()))
    drawer = Drawer(Redrawer.from_pretrained(decoder), steps) if decoder else None
    redraw = redraw_with(drawer, load_originals(min(number, REDRAWN), clip, probe)) if drawer else lambda texts: None
    scenes = first_scenes(number, MOST_OBJECTS)
    rows = variants(loaded, scenes, redraw, counts)
    rows += bounds(next(iter(loaded.values())), captioner, scenes, redraw)
    if plot_out:
        plot(rows, plot_out)
    if json_out:
        typer.echo("\n".join(json.dumps(as_json(row)) for row in rows))
        return
    typer.echo(f"{number} test scenes of 1-{MOST_OBJECTS} objects; F1 of the texts' facts\n\n{table(rows)}")
    if drawer:
        typer.echo(f"\n{drawer.cost}")


if __name__ == "__main__":
    typer.run(main)

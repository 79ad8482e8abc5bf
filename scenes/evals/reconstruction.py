"""Images drawn again from De-Diffusion's words and from captions, over guidance scales and by any number of decoders.

    python -m textlens.scenes.evals.reconstruction [--decoder FOLDER_OR_HUB_ID ...] [--plot docs/reconstruction.png]

The paper's first claim (De-Diffusion, arXiv 2311.00618): its text lets a text-to-image model rebuild an image better
than captions do; and its second: so it does for a model that had no part in the training. `redrawn` has the yardsticks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.dediffusion.dediffusion_encoder import Dediffusion
from ...encoders.redraw.recreate import check_output
from ...encoders.redraw.redrawer import DEFAULT_DECODER, Redrawer
from ...errors import InputError
from . import redrawn
from .dediffusion_facts import DEFAULT_ENCODER, write
from .drawn_facts import through_autoencoder
from .redrawn import MOST_OBJECTS, REDRAWN, Drawer, Figures, Originals, load_originals
from .tables import markdown
from .testbed import DEFAULT_CLIP, captions_of, device, first_scenes, mismatched, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALES = "1.5,2,3,4,5"
PAPER_FID = {  # table 1: Stable Diffusion 2.0-base as the unseen decoder, 30,000 images of COCO, by guidance scale
    "PaLI-X caption": {1.5: 9.68, 2: 8.50, 3: 10.16, 4: 12.38, 5: 14.27},
    "BLIP-2 caption": {1.5: 10.66, 2: 8.46, 3: 8.92, 4: 10.40, 5: 11.84},
    "longest human caption": {1.5: 10.68, 2: 8.14, 3: 8.08, 4: 9.28, 5: 10.62},
    "all human captions joined": {1.5: 12.40, 2: 9.48, 3: 8.96, 4: 10.03, 5: 11.37},
    "De-Diffusion": {1.5: 11.51, 2: 8.15, 3: 6.63, 4: 7.12, 5: 7.85},
}
METRICS: dict[str, Callable[[Figures], Sequence[float]]] = {
    "Fréchet distance": lambda figures: [figures.frechet],
    "CLIP similarity": lambda figures: [figures.similarity],
    "noun and colour right (captioner / probe)": lambda figures: list(figures.pair.values()),
    "noun, colour and place right (captioner / probe)": lambda figures: list(figures.triple.values()),
}


@dataclass(frozen=True)
class Row:
    """Drawings by one decoder from one kind of text; guidance is None for pictures that were not drawn from a text."""

    decoder: str
    text: str
    guidance: float | None
    figures: Figures


def sources(encoder: Dediffusion, originals: Originals) -> dict[str, list[str]]:
    """By name, a text for each image: the encoder's, true captions, the captioner's, and two floors."""
    written = write(encoder, originals.images).texts
    typical = int((originals.embeddings @ originals.embeddings.mean(0)).argmax())
    return {
        "De-Diffusion": written,
        "short caption": captions_of(originals.scenes, "short"),
        "descriptive caption": captions_of(originals.scenes),
        "CoCa caption": [one.text for one in CocaCaptioner(originals.clip).describe(originals.images)],
        "another image's text (floor)": mismatched(written),
        "the most typical image's text (floor)": [written[typical]] * len(written),
    }


def rows_of(
    drawer: Drawer, texts: Mapping[str, Sequence[str]], originals: Originals, scales: Sequence[float]
) -> list[Row]:
    """Every text at every guidance scale; then the images through the decoder's autoencoder alone, which no drawing can
    surpass, and as many other real images, whose Fréchet distance is that of so few images."""
    others = pictures(first_scenes(2 * len(originals.scenes), MOST_OBJECTS)[len(originals.scenes) :])
    bounds = {
        "autoencoder alone (ceiling)": through_autoencoder(drawer.redrawer, originals.images),
        "other real images": others,
    }
    drawn = [
        Row(drawer.name, name, scale, originals.measure(drawer.draw(each, scale)))
        for name, each in texts.items()
        for scale in scales
    ]
    return drawn + [Row(drawer.name, name, None, originals.measure(images)) for name, images in bounds.items()]


def tables(rows: Sequence[Row]) -> str:
    """Markdown, in the paper's form: for each decoder and figure a table of texts by guidance scale."""
    return "\n\n".join(
        _table(f"{decoder}: {metric}", [row for row in rows if row.decoder == decoder], values)
        for decoder in dict.fromkeys(row.decoder for row in rows)
        for metric, values in METRICS.items()
    )


def _table(title: str, rows: Sequence[Row], values: Callable[[Figures], Sequence[float]]) -> str:
    scales = list(dict.fromkeys(row.guidance for row in rows if row.guidance is not None))
    lines = []
    for text in dict.fromkeys(row.text for row in rows):
        found = {row.guidance: " / ".join(f"{v:.3f}" for v in values(row.figures)) for row in rows if row.text == text}
        lines.append([text, *(found[scale if scale in found else None] for scale in scales)])
    return markdown([title, *(f"{scale:g}" for scale in scales)], lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """A row of panels for each decoder, by guidance scale, of the two judges the probe; the paper's FID beside them."""
    from matplotlib.figure import Figure

    decoders = list(dict.fromkeys(row.decoder for row in rows))
    figure = Figure(figsize=(4 * (len(METRICS) + 1), 4 * len(decoders)), layout="constrained")
    grid = figure.subplots(len(decoders), len(METRICS) + 1, squeeze=False)
    for decoder, axes in zip(decoders, grid, strict=True):
        for panel, (metric, values) in zip(axes[:-1], METRICS.items(), strict=True):
            _panel(panel, [row for row in rows if row.decoder == decoder], values)
            panel.set_title(f"{decoder}\n{metric.replace('captioner / ', '')}", fontsize=9)
        axes[-1].set_axis_off()
    grid[0, 0].legend(fontsize=7)
    _paper(grid[0, -1])
    figure.savefig(path, dpi=110)


def _paper(axes: Axes) -> None:
    for text, distances in PAPER_FID.items():
        axes.plot(list(distances), list(distances.values()), marker="o", label=text)
    axes.set_axis_on()
    axes.set_title("the paper: FID on COCO,\nStable Diffusion 2.0-base", fontsize=9)
    axes.set_xlabel("guidance scale")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _panel(axes: Axes, rows: Sequence[Row], values: Callable[[Figures], Sequence[float]]) -> None:
    for text in dict.fromkeys(row.text for row in rows):
        points = [(row.guidance, values(row.figures)[-1]) for row in rows if row.text == text]
        if points[0][0] is None:
            axes.axhline(points[0][1], linestyle=":", color="black", linewidth=0.8)
            axes.annotate(text, (0.02, points[0][1]), xycoords=("axes fraction", "data"), fontsize=6, va="bottom")
        else:
            axes.plot(*zip(*points, strict=True), marker="o", label=text)
    axes.set_xlabel("guidance scale")
    axes.grid(alpha=0.3)


def numbers(text: str, kind: Callable[[str], Any]) -> list[Any]:
    """ "1.5,2,3" -> [1.5, 2.0, 3.0] with the kind `float`."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"got {text!r}; expected numbers with commas between them, such as 1,2,3") from error


def main(
    encoder: Annotated[str, typer.Option(help="Folder or hub id of a trained De-Diffusion.")] = DEFAULT_ENCODER,
    decoder: Annotated[
        list[str] | None, typer.Option(help="StableDiffusionPipeline (folder, hub id); may be given several times.")
    ] = None,
    scales: Annotated[str, typer.Option(help="Guidance scales.")] = SCALES,
    number: Annotated[int, typer.Option(min=2, help="Test scenes, of 1-3 objects.")] = REDRAWN,
    clip: redrawn.ClipOption = DEFAULT_CLIP,
    probe: redrawn.ProbeOption = redrawn.DEFAULT_PROBE,
    steps: redrawn.StepsOption = redrawn.STEPS,
    plot_out: Annotated[Path | None, typer.Option("--plot", help="Picture to write.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Print and plot how well images are drawn again from De-Diffusion's words, from captions, and from floors."""
    if plot_out:
        check_output(plot_out)
    wanted, originals = numbers(scales, float), load_originals(number, clip, probe)
    texts = sources(Dediffusion.from_pretrained(encoder, device=device()), originals)
    drawers = [Drawer(Redrawer.from_pretrained(source), steps) for source in decoder or [DEFAULT_DECODER]]
    rows = [row for drawer in drawers for row in rows_of(drawer, texts, originals, wanted)]
    if plot_out:
        plot(rows, plot_out)
    if json_out:
        typer.echo("\n".join(json.dumps(asdict(row)) for row in rows))
        return
    typer.echo(f"{number} test scenes of 1-{MOST_OBJECTS} objects\n\n{tables(rows)}\n")
    typer.echo("\n".join(drawer.cost for drawer in drawers))


if __name__ == "__main__":
    typer.run(main)

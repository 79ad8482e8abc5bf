"""Which text-to-image model follows prompts better? The comparison of Betker et al. 2023 (DALL-E 3), on scenes.

    python -m textlens.scenes.evals.better_captions.prompt_following web=FOLDER,… descriptive=FOLDER,… --plot out.png

Models of one name differ in their seed alone. Each draws prompts of the test scenes in each style; what is printed is
the mean over a name's models, and its standard error. The drawings are scored against the prompt that a user gave:

- facts: how many percent of the nouns, colours, places and backgrounds that it names are read in the drawing;
- objects: how many of the nouns with their colours;
- CLIP score: cosine x 100 of prompt and drawing, in the space of the CoCa.

With --upsample, short prompts are also drawn in the words that a language model makes of them, and scored as the short
ones. Rows beside the models: the real pictures (ceiling), and the first model's drawings of other prompts (floor).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from ....agent.models.registry import load_language_model
from ....agent.reader.upsampler import upsample
from ....encoders.clip.clip import Clip
from ....encoders.redraw.recreate import check_output
from ....encoders.redraw.redrawer import Redrawer
from ....errors import InputError
from ....evals.encoder_variants import named_folders
from ....metrics.standard_errors import mean_and_error
from ...facts import Score, parse_facts, score_facts
from ...world import Scene
from ..drawn_facts import Judge, captioner_judge
from ..probe import load_probe
from ..tables import markdown
from ..testbed import DEFAULT_CLIP, captions_of, device, first_scenes, mismatched, pictures

STYLES = ("web", "short", "descriptive")
METRICS = ("facts", "objects", "CLIP score")
CEILING, FLOOR = "real pictures (ceiling)", "drawn for other prompts (floor)"
_SINGLE = ("noun", "colour", "place", "background")
_BATCH = 64


@dataclass(frozen=True)
class Prompts:
    """What is drawn, and the prompts that the drawings are scored against."""

    drawn: Sequence[str]
    meant: Sequence[str]


Figures = Mapping[str, float]
"""Metric -> value, of one model and one set of prompts."""
Table = Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]]
"""Row -> prompts -> metric -> mean and standard error."""


@dataclass(frozen=True)
class Scorer:
    """Scores drawings against prompts, by a judge of facts and the CoCa's space."""

    clip: Clip
    judge: Judge

    def __call__(self, images: Sequence[Image.Image], meant: Sequence[str]) -> Figures:
        asked = [parse_facts(text) for text in meant]
        scores = score_facts(self.judge(images), asked)
        cosines = (self.clip.embed_images(images) * self.clip.embed_texts(meant)).sum(dim=-1)
        return {
            "facts": 100 * _together([scores[kind] for kind in _SINGLE]),
            "objects": 100 * scores["pair"].recall,
            "CLIP score": 100 * float(cosines.mean()),
        }


def _together(scores: Sequence[Score]) -> float:
    """Recall over several kinds of facts."""
    true = sum(score.true for score in scores)
    return sum(score.both for score in scores) / true if true else 0.0


def prompt_sets(scenes: Sequence[Scene], llm: str | None) -> dict[str, Prompts]:
    """Prompts of each style, and short ones upsampled by the language model `llm`."""
    texts = {style: captions_of(scenes, style) for style in STYLES}
    found = {style: Prompts(own, own) for style, own in texts.items()}
    if llm is not None:
        made = upsample(load_language_model(llm), texts["short"])
        found["short, upsampled"] = Prompts([one.upsampled.prompt for one in made], texts["short"])
    return found


def evaluate(
    models: Mapping[str, Sequence[str]],
    prompts: Mapping[str, Prompts],
    scenes: Sequence[Scene],
    scorer: Scorer,
    *,
    guidance: float,
    steps: int,
) -> Table:
    """All rows: the ceiling, every name's models, the floor. Image i starts from the same noise everywhere."""
    real = pictures(scenes)
    rows = {CEILING: {name: [scorer(real, one.meant)] for name, one in prompts.items()}}
    floor: dict[str, list[Figures]] = {}
    for model, folders in models.items():
        rows[model] = {name: [] for name in prompts}
        for folder in folders:
            redrawer = Redrawer.from_pretrained(folder)
            for name, one in prompts.items():
                images = redrawer.draw(one.drawn, guidance_scale=guidance, num_inference_steps=steps, batch_size=_BATCH)
                rows[model][name].append(scorer(images, one.meant))
                floor.setdefault(name, [scorer(images, mismatched(one.meant))])
    return {row: {name: _means(own) for name, own in sets.items()} for row, sets in {**rows, FLOOR: floor}.items()}


def _means(figures: Sequence[Figures]) -> dict[str, tuple[float, float]]:
    return {metric: mean_and_error([one[metric] for one in figures]) for metric in METRICS}


def as_tables(table: Table) -> str:
    """A table for each metric, prompts as columns, "mean ± standard error"; the best model of each column in bold."""
    return "\n\n".join(_table(table, metric) for metric in METRICS)


def _table(table: Table, metric: str) -> str:
    columns = list(table[CEILING])
    models = [row for row in table if row not in (CEILING, FLOOR)]
    best = {column: max(table[row][column][metric][0] for row in models) for column in columns}
    lines = []
    for row, sets in table.items():
        cells = [_cell(*sets[column][metric]) for column in columns]
        bold = [row in models and sets[column][metric][0] == best[column] for column in columns]
        lines.append([row, *(f"**{cell}**" if strong else cell for cell, strong in zip(cells, bold, strict=True))])
    return markdown([metric, *columns], lines)


def _cell(mean: float, error: float) -> str:
    return f"{mean:.1f}" if error != error else f"{mean:.1f} ± {error:.1f}"  # NaN: of a single model


def plot(table: Table, path: Path) -> None:
    """A panel for each metric: bars of the models by prompts, with standard errors; ceiling and floor as lines."""
    from matplotlib.figure import Figure

    models = [row for row in table if row not in (CEILING, FLOOR)]
    columns = list(table[CEILING])
    figure = Figure(figsize=(4.6 * len(METRICS), 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        width = 0.8 / len(models)
        for number, model in enumerate(models):
            means, errors = zip(*(table[model][column][metric] for column in columns), strict=True)
            places = [place + (number - (len(models) - 1) / 2) * width for place in range(len(columns))]
            known = errors if all(error == error for error in errors) else None  # NaN: of a single model
            axes.bar(places, means, width, yerr=known, label=model, capsize=2)
        for row, line in ((CEILING, "-"), (FLOOR, ":")):
            for place, column in enumerate(columns):
                value = table[row][column][metric][0]
                label = row if place == 0 else None
                axes.hlines(value, place - 0.45, place + 0.45, colors="black", linestyles=line, label=label)
        axes.set_xticks(range(len(columns)), columns, fontsize=8)
        axes.set_title(f"{metric}, by prompt", fontsize=9)
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def folders_of(arguments: Sequence[str]) -> dict[str, list[str]]:
    """["NAME=FOLDER,FOLDER", ...] -> {name: folders}."""
    found = {name: folders.split(",") for name, folders in named_folders(arguments).items()}
    if reserved := {CEILING, FLOOR} & set(found):
        raise InputError(f"{reserved.pop()!r} is the name of a row; give the model another one")
    return found


def main(
    models: Annotated[list[str], typer.Argument(help="NAME=FOLDER,FOLDER of trained models; a folder for each seed.")],
    number: Annotated[int, typer.Option(min=2, help="Test scenes.")] = 256,
    upsampler: Annotated[
        str | None, typer.Option("--upsample", help="Language model that upsamples the short prompts, such as tiny.")
    ] = None,
    guidance: Annotated[float, typer.Option(min=1, help="Guidance scale.")] = 3.0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 20,
    clip: Annotated[Path, typer.Option(help="Folder of the CoCa whose space and captioner judge.")] = DEFAULT_CLIP,
    probe: Annotated[Path | None, typer.Option(help="Folder of a probe that judges instead of the captioner.")] = None,
    plot_out: Annotated[Path | None, typer.Option("--plot", help="Picture to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print and plot how well text-to-image models follow prompts of several styles."""
    if plot_out:
        check_output(plot_out)
    folders = folders_of(models)
    scenes, space = first_scenes(number), Clip.from_pretrained(clip, device=device())
    scorer = Scorer(space, load_probe(probe).facts if probe else captioner_judge(space))
    table = evaluate(folders, prompt_sets(scenes, upsampler), scenes, scorer, guidance=guidance, steps=steps)
    if plot_out:
        plot(table, plot_out)
    typer.echo(json.dumps(table) if as_json else as_tables(table))


if __name__ == "__main__":
    typer.run(main)

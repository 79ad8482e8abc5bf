"""What captions of the made world's test split tell: those of its styles, and those that captioners write.

    python -m textlens.scenes.evals.better_captions.captioner_facts base=runs/coca-web/model short=…

Precision says how many of the facts told are true, recall how many of the true ones are told. The captions of each
style are rows too: `web` is what the base learnt from, `short` and `descriptive` what captioners of them can reach.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from ....encoders.coca.captioner import CocaCaptioner
from ....evals.encoder_variants import named_folders
from ...facts import KINDS, Score, score_texts
from ...world import Scene
from ..tables import markdown
from ..testbed import captions_of, device, first_scenes, floor_scores, pictures

STYLES = ("web", "short", "descriptive")
FLOOR = "floor: best constant text"


def style_texts(scenes: Sequence[Scene]) -> dict[str, list[str]]:
    """Captions of each style, by the name of their row."""
    return {f"true captions: {style}": captions_of(scenes, style) for style in STYLES}


def written_texts(folders: Mapping[str, str], scenes: Sequence[Scene]) -> dict[str, list[str]]:
    """What each captioner writes about the scenes."""
    images = pictures(scenes)
    found = {}
    for name, folder in folders.items():
        captioner = CocaCaptioner.from_pretrained(folder, device=device())
        found[name] = [description.text for description in captioner.describe(images)]
    return found


def evaluate(folders: Mapping[str, str], number: int) -> tuple[dict[str, dict[str, Score]], dict[str, float]]:
    """Row -> scores of each kind of fact; row -> mean words of a caption. Of the first `number` test scenes."""
    scenes = first_scenes(number)
    texts = style_texts(scenes) | written_texts(folders, scenes)
    scores = {name: score_texts(own, scenes) for name, own in texts.items()}
    words = {name: sum(len(text.split()) for text in own) / len(own) for name, own in texts.items()}
    return scores | {FLOOR: floor_scores(scenes)}, words


def as_table(scores: Mapping[str, Mapping[str, Score]], words: Mapping[str, float]) -> str:
    """ "precision / recall" of each kind, and the words."""
    lines = [
        [name, *(f"{row[kind].precision:.2f} / {row[kind].recall:.2f}" for kind in KINDS), _length(words.get(name))]
        for name, row in scores.items()
    ]
    return markdown(["precision / recall", *KINDS, "words"], lines)


def _length(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def main(
    captioners: Annotated[list[str] | None, typer.Argument(help="NAME=FOLDER of trained CoCas.")] = None,
    number: Annotated[int, typer.Option(min=1, help="Test scenes.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print precision and recall of the facts in captions."""
    scores, words = evaluate(named_folders(captioners or []), number)
    if as_json:
        rows = {
            name: {kind: {"precision": one.precision, "recall": one.recall} for kind, one in row.items()}
            | {"words": words.get(name)}
            for name, row in scores.items()
        }
        typer.echo(json.dumps(rows))
        return
    typer.echo(as_table(scores, words))


if __name__ == "__main__":
    typer.run(main)

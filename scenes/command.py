"""`textlens scenes`: the made world as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..progress import progress_bar


def scenes(
    number: Annotated[int, typer.Argument(min=1, help="How many scenes.")],
    out: Annotated[Path, typer.Option(help="Folder for PNG files, scenes.jsonl, questions.jsonl, metadata.jsonl.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    seed: Annotated[int, typer.Option(help="Another seed gives other scenes of the same split.")] = 0,
    size: Annotated[int, typer.Option(min=8, max=4096, help="Pixels per side.")] = 64,
) -> None:
    """Write scenes of the made world: pictures with captions, questions and all their facts."""
    from .scene_files import write_scenes

    with progress_bar("scenes") as bar:
        task = bar.add_task("drawing", total=number, note="")
        for _ in write_scenes(number, out, split, seed, size):
            bar.advance(task)
    typer.echo(str(out / "scenes.jsonl"))

"""`textlens describe`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..progress import progress_bar
from .command_options import AsJson, Encoders, Images, Network, Recursive
from .printing import bytes_of_stdin, exit_for, expanded, labelled, print_json, print_notes


def describe(
    images: Images,
    encoder: Encoders = None,
    recursive: Recursive = False,
    as_json: AsJson = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse images with more pixels than this.")] = 64_000_000,
    allow_network: Network = False,
    video: Annotated[
        bool, typer.Option("--video", help="Each argument is one video: an animated image, or a folder of frames.")
    ] = False,
) -> None:
    """Turn images into words: one line per image and encoder."""
    from ..encoders.images import ImageLimits
    from ..encoders.pipeline import describe_stream, describe_videos
    from ..encoders.registry import DEFAULT_ENCODERS, load_encoder

    limits = ImageLimits(max_pixels=max_pixels)
    names = bytes_of_stdin(images) if video else bytes_of_stdin(expanded(images, recursive))
    encoders = {spec: load_encoder(spec) for spec in encoder or DEFAULT_ENCODERS}
    rows = (
        describe_videos(names, encoders, limits=limits)
        if video
        else describe_stream(names, encoders, batch_size=batch_size, limits=limits, allow_network=allow_network)
    )
    failed = total = 0
    notes: list[str | None] = []
    with progress_bar("descriptions") as bar:
        task = bar.add_task("describing", total=len(names) * len(encoders), note="")
        for row in rows:
            total += 1
            failed += row.error is not None
            bar.advance(task)
            if as_json:
                print_json(row.as_json())
            elif row.description is None:
                typer.echo(f"error: {row.error}", err=True)
            else:
                typer.echo(labelled(row.image, row.encoder, row.description.text, len(names), len(encoders)))
                if row.description.note:
                    notes.append(labelled(row.image, row.encoder, row.description.note, len(names), len(encoders)))
    print_notes(notes)
    exit_for(failed, total)

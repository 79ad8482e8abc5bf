"""`textlens recreate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .command_options import AsJson, Network
from .printing import print_json


def recreate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|TEXT", help="An image file or data URL to describe and redraw, or words to draw."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write, such as out.png: image, words, redrawn.")],
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="Encoder spec, for an image.")] = None,
    decoder: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a diffusers StableDiffusionPipeline; by default the small one."),
    ] = None,
    guidance: Annotated[float, typer.Option(min=1, help="Guidance scale; 1 is none.")] = 3.0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws another image.")] = 0,
    allow_network: Network = False,
    as_json: AsJson = False,
) -> None:
    """Redraw an image from its words alone, and show image, words and redrawn image in one picture."""
    from ..encoders.images import display_name
    from ..encoders.redraw.recreate import check_output, image_or_text
    from ..encoders.redraw.recreate import recreate as redraw
    from ..encoders.registry import REDRAW_ENCODER, load_encoder

    check_output(out, source)
    given = image_or_text(source, allow_network=allow_network)
    from ..encoders.redraw.redrawer import (  # takes seconds, so after what can go wrong at once
        DEFAULT_DECODER,
        Redrawer,
    )

    is_text = isinstance(given, str)
    typer.echo(f"taken as {'a text' if is_text else 'an image'}: {display_name(source)}", err=True)
    spec = None if is_text else encoder or REDRAW_ENCODER
    describer = load_encoder(spec) if spec else None
    redrawer = Redrawer.from_pretrained(decoder or DEFAULT_DECODER)
    settings: dict[str, Any] = {"guidance_scale": guidance, "num_inference_steps": steps, "seed": seed}
    made = redraw(given, redrawer, describer, **settings)
    made.picture.save(out)
    if as_json:
        names = {"image": None if is_text else display_name(source), "encoder": spec}
        print_json({**names, "text": made.text, "decoder": redrawer.name, "out": str(out), **settings})
    else:
        typer.echo(str(out))

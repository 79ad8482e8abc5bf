"""`textlens recreate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..agent.tool_options import Decoder, Guidance, Steps
from ..encoders.loading.limits import allowed_network
from ..errors import InputError
from ..output_files import replacing
from .command_options import AsJson, LanguageModelSpec, Network, PrivateNetwork
from .printing import echo, print_json, print_notes

if TYPE_CHECKING:
    from ..prompting.rewrites import Upsampled


def recreate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|TEXT", help="An image file or data URL to describe and redraw, or words to draw."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write, such as out.png: image, words, redrawn.")],
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="Encoder spec, for an image.")] = None,
    decoder: Decoder = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Variant of the decoder's weight files, such as fp16; by default the only one that is there."
        ),
    ] = None,
    upsample: Annotated[
        bool, typer.Option("--upsample", help="Let a language model make the words detailed before they are drawn.")
    ] = False,
    llm: LanguageModelSpec = None,
    guidance: Guidance = 3.0,
    steps: Steps = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws another image.")] = 0,
    allow_network: Network = False,
    allow_private_network: PrivateNetwork = False,
    as_json: AsJson = False,
) -> None:
    """Redraw an image from its words alone, and show image, words and redrawn image in one picture."""
    from PIL import Image

    from ..encoders.images import display_name
    from ..encoders.redraw.recreate import check_output, image_or_text
    from ..encoders.redraw.recreate import recreate as redraw
    from ..encoders.registry import REDRAW_ENCODER, load_encoder

    if llm and not upsample:
        raise InputError("--llm upsamples the words before they are drawn; expected --upsample beside it")
    check_output(out, source)
    given = image_or_text(source, allow_network=allowed_network(allow_network, allow_private_network))
    from ..encoders.redraw.redrawer import (  # takes seconds, so after what can go wrong at once
        DEFAULT_DECODER,
        Redrawer,
    )

    is_text = isinstance(given, str)
    echo(f"taken as {'a text' if is_text else 'an image'}: {display_name(source)}", err=True)
    spec = None if is_text else encoder or REDRAW_ENCODER
    describer = load_encoder(spec) if spec else None
    redrawer = Redrawer.from_pretrained(decoder or DEFAULT_DECODER, variant=variant)
    settings: dict[str, Any] = {"guidance_scale": guidance, "num_inference_steps": steps, "seed": seed}
    # The included decoder draws the made world, which the tiny model knows.
    upsampler = _Upsampler(llm or (None if decoder else "tiny"), seed) if upsample else None
    denied = upsampler.negatives(given) if upsampler and isinstance(given, str) else ""
    made = redraw(given, redrawer, describer, rewrite=upsampler, negative=denied, **settings)
    with replacing(out) as part:
        made.picture.save(part, Image.registered_extensions()[out.suffix.lower()])
    if as_json:
        names = {"image": None if is_text else display_name(source), "encoder": spec}
        words = {"text": made.text} | ({"upsampled": upsampler.as_json()} if upsampler else {})
        print_json({**names, **words, "decoder": redrawer.name, "out": str(out), **settings})
    else:
        if upsampler:
            echo(f"words: {made.original}", err=True)
            echo(f"upsampled: {made.text}", err=True)
        echo(str(out))


class _Upsampler:
    """Makes words detailed, and keeps how that came about. The model loads at once, before minutes of drawing."""

    def __init__(self, llm: str | None, seed: int) -> None:
        from ..agent.models.registry import load_language_model

        self.model, self.seed = load_language_model(llm), seed
        self.made: Upsampled | None = None

    def __call__(self, text: str) -> str:
        from ..agent.reader.upsampler import upsample
        from ..prompting.prompt_syntax import parse_prompt
        from ..prompting.rewrites import FLAGS

        (one,) = upsample(self.model, [text], seed=self.seed)
        self.made = one.upsampled
        print_notes([one.note, *(FLAGS[flag] for flag in self.made.flags), self.made.error])
        return parse_prompt(self.made.prompt).words  # a pipeline of diffusers reads no weights and flags

    def negatives(self, text: str) -> str:
        """What --no and "Negative prompt:" name, for the decoder."""
        from ..prompting.prompt_syntax import parse_prompt

        return ", ".join(parse_prompt(text).negatives)

    def as_json(self) -> dict[str, Any] | None:
        from dataclasses import asdict

        return asdict(self.made) if self.made else None

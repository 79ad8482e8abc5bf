"""`textlens web`: the command line of the page."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ...errors import InputError

HOST, PORT = "127.0.0.1", 8030
TOKEN_VARIABLE = "TEXTLENS_WEB_TOKEN"


def web(
    images: Annotated[list[str] | None, typer.Argument(help="Images, folders or globs that the page offers.")] = None,
    encoder: Annotated[
        list[str] | None, typer.Option("--encoder", "-e", help="Encoder spec, as of ask; repeatable.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Language model, as of ask: gemma, http://HOST:PORT/v1, …")] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of a diffusers pipeline, Stable Diffusion or SDXL; by default the small one."
        ),
    ] = None,
    guidance: Annotated[float, typer.Option(min=1, help="Guidance scale of drawings; 1 is none.")] = 3.0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of drawings.")] = 50,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse images with more pixels than this.")] = 64_000_000,
    host: Annotated[str, typer.Option(help="Address to serve on; another than this machine's needs a token.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = PORT,
    token: Annotated[
        str | None, typer.Option(help=f"Token that the page asks for; better in {TOKEN_VARIABLE}, out of sight.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name by which browsers call this machine; repeatable.")
    ] = None,
) -> None:
    """Open a page on this machine to see images through text: words, answers, drawings. Nothing is kept on disk."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the web page's server is missing ({error}); install it: pip install 'textlens[web]'"
        ) from error
    from ...encoders.images import ImageLimits
    from ...encoders.registry import check_encoder
    from ..http_serving import HttpSettings
    from ..models.registry import check_language_model
    from ..tools.tool_models import ToolModels
    from .web_serving import offered, serve_web

    for spec in encoder or ():  # names are checked now; models load when they are first needed
        check_encoder(spec)
    if llm is not None:
        check_language_model(llm)
    secret = os.environ.get(TOKEN_VARIABLE) if token is None else token
    address = HttpSettings(host, port, secret, allow_host or (), TOKEN_VARIABLE)
    limits = ImageLimits(max_pixels=max_pixels)
    samples = offered(images or (), limits)
    models = ToolModels(encoder, llm, decoder, limits=limits)
    serve_web(models, address, limits, samples, typer.echo, guidance_scale=guidance, num_inference_steps=steps)

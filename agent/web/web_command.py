"""`textlens web`: the command line of the page."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ...errors import InputError
from ..tool_options import Decoder, Encoders, Guidance, LanguageModelSpec, MaxPixels, Steps, named_models

HOST, PORT = "127.0.0.1", 8030
TOKEN_VARIABLE = "TEXTLENS_WEB_TOKEN"


def web(
    images: Annotated[list[str] | None, typer.Argument(help="Images, folders or globs that the page offers.")] = None,
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    decoder: Decoder = None,
    guidance: Guidance = 3.0,
    steps: Steps = 50,
    max_pixels: MaxPixels = 64_000_000,
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
    from ..http_serving import HttpSettings
    from .web_serving import offered, serve_web

    models = named_models(encoder, llm, decoder, max_pixels)
    secret = os.environ.get(TOKEN_VARIABLE) if token is None else token
    address = HttpSettings(host, port, secret, allow_host or (), TOKEN_VARIABLE)
    samples = offered(images or (), models.limits)
    serve_web(models, address, models.limits, samples, typer.echo, guidance_scale=guidance, num_inference_steps=steps)

"""`textlens chat` and `textlens serve-llm`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..encoders.loading.limits import allowed_network
from .command_options import Encoders, PrivateNetwork
from .printing import echo, exit_for


def chat(
    images: Annotated[list[str], typer.Argument(help="Image files, folders, globs, data URLs to talk about.")],
    llm: Annotated[
        str,
        typer.Option(help="A chat model that calls tools, on an OpenAI-compatible server: http://HOST:PORT/v1#MODEL."),
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", help="Answer this (and the next -q) instead of asking for more."),
    ] = None,
    encoder: Encoders = None,
    reader: Annotated[
        str | None, typer.Option(help="Language model inside the tools, as --llm of ask; by default as there.")
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of a diffusers pipeline, Stable Diffusion or SDXL; by default the small one."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder where drawings may be saved.")] = None,
    allow_network: Annotated[
        bool,
        typer.Option(
            "--allow-network",
            help="Fetch the images that have http(s) addresses of public hosts. The tools never fetch any.",
        ),
    ] = False,
    allow_private_network: PrivateNetwork = False,
) -> None:
    """Talk about images with a chat model that sees them through the tools alone. Ctrl-D or Ctrl-C ends it."""
    from ..agent.chat.chat import chat as converse

    settings: dict[str, Any] = {"encoders": encoder, "reader": reader, "decoder": decoder, "output_folder": out}
    exit_for(
        *converse(
            images, llm, question or (), allow_network=allowed_network(allow_network, allow_private_network), **settings
        )
    )


def serve_llm(
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="[-- VLLM_FLAGS]", help="Further flags for vLLM, after --.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder, hub id or gemma; by default the small model that is included.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8000,
    python: Annotated[
        str | None, typer.Option(help="Python of the environment that holds vLLM; without it, the first that is found.")
    ] = None,
) -> None:
    """Serve a language model with vLLM until Ctrl-C; prints the address to give to --llm."""
    from ..agent.models.serving import serve

    notes = partial(echo, err=True)
    serve(typer.echo, model, port=port, python=python, arguments=flags or (), say=notes)

"""`textlens mcp`: the command line of the MCP server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ...encoders.loading.limits import allowed_network
from ...errors import InputError
from ..tool_options import Decoder, Encoders, Guidance, LanguageModelSpec, MaxPixels, Steps, named_models

HOST, PORT = "127.0.0.1", 8020
TOKEN_VARIABLE = "TEXTLENS_MCP_TOKEN"


def mcp(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders whose images may be opened.")] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", "-i", help="A single image, file, glob or data URL, known as image-1, …; repeatable."),
    ] = None,
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    decoder: Decoder = None,
    guidance: Guidance = 3.0,
    steps: Steps = 50,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder where drawings may be saved.")] = None,
    max_pixels: MaxPixels = 64_000_000,
    data_urls: Annotated[bool, typer.Option(help="Take images as data URLs.")] = True,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Fetch the http(s) addresses of --image. Tools never fetch any.")
    ] = False,
    allow_private_network: Annotated[
        bool, typer.Option("--allow-private-network", help="Those of this machine and private networks too.")
    ] = False,
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP instead of stdin and stdout.")] = False,
    host: Annotated[
        str | None, typer.Option(help=f"Address to serve on, with --http; another than {HOST} needs a token.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"Port, with --http; by default {PORT}, 0 takes a free one.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help=f"Token that HTTP clients must send; better in {TOKEN_VARIABLE}, out of sight.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name by which HTTP clients call this machine; repeatable.")
    ] = None,
) -> None:
    """Serve the tools to agents by the Model Context Protocol (MCP), over stdin and stdout or HTTP."""
    served = {"--host": host, "--port": port, "--token": token, "--allow-host": allow_host}
    if not http and (given := [name for name, value in served.items() if value is not None]):
        raise InputError(f"{' and '.join(given)}: only with --http; without it the server speaks on stdin and stdout")
    try:
        from mcp import MCPError  # noqa: F401  (of version 2)
    except ImportError as error:
        raise InputError(f"no MCP SDK of version 2 ({error}); install it: pip install 'textlens[mcp]'") from error
    from ..http_serving import HttpSettings
    from ..tools.image_access import ImageAccess
    from ..tools.image_store import ImageStore
    from ..tools.output_folder import OutputFolder
    from ..tools.tool_calls import ToolCalls
    from .mcp_serving import serve_mcp, stored

    models = named_models(encoder, llm, decoder, max_pixels)
    secret = os.environ.get(TOKEN_VARIABLE) if token is None else token
    address = HttpSettings(host or HOST, PORT if port is None else port, secret, allow_host or ()) if http else None
    store = ImageStore(limits=models.limits)
    titles = stored(store, image or (), allow_network=allowed_network(allow_network, allow_private_network))
    access = ImageAccess(folders or (), store, data_urls=data_urls, limits=models.limits)
    calls = ToolCalls(models, access, OutputFolder(out) if out else None, guidance, steps)
    serve_mcp(calls, address, titles=titles, announce=typer.echo)

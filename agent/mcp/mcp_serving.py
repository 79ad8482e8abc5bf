"""Serves `ToolCalls` by MCP until the client, or the user, ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ...encoders.image_sources import Network, display_name
from ...encoders.images import expand_images
from ...prompting.sanitize import clean
from ..call_queue import serving_queue
from ..http_serving import HttpSettings
from ..tools.image_store import ImageStore
from ..tools.tool_calls import ToolCalls
from .mcp_http import serve_http
from .mcp_server import McpTools
from .mcp_stdio import serve_stdio


def serve_mcp(
    calls: ToolCalls,
    http: HttpSettings | None = None,
    *,
    titles: Mapping[str, str] | None = None,
    announce: Callable[[str], object],
) -> None:
    """Serve on stdin and stdout until stdin closes; or by HTTP until Ctrl-C, with its URL to `announce`.

    titles: of images by id. A call that still runs then is given up. Raises `InputError` for an address in use.
    """
    with serving_queue(calls.models.answers_elsewhere) as queue:
        server = McpTools(calls, queue, titles).server()
        if http is None:
            serve_stdio(server)
        else:
            serve_http(server, http, announce)


def stored(store: ImageStore, images: Sequence[str], *, allow_network: Network = False) -> dict[str, str]:
    """Adds images by the names of the command line. Returns id -> file name. Raises `ImageError` for a bad one."""
    names = expand_images(images)
    ids = [store.add(name, allow_network=allow_network) for name in names]
    return {id: clean(os.path.basename(display_name(name))) for id, name in zip(ids, names, strict=True)}

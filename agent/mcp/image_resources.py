"""Images as MCP resources, textlens://image/ID_OR_PATH: those that the tools may open, under the same rules."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from itertools import islice
from urllib.parse import quote, unquote

from mcp import MCPError
from mcp.types import INVALID_PARAMS, BlobResourceContents, ListResourcesResult, Resource, ResourceTemplate
from PIL.Image import Image

from ...encoders.images import ImageError, display_name
from ...errors import encoding_error
from ...prompting.sanitize import clean
from ..tools.image_access import ImageAccess
from ..tools.tool_calls import png

PREFIX = "textlens://image/"
TEMPLATE = ResourceTemplate(
    name="image",
    uri_template=PREFIX + "{+reference}",
    description="An image by its id, or by its path below the allowed folders.",
)
PAGE = 200  # resources listed at once
_SUMMARY = 20  # images named in the server's instructions
PNG_PIXELS = 2**20  # larger images are sent as JPEG: a photograph's PNG is ten times as long


class ImageResources:
    """titles: of images by id."""

    def __init__(self, access: ImageAccess, titles: Mapping[str, str]) -> None:
        self._access, self._titles = access, titles

    def page(self, cursor: str | None) -> ListResourcesResult:
        """The images with ids and those directly in the allowed folders, `PAGE` at a time.

        cursor: where to go on, as the page before gave it. Raises `MCPError` for any other.
        """
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
            raise MCPError(INVALID_PARAMS, f"unknown cursor {cursor[:100]!r}; expected the page before's nextCursor")
        names, start = self._access.names(), int(cursor or 0)
        listed = [self._resource(name) for name in names[start : start + PAGE] if self._is_listed(name)]
        more = str(start + PAGE) if start + PAGE < len(names) else None
        return ListResourcesResult(resources=listed, next_cursor=more)

    def summary(self) -> str:
        """Some of the images, for agents whose model cannot list resources."""
        listable = (name for name in self._access.names() if clean(name) == name and self._is_listed(name))
        names = list(islice(listable, _SUMMARY + 1))
        listed = [f"{name} ({self._titles[name]})" if name in self._titles else name for name in names[:_SUMMARY]]
        return f"Images when the server started: {', '.join(listed) or 'none'}{', …' * (len(names) > _SUMMARY)}."

    def read(self, uri: str) -> BlobResourceContents:
        """The image, upright and without metadata. Raises `ImageError` for what may not be opened."""
        if not uri.startswith(PREFIX):
            raise ImageError(f"{display_name(uri)}: no such resource; expected {PREFIX} and an image's id or path")
        image = self._access.open(unquote(uri.removeprefix(PREFIX)))
        small = image.width * image.height <= PNG_PIXELS
        kind, data = ("image/png", png(image)) if small else ("image/jpeg", _jpeg(image))
        return BlobResourceContents(uri=uri, mime_type=kind, blob=base64.b64encode(data).decode())

    def _is_listed(self, name: str) -> bool:
        """Not names that are no text, nor links that lead out of the allowed folders."""
        return encoding_error(name) is None and self._access.allows(name)

    def _resource(self, name: str) -> Resource:
        return Resource(uri=PREFIX + quote(name), name=clean(name), title=self._titles.get(name))


def _jpeg(image: Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()

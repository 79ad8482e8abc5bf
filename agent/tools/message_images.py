"""Images in chat messages, for chat models that read only text: each gets an id, which stands in its place.

`MessageImages.named` works on any list of messages, so also in a LangGraph node of your own. `image_middleware` does it
for `create_agent` before each call of the model; the conversation itself keeps the images.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from ...encoders.image_sources import Network, read_source, url_scheme
from ...encoders.images import ImageError, display_name
from ...prompting.sanitize import told
from .image_access import ImageAccess

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware


class MessageImages:
    """`named(messages)`; thread-safe.

    allow_network: whether images at http(s) addresses are fetched. max_images: kept, the oldest dropped first.
    """

    def __init__(self, access: ImageAccess, *, allow_network: Network = False, max_images: int = 256) -> None:
        self._access, self._allow_network, self._max_images = access, allow_network, max_images
        self._ids: OrderedDict[str, str] = OrderedDict()  # digest of what a block holds -> id
        self._fetched: dict[str, Future[str]] = {}  # digest -> id, of images that a thread is fetching
        self._lock = Lock()  # not held while fetching

    def named(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages with a text in place of each image: its id, or why it cannot be used. Others as they are."""
        return [self._named(message) for message in messages]

    def _named(self, message: BaseMessage) -> BaseMessage:
        if not isinstance(message, HumanMessage | ToolMessage) or isinstance(message.content, str):
            return message
        standard = cast(list[dict[str, Any]], message.content_blocks)  # of any provider's form
        if not any(block["type"] == "image" for block in standard):
            return message
        given = message.content if len(message.content) == len(standard) else standard
        blocks = [
            {"type": "text", "text": self._told(block)} if block["type"] == "image" else own
            for block, own in zip(standard, given, strict=True)
        ]
        texts = [block if isinstance(block, str) else block.get("text") for block in blocks]
        content = "\n".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else blocks
        return message.model_copy(update={"content": content})

    def _told(self, block: dict[str, Any]) -> str:
        try:
            return f"[An image, known to the tools as {self._id(block)}]"
        except ImageError as error:
            return f"[An image that cannot be used: {told(str(error))}]"

    def _id(self, block: dict[str, Any]) -> str:
        held = str(block.get("base64") or block.get("url") or "")
        digest = hashlib.sha256(held.encode(errors="surrogatepass")).hexdigest()
        with self._lock:
            if digest in self._ids:
                self._ids.move_to_end(digest)
                return self._ids[digest]
            fetched = self._fetched.get(digest)
            if first := fetched is None:
                fetched = self._fetched[digest] = Future()
        if first:
            self._fetch(block, digest, fetched)
        return fetched.result()  # of threads that ask for the same image at once, the first fetches

    def _fetch(self, block: dict[str, Any], digest: str, fetched: Future[str]) -> None:
        """Store the image, and give its id, or the error, to all who wait. An error is not kept: the next call tries
        again."""
        try:
            made = self._access.store.add(self._data(block))
        except BaseException as error:
            with self._lock:
                del self._fetched[digest]
            fetched.set_exception(error)
            return
        with self._lock:
            del self._fetched[digest]
            self._ids[digest] = made
            if len(self._ids) > self._max_images:
                self._access.store.remove(self._ids.popitem(last=False)[1])
        fetched.set_result(made)

    def _data(self, block: dict[str, Any]) -> bytes:
        """The bytes of the image. Never those of a file: messages come from anybody."""
        if encoded := block.get("base64"):
            try:
                return base64.b64decode(encoded, validate=True)
            except ValueError as error:
                raise ImageError(f"it is not valid base64 ({error})") from error
        url = block.get("url") or ""
        if url_scheme(url) not in ("data", "http", "https"):
            held = display_name(url) if url else f"a reference to a file ({block.get('file_id')})"
            raise ImageError(f"got {held}; expected base64, a data URL or an http(s) address")
        return read_source(url, self._access.limits, self._allow_network)


def image_middleware(images: MessageImages) -> AgentMiddleware[Any, Any]:
    """Middleware for `create_agent`: the chat model sees ids in place of images."""
    from langchain.agents.middleware import AgentMiddleware

    class NamedImages(AgentMiddleware[Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(messages=images.named(request.messages)))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            messages = await asyncio.to_thread(images.named, request.messages)
            return await handler(request.override(messages=messages))

    return NamedImages()

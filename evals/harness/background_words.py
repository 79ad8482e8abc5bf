"""Words of encoders for many images, written by a thread while a language model answers about the first ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Condition, Event, Thread

from PIL.Image import Image

from ...encoders.base import Encoder
from ...encoders.images import ImageError
from ...errors import InputError
from ..descriptions import DescriptionCache, described, image_key
from ..task_data.image_files import Images

_BATCH = 32  # images


class BackgroundWords:
    """`words(spec, name)` waits until an encoder has described an image. Images are described in the given order.

    A context manager: leaving it stops the thread. cache: folder of the words written so far.
    """

    def __init__(
        self, names: Sequence[str], images: Images, encoders: Mapping[str, Encoder], cache: Path | None = None
    ) -> None:
        self.names, self.images, self.encoders = list(dict.fromkeys(names)), images, encoders
        self._caches = {spec: DescriptionCache(cache, spec, one) for spec, one in encoders.items()} if cache else {}
        self._known: dict[tuple[str, str], str] = {}  # (spec, name) -> words
        self._unreadable: dict[str, str] = {}  # name -> why
        self._changed, self._stop = Condition(), Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="textlens-encoders", daemon=True)

    def __enter__(self) -> BackgroundWords:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def unreadable(self) -> dict[str, str]:
        """Images that could not be read so far, and why."""
        return dict(self._unreadable)

    def __call__(self, spec: str, name: str) -> str:
        """Raises `InputError` for an image that cannot be read, and what the encoder raised."""
        with self._changed:
            while (spec, name) not in self._known:
                if name in self._unreadable:
                    raise InputError(f"{name} cannot be read: {self._unreadable[name]}")
                if self._failure:
                    raise self._failure
                if not self._thread.is_alive():
                    raise InputError(f"{name} is none of the images to describe")
                self._changed.wait(timeout=1.0)
            return self._known[spec, name]

    def _run(self) -> None:
        try:
            for start in range(0, len(self.names), _BATCH):
                if self._stop.is_set():
                    return
                self._describe(self.names[start : start + _BATCH])
        except BaseException as error:  # raised where the words are waited for
            self._failure = error
        with self._changed:
            self._changed.notify_all()

    def _describe(self, names: Sequence[str]) -> None:
        read: dict[str, Image] = {}
        failed: dict[str, str] = {}
        for name in names:
            try:
                read[name] = self.images.read(name)
            except (ImageError, InputError) as error:
                failed[name] = str(error)
        keys = [image_key(image) for image in read.values()]
        for spec, encoder in self.encoders.items():
            texts = described(keys, list(read.values()), encoder, self._caches.get(spec)) if read else []
            with self._changed:
                self._known |= {(spec, name): text for name, text in zip(read, texts, strict=True)}
                self._changed.notify_all()
        with self._changed:
            self._unreadable |= failed
            self._changed.notify_all()

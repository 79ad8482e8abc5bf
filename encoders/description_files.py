"""Descriptions in files, one for each image: OUT/trip/photo.txt for photos/trip/photo.jpg of the folder photos."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from ..errors import InputError, reason
from ..folder_lock import one_writer
from .image_sources import ImageSource, url_scheme
from .pipeline import Result
from .saved_models import write_text

Sidecar = Literal["txt", "json"]


@dataclass
class DescriptionFiles:
    """Writes descriptions into `folder`, one file for each image; see `file_of` for its content."""

    folder: Path
    sidecar: Sidecar = "txt"
    written: int = field(default=0, init=False)  # files

    def __post_init__(self) -> None:
        if self.sidecar not in get_args(Sidecar):
            raise InputError(f"unknown sidecar {self.sidecar!r}; expected one of {', '.join(get_args(Sidecar))}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder} cannot be made a folder ({reason(error)}); give another") from error

    def paths(self, images: Sequence[ImageSource], folders: Iterable[str] = ()) -> list[Path]:
        """The file of each image; no two images share one.

        Subfolders below the images' common parent are kept. folders: those the images were found in, which count for
        the common parent even where all images are deeper. a.jpg and a.png beside it become a.jpg.txt and a.png.txt;
        images without a path are named after their URL, or "image", and numbered where such a name comes again.
        """
        files = [_local_path(image) for image in images]
        parents = [*map(os.path.abspath, folders), *{os.path.dirname(file) for file in files if file}]
        top = os.path.commonpath(parents) if parents else ""
        inside = [
            os.path.relpath(file, top) if file else _name_without_path(image)
            for file, image in zip(files, images, strict=True)
        ]
        return [self.folder / f"{name}.{self.sidecar}" for name in _distinct(inside, files)]

    def write_all(self, rows: Iterable[Result], paths: Iterable[Path], num_encoders: int) -> Iterator[Result]:
        """The rows of `describe_stream`, each image's once its file is written.

        An image without words gets no file; of one whose file cannot be written, the error is in its rows. Raises
        `InputError` where another process writes into the folder.
        """
        rows = iter(rows)
        with one_writer(self.folder):
            for path in paths:
                results = list(islice(rows, num_encoders))
                if any(result.description for result in results):
                    error = self._write(path, results)
                    results = [replace(one, error=error) if error and not one.error else one for one in results]
                yield from results

    def _write(self, path: Path, results: Sequence[Result]) -> str | None:
        """Write the results of one image, whole or not at all. The error, if that cannot be done."""
        try:
            write_text(file_of(results, self.sidecar), path)
        except (OSError, UnicodeEncodeError) as error:
            return f"{results[0].image}: {path} cannot be written ({reason(error)})"
        self.written += 1
        return None


def file_of(results: Sequence[Result], sidecar: Sidecar) -> str:
    """The content of an image's file.

    txt: the text; of several encoders a line for each, "[encoder] text". json: {"image": ..., "descriptions": [...]},
    an object for each encoder with encoder, text, tokens, note, error, as in `Result.as_json`.
    """
    if sidecar == "json":
        rows = [result.as_json() for result in results]
        return json.dumps({"image": rows[0]["image"], "descriptions": [_without_image(row) for row in rows]}) + "\n"
    described = [(result.encoder, result.description.text) for result in results if result.description]
    if len(results) == 1:
        return "".join(f"{text}\n" for _, text in described)
    return "".join(f"[{encoder}] {' '.join(text.split())}\n" for encoder, text in described)


def _without_image(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "image"}


def _local_path(image: ImageSource) -> str | None:
    """The absolute path; None for an image that has none."""
    if isinstance(image, str | Path) and not (isinstance(image, str) and url_scheme(image)):
        return os.path.abspath(image)
    return None


def _name_without_path(image: ImageSource) -> str:
    if isinstance(image, str) and url_scheme(image) in ("http", "https"):
        name = PurePosixPath(unquote(urlsplit(image).path)).name.replace("\0", "")[-100:]
        return name if name.strip(".") else "image"
    return "image"


def _distinct(names: Sequence[str], files: Sequence[str | None]) -> list[str]:
    """The names without ending where that is enough to tell them apart; one file has one name."""
    once = {file or place: name for place, (file, name) in enumerate(zip(files, names, strict=True))}
    shared = Counter(_stem(name).casefold() for name in once.values())
    taken: set[str] = set()
    found: dict[str | int, str] = {}
    for key, name in once.items():
        wanted = name if shared[_stem(name).casefold()] > 1 and name != _stem(name) else _stem(name)
        number, free = 1, wanted
        while free.casefold() in taken:
            number += 1
            free = f"{wanted}-{number}"
        taken.add(free.casefold())
        found[key] = free
    return [found[file or place] for place, file in enumerate(files)]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]

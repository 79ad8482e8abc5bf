"""Captions in text files beside the images, photo.jpg -> photo.txt, as kohya's trainers and others read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...encoders.saved_models import write_text
from ...errors import InputError
from .part_file import KEEP, disk_errors, part_path, read_rows


@dataclass
class TextFiles:
    """Numbers of caption files."""

    style: str
    written: int = 0
    there: int = 0  # with this very caption
    flagged: int = 0  # images without a caption, or with one that a check flagged: no file
    others: list[str] = field(default_factory=list)  # files with other words, which were left alone


def check_image_folder(source: str) -> None:
    """Raises `InputError` for a source whose images are not files in a folder."""
    kind, _, path = source.partition("#")[0].partition(":")
    if kind != "imagefolder" or not os.path.isdir(path):
        raise InputError(f"--write-txt writes beside image files, but the source is {source}; expected imagefolder:DIR")


def write_text_files(folder: Path, parts: Sequence[str], style: str, *, overwrite: bool = False) -> TextFiles:
    """Write the captions of a style that no check flagged. A file with other words is left as it is and told.

    overwrite: replace such files. Raises `InputError` where the disk is full.
    """
    made = TextFiles(style)
    ours: set[int] = set()  # files of this call: a.jpg and a.png have one text file
    for part in parts:
        for rows in read_rows(part_path(folder, part), ["key", style, KEEP + style]):
            for row in rows:
                if row[KEEP + style]:
                    path = Path(row["key"]).with_suffix(".txt")
                    _write(path, " ".join(row[style].split()) + "\n", made, overwrite and hash(path) not in ours)
                    ours.add(hash(path))
                else:
                    made.flagged += 1
    return made


def _write(path: Path, text: str, made: TextFiles, overwrite: bool) -> None:
    there = path.exists()
    if there and path.read_bytes() == text.encode():
        made.there += 1
    elif there and not overwrite:
        made.others.append(str(path))
    else:
        with disk_errors(path):
            write_text(text, path)
        made.written += 1

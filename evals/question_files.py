"""Questions about images in a JSON Lines file, and their images in a folder or a tar file."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from ..encoders.images import load_image
from ..errors import InputError

_SHOWN = 5  # problems in an error


@dataclass(frozen=True)
class Question:
    """answers: what the image shows, all of it (DAQUAR's lists)."""

    image: str  # name in the folder or tar file
    question: str
    answers: tuple[str, ...]
    split: str = ""

    @property
    def answer(self) -> str:
        """As a shot says it."""
        return ", ".join(self.answers)


def load_questions(path: Path) -> list[Question]:
    """`{"image": "1.jpg", "question": …, "answers": […], "split": "test"}` a line, the last optional; also gzipped.

    Raises `InputError` that names file, line and field of what is wrong.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read questions from {path} ({error}); expected JSON Lines in UTF-8") from error
    questions, problems = [], []
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                questions.append(_question(json.loads(line)))
            except (ValueError, RecursionError) as error:
                problems.append(f"line {place}: {error}")
    if problems or not questions:
        found = "; ".join(problems[:_SHOWN]) or "no questions"
        raise InputError(f"{path}: {found}; expected image, question and answers in each of {len(problems)} lines")
    return questions


def _question(entry: Any) -> Question:
    if not isinstance(entry, dict):
        raise InputError(f"got {type(entry).__name__}, expected an object")
    for name in ("image", "question"):
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise InputError(f"{name} is {json.dumps(entry.get(name))}, expected a text")
    answers = entry.get("answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        raise InputError(f"answers is {json.dumps(answers)}, expected a list of texts")
    return Question(entry["image"], entry["question"], tuple(answers), str(entry.get("split", "")))


@dataclass(frozen=True)
class QuestionSplit:
    """Questions to answer, and those that shots are drawn from: no image is in both."""

    asked: list[Question]
    candidates: list[Question]


def split_questions(
    questions: Sequence[Question],
    split: str = "test",
    *,
    limit: int | None = None,
    seed: int = 0,
    val_share: float = 0.2,
) -> QuestionSplit:
    """The questions of a split, `limit` of them drawn by seed, and those of "train" for shots.

    split "val": where the file has none, the questions about a share of the training images, drawn by one fixed seed;
    they are no candidates then, whichever split is asked for. Raises `InputError` for a split without questions, and
    if an asked image is among the candidates'.
    """
    there = list(dict.fromkeys(one.split for one in questions))
    training = [one for one in questions if one.split == "train"]
    held: set[str] = set()
    if "val" not in there:
        images = sorted({one.image for one in training})
        held = set(random.Random(0).sample(images, round(val_share * len(images))))
    if split == "val" and held:
        asked = [one for one in training if one.image in held]
    else:
        asked = [one for one in questions if one.split == split]
    candidates = [one for one in training if one.image not in held]
    if not asked or not candidates:
        raise InputError(f"no questions of split {split if not asked else 'train'!r}; the file has {', '.join(there)}")
    if shared := {one.image for one in asked} & {one.image for one in candidates}:
        raise InputError(
            f"{len(shared)} images are asked about and in the shots' split, such as {min(shared)}; remove them"
        )
    if limit is not None and limit < len(asked):
        asked = [asked[i] for i in sorted(random.Random(seed).sample(range(len(asked)), limit))]
    return QuestionSplit(asked, candidates)


class ImageFiles:
    """Images by name, in a folder or an uncompressed or compressed tar file."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._tar: tarfile.TarFile | None = None
        if place.is_dir():
            return
        try:
            self._tar = tarfile.open(place)  # noqa: SIM115  open as long as this object
            self._members = {member.name.removeprefix("./"): member for member in self._tar if member.isfile()}
        except (OSError, tarfile.TarError, EOFError) as error:
            raise InputError(f"{place} is no folder and no tar file of images ({error})") from error

    def check(self, names: Sequence[str]) -> None:
        """Raises `InputError` that names images which are not there."""
        missing = [name for name in dict.fromkeys(names) if not self._has(name)]
        if missing:
            raise InputError(f"{self.place} lacks {len(missing)} images: {', '.join(missing[:_SHOWN])}")

    def read(self, name: str) -> Image:
        """The image as RGB. Raises `ImageError` for one that cannot be read."""
        if self._tar is None:
            return load_image(self.place / name)
        file = self._tar.extractfile(self._members[name])
        return load_image((file or io.BytesIO()).read())

    def _has(self, name: str) -> bool:
        return name in self._members if self._tar else (self.place / name).is_file()

"""A sheet of recaptioned samples to look at: DST/sheet.html, one file that opens without network."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ...encoders.saved_models import write_text
from ...train.recaption.caption_checks import EXPLAINED
from ...train.recaption.configuration import read_configuration
from ...train.recaption.flagging import Tally
from ...train.recaption.part_file import KEEP, REASONS, SIMILARITY, Row, disk_errors, part_path, read_rows, sample_key
from ...train.recaption.source_parts import ItemReader, Part, ShardError, SourceSettings
from ..report.inline_page import page_environment, source_hash

NAME = "sheet.html"
_SIDE = 320  # pixels of the longer side of an image
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Caption:
    style: str
    text: str | None
    kept: bool
    reasons: Sequence[str]
    similarity: float | None


@dataclass(frozen=True)
class Card:
    """One sample."""

    key: str
    image: str | None  # data URL
    original: Sequence[str]
    captions: Sequence[Caption] = field(default_factory=tuple)
    error: str | None = None


def write_sheet(folder: Path, parts: Sequence[Part], tally: Tally, *, number: int = 64, seed: int = 0) -> Path:
    """Write the sheet of `number` samples, drawn by `seed`, and return its path.

    parts: those that have a file. Images are read from the source; one that cannot be read now is left blank.
    """
    configuration = read_configuration(folder)
    names = SourceSettings.__dataclass_fields__
    settings = SourceSettings(**{name: value for name, value in configuration.source.items() if name in names})
    reader, styles = ItemReader(settings), list(configuration.styles)
    cards = [_card(reader, part, place, row, styles) for part, place, row in _drawn(folder, parts, number, seed)]
    page = _render(cards, configuration.styles, settings.source, tally, seed)
    with disk_errors(folder / NAME):
        write_text(page, folder / NAME)
    return folder / NAME


def _drawn(folder: Path, parts: Sequence[Part], number: int, seed: int) -> Iterator[tuple[Part, int, Row]]:
    """Samples of all parts, each as likely as any other, in order: part, place in it, row."""
    total = sum(part.size for part in parts)
    chosen = sorted(random.Random(seed).sample(range(total), min(number, total)))
    start = 0
    for part in parts:
        wanted = {place - start for place in chosen if start <= place < start + part.size}
        place = 0
        for rows in read_rows(part_path(folder, part.name)) if wanted else ():
            yield from ((part, place + i, row) for i, row in enumerate(rows) if place + i in wanted)
            place += len(rows)
        start += part.size


def _card(reader: ItemReader, part: Part, place: int, row: Row, styles: Sequence[str]) -> Card:
    try:
        image = reader.read(part, part.first + place).loaded.image
    except ShardError:
        image = None
    captions = [
        Caption(one, row[one], row[KEEP + one], row[REASONS + one], row.get(SIMILARITY + one)) for one in styles
    ]
    key = sample_key(row["shard"], row["key"])
    return Card(key, _data_url(image) if image else None, row["original"], captions, row["error"])


def _data_url(image: Image.Image) -> str:
    image.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _render(cards: Sequence[Card], styles: Any, source: str, tally: Tally, seed: int) -> str:
    css = _HERE.joinpath("sheet.css").read_text(encoding="utf-8")
    template = page_environment().from_string(_HERE.joinpath("sheet.html").read_text(encoding="utf-8"))
    return template.render(
        cards=cards, styles=styles, source=source, tally=tally, seed=seed, explained=EXPLAINED,
        css=Markup(css), css_hash=source_hash(css),
    )  # fmt: skip

"""Captions one part after another: read, describe in batches, write whole. Every engine's workers are of this class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ...encoders.base import Encoder
from ...encoders.clip.clip import Clip
from ...encoders.images import run_ahead
from ...encoders.pipeline import Result, describe_batch
from ...encoders.registry import load_encoder
from ...errors import InputError
from ..data.tar_index import repeated_members
from .caption_checks import Checks, Flagger
from .configuration import encoder_facts
from .ledger import Ledger, claimed
from .part_file import (
    CUT_OFF,
    SIMILARITY,
    Row,
    lock_name,
    new_part,
    number_of_rows,
    part_path,
    read_rows,
    schema,
    storable,
)
from .source_parts import Item, ItemReader, Part, ShardError, SourceSettings

Advance = Callable[[int, int], None]  # called with numbers of images done, and of those that failed


@dataclass(frozen=True)
class WorkSettings:
    """What a worker needs; can be sent to other processes and machines."""

    source: SourceSettings
    folder: Path
    styles: Mapping[str, str]  # style -> encoder spec
    clip: str | None = None  # of the similarity of images and captions
    checks: Checks = field(default_factory=Checks)
    batch_size: int = 32
    retry_failed: bool = False
    device: str | None = None
    workers: int | None = None  # of the engine on Ray; by default one for each GPU, or CPU where there is none


@dataclass(frozen=True)
class Models:
    """The encoders of a worker, and facts of each for the configuration."""

    encoders: Mapping[str, Encoder]  # style -> encoder
    clip: Clip | None
    facts: Mapping[str, Any]  # "styles": style -> facts; "clip"


def load_models(settings: WorkSettings) -> Models:
    """Raises `InputError` for specs that do not load."""
    by_spec = {spec: load_encoder(spec, device=settings.device) for spec in dict.fromkeys(settings.styles.values())}
    facts = {spec: encoder_facts(spec, encoder) for spec, encoder in by_spec.items()}
    clip, clip_facts = None, None
    if settings.clip is not None:
        clip = Clip.from_pretrained(settings.clip, device=settings.device or _device_of(by_spec.values()))
        if not clip.can_embed_texts:
            raise InputError(f"--clip {settings.clip} has no text tower here; expected a CLIP with both towers")
        clip_facts = encoder_facts(settings.clip, clip.model)
    encoders = {style: by_spec[spec] for style, spec in settings.styles.items()}
    styles = {style: facts[spec] for style, spec in settings.styles.items()}
    return Models(encoders, clip, {"styles": styles, "clip": clip_facts})


def _device_of(encoders: Iterable[Encoder]) -> Any:
    return next((one.clip.device for one in encoders if hasattr(one, "clip")), "cpu")


@dataclass(frozen=True)
class Done:
    """What became of a part: captioned now (`rows` images), or by another process before."""

    part: str
    rows: int
    failed: int
    new: bool
    error: str | None = None  # the shard could not be opened
    seconds: float = 0.0  # that the part took, once the models were loaded


class PartWorker:
    """Takes parts that nobody else holds, and writes them."""

    def __init__(self, settings: WorkSettings, models: Models) -> None:
        self.settings, self.models = settings, models
        self.reader = ItemReader(settings.source)
        self.ledger = Ledger(settings.folder)
        self._before = dict(self.ledger.lines)  # what is retried is what had failed when the command began
        self._columns = schema(list(settings.styles), models.clip is not None)
        self._flagger = Flagger(list(settings.styles), settings.checks)

    def do(self, part: Part, advance: Advance = lambda done, failed: None) -> Done | None:
        """Caption a part unless that was done. None: another process is at it."""
        with claimed(self.settings.folder, lock_name(part.name)) as ours:
            if not ours:
                return None
            self.ledger.refresh()
            line = finished_line(self.ledger, part, self.settings.folder)
            if line and not self._is_retried(line):
                return Done(part.name, line["rows"], line["failed"], False, line["error"])
            if part.error is not None:
                return self._record(part, 0, 0, error=part.error)
            started = time.perf_counter()
            try:
                rows = self._retried(part, advance) if line and not line["error"] else self._captioned(part, advance)
                number, failed = self._write(part, rows)
                repeated = repeated_members(part.shard) if part.shard else []
            except ShardError as error:
                return self._record(part, 0, 0, error=str(error))
            return self._record(part, number, failed, repeated=repeated, seconds=time.perf_counter() - started)

    def _is_retried(self, line: dict[str, Any]) -> bool:
        """Once in a command, whichever process does it."""
        failed = bool(line["failed"] or line["error"])
        return self.settings.retry_failed and failed and self._before.get(line["part"]) == line

    def _write(self, part: Part, rows: Iterable[Sequence[Row]]) -> tuple[int, int]:
        """How many rows, and how many of them have an error."""
        failed = 0
        with new_part(part_path(self.settings.folder, part.name), self._columns) as writer:
            for batch in rows:
                failed += sum(row["error"] is not None for row in batch)
                writer.add([self._flagger.flag(row) for row in batch])
        return writer.number, failed

    def _record(
        self, part: Part, rows: int, failed: int, *, error: str | None = None, repeated: Sequence[str] = (),
        seconds: float = 0.0,
    ) -> Done:  # fmt: skip
        line: dict[str, Any] = {
            "part": part.name,
            "shard": part.shard,
            "stamp": part.stamp,
            "rows": rows,
            "failed": failed,
        }
        line |= {"error": error, "repeated": list(repeated), "seconds": round(seconds, 3)}
        self.ledger.append({**line, "written": datetime.now(UTC).isoformat(timespec="seconds")})
        return Done(part.name, rows, failed, True, error, seconds)

    def _captioned(self, part: Part, advance: Advance) -> Iterator[list[Row]]:
        for items in self._batches(part, self.reader.positions(part)):
            rows = self._rows(part, items)
            advance(len(rows), sum(row["error"] is not None for row in rows))
            yield rows

    def _retried(self, part: Part, advance: Advance) -> Iterator[list[Row]]:
        """The rows that are there; those with an error are read and described once more."""
        position = part.first
        for rows in read_rows(part_path(self.settings.folder, part.name)):
            bad = [place for place, row in enumerate(rows) if row["error"] is not None]
            fresh: list[Row] = []
            for items in self._batches(part, [position + place for place in bad]):
                fresh += self._rows(part, items)
            for place, row in zip(bad, fresh, strict=True):
                rows[place] = row
            position += len(rows)
            advance(len(rows), sum(row["error"] is not None for row in fresh))
            yield rows

    def _batches(self, part: Part, positions: Sequence[int]) -> Iterator[list[Item]]:
        """Always the same samples together, so that the captions do not depend on what was done before."""
        if not positions:
            return
        self.reader.open(part)
        size = self.settings.batch_size
        with closing(run_ahead(partial(self.reader.read, part), positions, ahead=size)) as loading:
            while batch := list(islice(loading, size)):
                yield batch

    def _rows(self, part: Part, items: Sequence[Item]) -> list[Row]:
        loaded = [item.loaded for item in items]
        described = {
            style: describe_batch(loaded, self.settings.styles[style], encoder)
            for style, encoder in self.models.encoders.items()
        }
        rows = [
            _row(part, item, {style: results[place] for style, results in described.items()})
            for place, item in enumerate(items)
        ]
        return self._with_similarity(items, rows) if self.models.clip else rows

    def _with_similarity(self, items: Sequence[Item], rows: list[Row]) -> list[Row]:
        """CLIP's cosine similarity of each image with its captions and originals."""
        clip, styles = self.models.clip, self.settings.styles
        assert clip is not None
        readable = [place for place, item in enumerate(items) if item.loaded.image is not None]
        images = clip.embed_images([items[place].loaded.image for place in readable]).cpu()  # type: ignore[misc]
        for place, image in zip(readable, images, strict=True):
            row = rows[place]
            written = [style for style in styles if row[style] is not None]
            texts = [*(row[style] for style in written), *row["original"]]
            found = (clip.embed_texts(texts).cpu() @ image).tolist() if texts else []
            row |= {SIMILARITY + style: value for style, value in zip(written, found, strict=False)}
            row[SIMILARITY + "original"] = found[len(written) :]
        return rows


def finished_line(ledger: Ledger, part: Part, folder: Path) -> dict[str, Any] | None:
    """The line of a part in the ledger, if its file is there whole and its shard is the same."""
    line = ledger.lines.get(part.name)
    if line is None or line["stamp"] != part.stamp:
        return None
    if line["error"] is None and number_of_rows(part_path(folder, part.name)) != line["rows"]:
        return None
    return line


def _row(part: Part, item: Item, results: Mapping[str, Result]) -> Row:
    errors = [item.loaded.error] if item.loaded.error else []
    row: Row = {"shard": part.shard and storable(part.shard), "key": storable(item.key), "image_sha256": item.sha256}
    row |= {"original": list(item.original), "original_error": item.original_error}
    for style, result in results.items():
        made = result.description
        row |= {style: None if made is None else storable(made.text), CUT_OFF + style: made.cut_off if made else None}
        if made is None and item.loaded.image is not None:
            errors.append(f"{style}: {result.error}")
    return {**row, "error": storable("; ".join(errors)) or None}

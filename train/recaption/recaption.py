"""Captions for every image of a data set, in one or more styles, beside the originals: `recaption`.

Parts are written whole, a line in DST/parts.jsonl last; run again, the same command goes on. Several processes may run
it at once: each takes parts that nobody else holds, and ends when all are done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError, check_range
from ...plugins import load
from ...progress import progress_bar
from .caption_checks import Checks
from .configuration import Configuration, check_apart, claim_folder
from .flagging import NAME as CHECKS_NAME
from .flagging import Tally, flag_all
from .ledger import Ledger, named_lock
from .part_worker import Advance, Done, WorkSettings
from .source_parts import Part, SourceParts, open_parts
from .text_files import TextFiles, check_image_folder, write_text_files


@dataclass(frozen=True)
class RecaptionSettings:
    """What `textlens recaption` is told. styles: style -> encoder spec, see `style_specs`."""

    source: str
    folder: Path
    styles: Mapping[str, str]
    image: str = "image"
    text: str | None = None  # None: the usual place of captions, if there is one
    split: str = "train"
    part_size: int = 10_000  # items, of sources without shards
    batch_size: int = 32
    clip: str | None = None
    checks: Checks = field(default_factory=Checks)
    retry_failed: bool = False
    device: str | None = None
    workers: int | None = None  # actors of the engine on Ray
    write_txt: str | None = None  # style whose captions are written beside the images
    overwrite_txt: bool = False

    def __post_init__(self) -> None:
        check_range("batch_size", self.batch_size, 1)
        check_range("part_size", self.part_size, 1)
        if self.write_txt is not None:
            check_image_folder(self.source)
            if self.write_txt not in self.styles:
                raise InputError(f"--write-txt {self.write_txt!r} is no style; expected {', '.join(self.styles)}")

    def work(self, source: SourceParts) -> WorkSettings:
        """What each worker is told."""
        return WorkSettings(
            source.settings, self.folder, self.styles, self.clip, self.checks, self.batch_size, self.retry_failed,
            self.device,
            self.workers,
        )  # fmt: skip

    def configuration(self, source: SourceParts, facts: Mapping[str, Any]) -> Configuration:
        """What decides which captions are written. facts: of `part_worker.Models`."""
        named: dict[str, Any] = asdict(source.settings)
        if not source.settings.is_shards:
            named |= {"part_size": self.part_size, "identity": source.identity}
        return Configuration(named, facts["styles"], facts["clip"])


@dataclass(frozen=True)
class Recaptioned:
    """How a run ended."""

    tally: Tally  # of the whole folder
    parts: list[Part]  # that have a file
    bad_shards: list[str]  # shards that cannot be opened, and why
    repeated: list[str]  # members that a shard has twice
    notes: list[str]
    images: int  # captioned by this process
    seconds: float  # that took, once the models were loaded
    text_files: TextFiles | None = None

    @property
    def captioned(self) -> int:
        """Samples with a caption in every style."""
        return self.tally.rows - self.tally.failed

    @property
    def problems(self) -> list[str]:
        """What went wrong with some shards and samples, in words."""
        found = [*self.bad_shards, *self.tally.errors]
        if self.tally.failed > len(self.tally.errors):
            found.append(f"… {self.tally.failed} samples failed in all; the column `error` says why")
        if self.tally.original_errors:
            found.append(f"{self.tally.original_errors} original captions are damaged; see `original_error`")
        found += [f"{name} is there more than once; the first one counts" for name in self.repeated]
        if self.text_files and self.text_files.others:
            files = self.text_files.others
            found.append(
                f"{len(files)} text files have other words and were left alone, such as {files[0]}; move them away, or "
                "replace them with --overwrite-txt"
            )
        return found

    @property
    def images_per_hour(self) -> float | None:
        return 3600 * self.images / self.seconds if self.images else None


# (work, parts, claim, advance) -> what became of the parts; `claim` is told the facts of the models before any part.
Engine = Callable[[WorkSettings, Sequence[Part], Callable[[Mapping[str, Any]], None], Advance], Iterator[Done]]

ENGINES = {"local": "textlens.train.recaption.engines:run_local", "ray": "textlens.train.recaption.ray_engine:run_ray"}


def recaption(settings: RecaptionSettings, engine: str = "local") -> Recaptioned:
    """Run, or go on. engine: "local", or "ray" on the cluster that RAY_ADDRESS names, else on this machine.

    Raises `InputError` for settings that cannot be used, a folder of another configuration, and a full disk.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; expected {' or '.join(ENGINES)}")
    run: Engine = load(ENGINES[engine])
    check_apart(settings.source, settings.folder)
    source = open_parts(
        settings.source, image=settings.image, text=settings.text, split=settings.split, part_size=settings.part_size
    )
    work = settings.work(source)
    started = time.perf_counter()
    with progress_bar("images") as bar:
        task = bar.add_task("recaptioning", total=source.size, note="")
        failed = 0

        def claim(facts: Mapping[str, Any]) -> None:
            nonlocal started
            claim_folder(settings.folder, settings.configuration(source, facts))
            started = time.perf_counter()

        def advance(done: int, bad: int) -> None:
            nonlocal failed
            failed += bad
            bar.update(task, advance=done, note=f"{failed} failed" if failed else "")

        outcomes, begun = [], []  # workers of Ray begin later than this process: once their models are loaded
        for done in run(work, source.parts, claim, advance):
            outcomes.append(done)
            begun.append(time.perf_counter() - done.seconds)
        seconds = time.perf_counter() - max(started, min(begun, default=started))
    with named_lock(settings.folder, CHECKS_NAME):
        return _finish(settings, source, outcomes, seconds)


def _finish(settings: RecaptionSettings, source: SourceParts, outcomes: Sequence[Done], seconds: float) -> Recaptioned:
    ledger, parts = Ledger(settings.folder), source.parts
    lines = [ledger.lines[part.name] for part in parts]
    there = {line["part"]: None for line in lines if line["error"] is None}
    tally = flag_all(settings.folder, list(there), list(settings.styles), settings.checks, settings.clip is not None)
    text_files = None
    if settings.write_txt is not None:
        text_files = write_text_files(
            settings.folder, list(there), settings.write_txt, overwrite=settings.overwrite_txt
        )
    gone = sorted(ledger.lines.keys() - {part.name for part in parts})
    notes = [source.note] if source.note else []
    if gone:
        notes.append(
            f"{len(gone)} parts in {settings.folder} are of shards that the source no longer has: {gone[0]}, …"
        )
    return Recaptioned(
        tally,
        [part for part in parts if part.name in there],
        [line["error"] for line in lines if line["error"] is not None],
        [f"{line['shard']}: {name}" for line in lines for name in line["repeated"]],
        notes,
        sum(done.rows for done in outcomes if done.new),
        seconds,
        text_files,
    )

"""Short and descriptive captions to teach a captioner, made of several human captions an image.

    python -m textlens.train.captions.caption_targets "webdataset:shards/*.tar" --text json:captions --out targets

By the rules of `prompting/caption_merging.py`. The captions lie in parquet files beside the data, one for each shard
(`caption_sidecars`), which `data.blend` of a settings file reads. `keep_STYLE` is false where too few words of the
caption are confirmed by another one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InputError
from ...progress import progress_bar
from ...prompting.caption_merging import Merged, descriptive_caption, short_caption
from ..data.base import UnreadableItemError
from ..data.files import FileData
from ..data.items import Items
from .caption_sidecars import write_captions

STYLES = ("short", "descriptive")
LEAST_SUPPORT = {"short": 0.75, "descriptive": 1 / 3}  # share of content words that another caption confirms
_ROWS = 10_000  # of a file, where the data has no shards


@dataclass(frozen=True)
class Part:
    """The items of one file. name: without ending."""

    name: str
    positions: range


def parts_of(items: Items) -> list[Part]:
    """The shards, or runs of rows."""
    if items.shards is None:
        starts = range(0, len(items), _ROWS)
        return [
            Part(f"captions-{n:05d}", range(start, min(start + _ROWS, len(items)))) for n, start in enumerate(starts)
        ]
    filled = [(first, last) for first, last in pairwise(items.shards.tolist()) if last > first]
    return [Part(items.named(first).shard, range(first, last)) for first, last in filled]


def target_row(items: Items, position: int, max_words: int) -> dict[str, Any]:
    """One row of a file: the item's own captions, and one of each style or the reason why there is none."""
    try:
        item = items.named(position)
    except UnreadableItemError as error:
        return {"shard": None, "key": None, "error": str(error)}
    row: dict[str, Any] = {"shard": item.shard or None, "key": item.names[0], "error": None}
    try:
        captions = items.read(position, image=False).captions()
        if len(captions) < 2:
            raise UnreadableItemError(f"{item.key}: it has one caption; expected several")
        made = {"short": short_caption(captions), "descriptive": descriptive_caption(captions, max_words=max_words)}
    except (UnreadableItemError, InputError) as error:
        return row | {"error": str(error)}
    row["original"] = list(captions)
    for style, merged in made.items():
        row |= _judged(style, merged)
    return row


def _judged(style: str, merged: Merged) -> dict[str, Any]:
    least = LEAST_SUPPORT[style]
    reasons = [] if merged.support >= least else [f"{merged.support:.2f} of its words confirmed; expected {least:.2f}"]
    return {style: merged.text, f"keep_{style}": not reasons, f"reasons_{style}": reasons}


def write_targets(items: Items, out: Path, max_words: int) -> dict[str, Any]:
    """Write all files; returns how many items, failures, and captions to keep there are, and their mean words."""
    _check_out(out)
    counts: Counter[str] = Counter()
    with progress_bar("items") as bar:
        task = bar.add_task("merging captions", total=len(items), note="")

        def rows(positions: Sequence[int]) -> Iterator[dict[str, Any]]:
            for position in positions:
                row = target_row(items, position, max_words)
                counts.update(_counted(row))
                bar.advance(task)
                yield row

        for part in parts_of(items):
            write_captions(out / f"{part.name}.parquet", rows(part.positions), STYLES)
    kept = {style: counts[style] for style in STYLES}
    words = {style: round(counts[f"words {style}"] / kept[style], 1) if kept[style] else None for style in STYLES}
    return {"items": len(items), "failed": counts["failed"], "kept": kept, "words": words}


def _counted(row: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter({"failed": int(row["error"] is not None)})
    for style in STYLES:
        if row.get(f"keep_{style}"):
            found.update({style: 1, f"words {style}": len(row[style].split())})
    return found


def _check_out(out: Path) -> None:
    if out.is_file() or any(out.glob("*.parquet")):
        raise InputError(f"{out} holds captions already; name another folder, or remove it")


def main(
    source: Annotated[str, typer.Argument(help='A source as in docs/data.md, such as "webdataset:shards/*.tar".')],
    out: Annotated[Path, typer.Option(help="Folder for the captions, a new one.")],
    text: Annotated[str, typer.Option(help='Column or field of the captions, such as "json:captions".')] = "text",
    image: Annotated[str, typer.Option(help="Column or file endings of the images.")] = "image",
    max_words: Annotated[int, typer.Option(min=5, help="Of a descriptive caption.")] = 40,
) -> None:
    """Write a short and a descriptive caption for every item that has several."""
    try:
        items = FileData(source, text=text, image=image, held_out_share=0.0).open().items
        print(json.dumps(write_targets(items, out, max_words)))
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)

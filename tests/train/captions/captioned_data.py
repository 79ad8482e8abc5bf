"""Two shards or a folder of small pictures with two captions each, and files of synthetic captions beside them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from textlens.train.captions.caption_sidecars import write_captions

STYLES = ("short", "descriptive")
SHARDS, ITEMS = 2, 20  # of each shard


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (6 * number, 200 - 4 * number, 7)).save(out, "PNG")
    return out.getvalue()


def own_captions(number: int) -> list[str]:
    return [f"picture {number}", f"image {number}"]


def write_shards(folder: Path) -> str:
    """The spec of s-0.tar and s-1.tar; keys are 00 to 19 in both."""
    for shard in range(SHARDS):
        with tarfile.open(folder / f"s-{shard}.tar", "w") as tar:
            for key in range(ITEMS):
                number = shard * ITEMS + key
                text = json.dumps({"captions": own_captions(number)}).encode()
                for name, content in ((f"{key:02d}.png", picture(number)), (f"{key:02d}.json", text)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return f"webdataset:{folder}/s-*.tar"


def write_folder(folder: Path) -> str:
    folder.mkdir()
    lines = []
    for number in range(ITEMS):
        (folder / f"{number:02d}.png").write_bytes(picture(number))
        lines.append(json.dumps({"file_name": f"{number:02d}.png", "text": own_captions(number)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return f"imagefolder:{folder}"


def synthetic_rows(shard: int, styles: Sequence[str] = STYLES) -> list[dict[str, Any]]:
    """One row an item; captions say their style and the number of the item."""
    rows = []
    for key in range(ITEMS):
        number = shard * ITEMS + key
        row: dict[str, Any] = {"shard": f"s-{shard}.tar", "key": f"{key:02d}", "original": own_captions(number)}
        for style in styles:
            row |= {style: f"{style} {number}", f"keep_{style}": True, f"reasons_{style}": []}
        rows.append(row)
    return rows


def write_synthetic(
    folder: Path, changes: Mapping[int, Mapping[str, Any]] | None = None, styles: Sequence[str] = STYLES
) -> str:
    """The folder of s-0.parquet and s-1.parquet. changes: number of an item -> values instead."""
    for shard in range(SHARDS):
        rows = synthetic_rows(shard, styles)
        for key, row in enumerate(rows):
            row |= (changes or {}).get(shard * ITEMS + key, {})
        write_captions(folder / f"s-{shard}.parquet", rows, styles)
    return str(folder)

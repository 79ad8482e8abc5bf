"""A folder of images for each class, as `classify_folder` takes them, made of images with captions by a rule.

    python -m textlens.evals.task_data.class_folders "webdataset:shards/*.tar" --text json:captions \
        --classes dog,bird,boat --out classes

An image belongs to a class if most of its captions name it as a noun, and none names another of the classes.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from ...errors import InputError
from ...progress import progress_bar
from ...prompting.faithfulness.content_words import caption_words
from ...train.data.base import UnreadableItemError
from ...train.data.files import FileData
from ...train.data.items import Items, RawItem


def class_of(captions: Sequence[str], classes: Sequence[str], share: float) -> str | None:
    """The class that at least `share` of the captions name, if no caption names another one."""
    named = [{*caption_words(text).nouns} & {*classes} for text in captions]
    counts = Counter(name for names in named for name in names)
    if len(counts) != 1:
        return None
    ((name, count),) = counts.items()
    return name if count >= share * len(captions) else None


def write_class_folders(
    items: Items, classes: Sequence[str], out: Path, *, share: float = 0.8, per_class: int | None = None
) -> dict[str, int]:
    """Write the images of each class into `out/CLASS`, the first `per_class` of them; returns how many there are.

    Raises `InputError` if `out` holds anything, and for a class that no image shows.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} holds files already; name another folder, or remove it")
    counts = dict.fromkeys(classes, 0)
    with progress_bar("items") as bar:
        task = bar.add_task("sorting", total=len(items), note="")
        for position in range(len(items)):
            bar.advance(task)
            try:
                name = class_of(items.read(position, image=False).captions(), classes, share)
                if name is None or counts[name] == per_class:
                    continue
                _copy(items.read(position), out / name / f"{position:06d}")
            except UnreadableItemError:
                continue
            counts[name] += 1
    if empty := [name for name, count in counts.items() if not count]:
        raise InputError(
            f"no image shows {', '.join(empty)} and no other class by {share:.0%} of its captions; expected nouns in "
            "the singular that captions use, or a lower --share"
        )
    return counts


def _copy(item: RawItem, path: Path) -> None:
    """The image's own bytes, with the ending of its format; as PNG where there are none."""
    decoded = item.decoded()  # an image that cannot be read is left out
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(item.image, Image.Image):
        decoded.save(path.with_suffix(".png"))
        return
    data = item.image if isinstance(item.image, bytes) else Path(str(item.image)).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        path.with_suffix(f".{str(image.format).lower()}").write_bytes(data)


def main(
    source: Annotated[str, typer.Argument(help='A source as in docs/data.md, such as "webdataset:shards/*.tar".')],
    classes: Annotated[str, typer.Option(help="Nouns in the singular, with commas: dog,bird,boat.")],
    out: Annotated[Path, typer.Option(help="Folder for the classes' folders, a new one.")],
    text: Annotated[str, typer.Option(help='Column or field of the captions, such as "json:captions".')] = "text",
    image: Annotated[str, typer.Option(help="Column or file endings of the images.")] = "image",
    share: Annotated[float, typer.Option(min=0, max=1, help="Of captions that have to name the class.")] = 0.8,
    per_class: Annotated[int | None, typer.Option(min=2, help="Images of each class at most.")] = None,
) -> None:
    """Sort captioned images into a folder for each class."""
    try:
        items = FileData(source, text=text, image=image, held_out_share=0.0).open().items
        names = list(dict.fromkeys(name.strip().lower() for name in classes.split(",") if name.strip()))
        typer.echo(json.dumps(write_class_folders(items, names, out, share=share, per_class=per_class)))
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)

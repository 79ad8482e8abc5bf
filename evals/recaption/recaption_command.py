"""`textlens recaption`: options, one call, the sheet to look at, numbers on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import escaped

if TYPE_CHECKING:
    from ...train.recaption.recaption import Recaptioned


def recaption(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help='Images, such as "webdataset:shards/*.tar" or imagefolder:photos/.'),
    ],
    out: Annotated[Path, typer.Argument(metavar="DST", help="Folder for the captions; the same one to go on.")],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", "-e", help="Encoder spec, or STYLE=SPEC for each style; {style} in a spec is the style's name."
        ),
    ] = None,
    style: Annotated[str, typer.Option(help="Names of the styles, with commas, such as short,descriptive.")] = "",
    image: Annotated[str, typer.Option(help="Column or file endings of the images.")] = "image",
    text: Annotated[
        str | None, typer.Option(help='Column or field of the original captions, such as "json:captions".')
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set.")] = "train",
    engine: Annotated[str, typer.Option(help="local, or ray on the cluster that RAY_ADDRESS names.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers on Ray; by default one for each GPU, or CPU where there is none.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    part_size: Annotated[
        int, typer.Option(min=1, help="Images in a file of captions, of sources without shards.")
    ] = 10_000,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Read failed images once more.")] = False,
    deny: Annotated[
        Path | None, typer.Option(help="File of words or phrases, one a line, that flag a caption.")
    ] = None,
    max_same: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images that may have one caption; ten may always.")
    ] = 0.01,
    clip: Annotated[
        str | None, typer.Option(help="CLIP that compares captions with the originals: MODEL/TAG or a folder.")
    ] = None,
    write_txt: Annotated[
        str | None, typer.Option(metavar="STYLE", help="Write this style beside the images: photo.jpg, photo.txt.")
    ] = None,
    overwrite_txt: Annotated[bool, typer.Option("--overwrite-txt", help="Replace text files of other words.")] = False,
    sheet: Annotated[int, typer.Option(min=0, help="Samples on DST/sheet.html; 0 for no sheet.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples on the sheet.")] = 0,
) -> None:
    """Write captions for every image of a data set, beside its own. Run it again to go on; several may run at once."""
    from ...train.recaption.caption_checks import Checks, read_deny_list
    from ...train.recaption.recaption import RecaptionSettings
    from ...train.recaption.recaption import recaption as run
    from ...train.recaption.style_specs import style_encoders
    from .caption_sheet import write_sheet

    styles = style_encoders(encoder or (), [name.strip() for name in style.split(",") if name.strip()])
    checks = Checks(read_deny_list(deny) if deny else (), max_same)
    settings = RecaptionSettings(
        source, out, styles, image, text, split, part_size, batch_size, clip, checks, retry_failed,
        workers=workers,
        write_txt=write_txt, overwrite_txt=overwrite_txt,
    )  # fmt: skip
    made = run(settings, engine)
    page = write_sheet(out, made.parts, made.tally, number=sheet, seed=seed) if sheet else None
    for note in made.notes:
        typer.echo(escaped(f"note: {note}"), err=True)
    for problem in made.problems:
        typer.echo(escaped(f"error: {problem}"), err=True)
    typer.echo(json.dumps({**_numbers(made), "sheet": page and str(page)}))
    if made.problems:
        raise typer.Exit(1 if made.captioned else 2)


def _numbers(made: Recaptioned) -> dict[str, Any]:
    """What stands on stdout: of the whole folder, then of this run."""
    styles = {
        style: {"written": one.written, "kept": one.kept, "flagged": one.flagged}
        for style, one in made.tally.styles.items()
    }
    per_hour = made.images_per_hour
    run: dict[str, Any] = {"images_now": made.images, "seconds": round(made.seconds, 1)}
    run["images_per_hour"] = None if per_hour is None else round(per_hour)
    whole: dict[str, Any] = {"rows": made.tally.rows, "failed": made.tally.failed, "bad_shards": len(made.bad_shards)}
    if made.text_files is not None:
        files = made.text_files
        whole["text_files"] = {"written": files.written, "there": files.there, "others": len(files.others)}
    return {**whole, "styles": styles, **run}

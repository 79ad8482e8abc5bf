"""`textlens describe`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..agent.tool_options import MaxPixels
from ..encoders.loading.limits import allowed_network
from ..errors import InputError
from ..progress import progress_bar
from .command_options import AsJson, Encoders, Images, Network, PrivateNetwork, Recursive
from .printing import (
    bytes_of_stdin,
    echo,
    error_in_options,
    exit_for,
    expanded,
    labelled,
    print_csv,
    print_error,
    print_json,
    print_notes,
)

if TYPE_CHECKING:
    from ..encoders.pipeline import Result

CSV_COLUMNS = ("image", "encoder", "text", "note", "error")


def describe(
    images: Images,
    encoder: Encoders = None,
    recursive: Recursive = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout: image, encoder, text, note, error.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a file of words for each image; subfolders are kept.")
    ] = None,
    sidecar: Annotated[
        Literal["txt", "json"] | None, typer.Option(help="Kind of the files in --out; by default txt.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Describe images anew whose file is in --out already.")
    ] = False,
    prompt: Annotated[
        str | None, typer.Option(help="What to ask of hf: encoders, such as 'What is on the table?' or 'a photo of'.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    max_pixels: MaxPixels = 64_000_000,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local, or ray on the cluster that RAY_ADDRESS names.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers on Ray; by default one for each GPU, or CPU where there is none.")
    ] = None,
    allow_network: Network = False,
    allow_private_network: PrivateNetwork = False,
    video: Annotated[
        bool, typer.Option("--video", help="Each argument is one video: an animated image, or a folder of frames.")
    ] = False,
) -> None:
    """Turn images into words: one line per image and encoder, or one file per image (--out)."""
    from ..encoders.cluster.ray_describe import describe_on_ray
    from ..encoders.description_files import DescriptionFiles
    from ..encoders.images import ImageLimits
    from ..encoders.pipeline import describe_stream, describe_videos
    from ..encoders.registry import DEFAULT_ENCODERS, check_encoder, load_encoder, takes_prompt

    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other; give one")
    if out is None and (sidecar or overwrite):
        raise InputError("--sidecar and --overwrite are about the files of --out; give --out FOLDER too")
    if engine == "ray" and video:
        raise InputError("--engine ray describes single images; leave it out for --video")
    if workers is not None and engine == "local":
        raise InputError("--workers is for --engine ray; give both, or none")
    specs = list(dict.fromkeys(encoder or DEFAULT_ENCODERS))
    for spec in specs:
        check_encoder(spec)
    if prompt is not None and not any(takes_prompt(spec) for spec in specs):
        raise InputError(f"--prompt is for hf: encoders; {', '.join(specs)} take none")
    names = bytes_of_stdin(images) if video else bytes_of_stdin(expanded(images, recursive))
    files = DescriptionFiles(out, sidecar or "txt") if out else None
    paths = files.paths(names, [] if video else [name for name in images if os.path.isdir(name)]) if files else []
    if not overwrite:
        names, paths = _without_those_there(names, paths)
    if not names:
        return
    limits = ImageLimits(max_pixels=max_pixels)
    network = allowed_network(allow_network, allow_private_network)
    if engine == "ray":
        rows = describe_on_ray(
            names, specs, prompt=prompt, batch_size=batch_size, limits=limits, allow_network=network, workers=workers
        )
    else:
        encoders = {spec: load_encoder(spec, prompt=prompt) for spec in specs}
        if video:
            rows = describe_videos(names, encoders, limits=limits)
        else:
            rows = describe_stream(names, encoders, batch_size=batch_size, limits=limits, allow_network=network)
    if files:
        rows = files.write_all(rows, paths, len(specs))
    form = "json" if as_json else "csv" if as_csv else "files" if files else "lines"
    failed, total = _print_rows(rows, form, len(names), len(specs))
    if files:
        echo(f"note: {files.written} files written to {files.folder}", err=True)
    exit_for(failed, total)


def _print_rows(rows: Iterable[Result], form: str, num_images: int, num_encoders: int) -> tuple[int, int]:
    """Print the rows as they come; how many of them failed, and of how many."""
    failed = total = 0
    notes: list[str | None] = []
    if form == "csv":
        print_csv(CSV_COLUMNS)
    with progress_bar("descriptions") as bar:
        task = bar.add_task("describing", total=num_images * num_encoders, note="")
        for row in rows:
            total += 1
            failed += row.error is not None
            bar.advance(task)
            if form == "json":
                print_json(row.as_json())
            elif form == "csv":
                record = error_in_options(row.as_json())
                print_csv([record[name] for name in CSV_COLUMNS])
            elif row.error is not None:
                print_error(row.error)
            elif row.description:
                if form == "lines":
                    line = labelled(row.image, row.encoder, row.description.text, num_images, num_encoders)
                    echo(line, keep="\n" if num_images * num_encoders == 1 else "")
                if row.description.note:
                    notes.append(labelled(row.image, row.encoder, row.description.note, num_images, num_encoders))
    print_notes(notes)
    return failed, total


def _without_those_there(names: list[Any], paths: list[Path]) -> tuple[list[Any], list[Path]]:
    """The images whose file is not there yet; says how many are."""
    new = [(name, path) for name, path in zip(names, paths, strict=True) if not os.path.exists(path)] if paths else []
    if not paths or len(new) == len(names):
        return names, paths
    there = next(path for path in paths if os.path.exists(path))
    count = len(names) - len(new)
    echo(f"note: {count} of {len(names)} files kept, such as {there}; --overwrite describes them anew", err=True)
    return [name for name, _ in new], [path for _, path in new]

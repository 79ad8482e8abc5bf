"""What commands read and print alike."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

import typer

from ..errors import InputError, escaped
from .option_names import in_options


def print_json(record: dict[str, Any]) -> None:
    # A file name may hold bytes that are not text; ASCII escapes keep every line valid.
    sys.stdout.write(json.dumps(error_in_options(record)) + "\n")
    sys.stdout.flush()


def error_in_options(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its "error", if it has one, in the words of the command line."""
    return {**record, "error": in_options(record["error"])} if record.get("error") else record


def print_csv(row: Sequence[str | None]) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(row)
    sys.stdout.flush()


def print_notes(notes: list[str | None]) -> None:
    for note in dict.fromkeys(note for note in notes if note):
        echo(f"note: {note}", err=True)


def echo(text: str, *, err: bool = False, keep: str = "") -> None:
    """Print a line of names, errors or words: whatever control characters are in it, it stays one (`errors.escaped`).

    keep: "\\n" for text that has lines of its own, and no name before it.
    """
    typer.echo(escaped(text, keep=keep), err=err)


def print_error(message: object) -> None:
    """One line on stderr, in the words of the command that runs."""
    echo(f"error: {in_options(str(message))}", err=True)


def labelled(image: str, encoder: str, text: str, num_images: int, num_encoders: int) -> str:
    """The text alone where it can only mean one thing, else with the names of image and encoder in front."""
    label = [image] * (num_images > 1) + [f"[{encoder}]"] * (num_encoders > 1)
    return f"{' '.join(label)}: {text}" if label else text


def show_warnings_once() -> None:
    """Python warnings as one line each, and one for each place in a library: a damaged file may cause thousands."""
    shown: set[tuple[type[Warning], str, int]] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        place = (category, filename, lineno)
        if place not in shown:
            shown.add(place)
            echo(f"warning: {message}", err=True)

    warnings.showwarning = show


def exit_for(failed: int, total: int) -> None:
    if failed:
        raise typer.Exit(2 if failed == total else 1)


def expanded(images: list[str], recursive: bool) -> list[str]:
    """Names of single images; says which subfolders are left out."""
    from ..encoders.images import expand_images, folders_inside

    for folder in [] if recursive else folders_inside(images):
        echo(f"note: the pictures in {folder} are left out; --recursive takes them", err=True)
    return expand_images(images, recursive=recursive)


def bytes_of_stdin(names: list[str]) -> list[Any]:
    """The names; where one is "-", the file on stdin in its place."""
    return [sys.stdin.buffer.read() if name == "-" else name for name in names]


def arguments(given: list[str]) -> list[str]:
    """The arguments; where one is "-", the lines of stdin in its place."""
    found: list[str] = []
    for argument in given:
        found += _lines_of_stdin() if argument == "-" else [argument]
    return found


def _lines_of_stdin() -> list[str]:
    try:
        return [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is no text ({error}); expected one line for each, in {sys.stdin.encoding}") from None

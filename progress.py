"""Progress of long work: a rich bar with rate and time left, on stderr, so that stdout holds results alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import escaped

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.text import Text


def print_note(text: str) -> None:
    """A line on stderr that begins with "note: ", whatever the text holds."""
    print(f"note: {escaped(text)}", file=sys.stderr, flush=True)


@contextmanager
def progress_bar(unit: str = "it", *, disable: bool = False) -> Iterator[Progress]:
    """A bar for one or more tasks. Use `bar.add_task(description, total=N)` and `bar.update(task, advance=n)`.

    Shown only where stderr is a terminal; `unit` names what is counted ("images", "steps").
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {unit}/s", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    off = disable or not console.is_terminal
    # rich writes lines of stdout to the console, which is stderr: right on one terminal, wrong where stdout is a file.
    one_terminal = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, disable=off, redirect_stdout=one_terminal) as bar:
        yield bar


@contextmanager
def paused(bar: Progress) -> Iterator[None]:
    """Takes the bar away while results are printed to the terminal that it stands on; they stay whole lines."""
    shown = bar.live.is_started and sys.stdout.isatty()
    if shown:
        bar.stop()
    try:
        yield
    finally:
        if shown:
            bar.start()

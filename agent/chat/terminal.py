"""A conversation on a terminal: the answers on stdout, word by word; tool calls, results and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from ...errors import InputError, escaped
from ...prompting.sanitize import one_line
from ..models.server import masked

_MAX_ARGUMENT, _MAX_RESULT = 100, 500  # characters


class Terminal:
    """Shows text of models and servers without control characters, and without the key, which a server may repeat."""

    def __init__(self, out: TextIO | None = None, notes: Console | None = None, *, key: str = "") -> None:
        self._out, self._notes, self._key = out or sys.stdout, notes or Console(stderr=True), key
        self._in_line, self._held = False, ""  # what may be the beginning of the key

    def words(self, text: str) -> None:
        """The next part of a streamed answer."""
        whole = masked(self._held + printable(text), self._key)
        longest = min(len(self._key) - 1, len(whole))
        held = next((size for size in range(longest, 0, -1) if self._key.startswith(whole[-size:])), 0)
        self._held = whole[len(whole) - held :]
        self._write(whole[: len(whole) - held])

    def end_line(self) -> None:
        self._write(self._held)
        self._held = ""
        if self._in_line:
            self._write("\n")

    def _write(self, shown: str) -> None:
        if shown:
            self._out.write(shown)
            self._out.flush()
            self._in_line = not shown.endswith("\n")

    def tool_call(self, name: str, arguments: Mapping[str, Any]) -> None:
        given = ", ".join(f"{key}={_shortened(repr(value), _MAX_ARGUMENT)}" for key, value in arguments.items())
        self.note(f"→ {_shortened(name, _MAX_ARGUMENT)}({given})", "cyan")

    def tool_result(self, text: str, *, failed: bool) -> None:
        self.note(f"← {_shortened(text, _MAX_RESULT)}", "red" if failed else "dim")

    def error(self, text: str) -> None:
        self.note(f"error: {text}", "red")

    def note(self, text: str, style: str = "dim") -> None:
        """A line on stderr."""
        self.end_line()
        self._notes.print(Text(masked(printable(text), self._key), style=style), soft_wrap=True)

    def typed_questions(self) -> Iterator[str]:
        """The lines of stdin; with a prompt and line editing on a terminal."""
        interactive = sys.stdin.isatty() and self._out is sys.stdout and sys.stdout.isatty()
        if interactive:
            with suppress(ImportError):  # Windows
                import readline  # noqa: F401  (line editing of `input`)
        while True:
            try:
                line = input("> " if interactive else "").strip()
            except EOFError:
                self._in_line = interactive
                self.end_line()
                return
            except UnicodeDecodeError as error:
                raise InputError(f"stdin is no text ({error}); expected questions, one a line") from error
            if line:
                yield line


def printable(text: str) -> str:
    """The text without what could move the cursor, hide or reorder text (`errors.escaped`)."""
    return "".join(char for char in text if char in "\n\t" or escaped(char) == char)


def _shortened(text: str, limit: int) -> str:
    line = one_line(text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"

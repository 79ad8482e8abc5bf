"""A conversation on a terminal: the answers on stdout, word by word; tool calls, results and errors on stderr."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from ...errors import InputError
from ...prompting.sanitize import one_line

_ARGUMENT_CHARS, _RESULT_CHARS = 100, 500


class Terminal:
    """Nothing that a model or a server wrote reaches the terminal as a control character."""

    def __init__(self, out: TextIO | None = None, notes: Console | None = None) -> None:
        self._out, self._notes = out or sys.stdout, notes or Console(stderr=True)
        self._in_line = False

    def words(self, text: str) -> None:
        """The next piece of an answer."""
        if shown := printable(text):
            self._out.write(shown)
            self._out.flush()
            self._in_line = not shown.endswith("\n")

    def end_line(self) -> None:
        if self._in_line:
            self.words("\n")

    def tool_call(self, name: str, arguments: Mapping[str, Any]) -> None:
        given = ", ".join(f"{key}={_shortened(repr(value), _ARGUMENT_CHARS)}" for key, value in arguments.items())
        self.note(f"→ {_shortened(name, _ARGUMENT_CHARS)}({given})", "cyan")

    def tool_result(self, text: str, *, failed: bool) -> None:
        self.note(f"← {_shortened(text, _RESULT_CHARS)}", "red" if failed else "dim")

    def error(self, text: str) -> None:
        self.note(f"error: {text}", "red")

    def note(self, text: str, style: str = "dim") -> None:
        """A line on stderr."""
        self.end_line()
        self._notes.print(Text(printable(text), style=style), soft_wrap=True)

    def typed_questions(self) -> Iterator[str]:
        """The lines of stdin up to its end; with a prompt and line editing where a person types them."""
        typed = sys.stdin.isatty() and self._out is sys.stdout and sys.stdout.isatty()
        if typed:
            with suppress(ImportError):  # there is none on Windows
                import readline  # noqa: F401  (it gives `input` its line editing)
        while True:
            try:
                line = input("> " if typed else "").strip()
            except EOFError:
                self._in_line = typed
                self.end_line()
                return
            except UnicodeDecodeError as error:
                raise InputError(f"stdin is no text ({error}); expected questions, one a line") from error
            if line:
                yield line


def printable(text: str) -> str:
    """The text without control characters, which could move the cursor, hide text or change what was typed."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cs"))


def _shortened(text: str, most: int) -> str:
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"

"""Errors of the Python functions in the words of the command line: `max_pixels` is `--max-pixels` there."""

from __future__ import annotations

import re
from contextvars import ContextVar

import typer
from typer.core import TyperCommand, TyperOption

from ..errors import TextlensError

_CLASS = r"(?:\b[A-Z]\w*\.)?"  # of `ImageLimits.max_pixels`
_VALUE = r"(?:=(?P<value>[\w./-]*\w))?"


class OptionNamesCommand(TyperCommand):
    """A command whose errors name its own options."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        token = _running.set(self)
        try:
            return super().invoke(ctx)
        except TextlensError as error:
            error.args = (in_options(str(error)), *error.args[1:])
            raise
        finally:
            _running.reset(token)


_running: ContextVar[TyperCommand | None] = ContextVar("_running", default=None)


def in_options(message: str, command: TyperCommand | None = None) -> str:
    """The message with the parameters of the command (default: the one that runs) written as options.

    `cut_long=True` is `--cut-long`, `count=3` is `--count 3`, `ImageLimits.max_pixels` is `--max-pixels`. A bare name
    without an underscore may be a word, and stays.
    """
    command = command or _running.get()
    options = {one.name: one for one in command.params if isinstance(one, TyperOption) and one.name} if command else {}
    if not options:
        return message
    names = "|".join(sorted(options, key=len, reverse=True))

    def written(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if value is None:
            return _longest(options[name].opts) if "_" in name else match[0]
        if not options[name].is_flag:
            return f"{_longest(options[name].opts)} {value}"
        if value in ("True", "False"):
            off = options[name].secondary_opts
            return _longest(off) if value == "False" and off else _longest(options[name].opts)
        return match[0]

    return re.sub(rf"(?<![\w./=-]){_CLASS}(?P<name>{names})\b(?!\.\w|=['\"]){_VALUE}", written, message)


def _longest(names: list[str]) -> str:
    return max(names, key=len)

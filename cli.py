"""The entry point of the command line: which commands there are, and what happens to their errors."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from .commands.option_names import OptionNamesCommand
from .commands.printing import echo, show_warnings_once
from .errors import TextlensError, reason
from .plugins import load, registered

app = typer.Typer(
    name="textlens",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

COMMANDS = {  # name -> the function of its arguments
    "describe": "textlens.commands.describe_command:describe",
    "recreate": "textlens.commands.recreate_command:recreate",
    "ask": "textlens.commands.answer_commands:ask",
    "classify": "textlens.commands.answer_commands:classify",
    "upsample": "textlens.commands.upsample_command:upsample",
    "chat": "textlens.commands.chat_commands:chat",
    "serve-llm": "textlens.commands.chat_commands:serve_llm",
    "mcp": "textlens.agent.mcp.mcp_command:mcp",
    "web": "textlens.agent.web.web_command:web",
    "eval": "textlens.commands.eval_commands:evaluate",
    "compare": "textlens.commands.eval_commands:compare",
    "report": "textlens.commands.eval_commands:report",
    "recaption": "textlens.evals.recaption.recaption_command:recaption",
    "train": "textlens.commands.train_commands:train",
    "import": "textlens.commands.train_commands:import_checkpoint",
    "memory": "textlens.commands.train_commands:memory",
}


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"textlens {version('textlens')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See images through text: turn images into words that any language model can use."""


for _name, _target in {**COMMANDS, **registered("COMMANDS")}.items():
    app.command(name=_name, cls=OptionNamesCommand)(load(_target))


def main() -> None:
    """The entry point: errors that are the caller's to mend are printed without a traceback and exit with 2."""
    if getattr(sys.stdout, "errors", None) == "strict":  # a file name may hold bytes that are not text
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    show_warnings_once()
    try:
        try:
            app()
        finally:  # here, where an error can still be told
            sys.stdout.flush()
    except TextlensError as error:
        _end(f"error: {error}")
    except BrokenPipeError:  # `textlens describe ... | head`
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:
        _end(f"error: {_told(error)}")


def _told(error: OSError) -> str:
    """What the system refused, on one line: a full disk, a folder that may not be written, a file that has gone."""
    what = reason(error)
    place = f" ({error.filename})" if error.filename is not None else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{what}{place}" + ("; make room, or write elsewhere" if full else "")


def _end(message: str) -> NoReturn:
    """Print an error and exit with 2. What stdout could not take is dropped, or Python would try again."""
    with suppress(OSError):
        echo(message, err=True)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(2) from None

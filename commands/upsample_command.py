"""`textlens upsample`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import InputError
from ..progress import paused, progress_bar
from .command_options import AsJson, Chat, LanguageModelSpec
from .printing import arguments, echo, exit_for, print_error, print_json, print_notes

if TYPE_CHECKING:
    from ..agent.reader.answers import Upsampling

_AT_ONCE = 16  # prompts that a language model gets together


def upsample(
    prompts: Annotated[list[str], typer.Argument(help="Short prompts; - reads them from stdin, one a line.")],
    llm: LanguageModelSpec = None,
    chat: Chat = None,
    mode: Annotated[
        Literal["rewrite", "append"],
        typer.Option(help="Rewrite the prompt, or keep it word for word and append details, before its flags."),
    ] = "rewrite",
    form: Annotated[
        Literal["plain", "a1111", "midjourney"],
        typer.Option("--format", help="How the result is written: as it came, for Automatic1111, or for Midjourney."),
    ] = "plain",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="How long a prompt the image generator reads, such as 77 for CLIP.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="What counts them: clip, or the hub id or folder of the generator's tokenizer.")
    ] = "clip",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another rewrite of the same prompt.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Turn short prompts for an image generator into detailed ones that keep every word's meaning.

    Weights, networks, flags and negatives of Automatic1111, ComfyUI, InvokeAI and Midjourney are kept as written.
    """
    from ..agent.models.registry import load_language_model
    from ..agent.reader.upsampler import token_counter
    from ..agent.reader.upsampler import upsample as rewrite

    given = arguments(prompts)
    if not given:
        raise InputError("no prompt was given; expected one as an argument, or on stdin with -")
    counter = token_counter(tokenizer) if max_tokens else None
    model, failed = load_language_model(llm, chat=chat), 0
    notes: list[str | None] = []
    with progress_bar("prompts") as bar:
        task = bar.add_task("rewriting", total=len(given), note="")
        for start in range(0, len(given), _AT_ONCE):  # printed as soon as they are there, so that Ctrl-C keeps them
            part = given[start : start + _AT_ONCE]
            made = rewrite(model, part, mode=mode, form=form, count_tokens=counter, token_limit=max_tokens, seed=seed)
            for one in made:
                with paused(bar):
                    _print_upsampling(one, as_json, form)
                failed += one.upsampled.error is not None
                notes.append(one.note)
            bar.advance(task, len(part))
    print_notes(notes)
    exit_for(failed, len(given))


def _print_upsampling(one: Upsampling, as_json: bool, form: str) -> None:
    from ..prompting.rewrites import FLAGS

    if as_json:
        print_json(one.as_json())
        return
    made = one.upsampled
    echo(made.prompt)
    if form == "a1111" and made.negative:
        echo(f"Negative prompt: {made.negative}")
    print_notes([f"{made.original}: {FLAGS[flag]}" for flag in made.flags])
    print_notes([f"{made.original}: {form} has nothing for {', '.join(made.dropped)}"] if made.dropped else [])
    if made.error:
        print_error(f"{made.original}: {made.error}")

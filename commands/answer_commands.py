"""`textlens ask` and `textlens classify`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..encoders.loading.limits import allowed_network
from ..errors import InputError
from ..progress import paused, progress_bar
from .command_options import (
    AsJson,
    Chat,
    Encoders,
    Images,
    LanguageModelSpec,
    Network,
    NumFewshot,
    PrivateNetwork,
    Recursive,
    Seed,
)
from .printing import arguments, bytes_of_stdin, echo, exit_for, expanded, print_error, print_json, print_notes

if TYPE_CHECKING:
    from ..agent.reader.answers import Answer

_AT_ONCE = 16  # queries that a language model gets together; their answers are printed as soon as they are there


def ask(
    image: Annotated[str, typer.Argument(help="Image file or data URL; http(s) with --allow-network; - for stdin.")],
    questions: Annotated[list[str], typer.Argument(help="Questions about it; - reads them from stdin, one a line.")],
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    chat: Chat = None,
    shots: Annotated[
        Path | None, typer.Option(help="JSON Lines: context or image, question, answer. Without: pseudo samples.")
    ] = None,
    num_fewshot: NumFewshot = None,
    seed: Seed = 0,
    allow_network: Network = False,
    allow_private_network: PrivateNetwork = False,
    as_json: AsJson = False,
) -> None:
    """Answer questions about an image, by a language model that sees it as words only."""
    from ..agent.reader.reader import ImageReader
    from ..agent.reader.shot_sources import question_shots

    demonstrations = question_shots(shots, num_fewshot, seed=seed)
    if image == "-" and "-" in questions:
        raise InputError("image and questions cannot both be on stdin; name the image's file")
    asked, (source,) = arguments(questions), bytes_of_stdin([image])
    if not asked:
        raise InputError("no question was given; expected one as an argument, or on stdin with -")
    reader = ImageReader.from_specs(
        encoder, llm, chat=chat, allow_network=allowed_network(allow_network, allow_private_network)
    )
    own = reader.described(demonstrations)
    batches = (reader.ask([source] * len(part), part, shots=own, seed=seed) for part in _parts(asked))
    _print_answers(batches, len(asked), lambda one: (one.question, one.as_json()), as_json)


def classify(
    images: Images,
    labels: Annotated[str, typer.Option(help="The classes, with commas between them: a,b,c.")],
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    chat: Chat = None,
    recursive: Recursive = False,
    shots: Annotated[Path | None, typer.Option(help="Folder with a folder of example images for each class.")] = None,
    num_fewshot: NumFewshot = None,
    unconstrained: Annotated[
        bool, typer.Option("--unconstrained", help="Let the model write freely; what is no label is an error.")
    ] = False,
    seed: Seed = 0,
    allow_network: Network = False,
    allow_private_network: PrivateNetwork = False,
    as_json: AsJson = False,
) -> None:
    """Sort images into classes of your own, by a language model that sees them as words only."""
    from ..agent.reader.reader import ImageReader
    from ..agent.reader.shot_sources import folder_shots
    from ..prompting.classification import ClassificationTemplate

    template = ClassificationTemplate(labels=tuple(label.strip() for label in labels.split(",")))
    if shots is None and num_fewshot:
        raise InputError(f"{num_fewshot} shots asked for, but no folder to draw them from; name one by --shots")
    demonstrations = folder_shots(shots, template.labels, num_fewshot, seed=seed) if shots else []
    sources = bytes_of_stdin(expanded(images, recursive))
    reader = ImageReader.from_specs(
        encoder, llm, chat=chat, allow_network=allowed_network(allow_network, allow_private_network)
    )
    asked: dict[str, Any] = {
        "template": template,
        "shots": reader.described(demonstrations),
        "constrained": not unconstrained,
    }
    batches = (reader.classify(part, template.labels, seed=seed, **asked) for part in _parts(sources))
    _print_answers(batches, len(sources), lambda one: (one.image, one.as_label_json()), as_json)


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _print_answers(
    batches: Iterable[Sequence[Answer]], total: int, told: Callable[[Answer], tuple[str, dict[str, Any]]], as_json: bool
) -> None:
    """Each batch as it is there: an answer as its record, or as text, named where there are several. Then the notes
    and the exit code.

    told: name and record of an answer.
    """
    failed = 0
    notes: list[str | None] = []
    with progress_bar("answers") as bar:
        task = bar.add_task("answering", total=total, note="")
        for batch in batches:
            with paused(bar):
                for answer in batch:
                    _print_answer(answer, *told(answer), several=total > 1, as_json=as_json)
            failed += sum(answer.error is not None for answer in batch)
            notes += [answer.note for answer in batch]
            bar.advance(task, len(batch))
    print_notes(notes)
    exit_for(failed, total)


def _print_answer(answer: Answer, name: str, record: dict[str, Any], *, several: bool, as_json: bool) -> None:
    if as_json:
        print_json(record)
    elif answer.answer is None:
        print_error(f"{name}: {answer.error}")
    else:
        echo(f"{name}: {answer.answer}" if several else answer.answer, keep="" if several else "\n")

"""`textlens ask` and `textlens classify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .command_options import AsJson, Encoders, Images, LanguageModelSpec, Network, NumFewshot, Recursive, Seed
from .printing import arguments, exit_for, expanded, print_json, print_notes

if TYPE_CHECKING:
    from ..agent.reader.answers import Answer


def ask(
    image: Annotated[str, typer.Argument(help="Image file or data URL; http(s) with --allow-network.")],
    questions: Annotated[list[str], typer.Argument(help="Questions about it; - reads them from stdin, one a line.")],
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    shots: Annotated[
        Path | None, typer.Option(help="JSON Lines: context or image, question, answer. Without: pseudo samples.")
    ] = None,
    num_fewshot: NumFewshot = None,
    seed: Seed = 0,
    allow_network: Network = False,
    as_json: AsJson = False,
) -> None:
    """Answer questions about an image, by a language model that sees it as words only."""
    from ..agent.reader.reader import ImageReader
    from ..agent.reader.shot_sources import question_shots

    demonstrations = question_shots(shots, num_fewshot, seed=seed)
    asked = arguments(questions)
    if not asked:
        raise InputError("no question was given; expected one as an argument, or on stdin with -")
    reader = ImageReader.from_specs(encoder, llm, allow_network=allow_network)
    answers = reader.ask([image] * len(asked), asked, shots=demonstrations, seed=seed)
    records = [answer.as_json() for answer in answers] if as_json else None
    _print_answers(answers, [answer.question for answer in answers], records)


def classify(
    images: Images,
    labels: Annotated[str, typer.Option(help="The classes, with commas between them: a,b,c.")],
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    recursive: Recursive = False,
    shots: Annotated[Path | None, typer.Option(help="Folder with a folder of example images for each class.")] = None,
    num_fewshot: NumFewshot = None,
    unconstrained: Annotated[
        bool, typer.Option("--unconstrained", help="Let the model write freely; what is no label is an error.")
    ] = False,
    seed: Seed = 0,
    allow_network: Network = False,
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
    names = expanded(images, recursive)
    reader = ImageReader.from_specs(encoder, llm, allow_network=allow_network)
    answers = reader.classify(
        names, template.labels, template=template, shots=demonstrations, constrained=not unconstrained, seed=seed
    )
    records = [answer.as_label_json() for answer in answers] if as_json else None
    _print_answers(answers, [answer.image for answer in answers], records)


def _print_answers(answers: Sequence[Answer], names: Sequence[str], records: Sequence[dict[str, Any]] | None) -> None:
    """Each answer as its record, or as text, named where there are several; then the notes and the exit code."""
    for record in records or ():
        print_json(record)
    for answer, name in zip(answers, names, strict=True) if records is None else ():
        if answer.answer is None:
            typer.echo(f"error: {name}: {answer.error}", err=True)
        else:
            typer.echo(f"{name}: {answer.answer}" if len(answers) > 1 else answer.answer)
    print_notes([answer.note for answer in answers])
    exit_for(sum(answer.error is not None for answer in answers), len(answers))

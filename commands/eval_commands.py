"""`textlens eval`, `compare` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .command_options import Chat, Encoders, LanguageModelSpec
from .printing import print_json, print_notes


def evaluate(
    tasks: Annotated[list[str], typer.Argument(help="Names of tasks, such as daquar, or YAML task files.")],
    encoder: Encoders = None,
    context: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="Published texts in a file, FILE:COLUMN[+COLUMN]; repeatable."),
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="Answers of another system to score: question_id and answer, or image_id and caption."),
    ] = None,
    llm: LanguageModelSpec = None,
    chat: Chat = None,
    num_fewshot: Annotated[str, typer.Option(help="Numbers of shots, with commas, such as 0,4,16.")] = "4",
    nearest_shots: Annotated[
        str | None,
        typer.Option(
            metavar="BY",
            help="Shots for each question: the nearest by question, image, words, or several, as question+image.",
        ),
    ] = None,
    first_words: Annotated[
        str | None,
        typer.Option(
            help="Rows with the first words of each context alone too: how many, with commas, such as 4,8,16."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Items of each task, drawn by --seed; by default all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other items (--limit) and other shots.")] = 0,
    data_dir: Annotated[Path, typer.Option(help="Folder that the paths of built-in tasks start from.")] = Path("."),
    output_path: Annotated[
        Path | None, typer.Option("--output-path", "-o", help="Folder for results.json, samples and caches.")
    ] = None,
    log_samples: Annotated[
        bool, typer.Option("--log-samples", help="Keep prompts, completions and thumbnails.")
    ] = False,
    floors: Annotated[
        bool, typer.Option(help="Rows without context, with another image's, and with the truth.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of results.json on stdout, instead of the table.")
    ] = False,
) -> None:
    """Measure words of images on benchmarks: questions, classes, captions; with floors and standard errors."""
    from ..agent.models.registry import chat_spec
    from ..evals.harness.evaluate import evaluate as run
    from ..evals.harness.results import as_table
    from ..evals.harness.runner import EvalSettings

    if log_samples and output_path is None:
        raise InputError("--log-samples needs --output-path, the folder to write them to")
    settings = EvalSettings(
        _counts("--num-fewshot", num_fewshot),
        seed,
        floors,
        output_path,
        log_samples=log_samples,
        first_words=_counts("--first-words", first_words, least=1) if first_words else (),
    )
    asked: dict[str, Any] = {"encoders": encoder or (), "contexts": context or (), "answers": answers or ()}
    asked["llm"] = chat_spec(llm, chat)
    results = run(tasks, settings, data_dir=data_dir, limit=limit, nearest_shots=nearest_shots, **asked)
    if as_json:
        print_json(results.model_dump())
    else:
        typer.echo(as_table(results.results))
    print_notes([f"{name}: {note}" for name, told in results.tasks.items() for note in told.notes])
    if results.failures:
        typer.echo(f"error: {results.failures} prompts have no answer; the same command asks them again", err=True)
        raise typer.Exit(1)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder that `textlens eval` wrote.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each row on stdout.")] = False,
) -> None:
    """Say whether two evaluations differ: paired differences on the items that both have."""
    from dataclasses import asdict

    from ..evals.harness.run_comparison import compare as difference
    from ..evals.harness.run_comparison import comparison_table

    rows = difference(first, second)
    if as_json:
        for row in rows:
            print_json(asdict(row))
    else:
        typer.echo(comparison_table(rows))


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that an evaluation wrote by --output-path.")],
    max_samples: Annotated[
        int, typer.Option(min=0, help="Samples to embed at most, evenly spaced; whole documents only.")
    ] = 2000,
) -> None:
    """Show an evaluation's results and samples as one HTML page, DIR/report.html. It opens without network."""
    from ..evals.report.page import write_report

    typer.echo(str(write_report(folder, max_samples)))


def _counts(option: str, text: str, least: int = 0) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < least:
        raise InputError(f"{option} is {text!r}; expected numbers from {least} with commas, such as {least},4,16")
    return list(dict.fromkeys(counts))

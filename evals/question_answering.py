"""Few-shot questions about images, which a language model knows by their words alone.

    python -m textlens.evals.question_answering questions.jsonl.gz images.tar --encoder coca --encoder decap --llm gemma

A row for each encoder, one for all together and, as floors, one without words and the commonest answer. The images of
shots are described by the same encoders, so that shots look like the query; all queries of a row share them. No shots
are pseudo samples: questions and answers without words. Accuracy is exact match; the standard error is clustered by
image, as is that of the difference from blank, which is paired. WUPS is not told: no package brings WordNet.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..agent.models.base import LanguageModel, Request
from ..agent.models.registry import load_language_model
from ..agent.reader.reading import Reading, read
from ..errors import InputError
from ..metrics.answer_match import exact_match
from ..metrics.standard_errors import mean_and_error
from ..progress import progress_bar
from ..prompting.fewshot import NUM_PSEUDO
from ..prompting.templates import Context, Shot, context_label
from ..prompting.vqa import VQATemplate
from .aligned_table import aligned, number
from .descriptions import describe_all
from .encoder_variants import load_variants
from .photos import JsonOption, SeedOption
from .question_files import ImageFiles, Question, QuestionSplit, load_questions, split_questions

BLANK, CONSTANT, ALL = "blank", "constant", "all"
_CHUNK = 512  # prompts sent at once
Words = Mapping[str, Mapping[str, str]]
"""Encoder -> name of an image -> its words."""


@dataclass(frozen=True)
class Row:
    """The answers of one kind of context and number of shots."""

    context: str  # an encoder's spec, "blank", "all" or "constant"
    num_fewshot: int
    right: tuple[bool, ...]  # for each question
    failures: int  # answers that do not parse, or were not given
    seconds: float
    prompt_tokens: int  # of all prompts


def contexts(words: Words, images: Sequence[str]) -> dict[str, dict[str, tuple[Context, ...]]]:
    """Row -> image -> context: blank, each encoder's words, and if there are several all of them, labelled."""
    rows: dict[str, dict[str, tuple[Context, ...]]] = {BLANK: dict.fromkeys(images, ())}
    for spec, texts in words.items():
        rows[spec] = {image: (Context(texts[image]),) for image in images}
    if len(words) > 1:
        rows[ALL] = {
            image: tuple(Context(texts[image], context_label(spec)) for spec, texts in words.items())
            for image in images
        }
    return rows


def draw_shots(candidates: Sequence[Question], num_fewshot: int, seed: int) -> list[Shot]:
    """One draw for all queries, of different images, without contexts yet; fewer shots are the first of more.

    0 gives pseudo samples, which show the form of an answer and no image. Raises `InputError` for too few images.
    """
    first: dict[str, Question] = {}
    for one in random.Random(seed).sample(candidates, len(candidates)):
        first.setdefault(one.image, one)
    drawn = list(first.values())[: num_fewshot or NUM_PSEUDO]
    if len(drawn) < num_fewshot:
        raise InputError(f"{num_fewshot} shots asked for, but there are only {len(drawn)} images; lower num_fewshot")
    return [Shot((), q.question, q.answer, q.image, image=q.image if num_fewshot else "") for q in drawn]


def answer(
    model: LanguageModel,
    template: VQATemplate,
    questions: Sequence[Question],
    context: Mapping[str, tuple[Context, ...]],
    shots: Sequence[Shot],
    *,
    max_tokens: int = 16,
    seed: int = 0,
) -> Iterator[Reading]:
    """Greedy answers in order, in chunks of prompts that share the shots. context: of each image; shots that name an
    image get its context."""
    own = [Shot(context[s.image], s.question, s.answer, s.id) if s.image else s for s in shots]
    request = Request(max_tokens, template.stop, 0.0, seed)
    for start in range(0, len(questions), _CHUNK):
        chunk = questions[start : start + _CHUNK]
        queries = [Shot(context[one.image], one.question, image=one.image) for one in chunk]
        yield from read(model, template, queries, [own] * len(chunk), request)


def constant_row(asked: Sequence[Question], candidates: Sequence[Question]) -> Row:
    """The floor of one answer to all: the commonest of the candidates."""
    common = Counter(one.answer for one in candidates).most_common(1)[0][0]
    right = tuple(exact_match(common, one.answers) for one in asked)
    return Row(f"{CONSTANT}: {common}", 0, right, 0, 0.0, 0)


def summary(row: Row, asked: Sequence[Question], blank: Row | None) -> dict[str, Any]:
    """Accuracy in percent with its standard error, and both for the difference from `blank`."""
    images = [one.image for one in asked]
    accuracy, error = mean_and_error([float(one) for one in row.right], images)
    made: dict[str, Any] = {
        "context": row.context, "num_fewshot": row.num_fewshot, "accuracy": 100 * accuracy, "stderr": 100 * error,
        "n": len(asked), "failures": row.failures,
        "prompts_s": len(asked) / row.seconds if row.seconds else None,
        "prompt_tokens": row.prompt_tokens / len(asked),
    }  # fmt: skip
    if blank and blank is not row:
        pairs = [float(one) - float(other) for one, other in zip(row.right, blank.right, strict=True)]
        made["above_blank"], made["above_blank_stderr"] = (100 * value for value in mean_and_error(pairs, images))
    return made


def evaluate(
    data: QuestionSplit,
    words: Words,
    model: LanguageModel,
    shots: Sequence[int],
    *,
    seed: int = 0,
    template: VQATemplate | None = None,
    log: Callable[[Mapping[str, Any]], object] = lambda entry: None,
) -> list[dict[str, Any]]:
    """A summary for each context and number of shots. words: of every image that is asked about or in a shot.

    log: called with each answer and its evidence. Raises `InputError` where there are too few images for the shots.
    """
    drawn = {count: draw_shots(data.candidates, count, seed) for count in dict.fromkeys(shots)}
    images = images_of(data, drawn)
    rows = [summary(constant_row(data.asked, data.candidates), data.asked, None)]
    with progress_bar("answers") as bar:
        for count, own in drawn.items():
            blank = None
            for name, context in contexts(words, images).items():
                task = bar.add_task(f"{name}, {count} shots", total=len(data.asked), note="")
                start, readings = time.perf_counter(), []
                for reading in answer(model, template or VQATemplate(), data.asked, context, own, seed=seed):
                    readings.append(reading)
                    bar.update(task, advance=1)
                right = [exact_match(r.answer, q.answers) for r, q in zip(readings, data.asked, strict=True)]
                tokens = sum(r.completion.prompt_tokens for r in readings if r.completion)
                failures = sum(r.answer is None for r in readings)
                row = Row(name, count, tuple(right), failures, time.perf_counter() - start, tokens)
                blank = blank or row
                rows.append(summary(row, data.asked, blank))
                for question, reading, correct in zip(data.asked, readings, right, strict=True):
                    log(_entry(row, question, reading, correct))
    return rows


def images_of(data: QuestionSplit, drawn: Mapping[int, Sequence[Shot]]) -> list[str]:
    """Every image that needs words, once."""
    shots = (shot.image for own in drawn.values() for shot in own if shot.image)
    return list(dict.fromkeys([*(one.image for one in data.asked), *shots]))


def _entry(row: Row, question: Question, reading: Reading, right: bool) -> dict[str, Any]:
    return {
        "context": row.context, "num_fewshot": row.num_fewshot, "image": question.image,
        "question": question.question, "answers": question.answers, "prompt": reading.prompt,
        "completion": reading.completion.text if reading.completion else None,
        "answer": reading.answer, "right": right, "error": reading.error, "note": reading.note,
    }  # fmt: skip


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row."""
    head = ["context", "shots", "accuracy", "±", "above blank", "±", "failures", "tokens", "prompts/s"]
    lines = [
        [
            str(row["context"]), str(row["num_fewshot"]), number(row["accuracy"]), number(row["stderr"]),
            number(row.get("above_blank")), number(row.get("above_blank_stderr")), str(row["failures"]),
            number(row["prompt_tokens"], 0), number(row["prompts_s"], 2),
        ]
        for row in rows
    ]  # fmt: skip
    return aligned(head, lines)


def main(
    questions: Annotated[Path, typer.Argument(help="JSON Lines of image, question, answers, split; may be gzipped.")],
    images: Annotated[Path, typer.Argument(help="Folder or tar file.")],
    encoder: Annotated[list[str] | None, typer.Option(help="Repeatable; decap@nnd is DeCap by nnd.")] = None,
    llm: Annotated[str, typer.Option(help="Language model, as of `textlens ask`.")] = "gemma",
    num_fewshot: Annotated[str, typer.Option(help="Numbers of shots, with commas.")] = "0,4,16",
    split: Annotated[str, typer.Option(help="Shots are from train. val: a fifth of train's images.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Questions, drawn by --seed; by default all.")] = None,
    seed: SeedOption = 0,
    quote: Annotated[bool, typer.Option(help="Words in quotes.")] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder of the words written so far.")] = None,
    log: Annotated[Path | None, typer.Option(help="JSON Lines file of all prompts and answers.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print accuracy by context and number of shots."""
    counts = _counts(num_fewshot)
    data = split_questions(load_questions(questions), split, limit=limit, seed=seed)
    drawn = {count: draw_shots(data.candidates, count, seed) for count in counts}
    names, files = images_of(data, drawn), ImageFiles(images)
    files.check(names)
    encoders = load_variants(encoder or [])
    if clash := {BLANK, ALL} & set(encoders):
        raise InputError(f"the name {min(clash)!r} is taken by a row")
    words = describe_all(len(names), lambda i: files.read(names[i]), encoders, cache)
    by_image = {spec: dict(zip(names, texts, strict=True)) for spec, texts in words.items()}
    model, template = load_language_model(llm), VQATemplate(quote=quote)
    entries: list[Mapping[str, Any]] = []
    rows = evaluate(data, by_image, model, counts, seed=seed, template=template, log=entries.append)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in entries), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"llm": model.spec, "split": split, "seed": seed, "quote": quote, "rows": rows}))
        return
    typer.echo(f"{len(data.asked)} questions of {split} on {len({q.image for q in data.asked})} images, {model.spec}")
    typer.echo(as_table(rows))


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 0:
        raise InputError(f"--num-fewshot is {text!r}; expected numbers with commas, such as 0,4,16")
    return counts


if __name__ == "__main__":
    typer.run(main)

"""The small language model on the made world's test split.

    python -m textlens.scenes.evals.language_model_answers --help

Questions with the scene's descriptive caption as context (the ceiling of any encoder), with other contexts, and with
none, beside the majority floor; then whether shots are read: four shots of a convention that training never showed,
against none.

VQA accuracy: min(1, matches among the other nine annotators / 3), mean over the ten; texts are compared in lower case.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...encoders.registry import WEIGHTS, load_encoder
from ...errors import InputError
from ...prompting.fewshot import pseudo_shots
from ...prompting.templates import PAPER_END, Context, Shot, Template, context_label
from ...prompting.vqa import VQATemplate
from ..language_model.conventions import FAMILIES
from ..language_model.prompts import LanguagePrompts, PromptSettings
from ..questions import Question, questions
from ..scene import scene_at, scene_rng
from ..world import COLOURS, NOUNS, Scene, phrase, plural
from .tables import markdown
from .testbed import SEED, captions_of, pictures

NUM_FEWSHOT = 4
TEMPLATE = VQATemplate(end=PAPER_END)  # as the model was trained
Complete = Callable[[Sequence[str]], Sequence[str]]
"""What a language model writes after each prompt, in order; greedily, for the same answers each time."""
Describe = Callable[[Sequence[Scene]], Sequence[tuple[Context, ...]]]
"""The contexts of scenes, in order."""


@dataclass(frozen=True)
class Asked:
    """A scene, and one question about it."""

    scene: Scene
    question: Question


@dataclass(frozen=True)
class Row:
    """Accuracy of one way to answer, by type of question and over "all"; failures: share of answers not parsed."""

    name: str
    accuracy: Mapping[str, float]
    failures: float = 0.0


def draw_questions(number: int, split: str = "test", seed: int = SEED) -> list[Asked]:
    """One question of every type that the scene allows, about each of the first `number` scenes of a split."""
    asked = []
    for index in range(number):
        scene, rng = scene_at(index, split, seed), scene_rng(split, seed, index, "questions")
        by_type: dict[str, list[Question]] = defaultdict(list)
        for question in questions(scene, rng):
            by_type[question.type].append(question)
        asked += [Asked(scene, rng.choice(choices)) for choices in by_type.values()]
    return asked


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """Of one answer against ten annotators' (VQA v2), without the official processing of punctuation and articles."""
    said = [one.strip().lower() for one in answers]
    matches = said.count(answer.strip().lower())
    return sum(min(1.0, (matches - (one == answer.strip().lower())) / 3) for one in said) / len(said)


def ask(
    name: str,
    complete: Complete,
    asked: Sequence[Asked],
    describe: Describe,
    *,
    shots: Sequence[Shot] = (),
    template: Template | None = None,
) -> Row:
    """Answer all questions, each scene described by `describe`, and score the answers."""
    template = template or TEMPLATE
    contexts = describe([one.scene for one in asked])
    queries = [Shot(context, one.question.question) for one, context in zip(asked, contexts, strict=True)]
    written = complete([template.render(query, shots) for query in queries])
    if len(written) != len(queries):
        raise InputError(f"got {len(written)} completions for {len(queries)} prompts; expected one for each")
    return score(name, asked, [template.parse(text).answer for text in written])


def score(name: str, asked: Sequence[Asked], answers: Sequence[str | None]) -> Row:
    """Accuracy by type; an answer of None, which could not be parsed, is wrong and counted as a failure."""
    by_type: dict[str, list[float]] = {"all": []}
    for one, answer in zip(asked, answers, strict=True):
        accuracy = 0.0 if answer is None else vqa_accuracy(answer, one.question.answers)
        by_type["all"].append(accuracy)
        by_type.setdefault(one.question.type, []).append(accuracy)
    failures = sum(answer is None for answer in answers) / max(1, len(answers))
    return Row(name, {kind: sum(found) / max(1, len(found)) for kind, found in by_type.items()}, failures)


def true_captions(scenes: Sequence[Scene]) -> list[tuple[Context, ...]]:
    """The descriptive caption: all that is true of a scene."""
    return [(Context(text),) for text in captions_of(scenes)]


def no_context(scenes: Sequence[Scene]) -> list[tuple[Context, ...]]:
    return [()] * len(scenes)


def encoder_contexts(specs: Sequence[str]) -> Describe:
    """What encoders write of the drawn scenes, labelled if there are several."""
    encoders = [(context_label(spec) if len(specs) > 1 else "", load_encoder(spec)) for spec in specs]

    def describe(scenes: Sequence[Scene]) -> list[tuple[Context, ...]]:
        distinct = list(dict.fromkeys(scenes))  # several questions are about one scene
        drawn = pictures(distinct)
        texts = [[Context(one.text, label) for one in encoder.describe(drawn)] for label, encoder in encoders]
        found = dict(zip(distinct, zip(*texts, strict=True), strict=True))
        return [found[scene] for scene in scenes]

    return describe


def example_shots(describe: Describe, number: int = NUM_FEWSHOT) -> list[Shot]:
    """Demonstrations about train scenes, the same for all queries, as `describe` gives their contexts."""
    asked = random.Random(SEED).sample(draw_questions(4 * number, "train"), number)
    contexts = describe([one.scene for one in asked])
    pairs = zip(asked, contexts, strict=True)
    return [Shot(context, one.question.question, one.question.answer) for one, context in pairs]


def majority_floor(asked: Sequence[Asked], train: Sequence[Asked]) -> Row:
    """The commonest answer of `train` to each form of question ("Is there a …?"): what knowing the questions and no
    image gives. An answer that is one of the things asked about counts as "the first", "the second"."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in train:
        form, things = _form(one.question.question)
        counts[form][_relative(one.question.answer, things)] += 1
    answers = []
    for one in asked:
        form, things = _form(one.question.question)
        common = counts[form].most_common(1)[0][0] if form in counts else None
        named = {f"#{i}": thing for i, thing in enumerate(things)}
        answers.append(named.get(common, common) if common else None)
    return score("majority answer", asked, answers)


_NAMES = {name: noun for noun in NOUNS for name in (phrase(noun), plural(noun))}
_NAMED = re.compile(r"\b(?:an? )?(" + "|".join(sorted(_NAMES, key=lambda name: -len(name))) + r")\b")
_COLOURED = re.compile(r"\b(" + "|".join(COLOURS) + r")\b")


def _form(question: str) -> tuple[str, list[str]]:
    """The question without its nouns and colours, and its nouns in order."""
    things = [_NAMES[name] for name in _NAMED.findall(question)]
    return _COLOURED.sub("@", _NAMED.sub("#", question)), things


def _relative(answer: str, things: Sequence[str]) -> str:
    return f"#{things.index(answer)}" if answer in things else answer


@dataclass(frozen=True)
class Mapped:
    """Share of exact answers under unseen conventions of one family, with shots and without."""

    family: str
    with_shots: float
    without: float


def unseen_conventions(
    complete: Complete, number: int = 100, num_shots: int = NUM_FEWSHOT, families: Sequence[str] = FAMILIES
) -> list[Mapped]:
    """For each family, `number` questions of test scenes: exact matches with `num_shots` shots, and with none."""
    prompts = LanguagePrompts(PromptSettings(), split="test")
    rows = []
    for family in families:
        pairs = [prompts.mapped(index, SEED, family, num_shots) for index in range(number)]
        shares = []
        for examples in zip(*pairs, strict=True):
            written = complete([example.prompt for example in examples])
            read = [TEMPLATE.parse(text).answer for text in written]
            shares.append(sum(a == example.answer for a, example in zip(read, examples, strict=True)) / number)
        rows.append(Mapped(family, *shares))
    return rows


def folder_completer(folder: Path, *, max_tokens: int = 24, batch_size: int = 16) -> Complete:
    """Greedy writing by a transformers folder, in process, up to where a VQA answer ends."""
    from ...agent.models.transformers import InProcessModel

    model = InProcessModel.from_pretrained(folder, batch_size=batch_size)

    def complete(prompts: Sequence[str]) -> list[str]:
        stop = TEMPLATE.stop
        return [one.text for one in model.complete(prompts, max_tokens=max_tokens, stop=stop, temperature=0.0, seed=0)]

    return complete


def table(rows: Sequence[Row]) -> str:
    """VQA accuracy in percent, one line per row, one column per type of question."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row.accuracy))
    shares = ((row.name, [*(row.accuracy.get(kind) for kind in kinds), row.failures]) for row in rows)
    lines = ([name, *("-" if one is None else f"{100 * one:.1f}" for one in found)] for name, found in shares)
    return markdown(["VQA accuracy", *kinds, "not parsed"], lines)


def mapped_table(rows: Sequence[Mapped], num_shots: int = NUM_FEWSHOT) -> str:
    """Exact answers in percent under conventions that training never showed."""
    both = ((row.family, 100 * row.with_shots, 100 * row.without) for row in rows)
    lines = ([family, f"{shown:.1f}", f"{alone:.1f}", f"{shown - alone:+.1f}"] for family, shown, alone in both)
    return markdown(["unseen convention", f"{num_shots} shots", "0 shots", "points gained"], lines)


def main(
    folder: Annotated[Path, typer.Argument(help="A trained language model.")] = WEIGHTS / "language_model",
    number: Annotated[int, typer.Option(min=1, help="Test scenes.")] = 200,
    mapped: Annotated[int, typer.Option(min=1, help="Questions of each family of conventions.")] = 100,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Encoders that describe the scenes, in one context.")
    ] = None,
    num_fewshot: Annotated[int, typer.Option(min=1, help="Shots before a question about a scene.")] = NUM_FEWSHOT,
) -> None:
    """Print both tables of a language model on the made world's test split."""
    complete, asked = folder_completer(folder), draw_questions(number)
    shots = example_shots(true_captions, num_fewshot)
    rows = [ask("descriptive captions", complete, asked, true_captions, shots=shots)]
    if encoder:
        describe = encoder_contexts(encoder)
        rows.append(ask(" + ".join(encoder), complete, asked, describe, shots=example_shots(describe, num_fewshot)))
    blind = pseudo_shots(shots, len(shots))
    rows.append(ask("blank context", complete, asked, no_context, shots=blind))
    rows.append(majority_floor(asked, draw_questions(10 * number, "train")))
    typer.echo(table(rows) + "\n")
    typer.echo(mapped_table(unseen_conventions(complete, mapped)))


if __name__ == "__main__":
    typer.run(main)

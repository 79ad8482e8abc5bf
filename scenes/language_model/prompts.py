"""What the small language model is trained on: prompts as `prompting/` renders them, over scenes of the made world.

Tasks, contexts, number of shots and the convention of the answers change from prompt to prompt; within one prompt all
examples agree. An example is a pure function of (settings, seed, index).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, NamedTuple

from pydantic import Field

from ...errors import InputError
from ...prompting.templates import Shot
from ...train.engine.randomness import sample_rng
from ...train.engine.recipe import Count
from ...train.engine.settings import settings
from ..captions import STYLES
from ..questions import TYPES
from .contexts import BLANK, Pool, View, draw_view
from .conventions import FAMILIES, PLAIN
from .encoder_texts import EncoderTexts
from .tasks import Item, Task, ask, classify, interview, upsample, without_shot_contexts, write_captions

Weights = Mapping[str, Annotated[float, Field(ge=0)]]
Share = Annotated[float, Field(ge=0, le=1)]
TASKS = ("vqa", "interview", "classification", "captioning", "upsampling")


@settings
class PromptSettings:
    """What prompts are made of, by weight."""

    # of `TASKS`; an "interview" is several questions about one image
    tasks: Weights = field(
        default_factory=lambda: {"vqa": 0.65, "classification": 0.15, "captioning": 0.1, "upsampling": 0.1}
    )
    # of caption styles, encoders (where there are texts of theirs), and "blank"
    contexts: Weights = field(
        default_factory=lambda: {
            **{"descriptive": 4, "spoken": 2, "listed": 2, "located": 2, "loose": 3, "short": 1, "web": 0.5},
            **{"dediffusion": 4, "decap": 4, "coca": 2, BLANK: 1},
        }
    )
    # of "plain" and the families of `conventions.FAMILIES`, for questions and interviews
    conventions: Weights = field(
        default_factory=lambda: {"plain": 5, "names": 1.5, "pairs": 1, "affix": 1, "form": 1, "numbers": 0.5}
    )
    # question type -> how many times as often it is asked as others, in plain words
    often: Mapping[str, Count] = field(default_factory=dict)
    several: Share = 0.3  # of prompts with two or three descriptions of each image
    pseudo: Share = 0.1  # of prompts whose shots have blank contexts, as zero-shot prompts have them
    max_shots: Annotated[int, Field(ge=0)] = 8  # 0 to so many, equally often
    scenes: Count = 200_000  # of the split that the prompts draw from

    def __post_init__(self) -> None:
        always = (*STYLES, BLANK)  # what there is without texts of encoders
        for name, weights, known in (
            ("tasks", self.tasks, TASKS),
            ("conventions", self.conventions, ("plain", *FAMILIES)),
            ("contexts", {one: self.contexts[one] for one in always if one in self.contexts}, always),
            ("often", {"what": 1, **self.often}, TYPES),
        ):
            if set(weights) - set(known) or not sum(weights.values()) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected weights above 0 of {', '.join(known)}")


class ShotText(NamedTuple):
    """A demonstration in two pieces: up to its answer, and the answer. told: what stands before it says how the answer
    is written, so that it can be learnt from."""

    opening: str
    answer: str
    told: bool


@dataclass(frozen=True)
class Example:
    """One prompt in pieces, and what is to follow: `prompt` is what a template renders, `target` ends in a stop mark.

    kind: "vqa/colour", "classification", ...; family: of the convention; answer: what a parser reads out of `target`.
    """

    kind: str
    family: str
    head: str
    shots: tuple[ShotText, ...]
    query: str
    target: str
    answer: str

    @property
    def prompt(self) -> str:
        return self.head + "".join(f"{shot.opening}{shot.answer}\n\n" for shot in self.shots) + self.query

    def segments(self, *, shots: bool = True) -> Iterator[tuple[str, bool]]:
        """(text, whether the loss counts it), in order: all of prompt and target. shots: count their answers, too,
        where they are told."""
        yield self.head, False
        for shot in self.shots:
            yield shot.opening, False
            yield shot.answer, shots and shot.told
            yield "\n\n", False
        yield self.query, False
        yield self.target, True


@dataclass(frozen=True)
class LanguagePrompts:
    """Examples without end over the scenes of a split.

    encoder_texts: of train scenes, by number, for contexts that are named after encoders; {} for none.
    """

    settings: PromptSettings
    encoder_texts: EncoderTexts = field(default_factory=dict, repr=False)
    split: str = "train"

    def example(
        self, index: int, seed: int, *, length: Callable[[str], int] = len, max_length: int | None = None
    ) -> Example:
        """Example number `index`. length, max_length: a measure of text, such as its tokens, and how much prompt and
        target may take together; shots that do not fit are left out, the first ones first.

        Raises `InputError` where not even the query fits.
        """
        rng = sample_rng(seed, index)
        task = self._task(_drawn(self.settings.tasks, rng), rng, rng.randint(0, self.settings.max_shots))
        return _fitted(task, length, max_length)

    def mapped(self, index: int, seed: int, family: str, num_shots: int = 4) -> tuple[Example, Example]:
        """A question whose answer has a convention that training never shows: with shots that tell it, and without any.
        Every image has its descriptive caption as context."""
        rng = sample_rng(seed, index, stream=FAMILIES.index(family) + 1)
        task = ask(rng, View(self._pool, ("descriptive",), False, rng), family, num_shots, held_out=True)
        return _example(task, task.items[:-1]), _example(task, ())

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self.split, self.settings.scenes, self.encoder_texts)

    def _task(self, name: str, rng: random.Random, number: int) -> Task:
        view = draw_view(self._pool, self.settings.contexts, self.settings.several, rng)
        if name == "upsampling":
            return upsample(rng, view, min(number, _MOST_UPSAMPLED))
        if name == "classification":
            return classify(rng, view, number)
        # a blank context gives no answer, so that no shot could show how it is written
        family = _drawn(self.settings.conventions, rng) if view.sources else "plain"
        types = tuple(kind for kind in TYPES for _ in range(self.settings.often.get(kind, 1)))
        if name == "interview":
            return interview(rng, view, family, types)
        if name == "captioning":
            task = write_captions(rng, view, number)
        else:
            task = ask(rng, view, family if number else "plain", number, types)
        plain = task.convention is PLAIN
        return without_shot_contexts(task) if plain and rng.random() < self.settings.pseudo else task


_MOST_UPSAMPLED = 4  # such shots are long


def _drawn(weights: Mapping[str, float], rng: random.Random) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _fitted(task: Task, length: Callable[[str], int], max_length: int | None) -> Example:
    """The example with as many shots as fit, without the first ones if need be; one that shows how the query's answer
    is written stays to the last."""
    shots = list(task.items[:-1])
    example = _example(task, shots)
    while max_length is not None and length(example.prompt + example.target) > max_length:
        if task.fixed and not shots:
            task = replace(task, fixed=task.fixed[1:])
        elif not shots:
            raise InputError(f"a prompt without shots takes more than {max_length}; raise the limit")
        else:
            value = task.items[-1].value
            last_telling = shots[0].value == value and all(item.value != value for item in shots[1:])
            shots.pop(1 if last_telling and len(shots) > 1 else 0)
        example = _example(task, shots)
    return example


def _example(task: Task, shots: Sequence[Item]) -> Example:
    """The query with these shots, in the pieces that the template writes."""
    template, query = task.template, task.items[-1]
    written = [_shot(task, item) for item in shots]
    opening, target = _pieces(task, _shot(task, query))
    demonstrations = []
    for i, (item, shot) in enumerate(zip(shots, written, strict=True)):
        demonstrations.append(ShotText(*_pieces(task, shot), told=_is_told(task, item, shots[:i])))
    fixed = tuple(ShotText(*_pieces(task, shot), told=False) for shot in task.fixed)
    stopped = target if target.endswith(template.choice_stop) else f"{target}\n"
    answer = template.parse(stopped).answer
    assert answer is not None, f"the answer of a training example cannot be parsed: {stopped!r}"
    return Example(
        query.kind, task.convention.family, template.prefix(), (*fixed, *demonstrations), opening, stopped, answer
    )


def _shot(task: Task, item: Item) -> Shot:
    return Shot(item.context, item.question, task.convention.write(item.value))


def _pieces(task: Task, shot: Shot) -> tuple[str, str]:
    """An example up to its answer, and the rest."""
    opening = "\n".join(task.template.example(replace(shot, answer=None)))
    whole = "\n".join(task.template.example(shot))
    assert whole.startswith(opening), "a template's open example is no beginning of its full one"
    return opening, whole[len(opening) :]


def _is_told(task: Task, item: Item, before: Sequence[Item]) -> bool:
    if task.pseudo or (not before and not (task.convention is PLAIN and task.told_alone)):
        return False
    by_value = task.convention.needs_value or (item.kind == "classification" and not task.told_alone)
    return not by_value or any(one.value == item.value for one in before)

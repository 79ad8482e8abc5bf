"""The tasks that prompts of the made world put: questions, classes, captions, detailed descriptions. A leaf: no torch.

Each function draws the examples of one prompt, query last, as `Item`s; how answers are written, and what stands as
context, is chosen elsewhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from ...prompting.captioning import CaptionTemplate
from ...prompting.classification import ClassificationTemplate
from ...prompting.templates import PAPER_END, Context, Shot, Template
from ...prompting.upsampling import WORKED_PAIRS, UpsampleTemplate
from ...prompting.vqa import VQA_PSEUDO, VQATemplate
from ..captions import COUNT_WORDS, captions
from ..questions import TYPES, Question, questions
from ..world import Scene, article, phrase, plural
from .contexts import ATTRIBUTES, View
from .conventions import PLAIN, QUESTION_TYPES, Convention, draw_convention, made_up_names

_TRIES = 500  # scenes looked at for one that fits
_DATASETS = ("MS COCO", "Flickr30k", "NoCaps", "Scenes", "Web")
_PSEUDO = 0.7  # of questions without shots, as `ask` puts them
_QUOTED = 0.7  # the default of the templates; the paper's formats, for the rest, have no quotes
_INTERVIEW = (4, 16)  # questions
_DRAWS = 6  # of the questions that a scene allows


@dataclass(frozen=True)
class Item:
    """One example before it is written: value is the answer as such, `kind` the task and type of question."""

    kind: str
    context: tuple[Context, ...]
    question: str
    value: str


@dataclass(frozen=True)
class Task:
    """The examples of one prompt, query last.

    told_alone: plain answers need no shot before them. pseudo: shots without context, which tell nothing but the form.
    fixed: shots that stand before all others; the loss never counts them.
    """

    template: Template
    items: Sequence[Item]
    convention: Convention = PLAIN
    told_alone: bool = True
    pseudo: bool = False
    fixed: Sequence[Shot] = ()


def without_shot_contexts(task: Task) -> Task:
    """The same with pseudo samples for shots."""
    shots = [replace(item, context=()) for item in task.items[:-1]]
    return replace(task, items=[*shots, task.items[-1]], pseudo=True)


def ask(
    rng: random.Random,
    view: View,
    family: str,
    number: int,
    types: Sequence[str] = tuple(TYPES),
    *,
    held_out: bool = False,
) -> Task:
    """Questions: of these types in plain words, each as often as it stands there, or of one type under a convention of
    another `family`, where shots tell how the query's answer is written. held_out: a convention that training never
    shows. Without shots the pseudo samples of `ask` mostly stand in their place."""
    convention = draw_convention(family, rng, held_out=held_out)
    if convention is not PLAIN:
        types = (rng.choice(QUESTION_TYPES[convention.family]),)
    template = VQATemplate(quote=rng.random() < _QUOTED, end=PAPER_END)
    shots = [_question(rng, view, types) for _ in range(number)]
    values = {shot.value for shot in shots}
    fixed = VQA_PSEUDO if not number and rng.random() < _PSEUDO else ()
    for _ in range(_TRIES):
        query = _question(rng, view, types)
        if not convention.needs_value or query.value in values:
            return Task(template, [*shots, query], convention, fixed=fixed)
    return Task(template, [*shots, query], fixed=fixed)


def interview(rng: random.Random, view: View, family: str, types: Sequence[str] = tuple(TYPES)) -> Task:
    """Several questions about one image, whose context stands once, before them: a form for training alone, where a
    token of the prompt teaches several times as much as in questions that each have an image. Types take turns, since a
    scene allows many times as many questions for yes or no as for a place; in plain words these `types`, each as often
    in a turn as it stands there, else those that a convention of the `family` goes with."""
    convention = draw_convention(family, rng)
    types = QUESTION_TYPES.get(convention.family, types)
    for _ in range(_TRIES):
        scene, context = view.see()
        asked = {one.question: one for _ in range(_DRAWS) for one in questions(scene, rng) if one.type in types}
        if len(asked) >= min(_INTERVIEW):
            break
    by_type: dict[str, list[Question]] = {}
    for one in rng.sample(list(asked.values()), len(asked)):
        by_type.setdefault(one.type, []).append(one)
    often = Counter(types)
    turns = [(i // often[kind], one) for kind, ones in by_type.items() for i, one in enumerate(ones)]
    chosen = [one for _, one in sorted(turns, key=itemgetter(0))][: rng.randint(*_INTERVIEW)]
    rng.shuffle(chosen)
    if convention.needs_value:  # another answer tells how the last one is written
        values = Counter(one.answer for one in chosen)
        told = [one for one in chosen if values[one.answer] > 1]
        if told:
            chosen.remove(told[-1])
            chosen.append(told[-1])
        else:
            convention = PLAIN
    items = [Item("interview", (), one.question, one.answer) for one in chosen]
    template = _InterviewTemplate(quote=rng.random() < _QUOTED, end=PAPER_END, context=context)
    return Task(template, items, convention)


@dataclass(frozen=True, kw_only=True)
class _InterviewTemplate(VQATemplate):
    """Questions and answers alone; the one image's context is part of the head."""

    context: tuple[Context, ...]

    @property
    def head(self) -> str:
        return "\n".join([f"{self.instruction}\n", *self.context_lines(self.context_field, self.context)])

    def example(self, shot: Shot) -> list[str]:
        _, *lines = super().example(replace(shot, context=()))
        return lines


def _question(rng: random.Random, view: View, types: Sequence[str]) -> Item:
    kind = rng.choice(types)
    for _ in range(_TRIES):
        scene, context = view.see()
        asked = [one for one in questions(scene, rng) if one.type == kind]
        if asked:
            one = rng.choice(asked)
            return Item(f"vqa/{kind}", context, one.question, one.answer)
    scene, context = view.see()  # scenes that allow no question of this type: any question will do
    one = rng.choice(questions(scene, rng))
    return Item(f"vqa/{one.type}", context, one.question, one.answer)


def classify(rng: random.Random, view: View, number: int) -> Task:
    """Classes by one attribute, under their own names or made-up ones, with and without the line that names them.

    Shots show the query's class, unless the classes go by their own names and are listed: that alone may have none.
    """
    attribute = rng.choice([name for name in ATTRIBUTES if view.classes(name)])
    values = view.classes(attribute)
    classes = rng.sample(values, min(len(values), rng.randint(2, 5)))
    items = []
    for i in range(number + 1):
        value = classes[i] if i < min(number, len(classes)) else rng.choice(classes)
        items.append(Item("classification", view.see_class(attribute, value)[1], "", value))
    shots, query = rng.sample(items[:-1], number), items[-1]
    shown = query.value in {shot.value for shot in shots}
    made_up, induction = rng.random() < 0.5 and shown, rng.random() < 0.6 or not shown
    names = made_up_names(classes, rng) if made_up else {value: value for value in classes}
    labels = tuple(rng.sample(list(names.values()), len(classes)))
    template = ClassificationTemplate(labels=labels, induction=induction, quote=rng.random() < _QUOTED)
    convention = Convention("classes", names.__getitem__, needs_value=True) if made_up else PLAIN
    return Task(template, [*shots, query], convention, told_alone=induction)


def write_captions(rng: random.Random, view: View, number: int) -> Task:
    """Captions in one style, which shots show; without shots it is the short one."""
    style = rng.choice(("short", "descriptive")) if number else "short"
    items = []
    for _ in range(number + 1):
        scene, context = view.see()
        items.append(Item("captioning", context, "", captions(scene, style, rng)))
    template = CaptionTemplate(dataset=rng.choice(_DATASETS), quote=rng.random() < _QUOTED, end=PAPER_END)
    return Task(template, items, told_alone=style == "short")


def upsample(rng: random.Random, view: View, number: int) -> Task:
    """Short prompts and detailed descriptions of the same picture, with one line of instruction or all the rules."""
    items = []
    for _ in range(number + 1):
        scene, _context = view.see()
        text = captions(scene, "short", rng)
        text = text[0].lower() + text[1:] + rng.choice(("", f" on {article(scene.background)} background"))
        items.append(Item("upsampling", (), text, detailed(scene)))
    if rng.random() < 0.15:
        return Task(UpsampleTemplate(), items, fixed=WORKED_PAIRS)
    return Task(UpsampleTemplate.brief(), items)


def detailed(scene: Scene) -> str:
    """ "Two red stars in the top left and the center, and a blue cat in the top right, on a white background, …": all
    that a short prompt of the scene says stays as it is."""
    places: dict[tuple[str, str], list[str]] = {}
    for thing in scene.objects:
        places.setdefault((thing.noun, thing.colour), []).append(thing.place)
    parts = []
    for (noun, colour), where in places.items():
        one = article(f"{colour} {phrase(noun)}")
        named = one if len(where) == 1 else f"{COUNT_WORDS[len(where)]} {colour} {plural(noun)}"
        parts.append(f"{named} in {' and '.join(f'the {place}' for place in where)}")
    text = f"{', and '.join(parts)}, on {article(scene.background)} background"
    return f"{text[0].upper()}{text[1:]}, clean flat shapes with crisp edges, soft even light, calm mood."

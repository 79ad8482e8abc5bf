"""Which examples stand in a prompt, and how many of them fit into it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from .templates import Shot, Template

Similarity = Callable[[Shot], float] | Sequence[float]
"""Of the query to each candidate: a function, or one number per candidate in their order. `agent/nearest_shots.py`
has CLIP's, of images and questions."""

NUM_PSEUDO = 4


def select_shots(
    candidates: Sequence[Shot],
    num_fewshot: int,
    *,
    strategy: str = "fixed",
    seed: int = 0,
    query_id: str = "",
    similarity: Similarity | None = None,
) -> list[Shot]:
    """Draw `num_fewshot` of the candidates, in the order in which they stand in the prompt.

    strategy: "fixed" (the same for every query of a seed, so that the prefix is shared), "random" (redrawn for each
    `query_id`, as the De-Diffusion paper does), "nearest" (by `similarity`, most similar last, as RICES does),
    "balanced" (as many of each answer as can be, the same for every query of a seed). "random" and "nearest" never
    draw the candidate whose `id` is `query_id`; for the others, keep queries out of `candidates`.

    Raises `InputError` for an unknown strategy, too few candidates, or a missing `query_id` or `similarity`.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"unknown strategy {strategy!r} for shots; expected one of {', '.join(STRATEGIES)}")
    if num_fewshot < 0:
        raise InputError(f"num_fewshot is {num_fewshot}; expected 0 or more")
    chosen = STRATEGIES[strategy](_Draw(candidates, num_fewshot, seed, query_id, similarity))
    if len(chosen) < num_fewshot:
        raise InputError(
            f"{num_fewshot} shots asked for, but there are only {len(chosen)} candidates; lower num_fewshot"
        )
    return chosen


@dataclass(frozen=True)
class _Draw:
    candidates: Sequence[Shot]
    num_fewshot: int
    seed: int
    query_id: str
    similarity: Similarity | None

    def others(self) -> list[int]:
        """Places of the candidates that are not the query itself."""
        return [i for i, shot in enumerate(self.candidates) if not self.query_id or shot.id != self.query_id]


def _fixed(draw: _Draw) -> list[Shot]:
    order = _shuffled(range(len(draw.candidates)), str(draw.seed))
    return [draw.candidates[i] for i in order[: draw.num_fewshot]]


def _random(draw: _Draw) -> list[Shot]:
    if not draw.query_id:
        raise InputError(
            'strategy "random" needs a query_id to draw by: without one all queries would get the same shots'
        )
    order = _shuffled(draw.others(), f"{draw.seed}:{draw.query_id}")
    return [draw.candidates[i] for i in order[: draw.num_fewshot]]


def _scores(similarity: Similarity, candidates: Sequence[Shot]) -> list[float]:
    if callable(similarity):
        return [float(similarity(shot)) for shot in candidates]
    if len(similarity) != len(candidates):
        raise InputError(f"{len(similarity)} similarities for {len(candidates)} candidates; expected one for each")
    return [float(score) for score in similarity]


def _shuffled(items: Sequence[int], seed: str) -> list[int]:
    """All of them in an order that the seed alone decides; fewer shots are then the first of more."""
    return random.Random(seed).sample(items, len(items))


def _nearest(draw: _Draw) -> list[Shot]:
    if draw.similarity is None:
        raise InputError('strategy "nearest" needs similarity: a function of a shot, or one number per candidate')
    score = _scores(draw.similarity, draw.candidates)
    # Of equals the first in the list counts as nearer, so that the draw does not hang on the sort.
    order = sorted(draw.others(), key=lambda i: (-score[i], i))[: draw.num_fewshot]
    return [draw.candidates[i] for i in reversed(order)]


def _balanced(draw: _Draw) -> list[Shot]:
    classes: dict[str, list[int]] = {}
    for i in _shuffled(range(len(draw.candidates)), str(draw.seed)):
        classes.setdefault((draw.candidates[i].answer or "").casefold(), []).append(i)
    rounds = max((len(members) for members in classes.values()), default=0)
    turns = [members[turn] for turn in range(rounds) for members in classes.values() if turn < len(members)]
    # Without the second shuffle the classes would take turns, and a model copies such a pattern.
    return [draw.candidates[i] for i in _shuffled(turns[: draw.num_fewshot], f"{draw.seed}:order")]


STRATEGIES: dict[str, Callable[[_Draw], list[Shot]]] = {
    "fixed": _fixed,
    "random": _random,
    "nearest": _nearest,
    "balanced": _balanced,
}


def pseudo_shots(candidates: Sequence[Shot], num_pseudo: int = NUM_PSEUDO, *, seed: int = 0) -> list[Shot]:
    """Shots without image context: they show a zero-shot prompt the form of an answer, and nothing of any image."""
    return [replace(shot, context=(), image="") for shot in select_shots(candidates, num_pseudo, seed=seed)]


@dataclass(frozen=True)
class Fitted:
    """A prompt within its budget: its text and length, the shots in it, how many were dropped, and a note where any
    was.
    """

    prompt: str
    num_tokens: int
    shots: tuple[Shot, ...]
    dropped: int = 0
    note: str | None = None


def fit_prompt(
    template: Template, query: Shot, shots: Sequence[Shot], *, count_tokens: Callable[[str], int], max_tokens: int
) -> Fitted:
    """Render the query with as many shots as fit into `max_tokens`; shots are dropped from the far end, the first
    first.

    count_tokens: the length of a text in the model's own tokens. Leave room for the answer and for special tokens.
    Queries of one batch keep their prefix in common if all use the shots that the longest of them could keep.
    Raises `InputError` where the query does not fit by itself.
    """
    if (alone := count_tokens(template.render(query))) > max_tokens:
        raise InputError(
            f"the query alone takes {alone} tokens, and {max_tokens} are to be had; shorten its context or question"
        )
    low, high = 0, len(shots)  # the smallest number of dropped shots that fits: each one less is shorter
    while low < high:
        middle = (low + high) // 2
        fits = count_tokens(template.render(query, shots[middle:])) <= max_tokens
        low, high = (low, middle) if fits else (middle + 1, high)
    prompt = template.render(query, shots[low:])
    note = f"{low} of {len(shots)} shots dropped: more than {max_tokens} tokens" if low else None
    return Fitted(prompt, count_tokens(prompt), tuple(shots[low:]), low, note)

"""Few-shot examples: select them, and fit as many as the token budget allows."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from .templates import Shot, Template

Similarity = Callable[[Shot], float] | Sequence[float]
"""Similarity of the query to each candidate: a function of the shot, or one number per candidate, in order."""

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
    """Select `num_fewshot` of the candidates, in prompt order.

    strategy: "fixed" (one draw per seed, so that all queries share a prefix), "random" (one draw per `query_id`, as in
    De-Diffusion, arXiv 2311.00618), "nearest" (by `similarity`, most similar last, as RICES, arXiv 2109.05014),
    "balanced" (equally many per answer, one draw per seed). "random" and "nearest" never select the candidate whose
    `id` is `query_id`; for the others, keep queries out of `candidates`.

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
        """Indices of the candidates other than the query itself."""
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
    """The items in an order given by the seed; fewer shots are a prefix of more."""
    return random.Random(seed).sample(items, len(items))


def _nearest(draw: _Draw) -> list[Shot]:
    if draw.similarity is None:
        raise InputError('strategy "nearest" needs similarity: a function of a shot, or one number per candidate')
    score = _scores(draw.similarity, draw.candidates)
    # Ties: the earlier candidate counts as nearer.
    order = sorted(draw.others(), key=lambda i: (-score[i], i))[: draw.num_fewshot]
    return [draw.candidates[i] for i in reversed(order)]


def _balanced(draw: _Draw) -> list[Shot]:
    classes: dict[str, list[int]] = {}
    for i in _shuffled(range(len(draw.candidates)), str(draw.seed)):
        classes.setdefault((draw.candidates[i].answer or "").casefold(), []).append(i)
    rounds = max((len(members) for members in classes.values()), default=0)
    turns = [members[turn] for turn in range(rounds) for members in classes.values() if turn < len(members)]
    # Shuffled again: a model would copy the pattern of alternating classes.
    return [draw.candidates[i] for i in _shuffled(turns[: draw.num_fewshot], f"{draw.seed}:order")]


STRATEGIES: dict[str, Callable[[_Draw], list[Shot]]] = {
    "fixed": _fixed,
    "random": _random,
    "nearest": _nearest,
    "balanced": _balanced,
}


def pseudo_shots(candidates: Sequence[Shot], num_pseudo: int = NUM_PSEUDO, *, seed: int = 0) -> list[Shot]:
    """Shots without image context: they show the answer format in a zero-shot prompt, nothing of any image."""
    return [replace(shot, context=(), image="") for shot in select_shots(candidates, num_pseudo, seed=seed)]


@dataclass(frozen=True)
class Fitted:
    """A prompt within its token budget; note: says how many shots were dropped, if any were."""

    prompt: str
    num_tokens: int
    shots: tuple[Shot, ...]
    dropped: int = 0
    note: str | None = None


def fit_prompt(
    template: Template, query: Shot, shots: Sequence[Shot], *, count_tokens: Callable[[str], int], max_tokens: int
) -> Fitted:
    """Render the query with as many shots as fit into `max_tokens`; the first shots are dropped first.

    count_tokens: length in the model's own tokens. Leave room for the answer and special tokens.
    To share a prefix within a batch, use the shots that its longest query can keep.
    Raises `InputError` if the query alone does not fit.
    """
    if (alone := count_tokens(template.render(query))) > max_tokens:
        raise InputError(
            f"the query alone takes {alone} tokens, and {max_tokens} are to be had; shorten its context or question"
        )
    low, high = 0, len(shots)  # binary search for the fewest dropped shots
    while low < high:
        middle = (low + high) // 2
        fits = count_tokens(template.render(query, shots[middle:])) <= max_tokens
        low, high = (low, middle) if fits else (middle + 1, high)
    prompt = template.render(query, shots[low:])
    note = f"{low} of {len(shots)} shots dropped: more than {max_tokens} tokens" if low else None
    return Fitted(prompt, count_tokens(prompt), tuple(shots[low:]), low, note)

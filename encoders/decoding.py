"""Greedy and beam search over any decoder that takes one token per row and keeps what it has seen in a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError


class StepDecoder(Protocol):
    """An autoregressive decoder with a cache. Its rows are images x beams, the beams of one image side by side."""

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token per row, (R,) int64, and get the logits of the next, (R, V)."""
        ...

    def select_images(self, images: Tensor) -> None:
        """Keep only these images, (I,) int64, with all of their beams."""
        ...

    def select_beams(self, rows: Tensor) -> None:
        """Row i continues from what row `rows[i]` has seen, (R,) int64; never from another image's row."""
        ...


@dataclass(frozen=True)
class Search:
    """How to decode.

    bos_id: fed first. end_ids: any of these ends a text. max_tokens: new tokens at most, the end token included.
    min_tokens: no end token before this many words. num_beams: 1 is greedy.
    """

    bos_id: int
    end_ids: tuple[int, ...]
    max_tokens: int
    min_tokens: int = 0
    num_beams: int = 1


@dataclass(frozen=True)
class Hypothesis:
    """ids: the words, without begin and end token. log_probability: natural log, summed over these and the end."""

    ids: tuple[int, ...]
    log_probability: float


def search(decoder: StepDecoder, num_images: int, settings: Search, device: torch.device) -> list[Hypothesis]:
    """The best text for each of `num_images`; `decoder` must be fresh and have num_images x num_beams rows."""
    if num_images == 0:
        return []
    find = greedy_search if settings.num_beams == 1 else beam_search
    return find(decoder, num_images, settings, device)


def greedy_search(decoder: StepDecoder, num_images: int, settings: Search, device: torch.device) -> list[Hypothesis]:
    """The likeliest token at each step. Finished rows idle until half of the rows are finished, then are dropped."""
    ends = torch.tensor(settings.end_ids, device=device)
    tokens = torch.full((num_images,), settings.bos_id, device=device)
    written = torch.full((num_images, settings.max_tokens), -1, device=device)
    totals = torch.zeros(num_images, device=device)
    images = torch.arange(num_images, device=device)  # the image that each row of the decoder belongs to
    running = torch.ones(num_images, dtype=torch.bool, device=device)
    for position in range(settings.max_tokens):
        log_probs = _log_probs(decoder.step(tokens), ends, allow_end=position >= settings.min_tokens)
        best, tokens = log_probs.max(dim=-1)
        totals[images] += best * running
        running &= ~torch.isin(tokens, ends)
        written[images, position] = torch.where(running, tokens, -1)
        active = running.nonzero().squeeze(1)
        if len(active) == 0:
            break
        if 2 * len(active) <= len(running):
            decoder.select_images(active)
            tokens, images, running = tokens[active], images[active], running[active]
    words = (tuple(i for i in row if i >= 0) for row in written.tolist())
    return [Hypothesis(ids, total) for ids, total in zip(words, totals.tolist(), strict=True)]


def beam_search(decoder: StepDecoder, num_images: int, settings: Search, device: torch.device) -> list[Hypothesis]:
    """The finished text with the highest log probability per token among `num_beams` at a time.

    An image is done once `num_beams` of its texts have ended; what still runs at `max_tokens` counts as it stands.
    """
    beams, ends = settings.num_beams, torch.tensor(settings.end_ids, device=device)
    history = torch.empty(num_images, beams, 0, dtype=torch.long, device=device)
    scores = torch.full((num_images, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams start equal; only the first may spread, or they would all stay equal
    tokens = torch.full((num_images * beams,), settings.bos_id, device=device)
    images = list(range(num_images))
    finished: list[list[Hypothesis]] = [[] for _ in images]
    for position in range(settings.max_tokens):
        log_probs = _log_probs(decoder.step(tokens), ends, allow_end=position >= settings.min_tokens)
        totals = scores.unsqueeze(-1) + log_probs.unflatten(0, (len(images), beams))  # (I, K, V)
        candidates, parents, words = _best_candidates(totals, beams * (1 + len(ends)))
        ended = torch.isin(words, ends)
        for i, rank in (ended[:, :beams] & candidates[:, :beams].isfinite()).nonzero().tolist():
            prefix = history[i, parents[i, rank]].tolist()
            finished[images[i]].append(Hypothesis(tuple(prefix), candidates[i, rank].item()))

        # Each beam offers every end token once at most, so the first `beams` candidates that go on always exist.
        going_on = ended.int().argsort(dim=1, stable=True)[:, :beams]
        scores, parents, words = (table.gather(1, going_on) for table in (candidates, parents, words))
        history = torch.cat((_take_beams(history, parents), words.unsqueeze(-1)), dim=-1)
        tokens = words.flatten()
        decoder.select_beams((parents + beams * torch.arange(len(images), device=device).unsqueeze(1)).flatten())

        active = [i for i, image in enumerate(images) if len(finished[image]) < beams]
        if not active:
            break
        if len(active) < len(images):
            keep = torch.tensor(active, device=device)
            decoder.select_images(keep)
            history, scores, tokens = history[keep], scores[keep], words[keep].flatten()
            images = [images[i] for i in active]
    for i, image in enumerate(images):
        if len(finished[image]) < beams:
            cut_off = zip(history[i].tolist(), scores[i].tolist(), strict=True)
            finished[image] += [Hypothesis(tuple(ids), score) for ids, score in cut_off]
    return [max(texts, key=lambda text: _per_token(text, settings.max_tokens)) for texts in finished]


def _log_probs(logits: Tensor, ends: Tensor, *, allow_end: bool) -> Tensor:
    log_probs = logits.float().log_softmax(dim=-1)
    return log_probs if allow_end else log_probs.index_fill(-1, ends, -torch.inf)


def _best_candidates(totals: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(I, K, V) -> the `count` best of each image: their scores, beams and tokens, each (I, count), best first."""
    vocabulary = totals.shape[-1]
    scores, flat = totals.flatten(1).topk(count, dim=1)
    return scores, flat // vocabulary, flat % vocabulary


def _take_beams(history: Tensor, parents: Tensor) -> Tensor:
    return history.gather(1, parents.unsqueeze(-1).expand(-1, -1, history.shape[-1]))


def _per_token(text: Hypothesis, max_tokens: int) -> float:
    # The end token counts as well; a text cut off at `max_tokens` has none.
    return text.log_probability / min(len(text.ids) + 1, max_tokens)


def check_range(name: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        raise InputError(f"{name} is {value}; expected {low} {'or more' if high is None else f'to {high}'}")

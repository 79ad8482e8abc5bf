"""Batched greedy search, beam search and sampling over any decoder with a KV cache.

Ours, because open_clip's `generate` has no cache, and that of transformers keeps finished rows in the batch: see the
figures in `coca.coca_decoder` and `decap.decap_decoder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Protocol

import torch
from torch import Tensor, nn


class StepDecoder(Protocol):
    """An autoregressive decoder with a cache. Rows (R) are images x beams, the beams of an image side by side."""

    def step(self, tokens: Tensor) -> Tensor:
        """One token per row, (R,) int64 -> logits of the next, (R, V)."""
        ...

    def select_images(self, images: Tensor) -> None:
        """Keep these images alone, (I,) int64, with all their beams."""
        ...

    def select_beams(self, rows: Tensor) -> None:
        """Row i continues row `rows[i]`, (R,) int64, a row of the same image."""
        ...


@dataclass(frozen=True)
class Search:
    """Settings of the search."""

    bos_id: int  # fed first
    end_ids: tuple[int, ...]  # any of these ends a text
    max_tokens: int  # new tokens at most, end token included
    min_tokens: int = 0  # minimum length: no end token before
    num_beams: int = 1  # 1 is greedy


@dataclass(frozen=True)
class Hypothesis:
    """A decoded text."""

    ids: tuple[int, ...]  # without start and end token
    log_probability: float  # natural log, summed over `ids` and the end token

    def is_cut_off(self, max_tokens: int) -> bool:
        """Whether the limit ended it: the end token, where there is one, is among the `max_tokens`."""
        return len(self.ids) >= max_tokens


def search(decoder: StepDecoder, num_images: int, settings: Search, device: torch.device) -> list[Hypothesis]:
    """The best text of each image; `decoder` must be fresh and have num_images x num_beams rows."""
    if num_images == 0:
        return []
    find = greedy_search if settings.num_beams == 1 else beam_search
    return find(decoder, num_images, settings, device)


def greedy_search(decoder: StepDecoder, num_images: int, settings: Search, device: torch.device) -> list[Hypothesis]:
    """The likeliest token at each step. Finished rows are dropped once they are half of the batch."""
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
    """The finished text of highest log probability per token.

    An image is done once `num_beams` of its texts have ended; at `max_tokens` unfinished texts count too.
    """
    beams, ends = settings.num_beams, torch.tensor(settings.end_ids, device=device)
    history = torch.empty(num_images, beams, 0, dtype=torch.long, device=device)
    scores = torch.full((num_images, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0  # equal beams would stay equal, so the first alone spreads
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

        # A beam offers each end token once at most, so `beams` candidates that go on always exist.
        going_on = ended.int().argsort(dim=1, stable=True)[:, :beams]
        scores, parents, words = (table.gather(1, going_on) for table in (candidates, parents, words))
        kept = history.gather(1, parents.unsqueeze(-1).expand(-1, -1, position))
        history = torch.cat((kept, words.unsqueeze(-1)), dim=-1)
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


def draw_texts(decoder: StepDecoder, uniform: Tensor, settings: Search, temperature: float = 1.0) -> Tensor:
    """Texts drawn from the model's distribution, several of each image: `settings.num_beams` rows side by side.

    uniform: (R, T) in [0, 1), T up to `max_tokens`, which decide. temperature: divides the logits. -> (R, T) token ids,
    the end token among them, -1 behind it. `decoder` must be fresh and have R rows.
    """
    ends, beams = torch.tensor(settings.end_ids, device=uniform.device), settings.num_beams
    written = torch.full(uniform.shape, -1, device=uniform.device)
    rows = torch.arange(len(uniform), device=uniform.device)  # the row of `written` that each of the decoder's is
    tokens = torch.full_like(rows, settings.bos_id)
    running = torch.ones_like(rows, dtype=torch.bool)
    for position in range(uniform.shape[1]):
        logits = decoder.step(tokens) / temperature
        log_probs = _log_probs(logits, ends, allow_end=position >= settings.min_tokens)
        shares = log_probs.exp().cumsum(-1)
        point = uniform[rows, position].unsqueeze(1) * shares[:, -1:]
        tokens = torch.searchsorted(shares, point, right=True).squeeze(1).clamp(max=shares.shape[1] - 1)
        written[rows, position] = torch.where(running, tokens, -1)
        running &= ~torch.isin(tokens, ends)
        active = running.unflatten(0, (-1, beams)).any(1).nonzero().squeeze(1)
        if len(active) == 0:
            break
        if 2 * len(active) * beams <= len(rows):
            decoder.select_images(active)
            rows, tokens, running = (one.unflatten(0, (-1, beams))[active].flatten() for one in (rows, tokens, running))
    return written


def _log_probs(logits: Tensor, ends: Tensor, *, allow_end: bool) -> Tensor:
    log_probs = logits.float().log_softmax(dim=-1)
    return log_probs if allow_end else log_probs.index_fill(-1, ends, -torch.inf)


def _best_candidates(totals: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(I, K, V) -> the `count` best of each image: their scores, beams and tokens, each (I, count), best first."""
    vocabulary = totals.shape[-1]
    scores, flat = totals.flatten(1).topk(count, dim=1)
    return scores, flat // vocabulary, flat % vocabulary


def _per_token(text: Hypothesis, max_tokens: int) -> float:
    # The end token counts too; a text cut off at `max_tokens` has none.
    return text.log_probability / min(len(text.ids) + 1, max_tokens)


def cache_argument(model: nn.Module) -> str:
    """What a transformers model's `forward` calls its key-value cache: `cache`, in older versions `past_key_values`."""
    return "past_key_values" if "past_key_values" in signature(model.forward).parameters else "cache"

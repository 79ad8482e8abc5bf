"""A captioner fine-tuned on the score of its own captions: self-critical sequence training (Rennie et al. 2017, arXiv
1612.00563).

For each image the captioner draws several captions. Each is rewarded with its CIDEr-D against the image's captions,
less the mean of the other captions drawn (Luo 2020, arXiv 2003.09971): better ones become likelier, worse ones less
likely. The end of a caption counts as a word, without which captions would break off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.coca.coca_decoder import CachedCoca
from ...encoders.decoding import draw_texts
from ...errors import InputError
from ...metrics.caption_metrics import plain_tokenize
from ...metrics.cider import CiderD
from ..data.base import UnreadableItemError
from ..engine.attention import attention_for_training
from ..engine.distributed import sum_over_processes
from ..engine.randomness import sample_uniform
from ..engine.recipe import NonNegative, Positive
from ..engine.settings import settings
from ..engine.sharding import evaluating, gather_blocks
from .captioner_training import CaptionerRecipe, FineTuningConfig

_DRAWS = 4  # stream of random numbers
_END = "<end>"


@settings
class SelfCriticalConfig(FineTuningConfig):
    """Settings of the recipe `self-critical`. The data are finite, with several captions an image: CIDEr-D says little
    of one."""

    drawn: Annotated[int, Field(ge=2)] = 5  # captions of an image in a step
    # divides the logits, in drawing and in the loss alike; below 1 for a model that was trained with label smoothing,
    # whose unlikely tokens would spoil most captions, the long ones first
    temperature: Positive = 1.0
    # of the cross-entropy of one true caption of each image beside it (Paulus et al. 2018, arXiv 1705.04304), which
    # keeps captions fluent: CIDEr-D sees four words at a time
    caption_weight: NonNegative = 0.0
    style: str | None = None  # kept with the model, as of `captioner`


class SelfCriticalRecipe(CaptionerRecipe):
    """A trained CoCa and images with several captions -> a captioner of higher CIDEr-D."""

    name = "self-critical"
    config_class = SelfCriticalConfig

    def __init__(self, config: SelfCriticalConfig, cache: Path) -> None:
        super().__init__(config, cache)
        self._references = self._read_references()
        self._cider = CiderD(_words(texts) for texts in self._references.values())
        self._search = CocaCaptioner(self.clip, num_beams=config.drawn).search

    def _check_data(self) -> None:
        if self.source.size is None:
            raise InputError(f"{type(self.source).__name__} has no end; expected finite data, whose captions all count")

    def _read_references(self) -> dict[int, Sequence[str]]:
        """Row -> captions, of every item that can be read."""
        found: dict[int, Sequence[str]] = {}
        for row in range(self.source.size or 0):
            try:
                found[row] = self.source.read(row, row, self.config.loop.seed, image=False).texts
            except UnreadableItemError as error:
                self.source.unreadable[row] = str(error)
        return found

    def batch(self, indices: Sequence[int], seed: int) -> dict[str, Tensor]:
        """pixels as of the recipe `coca`; rows (B,), the items; uniform (B, K, T), which decide what is drawn; true
        (B, T), token ids of one caption without the start, -1 behind its end."""
        samples = self.source.samples(indices, seed, image=self._features is None)
        shape = (self.config.drawn, self._search.max_tokens)
        return {
            "pixels": self._pixels(samples, indices, seed),
            "rows": torch.tensor([sample.row for sample in samples]),
            "uniform": sample_uniform(shape, seed, indices, _DRAWS),
            "true": self._true([sample.text for sample in samples]),
        }

    def _true(self, texts: Sequence[str]) -> Tensor:
        ids = self.clip.tokenize(texts)[:, 1 : self._search.max_tokens + 1]
        return ids.where(ids != self.pad_id, -1)

    @torch.no_grad()
    def share(self, model: nn.Module, parts: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Any]]:
        """Of each part the captions drawn, (B x K, T), how much better each is than the others of its image, (B, K),
        and their mean CIDEr-D x 100; and the mean number of tokens drawn and true in a part, (2,), of all processes."""
        with evaluating(model):
            gather_blocks(self.clip.model.text, self.clip.model.text_decoder)
            drawn = [self._draw(part) for part in parts]
        both = (torch.cat(drawn), torch.cat([part["true"] for part in parts]))
        counts = torch.tensor([float(ids.ge(0).sum()) for ids in both], device=self.clip.device)
        tokens = sum_over_processes(counts, mean=True) / len(parts)
        shared = []
        for part, written in zip(parts, drawn, strict=True):
            rewards = self._rewards(written, part["rows"]).to(written.device)  # (B, K)
            better = rewards - (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
            shared.append({"written": written, "better": better, "reward": 100 * rewards.mean(), "tokens": tokens})
        return shared

    def _draw(self, part: dict[str, Tensor]) -> Tensor:
        coca: Any = self.clip.model
        _, image_tokens = coca.visual(part["pixels"].to(self.clip.device))
        uniform = part["uniform"].to(self.clip.device).flatten(0, 1)
        decoder = CachedCoca(coca, image_tokens, capacity=uniform.shape[1], num_beams=self.config.drawn)
        return draw_texts(decoder, uniform, self._search, self.config.temperature)

    def _rewards(self, written: Tensor, rows: Tensor) -> Tensor:
        """CIDEr-D (B, K) of captions (B x K, T), -1 behind the end, of items (B,)."""
        texts = [[id_ for id_ in ids if id_ >= 0] for ids in written.tolist()]
        ended = [ids[-1] in self._search.end_ids for ids in texts]
        plain = plain_tokenize([self.clip.decode(ids[: len(ids) - end]) for ids, end in zip(texts, ended, strict=True)])
        words = [[*text.split(), *[_END] * end] for text, end in zip(plain, ended, strict=True)]
        number = self.config.drawn
        scores = [
            self._cider.scores(words[place * number : (place + 1) * number], _words(self._references[row]))
            for place, row in enumerate(rows.tolist())
        ]
        return torch.tensor(scores)

    def loss(
        self, model: nn.Module, batch: dict[str, Tensor], *, step: int, indices: Sequence[int], **shared: Any
    ) -> dict[str, Tensor]:
        """The policy-gradient loss per token with `caption_weight` times that of true captions, the mean CIDEr-D x 100
        of the captions drawn, and the loss of true ones where it counts."""
        number = self.config.drawn
        captions = [shared["written"].unflatten(0, (-1, number))]
        if self.config.caption_weight:
            captions.append(batch["true"].unsqueeze(1))
        written = torch.cat(captions, dim=1).flatten(0, 1)  # (B x K, T), or (B x (K + 1), T)
        start = torch.full_like(written[:, :1], self._search.bos_id)
        text = torch.cat([start, written.where(written >= 0, self.pad_id)], dim=1)
        with attention_for_training(text.device):
            _, text_latent, logits, *_ = model(batch["pixels"], text, torch.arange(len(text), device=text.device))
        labels = written[:, : logits.shape[1]]
        rows = (len(batch["rows"]), -1)
        logits, labels = logits.float().unflatten(0, rows), labels.unflatten(0, rows)
        surprise = _surprise(logits[:, :number] / self.config.temperature, labels[:, :number])
        loss = (shared["better"].unsqueeze(-1) * surprise).sum() / shared["tokens"][0]
        figures = {"reward": shared["reward"]}
        if self.config.caption_weight:
            caption = _surprise(logits[:, number:], labels[:, number:]).sum() / shared["tokens"][1]
            loss = loss + self.config.caption_weight * caption
            figures["caption"] = caption.detach()
        return {"loss": loss + 0.0 * text_latent.sum(), **figures}  # every weight takes part, as DDP needs it


def _surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (..., T, V) and labels (..., T), -1 for none -> (..., T): minus the log probability, 0 for none."""
    flat = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=-1)
    return flat.view_as(labels)


def _words(texts: Sequence[str]) -> list[list[str]]:
    """Captions as CIDEr-D reads them here, with a word for their end."""
    return [[*text.split(), _END] for text in plain_tokenize(texts)]

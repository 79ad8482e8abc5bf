"""What a recipe measures on held-out samples of any source, beside its own losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..encoders.clip.clip import Clip
from ..metrics.caption_metrics import caption_scores
from ..metrics.retrieval import image_text_recall
from ..metrics.word_overlap import overlap
from ..prompting.faithfulness.content_words import caption_words, joined_words
from .data.base import DataSource, Sample
from .data.pixels import image_of


def text_figures(source: DataSource, texts: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """One text for each held-out sample: CIDEr-D and BLEU-4 against its captions, where it has any, x 100, and what
    the source's own evaluators say."""
    figures: dict[str, float] = {}
    if samples and all(sample.texts for sample in samples):
        scores = caption_scores(texts, [sample.texts for sample in samples], meteor=False).scores
        figures |= {"cider_d": 100 * scores["CIDEr-D"], "bleu_4": 100 * scores["BLEU-4"]}
    for evaluator in source.evaluators:
        figures |= evaluator.score_texts(texts, samples)
    return figures


def word_figures(texts: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """One text for each sample: precision and recall of its content words against all captions, in percent, and its
    mean length in words."""
    words = [caption_words(text).content for text in texts]
    found = overlap(words, [joined_words(sample.texts).content for sample in samples])
    length = sum(len(text.split()) for text in texts) / max(1, len(texts))
    return {"content_precision": found.precision, "content_recall": found.recall, "words": length}


def image_embeddings(clip: Clip, samples: Sequence[Sample], batch_size: int = 64) -> Tensor:
    """(N, D), a batch of images in memory at a time."""
    batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    return torch.cat([clip.embed_images([image_of(one) for one in batch]) for batch in batches])


def retrieval_figures(images: Tensor, texts: Tensor, samples: Sequence[Sample]) -> dict[str, float]:
    """R@1, R@5 and R@10 both ways, in percent. images (N, D); texts (M, D), all captions of the samples in order."""
    owner = torch.tensor([number for number, sample in enumerate(samples) for _ in sample.texts])
    return image_text_recall(images.cpu(), texts.cpu(), owner)

"""Words of several encoders about captioned photographs, beside floors and a human.

    python -m textlens.evals.image_captioning "webdataset:test-*.tar" --encoder coca --encoder decap@vd --clip FOLDER

Caption metrics by the COCO protocol; content words and nouns against the union of the photograph's human captions;
similarity of photograph and words to a CLIP; how often a photograph is found by its words alone, by that CLIP and by
BM25 over the human captions; mean length in words. --merged adds the short and the descriptive caption that rules make
of all the human captions (`prompting/caption_merging.py`), a ceiling for words of their length. The human row is one
caption, drawn by seed, against the others; all else is scored against all, with --same-references against those too.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from ..encoders.clip.clip import Clip
from ..errors import InputError
from ..metrics.bm25 import bm25
from ..metrics.caption_metrics import best_constant, caption_scores
from ..metrics.retrieval import own_recall
from ..metrics.word_overlap import overlap
from ..prompting.caption_merging import descriptive_caption, short_caption
from ..prompting.faithfulness.content_words import caption_words, joined_words
from ..train.data.base import Sample
from ..train.data.pixels import image_of
from ..train.evaluators import image_embeddings
from .aligned_table import aligned, number
from .descriptions import describe_all
from .encoder_variants import load_variants
from .photos import ImageOption, JsonOption, LimitOption, SeedOption, SourceArgument, TextOption, load_photos_of

HUMAN, OTHER, CONSTANT = "human", "floor: another photo's caption", "floor: best constant caption"
MERGED = {"ceiling: merged, short": short_caption, "ceiling: merged, descriptive": descriptive_caption}
_TRIED = 100  # captions tried as a constant, on as many photographs
_COLUMNS = {
    "BLEU-4": "bleu_4", "METEOR": "meteor", "CIDEr-D": "cider_d", "±": "cider_d_stderr",
    "content P": "content_precision", "R": "content_recall", "F1": "content_f1",
    "nouns P": "noun_precision", "R ": "noun_recall", "F1 ": "noun_f1",
    "CLIP sim.": "clip_similarity", "CLIP R@1": "clip_r1", "R@5": "clip_r5", "R@10": "clip_r10",
    "BM25 R@1": "bm25_r1", "R@5 ": "bm25_r5", "R@10 ": "bm25_r10",
    "words": "words", "distinct": "distinct",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """One text for each photograph, and the captions that it is scored against."""

    texts: Sequence[str]
    references: Sequence[Sequence[str]]


def human_and_floors(
    captions: Sequence[Sequence[str]], seed: int, *, same_references: bool = False
) -> dict[str, Written]:
    """The rows that need no encoder, of all captions of each photograph.

    The human row is left out where a photograph has a single caption. same_references: the floors too are scored
    against the captions that the human row leaves.
    """
    rng = random.Random(seed)
    drawn = [rng.randrange(len(texts)) for texts in captions]
    order = rng.sample(range(len(captions)), len(captions))
    follower = dict(zip(order, [*order[1:], order[0]], strict=True))  # no photograph is its own, if there are two
    others = [captions[follower[i]][drawn[follower[i]]] for i in range(len(captions))]
    some = rng.sample(range(len(captions)), min(_TRIED, len(captions)))
    constant = best_constant([captions[i][drawn[i]] for i in some], [captions[i] for i in some])
    rows = {OTHER: Written(others, captions), CONSTANT: Written([constant] * len(captions), captions)}
    if all(len(texts) > 1 for texts in captions):
        rest = [[text for j, text in enumerate(texts) if j != i] for i, texts in zip(drawn, captions, strict=True)]
        rows[HUMAN] = Written([texts[i] for i, texts in zip(drawn, captions, strict=True)], rest)
        if same_references:
            rows = {name: Written(row.texts, rest) for name, row in rows.items()}
    elif same_references:
        raise InputError("a photograph has a single caption; --same-references needs two or more of each")
    return rows


def figures(written: Written, *, meteor: bool = True, java: bool | None = None) -> dict[str, float]:
    """All figures of a row that need no image: caption metrics x100 and CIDEr-D's standard error, overlaps and recalls
    in percent, mean words of a text, and the share of distinct texts."""
    made = caption_scores(written.texts, written.references, meteor=meteor, java=java)
    error = made.stderr("CIDEr-D")
    names = {"BLEU-4": "bleu_4", "METEOR": "meteor", "CIDEr-D": "cider_d"}
    scores = {name: 100 * made.scores[key] for key, name in names.items() if key in made.scores}
    texts, true = [caption_words(text) for text in written.texts], [joined_words(ones) for ones in written.references]
    kinds = {
        "content": overlap([one.content for one in texts], [one.content for one in true]),
        "noun": overlap([one.nouns for one in texts], [one.nouns for one in true]),
    }
    found = own_recall(bm25([one.all for one in texts], [one.all for one in true]))
    return {
        **scores,
        "cider_d_stderr": 100 * error,
        **{f"{kind}_{name}": value for kind, one in kinds.items() for name, value in vars(one).items()},
        **{f"bm25_r{k}": value for k, value in found.items()},
        "words": sum(len(text.split()) for text in written.texts) / len(written.texts),
        "distinct": 100 * len(set(written.texts)) / len(written.texts),
        "ptb_tokenized": made.ptb_tokenized,
    }


def clip_figures(clip: Clip, images: Tensor, texts: Sequence[str]) -> dict[str, float]:
    """Mean cosine of text i and photograph i, x 100 (as Betker et al. 2023 score captions), and how often photograph i
    is the nearest to text i. images: (N, D) embeddings of `clip`."""
    similarity = clip.embed_texts(texts) @ images.T  # (N, N)
    recalls = {f"clip_r{k}": value for k, value in own_recall(similarity).items()}
    return {"clip_similarity": 100 * float(similarity.diagonal().mean())} | recalls


def evaluate(
    samples: Sequence[Sample],
    words: Mapping[str, Sequence[str]],
    *,
    clip: Clip | None = None,
    seed: int = 0,
    same_references: bool = False,
    meteor: bool = True,
    merged: bool = False,
) -> dict[str, dict[str, float]]:
    """Row -> figures; words: encoder -> one text for each sample. clip: for its figures; it needs a text tower. merged:
    with rows of captions merged by rule."""
    captions = [sample.texts for sample in samples]
    rows = human_and_floors(captions, seed, same_references=same_references)
    references = rows[OTHER].references
    if merged:
        made_of = {name: [merge(own).text for own in captions] for name, merge in MERGED.items()}
        rows |= {name: Written(texts, references) for name, texts in made_of.items()}
    rows = {name: Written(texts, references) for name, texts in words.items()} | rows
    made = {name: figures(row, meteor=meteor) for name, row in rows.items()}
    if clip:
        images = image_embeddings(clip, samples)
        for name, row in rows.items():
            made[name] |= clip_figures(clip, images, row.texts)
    return made


def as_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The columns that some row has."""
    columns = {title: key for title, key in _COLUMNS.items() if any(key in row for row in rows.values())}
    lines = [[name, *(number(row.get(key)) for key in columns.values())] for name, row in rows.items()]
    return aligned(["", *(title.strip() for title in columns)], lines)


def main(
    source: SourceArgument,
    encoder: Annotated[list[str] | None, typer.Option(help="Repeatable; decap@nnd is DeCap by nnd.")] = None,
    clip: Annotated[str | None, typer.Option(help="A CLIP, to find photographs by their words.")] = None,
    text: TextOption = "text",
    image: ImageOption = "image",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    same_references: Annotated[bool, typer.Option(help="Score all against the captions that the human left.")] = False,
    merged: Annotated[bool, typer.Option("--merged", help="Rows of the human captions, merged by rule.")] = False,
    meteor: Annotated[bool, typer.Option(help="It takes some seconds a row.")] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder of the words written so far.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print one table of all encoders, the floors and a human."""
    samples = load_photos_of(source, text=text, image=image, limit=limit, seed=seed)
    encoders = load_variants(encoder or [])
    words = describe_all(len(samples), lambda i: image_of(samples[i]), encoders, cache)
    loaded = Clip.from_pretrained(clip) if clip else None
    settings = {"same_references": same_references, "meteor": meteor, "merged": merged}
    rows = evaluate(samples, words, clip=loaded, seed=seed, **settings)
    result: dict[str, Any] = {"photos": len(samples), "seed": seed, "same_references": same_references, "rows": rows}
    if as_json:
        typer.echo(json.dumps(result))
        return
    plain = "" if all(row["ptb_tokenized"] for row in rows.values()) else "; not PTB-tokenised (no Java)"
    typer.echo(f"{len(samples)} photographs; caption metrics x100, the rest in percent{plain}")
    typer.echo(as_table(rows))


if __name__ == "__main__":
    typer.run(main)

"""What a DeCap's captions of photographs owe to its strategy, its memory and the temperature of the projection.

    python -m textlens.evals.decap_curves SOURCE --text json:captions --decap own=FOLDER --memory own=captions.txt

The curves of Li et al. 2023 (ICLR, arXiv 2303.03032) for any captioned photographs: four tables of CIDEr-D and BLEU-4,
x 100. With several memories the first is used in parts too. --decap NAME=FOLDER, repeated, compares decoders that were
trained in other ways, or on other captions, each with the memory of its own folder; the first is used for the rest.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, get_args

import torch
import typer
from torch import Tensor

from ..cache import cache_folder
from ..encoders.clip.clip import Clip
from ..encoders.clip.space import space_name
from ..encoders.decap.decap_encoder import Decap, Strategy
from ..encoders.decap.memory import SupportMemory, clean_captions
from ..errors import InputError
from ..metrics.caption_metrics import caption_scores
from ..train.data.text_embeddings import cached_embeddings
from ..train.evaluators import image_embeddings
from .aligned_table import aligned, number
from .encoder_variants import named_folders
from .photos import ImageOption, LimitOption, SeedOption, SourceArgument, TextOption, load_photos_of, open_all

TEMPERATURES = (1 / 10, 1 / 20, 1 / 30, 1 / 50, 1 / 100, 1 / 150, 1 / 300, 1 / 1000)
SHARES = (0.001, 0.01, 0.1, 1.0)
_BATCH = 256


@dataclass(frozen=True)
class Variant:
    """A DeCap, and options of its `describe_embeddings`."""

    name: str
    decap: Decap
    options: Mapping[str, Any] = field(default_factory=dict)

    def describe(self, embeddings: Tensor) -> list[str]:
        """One text for each of (N, D) image embeddings."""
        parts = embeddings.split(_BATCH)
        return [one.text for part in parts for one in self.decap.describe_embeddings(part, **self.options)]


def strategies(decap: Decap) -> list[Variant]:
    """pd, nnd, vd and clipre."""
    return [Variant(strategy, decap, {"strategy": strategy}) for strategy in get_args(Strategy)]


def temperatures(decap: Decap, values: Sequence[float] = TEMPERATURES) -> list[Variant]:
    """`pd` from a nearly uniform mixture to nearly the nearest entry."""
    return [Variant(f"1/{round(1 / t)}", decap, {"strategy": "pd", "temperature": t}) for t in values]


def memory_sizes(decap: Decap, memory: SupportMemory, shares: Sequence[float] = SHARES) -> list[Variant]:
    """`pd` and `clipre` with parts of a memory, drawn at random, each within the next."""
    order = random.Random(0).sample(range(len(memory)), len(memory))
    variants = []
    for share in shares:
        part = memory.subset(order[: max(1, round(share * len(memory)))])
        variants += with_memory(decap, f"{100 * share:g} % ({len(part):,})", part)
    return variants


def with_memory(decap: Decap, name: str, memory: SupportMemory) -> list[Variant]:
    """`pd` and `clipre` with another memory."""
    changed = replace(decap, memory=memory)
    return [Variant(f"{name}, {strategy}", changed, {"strategy": strategy}) for strategy in ("pd", "clipre")]


def caption_memory(source: str, clip: Clip, limit: int, seed: int = 0) -> SupportMemory:
    """A memory of at most `limit` different captions of a text file or any other source, drawn by `seed`."""
    source = source if ":" in source else f"texts:{source}"
    texts = clean_captions(dict.fromkeys(open_all(source).captions()))
    texts = random.Random(seed).sample(texts, min(limit, len(texts)))
    rows = cached_embeddings(texts, clip, cache_folder("text-embeddings"))
    return SupportMemory(torch.from_numpy(rows), texts, space_name(clip))


def table(title: str, variants: Sequence[Variant], embeddings: Tensor, captions: Sequence[Sequence[str]]) -> str:
    """A line for each: CIDEr-D with its standard error, and BLEU-4, x 100."""
    lines = []
    for one in variants:
        made = caption_scores(one.describe(embeddings), captions, meteor=False)
        figures = (made.scores["CIDEr-D"], made.stderr("CIDEr-D"), made.scores["BLEU-4"])
        lines.append([one.name, *(number(100 * figure) for figure in figures)])
    return aligned([title, "CIDEr-D", "±", "BLEU-4"], lines)


def tables(decoders: Mapping[str, Decap], memories: Mapping[str, SupportMemory]) -> dict[str, list[Variant]]:
    """Title -> variants, of all tables that these allow. The first of each is looked at closely."""
    first = next(iter(decoders.values()))
    made = {"strategy": strategies(first), "temperature": temperatures(first)}
    for name, memory in list(memories.items())[:1]:
        made[f"part of {name}"] = memory_sizes(first, memory)
    if len(memories) > 1:
        made["memory"] = [one for name, memory in memories.items() for one in with_memory(first, name, memory)]
    if len(decoders) > 1:
        made["decoder"] = [
            replace(one, name=f"{name}, {one.name}") for name, decap in decoders.items() for one in strategies(decap)
        ]
    return made


def titles(decoders: Collection[str], memories: Collection[str]) -> list[str]:
    """Of the `tables` of decoders and memories with these names."""
    known = ["strategy", "temperature", *(f"part of {name}" for name in list(memories)[:1])]
    return known + ["memory"] * (len(memories) > 1) + ["decoder"] * (len(decoders) > 1)


def main(
    source: SourceArgument,
    decap: Annotated[list[str], typer.Option(help="NAME=FOLDER of a trained DeCap; repeatable.")],
    memory: Annotated[list[str] | None, typer.Option(help="NAME=SOURCE of captions; repeatable.")] = None,
    memory_limit: Annotated[int, typer.Option(min=1, help="Captions in a memory, drawn by --seed.")] = 30_000,
    only: Annotated[list[str] | None, typer.Option("--table", help="Print this table alone; repeatable.")] = None,
    text: TextOption = "text",
    image: ImageOption = "image",
    limit: LimitOption = None,
    seed: SeedOption = 0,
) -> None:
    """Print a table each of strategies, temperatures, memories and decoders."""
    folders, sources = named_folders(decap), named_folders(memory or [])
    known = titles(folders, sources)
    if unknown := [title for title in only or [] if title not in known]:
        raise InputError(f"no table {unknown[0]!r}; these are: {', '.join(known)}")
    samples = load_photos_of(source, text=text, image=image, limit=limit, seed=seed)
    captions = [sample.texts for sample in samples]
    decoders = {name: Decap.from_pretrained(folder) for name, folder in folders.items()}
    clip = next(iter(decoders.values())).clip
    if not isinstance(clip, Clip) or any(space_name(one.clip) != space_name(clip) for one in decoders.values()):
        raise InputError("these DeCaps were trained in spaces of several CLIPs; compare those of one")
    memories = {name: caption_memory(where, clip, memory_limit, seed) for name, where in sources.items()}
    found = tables(decoders, memories)
    embeddings = image_embeddings(clip, samples)
    typer.echo(f"{len(samples)} photographs")
    for title in only or found:
        typer.echo("\n" + table(title, found[title], embeddings, captions))


if __name__ == "__main__":
    typer.run(main)

"""DeCap on the made world's test split: strategies, memories, temperatures.

    python -m textlens.scenes.evals.decap_facts --help

Facts are parsed from the texts and scored as F1, which penalises naming everything. CIDEr-D and BLEU-4 compare with the
descriptive caption of each scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

import typer
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.clip.space import space_name
from ...encoders.coca.captioner import CocaCaptioner
from ...encoders.decap.decap_encoder import Decap, Strategy
from ...encoders.decap.memory import SupportMemory
from ...encoders.decap.memory_build import embed_texts
from ...errors import InputError
from ...evals import decap_curves
from ...evals.decap_curves import Variant, with_memory
from ...evals.encoder_variants import named_folders
from ...metrics.caption_metrics import caption_scores
from ..captions import CLEAN_STYLES
from ..facts import KINDS, facts_of, parse_facts, score_texts
from ..included import FOLDER
from ..source import SceneData
from ..world import Scene
from .tables import markdown
from .testbed import DEFAULT_CLIP, Keep, captions_of, first_scenes, floor_scores, pictures

TEMPERATURES = (1 / 10, 1 / 30, 1 / 60, 1 / 100, 1 / 150, 1 / 300, 1 / 1000)


@dataclass(frozen=True)
class Row:
    """F1 of each kind of fact, CIDEr-D (up to 10) and BLEU-4 of one way to describe the scenes."""

    name: str
    f1: Mapping[str, float]
    cider_d: float
    bleu_4: float


@dataclass(frozen=True)
class DrawnScenes:
    """scenes, reference captions of each, and their image embeddings, (N, D)."""

    scenes: Sequence[Scene]
    references: Sequence[Sequence[str]]
    embeddings: Tensor

    def score(self, name: str, texts: Sequence[str]) -> Row:
        found = caption_scores(texts, self.references, meteor=False).scores
        f1 = {kind: score.f1 for kind, score in score_texts(texts, self.scenes).items()}
        return Row(name, f1, found["CIDEr-D"], found["BLEU-4"])


def draw_scenes(clip: Clip, number: int, keep: Keep = lambda _: True) -> DrawnScenes:
    """The first `number` scenes of the test split for which `keep` holds."""
    scenes = first_scenes(number, keep=keep)
    return DrawnScenes(scenes, [[text] for text in captions_of(scenes)], clip.embed_images(pictures(scenes)))


def strategies(decap: Decap, clip: Clip, test: DrawnScenes) -> list[Row]:
    """pd, nnd, vd and clipre, the CoCa captioner trained on image-text pairs, and the constant-text floor."""
    rows = [described(one, test) for one in decap_curves.strategies(decap)]
    if clip.is_coca:
        paired = CocaCaptioner(clip).describe(pictures(test.scenes))
        rows.append(test.score("paired CoCa captioner", [one.text for one in paired]))
    return [*rows, floor(decap, test)]


def described(variant: Variant, test: DrawnScenes) -> Row:
    """How it does on the scenes."""
    return test.score(variant.name, variant.describe(test.embeddings))


def floor(decap: Decap, test: DrawnScenes, candidates: int = 20) -> Row:
    """The best single text for all images: exact for each kind of fact; for CIDEr-D, the best of the memory's captions
    nearest to the mean image."""
    memory = _memory_of(decap)
    mean = test.embeddings.mean(0, keepdim=True)
    texts = [memory.texts[i] for i in memory.nearest(mean, candidates).indices[0].tolist()]
    each = [caption_scores([text] * len(test.scenes), test.references, java=False).scores["CIDEr-D"] for text in texts]
    best = texts[each.index(max(each))]
    row = test.score("constant-text floor", [best] * len(test.scenes))
    return replace(row, f1={kind: score.f1 for kind, score in floor_scores(test.scenes).items()})


def temperature_curve(decap: Decap, test: DrawnScenes) -> list[Row]:
    """`pd` from a nearly uniform mixture to nearly the nearest entry."""
    return [described(one, test) for one in decap_curves.temperatures(decap, TEMPERATURES)]


def size_curve(decap: Decap, clip: Clip, test: DrawnScenes, number: int) -> list[Row]:
    """`pd` and `clipre` with shares of a memory of descriptive captions of `number` train scenes, drawn at random."""
    memory = style_memory(clip, "descriptive", number)
    return [described(one, test) for one in decap_curves.memory_sizes(decap, memory)]


def other_memories(decap: Decap, clip: Clip, test: DrawnScenes, number: int) -> list[Row]:
    """The decoder as it is with memories of every phrasing style, `web` (noisy) among them."""
    memories = {style: style_memory(clip, style, number) for style in (*CLEAN_STYLES, "web")}
    variants = [one for style, memory in memories.items() for one in with_memory(decap, f"{style} memory", memory)]
    return [described(one, test) for one in variants]


def unseen_nouns(decap: Decap, clip: Clip, nouns: Sequence[str], number: int, size: int) -> dict[str, float]:
    """Recall by strategy of nouns that no training caption names, but the memory does (as in NoCaps)."""
    test = draw_scenes(clip, number, lambda scene: any(thing.noun in nouns for thing in scene.objects))
    changed = replace(decap, memory=style_memory(clip, "descriptive", size))
    recall = {}
    for strategy in get_args(Strategy):
        texts = [one.text for one in changed.describe_embeddings(test.embeddings, strategy=strategy)]
        pairs = [(facts_of(s).noun & set(nouns), parse_facts(t).noun) for s, t in zip(test.scenes, texts, strict=True)]
        recall[strategy] = sum(len(true & said) for true, said in pairs) / sum(len(true) for true, _ in pairs)
    return recall


def style_memory(clip: Clip, style: str, number: int) -> SupportMemory:
    """A memory of captions of `number` train scenes in one style."""
    texts = list(dict.fromkeys(SceneData(number=number, styles={style: 1.0}).open(image_size=64).captions()))
    return SupportMemory(embed_texts(texts, clip), texts, space_name(clip))


def table(title: str, rows: Sequence[Row], kinds: Sequence[str] = KINDS) -> str:
    """Markdown: one line per row, F1 per kind, CIDEr-D x100 and BLEU-4 x100 as papers print them."""
    lines = [
        [row.name, *(f"{row.f1[kind]:.3f}" for kind in kinds), f"{100 * row.cider_d:.1f}", f"{100 * row.bleu_4:.1f}"]
        for row in rows
    ]
    return markdown([title, *kinds, "CIDEr-D", "BLEU-4"], lines)


def _memory_of(decap: Decap) -> SupportMemory:
    if decap.memory is None:
        raise InputError("this DeCap has no support memory; build one into its folder first")
    return decap.memory


def main(
    folder: Annotated[Path, typer.Argument(help="A trained DeCap.")] = FOLDER / "decap",
    clip: Annotated[Path, typer.Option(help="Its CoCa.")] = DEFAULT_CLIP,
    number: Annotated[int, typer.Option(min=10, help="Test scenes.")] = 1000,
    memory: Annotated[int, typer.Option(min=10, help="Captions in the memories built here.")] = 20_000,
    variant: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of another DeCap, compared by pd.")] = None,
    unseen: Annotated[Path | None, typer.Option(help="A DeCap trained without the nouns of --noun.")] = None,
    noun: Annotated[list[str] | None, typer.Option(help="A noun that --unseen was trained without.")] = None,
) -> None:
    """Print all tables of a DeCap on the made world's test split."""
    space = Clip.from_pretrained(clip)
    decap = Decap.from_pretrained(folder, clip=space)
    test = draw_scenes(space, number)
    typer.echo(table("strategy", strategies(decap, space, test)) + "\n")
    typer.echo(table("temperature", temperature_curve(decap, test)) + "\n")
    typer.echo(table("memory size", size_curve(decap, space, test, memory)) + "\n")
    typer.echo(table("other memories", other_memories(decap, space, test, memory)) + "\n")
    folders = named_folders(variant or [])
    others = [(name, Decap.from_pretrained(Path(path), clip=space)) for name, path in folders.items()]
    if others:
        compared = [Variant(name, one, {"strategy": "pd"}) for name, one in [("this one", decap), *others]]
        rows = [described(one, test) for one in compared]
        typer.echo(table("training", rows) + "\n")
    if unseen and noun:
        recall = unseen_nouns(Decap.from_pretrained(unseen, clip=space), space, noun, number, memory)
        shown = ", ".join(f"{strategy} {share:.3f}" for strategy, share in recall.items())
        typer.echo(f"recall of {', '.join(noun)}, which no training caption names: {shown}")


if __name__ == "__main__":
    typer.run(main)

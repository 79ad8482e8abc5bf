"""How much of an image comes back when it is drawn again from a text: three yardsticks for any text-to-image model.

- Fréchet distance (as in FID; Heusel et al. 2017, arXiv 1706.08500) between all drawings and all images, of the probe's
  192 features of each of a picture's five places: the probe has no part in writing or drawing.
- CLIP similarity: the cosine of a drawing and its image in the small CoCa's space, mean over pictures.
- Objects right, as in `text_to_image`: recall of (noun, colour) and of (noun, colour, place), read from the drawings by
  two judges, the CoCa's captioner and the probe.

A drawing starts from noise that is the same for all texts of its image, so that only the words differ.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL.Image import Image
from torch import Tensor

from ...encoders.clip.clip import Clip
from ...encoders.redraw.redrawer import Redrawer
from ...errors import InputError
from ...metrics.frechet_distance import frechet_distance
from ...train.data.pixels import pixels
from ..facts import facts_of, score_facts
from ..world import Scene
from .drawn_facts import captioner_judge
from .probe import SIZE, Probe, cut_out, load_probe
from .testbed import device, first_scenes, pictures

MOST_OBJECTS = 3  # of the scenes that are drawn again
REDRAWN = 200  # scenes
STEPS = 25
COLUMNS = ("Fréchet distance", "CLIP similarity", "noun and colour right", "noun, colour and place right")
DEFAULT_PROBE = Path("runs/probe/model")

# Options of the commands that redraw.
ClipOption = Annotated[Path, typer.Option(help="Folder of the CoCa that captions and judges.")]
ProbeOption = Annotated[Path, typer.Option(help="Folder of the probe that judges, made by scenes.evals.probe.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Denoising steps of a drawing.")]


@dataclass(frozen=True)
class Figures:
    """Of drawings beside their images. pair, triple: objects right without and with their place, by judge."""

    frechet: float
    similarity: float
    pair: Mapping[str, float]
    triple: Mapping[str, float]


def cells(figures: Figures | None) -> list[str]:
    """For a Markdown table with `COLUMNS`, shares by captioner / by probe; dashes where nothing was drawn."""
    if figures is None:
        return ["-"] * len(COLUMNS)
    pair, triple = (
        " / ".join(f"{share:.3f}" for share in shares.values()) for shares in (figures.pair, figures.triple)
    )
    return [f"{figures.frechet:.2f}", f"{figures.similarity:.3f}", pair, triple]


@dataclass(frozen=True)
class Originals:
    """Scenes to be drawn again, and who judges the drawings."""

    scenes: Sequence[Scene]
    clip: Clip
    probe: Probe

    @cached_property
    def images(self) -> list[Image]:
        return pictures(self.scenes)

    @cached_property
    def embeddings(self) -> Tensor:
        """(N, D), of unit length."""
        return self.clip.embed_images(self.images)

    def measure(self, drawn: Sequence[Image]) -> Figures:
        """drawn: one picture for each scene, in order, of any size."""
        if len(drawn) != len(self.scenes):
            raise InputError(f"got {len(drawn)} drawings of {len(self.scenes)} scenes; expected one for each")
        true = [facts_of(scene) for scene in self.scenes]
        judges = {"captioner": captioner_judge(self.clip), "probe": self.probe.facts}
        scores = {name: score_facts(judge(drawn), true) for name, judge in judges.items()}
        return Figures(
            frechet_distance(place_features(self.probe, drawn), self._features),
            float((self.clip.embed_images(drawn) * self.embeddings).sum(1).mean()),
            {name: score["pair"].recall for name, score in scores.items()},
            {name: score["triple"].recall for name, score in scores.items()},
        )

    @cached_property
    def _features(self) -> Tensor:
        return place_features(self.probe, self.images)


def load_originals(number: int, clip: Path, probe: Path) -> Originals:
    """The first `number` test scenes of 1-3 objects, and the judges from their folders."""
    return Originals(first_scenes(number, MOST_OBJECTS), Clip.from_pretrained(clip, device=device()), load_probe(probe))


@torch.inference_mode()
def place_features(probe: Probe, images: Sequence[Image], batch_size: int = 256) -> Tensor:
    """Pictures -> (5 N, 192): what the probe makes of each place, just before it names noun and colour."""
    where = next(probe.net.parameters()).device
    parts = (pixels(images[i : i + batch_size], SIZE).to(where) for i in range(0, len(images), batch_size))
    return torch.cat([probe.net.look(cut_out(part).flatten(0, 1)) for part in parts])


class Drawer:
    """Draws in batches and keeps count of what that costs."""

    def __init__(self, redrawer: Redrawer, steps: int, batch_size: int = 64) -> None:
        self.redrawer, self.steps, self.batch_size = redrawer, steps, batch_size
        self.images, self.seconds = 0, 0.0

    @property
    def name(self) -> str:
        """The last two names of a folder or hub id at most: "weights/text_to_image"."""
        return "/".join(Path(self.redrawer.name).parts[-2:])

    def draw(self, texts: Sequence[str], guidance: float) -> list[Image]:
        """One picture per text."""
        began = time.perf_counter()
        drawn = self.redrawer.draw(
            texts, guidance_scale=guidance, num_inference_steps=self.steps, batch_size=self.batch_size
        )
        self.images, self.seconds = self.images + len(texts), self.seconds + time.perf_counter() - began
        return drawn

    @property
    def cost(self) -> str:
        """One line for people."""
        each = self.seconds / max(1, self.images)
        return (
            f"{self.name} drew {self.images:,} images of {self.steps} steps in {self.seconds:.0f} s, {each:.3f} s each "
            f"in batches of {self.batch_size}, on {self.redrawer.pipeline.device}"
        )

"""Open-ended classification (Frozen, Tsimpoukelli et al. 2021, arXiv 2106.13884): n-way, k-shot episodes.

An episode draws n classes, k images of each for shots and one more image to classify. The images are in a folder for
each class. Nonsense names show whether the class is learnt from the shots.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ...encoders.images import expand_images
from ...errors import InputError
from ...prompting.classification import ClassificationTemplate
from ...prompting.templates import Shot
from ..harness.context_rows import Source
from ..harness.task_base import Prompted, Task
from ..task_data.documents import Doc, TaskData
from ..task_data.image_files import ImageFiles
from ..task_data.task_config import TaskConfig

NONSENSE = ("dax", "blicket", "wug", "zorp", "fep", "toma", "kiki", "perpo", "slation", "shously")
_MOST_SHOTS = 16  # of a class that an episode holds ready


class ClassificationTask(Task):
    """`num_fewshot` is the number of shots of each class."""

    def __init__(self, config: TaskConfig, data: TaskData, seed: int = 0) -> None:
        super().__init__(config, data, seed)
        self.metrics = {"exact_match": "exact match with the class"}
        self.chance = 100 / config.ways

    @classmethod
    def load(cls, config: TaskConfig, folder: Path, *, limit: int | None, seed: int) -> ClassificationTask:
        place = folder / config.data.removeprefix("imagefolder:")
        if not place.is_dir():
            raise InputError(f"{config.task}: no folder {place}; expected one with a folder of images for each class")
        classes = {
            path.name: names
            for path in sorted(place.iterdir())
            if path.is_dir() and (names := [str(Path(n).relative_to(place)) for n in expand_images([str(path)])])
        }
        few = [name for name, names in classes.items() if len(names) < 2]
        if len(classes) < config.ways or few:
            raise InputError(
                f"{place} has {len(classes)} classes with images{f', and one image alone in {few[0]}' if few else ''}; "
                f"expected {config.ways} or more, each with two images or more"
            )
        candidates = [Doc(n, n, answer=label, references=(label,)) for label, ns in classes.items() for n in ns]
        number = min(limit or config.episodes, config.episodes)
        asked = [_episode(i, classes, config, seed) for i in range(number)]
        return cls(config, TaskData(asked, candidates, ImageFiles(place)), seed)

    def prompted(self, doc: Doc, source: Source, num_fewshot: int) -> Prompted:
        config = self.config
        template = ClassificationTemplate(labels=doc.choices, induction=config.induction, quote=config.quote)
        shots = [Shot(source(one), answer=one.answer, id=one.id, image=one.image) for one in _support(doc, num_fewshot)]
        query = Shot(source(doc), id=doc.id, image=doc.image)
        return Prompted(template, query, shots, doc.choices if config.constrained else None)

    def score_all(self, answers: Sequence[str | None]) -> list[dict[str, float]]:
        pairs = zip(self.data.asked, answers, strict=True)
        return [{"exact_match": float(answer == doc.answer)} for doc, answer in pairs]

    def images(self, most_shots: int) -> list[str]:
        docs = [one for doc in self.data.asked for one in (*_support(doc, most_shots), doc)]
        return list(dict.fromkeys(one.image for one in docs))


def _episode(number: int, classes: dict[str, list[str]], config: TaskConfig, seed: int) -> Doc:
    rng = random.Random(f"{seed}:{config.task}:{number}")
    drawn = rng.sample(sorted(classes), config.ways)
    shown = drawn if config.names == "real" else rng.sample(NONSENSE, config.ways)
    own = rng.randrange(config.ways)
    support: list[Doc] = []
    query = ""
    for place, (name, label) in enumerate(zip(drawn, shown, strict=True)):
        names = rng.sample(classes[name], len(classes[name]))
        if place == own:
            query, names = names[0], names[1:]
        support += [Doc(f"{label} {turn}", image, answer=label) for turn, image in enumerate(names[:_MOST_SHOTS])]
    return Doc(
        f"episode-{number}", query, references=(shown[own],), answer=shown[own], choices=tuple(shown), type=drawn[own],
        columns={"support": support},
    )  # fmt: skip


def _support(doc: Doc, num_fewshot: int) -> list[Doc]:
    """The first `num_fewshot` of each class, in turns whose order is drawn by the episode."""
    held: list[Doc] = [*doc.columns["support"]]
    by_class = {label: [one for one in held if one.answer == label][:num_fewshot] for label in doc.choices}
    if short := [label for label, ones in by_class.items() if len(ones) < num_fewshot]:
        raise InputError(
            f"{num_fewshot} shots of each class asked for, but {short[0]} has {len(by_class[short[0]])} in {doc.id}; "
            f"lower num_fewshot (at most {_MOST_SHOTS})"
        )
    shots = [ones[turn] for turn in range(num_fewshot) for ones in by_class.values()]
    return random.Random(f"{doc.id}:{doc.image}").sample(shots, len(shots))

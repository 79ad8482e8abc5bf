"""Make the encoder `tags` from an ImageNet checkpoint and labelled photographs that it was not trained on.

`python -m textlens.train.tags.calibrate --help`. One half of the photographs, drawn by the seed, sets the
temperature (least negative log-likelihood) and the threshold (see `choose_threshold`); "held_out" is the other half.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from timm.data import ImageNetInfo
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...encoders.clip.space import clip_spec
from ...encoders.images import load_image
from ...encoders.signatures import has_image_suffix
from ...encoders.tags.tags_encoder import Tags, TagsConfig
from ...errors import InputError
from ...metrics.calibration import expected_calibration_error
from ..engine.run import RECORD, current_commit
from ..trunk_weights import read_tensors
from .tag_names import plain_names

BATCH = 32
THRESHOLDS = [i / 100 for i in range(2, 51)]


@dataclass(frozen=True)
class Labelled:
    """What the classifier says of labelled photographs."""

    logits: Tensor  # (N, classes)
    tags: Tensor  # (N,) place of the label in the vocabulary

    def part(self, rows: Tensor) -> Labelled:
        return Labelled(self.logits[rows], self.tags[rows])


def read_classifier(file: str, width: int, number: int) -> nn.Linear:
    """The classifier in a whole network's checkpoint, by the shapes of its weight and bias.

    file: see `trunk_weights.fill_trunk`. width: of the tower's features. Raises `InputError` where there is not one
    classifier of that width into `number` classes.
    """
    tensors = read_tensors(file)
    weights = [tensor for tensor in tensors.values() if tensor.shape == (number, width)]
    biases = [tensor for tensor in tensors.values() if tensor.shape == (number,)]
    if len(weights) != 1 or len(biases) != 1:
        raise InputError(
            f"{file} holds {len(weights)} tensors of shape ({number}, {width}) and {len(biases)} of shape ({number},); "
            f"expected one of each, the {number}-class classifier of this CLIP's image tower"
        )
    classifier = nn.Linear(width, number)
    classifier.load_state_dict({"weight": weights[0], "bias": biases[0]})
    return classifier


def labelled_files(folder: Path) -> list[tuple[Path, int]]:
    """(photograph, class) of a folder with one subfolder for each class, named by ImageNet's ids such as n01440764."""
    classes = {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    unknown = [path.name for path in subfolders if path.name not in classes]
    files = [
        (file, classes[path.name])
        for path in subfolders
        if path.name in classes
        for file in sorted(path.iterdir())
        if has_image_suffix(file)
    ]
    if unknown or not files:
        got = f"subfolders such as {unknown[0]!r}" if unknown else "no photographs in subfolders"
        raise InputError(f"{folder} has {got}; expected one subfolder for each class, named like n01440764 (ImageNet)")
    return files


def classify(tags: Tags, folder: Path) -> Labelled:
    """Run the classifier over `labelled_files`."""
    files = labelled_files(folder)
    starts = range(0, len(files), BATCH)
    logits = [tags.logits([load_image(file) for file, _ in files[i : i + BATCH]]) for i in starts]
    return Labelled(torch.cat(logits).cpu(), tags.tag_of_class.cpu()[[label for _, label in files]])


def fit_temperature(tags: Tags, data: Labelled) -> float:
    """The temperature of least negative log-likelihood of the labels (Guo et al. 2017, arXiv 1706.04599)."""
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = negative_log_likelihood(tags.chances(data.logits, log_temperature.exp()), data.tags)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_temperature.detach().exp())


def negative_log_likelihood(chances: Tensor, labels: Tensor) -> Tensor:
    """Mean over (N, tags) chances and (N,) labels."""
    return -chances.gather(1, labels[:, None]).clamp_min(1e-12).log().mean()


def choose_threshold(tags: Tags, data: Labelled, min_precision: float) -> float:
    """The least threshold, in hundredths, from which on at least `min_precision` of all the tags shown are right.

    A photograph has one label, so a second tag that is right of another thing in it counts as wrong.
    """
    chances = tags.chances(data.logits)
    for threshold in THRESHOLDS:
        if precision(shown(chances, threshold, tags.config.max_tags), data.tags) >= min_precision:
            return threshold
    raise InputError(
        f"at no threshold up to {THRESHOLDS[-1]} are {min_precision:g} of the shown tags right; "
        "lower --min-precision, or look whether labels and classifier belong together"
    )


def shown(chances: Tensor, threshold: float, max_tags: int) -> Tensor:
    """(N, tags) chances -> bool, the tags that descriptions name."""
    best = chances.topk(min(max_tags, chances.shape[1]))
    return torch.zeros_like(chances, dtype=torch.bool).scatter(1, best.indices, best.values >= threshold)


def precision(named: Tensor, labels: Tensor) -> float:
    """Share of the named tags (N, tags) that are the label; 1 where none is named."""
    right = named.gather(1, labels[:, None]).sum()
    return float(right / named.sum()) if named.any() else 1.0


def figures(tags: Tags, data: Labelled) -> dict[str, float]:
    """How right and how well calibrated the tags are, before (temperature 1) and after."""
    chances = tags.chances(data.logits)
    top = chances.max(1)
    right = top.indices == data.tags
    before = tags.chances(data.logits, torch.tensor(1.0))
    named = shown(chances, tags.config.threshold, tags.config.max_tags)
    found = {
        "photos": len(right),
        "top1": float(right.float().mean()),
        "top5": float((chances.topk(5).indices == data.tags[:, None]).any(1).float().mean()),
        "mean_top_chance_before": float(before.max(1).values.mean()),
        "mean_top_chance": float(top.values.mean()),
        "ece_before": expected_calibration_error(before.max(1).values, before.argmax(1) == data.tags),
        "ece": expected_calibration_error(top.values, right),
        "nll_before": float(negative_log_likelihood(before, data.tags)),
        "nll": float(negative_log_likelihood(chances, data.tags)),
        "tags_shown": float(named.sum(1).float().mean()),
        "blank": float((~named.any(1)).float().mean()),
        "precision": precision(named, data.tags),
        "recall": float(named.gather(1, data.tags[:, None]).float().mean()),
    }
    return {name: round(value, 4) for name, value in found.items()}


def calibrated(tags: Tags, data: Labelled, min_precision: float) -> Tags:
    """`tags` with the temperature and the threshold of these photographs."""
    warm = replace(tags, config=replace(tags.config, temperature=round(fit_temperature(tags, data), 4)))
    return replace(warm, config=replace(warm.config, threshold=choose_threshold(warm, data, min_precision)))


def halves(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """The rows 0 to `number` in two halves, drawn by the seed."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    return order[: number // 2], order[number // 2 :]


def main(
    clip: Annotated[Path, typer.Option(help="Folder of the CLIP whose image tower the classifier belongs to.")],
    classifier: Annotated[
        str, typer.Option(help="The tower's ImageNet checkpoint, .pth or .safetensors, or package:MODULE/FILE.")
    ],
    photos: Annotated[Path, typer.Option(help="Photographs it was not trained on: a subfolder for each class.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    check: Annotated[list[Path] | None, typer.Option(help="More such folders, for figures alone.")] = None,
    min_precision: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of all shown tags that is right; sets the threshold.")
    ] = 0.7,
    max_tags: Annotated[int, typer.Option(min=1, help="Most tags of a photograph.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the halves.")] = 0,
    note: Annotated[list[str] | None, typer.Option(help="Where weights or photographs are from; licences.")] = None,
) -> None:
    """Write config.json, classifier.safetensors and training.json."""
    start, commit = time.monotonic(), current_commit()
    tower = Clip.from_pretrained(clip)
    names, width = plain_names(), tower.patch_shape[1]
    config = TagsConfig(clip_spec(tower, out), width, names, max_tags=max_tags)
    tags = Tags(config, tower, read_classifier(classifier, width, len(names)))
    data = classify(tags, photos)
    fit, held_out = (data.part(rows) for rows in halves(len(data.tags), seed))
    tags = calibrated(tags, fit, min_precision)
    results = {"held_out": figures(tags, held_out), "fitted": figures(tags, fit)}
    results |= {folder.name: figures(tags, classify(tags, folder)) for folder in check or ()}
    tags.save_pretrained(out, dtype=torch.float16)
    record = {
        "recipe": "tags",
        "settings": {
            "clip": tags.config.clip,
            "classifier": classifier.rpartition("/")[2],
            "photos": len(data.tags),
            "min_precision": min_precision,
            "max_tags": max_tags,
        },
        "seed": seed,
        "commit": commit,
        "device": "CPU",
        "torch": torch.__version__,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "data": list(note or ()),
        "temperature": tags.config.temperature,
        "threshold": tags.config.threshold,
        "final_metrics": results,
    }
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"temperature {tags.config.temperature}, threshold {tags.config.threshold}")
    for name, found in results.items():
        print(f"{name:9}", json.dumps(found))


if __name__ == "__main__":
    typer.run(main)

"""`make demo`: describe example scenes offline, with the small models that come along, and show it in one picture."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image
from textlens.encoders.registry import DEFAULT_ENCODER, load_encoder
from textlens.train.scenes import render, scene_at

EXAMPLES = (3, 8, 20, 21, 25, 30)  # numbers of scenes in the test split, which no training has seen
OUT = Path("demo")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    images = [Image.fromarray(render(scene_at(index, "test"), 64)) for index in EXAMPLES]
    descriptions = load_encoder(DEFAULT_ENCODER).describe(images)
    figure, axes = plt.subplots(len(images), 2, figsize=(9, 1.75 * len(images)), width_ratios=(1, 3), squeeze=False)
    for index, image, description, (left, right) in zip(EXAMPLES, images, descriptions, axes, strict=True):
        path = OUT / f"scene-{index:02d}.png"
        image.save(path)
        print(f"{path}: {description.text}")
        left.imshow(image)
        right.text(0, 0.5, textwrap.fill(description.text, 56), va="center", fontsize=13)
        left.set(xticks=[], yticks=[])
        right.axis("off")
    figure.suptitle(f"image | the words that the encoder “{DEFAULT_ENCODER}” writes for it", fontsize=13)
    figure.tight_layout()
    figure.savefig(OUT / "describe.png", dpi=110)
    print(f"\npicture and words side by side: {OUT / 'describe.png'}")


if __name__ == "__main__":
    main()

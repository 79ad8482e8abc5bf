"""`make demo`: describe example scenes offline, with the small models that come along, draw them again from the words
alone, and show it in one picture.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from textlens.encoders.comparison import comparison, sheet
from textlens.encoders.redraw import Redrawer
from textlens.encoders.registry import DEFAULT_ENCODER, load_encoder
from textlens.train.scenes import render, scene_at

EXAMPLES = (0, 6, 1, 5, 2, 4)  # the first two scenes of one, two and three objects in the test split
OUT = Path("demo")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    images = [Image.fromarray(render(scene_at(index, "test"), 64)) for index in EXAMPLES]
    texts = [description.text for description in load_encoder(DEFAULT_ENCODER).describe(images)]
    for index, image, text in zip(EXAMPLES, images, texts, strict=True):
        path = OUT / f"scene-{index:02d}.png"
        image.save(path)
        print(f"{path}: {text}")
    drawn = Redrawer.from_pretrained().draw(texts)
    pictures = [comparison(*row) for row in zip(images, texts, drawn, strict=True)]
    sheet(pictures).save(OUT / "recreate.png")
    print(f"\nimage | words that “{DEFAULT_ENCODER}” writes | what the words alone give back: {OUT / 'recreate.png'}")


if __name__ == "__main__":
    main()

"""`make demo`: describe example scenes offline, with the small models that come along, draw them again from the words
alone, show it in one picture, and ask a language model, which sees nothing but words, a question about each.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from textlens import ImageReader
from textlens.encoders.redraw.comparison import comparison, sheet
from textlens.encoders.redraw.redrawer import Redrawer
from textlens.encoders.registry import ASK_ENCODERS, DEFAULT_ENCODER, load_encoder
from textlens.scenes.questions import Question, questions
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at, scene_rng

# The first two scenes of one, two and three objects in the test split, and the type of question that each is asked.
EXAMPLES = {0: "what", 6: "colour", 1: "where", 5: "colour", 2: "count", 4: "yes/no"}
OUT = Path("demo")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    images = [Image.fromarray(render(scene_at(index, "test"), 64)) for index in EXAMPLES]
    texts = [description.text for description in load_encoder(DEFAULT_ENCODER).describe(images)]
    paths = [OUT / f"scene-{index:02d}.png" for index in EXAMPLES]
    for path, image, text in zip(paths, images, texts, strict=True):
        image.save(path)
        print(f"{path}: {text}")
    drawn = Redrawer.from_pretrained().draw(texts)
    pictures = [comparison(*row) for row in zip(images, texts, drawn, strict=True)]
    sheet(pictures).save(OUT / "recreate.png")
    print(f"\nimage | words that “{DEFAULT_ENCODER}” writes | what the words alone give back: {OUT / 'recreate.png'}")

    readers = " and ".join(ASK_ENCODERS)
    print(f"\nasked of the small language model, which reads the words of {readers} (the truth beside):")
    asked = [question_of(index, kind) for index, kind in EXAMPLES.items()]
    answers = ImageReader.from_specs().ask([str(path) for path in paths], [one.question for one in asked])
    for path, one, answer in zip(paths, asked, answers, strict=True):
        print(f"{path}: {one.question} {answer.answer} ({one.answer})")


def question_of(index: int, kind: str) -> Question:
    """A question of this type about a test scene, with its true answer."""
    found = questions(scene_at(index, "test"), scene_rng("test", 0, index, "questions"))
    return next(one for one in found if one.type == kind)


if __name__ == "__main__":
    main()

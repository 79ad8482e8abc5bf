"""`make demo`: describe photographs offline, with the small models that come along, and let a language model, which
sees nothing but words, answer a question about each. Then the same for scenes of the made world, which are also drawn
again from the words alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image
from textlens import ImageReader, load_image
from textlens.encoders.redraw.comparison import comparison, sheet
from textlens.encoders.redraw.redrawer import Redrawer
from textlens.encoders.registry import DEFAULT_ENCODERS, REDRAW_ENCODER, load_encoder
from textlens.evals.photo_sheet import card
from textlens.scenes.questions import Question, questions
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at, scene_rng

PHOTOS = Path(__file__).parent / "photos"
QUESTIONS = {  # of each photograph, with the truth
    "brown-dog.jpg": ("What animal is in the picture?", "a dog"),
    "footballer.jpg": ("What sport is being played?", "football, or soccer"),
    "cyclists.jpg": ("What are the people riding?", "bicycles"),
    "two-dogs.jpg": ("How many dogs are there?", "two"),
    "cat.jpg": ("What animal is in the picture?", "a cat"),
    "officer.jpg": ("What is on the head of the person?", "a hat, or cap"),
}
# The first two scenes of one, two and three objects in the test split, and the type of question that each is asked.
EXAMPLES = {0: "what", 6: "colour", 1: "where", 5: "colour", 2: "count", 4: "yes/no"}
SCENE_ENCODERS = ("scenes:dediffusion", "scenes:decap")
OUT = Path("demo")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    pictures = [photographs(), made_world()]
    sheet(pictures, columns=1).save(OUT / "demo.png")


def photographs() -> Image.Image:
    """Describe the example photographs and ask a question about each -> both in one picture."""
    paths = [str(PHOTOS / name) for name in QUESTIONS]
    images = [load_image(path) for path in paths]
    words = {spec: [one.text for one in load_encoder(spec).describe(images)] for spec in DEFAULT_ENCODERS}
    for number, path in enumerate(paths):
        print(f"{os.path.relpath(path)}: {'; '.join(texts[number] for texts in words.values() if texts[number])}")
    answers = ImageReader.from_specs().ask(paths, [question for question, _ in QUESTIONS.values()])
    print("\nasked of Gemma 3 270M, a language model that reads nothing but the words above (the truth beside):")
    cards = []
    for number, (path, answer, (question, truth)) in enumerate(zip(paths, answers, QUESTIONS.values(), strict=True)):
        print(f"{os.path.relpath(path)}: {question} {answer.answer} ({truth})")
        shown = {spec: texts[number] for spec, texts in words.items()}
        cards.append(card(images[number], Path(path).name, {**shown, question: str(answer.answer)}))
    picture = sheet(cards)
    picture.save(OUT / "photos.png")
    print(f"photographs, their words, questions and answers in one picture: {OUT / 'photos.png'}")
    return picture


def made_world() -> Image.Image:
    """Describe scenes, draw them again from the words, and ask a question about each -> image, words and drawing."""
    images = [Image.fromarray(render(scene_at(index, "test"), 64)) for index in EXAMPLES]
    texts = [description.text for description in load_encoder(REDRAW_ENCODER).describe(images)]
    paths = [OUT / f"scene-{index:02d}.png" for index in EXAMPLES]
    print("\nthe made world, whose text-to-image model is included:")
    for path, image, text in zip(paths, images, texts, strict=True):
        image.save(path)
        print(f"{os.path.relpath(path)}: {text}")
    drawn = Redrawer.from_pretrained().draw(texts)
    pictures = [comparison(*row) for row in zip(images, texts, drawn, strict=True)]
    picture = sheet(pictures)
    picture.save(OUT / "recreate.png")
    print(f"image | words that “{REDRAW_ENCODER}” writes | what the words alone give back: {OUT / 'recreate.png'}")

    print(f"\nasked of the small language model, which reads the words of {' and '.join(SCENE_ENCODERS)}:")
    asked = [question_of(index, kind) for index, kind in EXAMPLES.items()]
    reader = ImageReader.from_specs(SCENE_ENCODERS, "tiny")
    answers = reader.ask([str(path) for path in paths], [one.question for one in asked])
    for path, one, answer in zip(paths, asked, answers, strict=True):
        print(f"{os.path.relpath(path)}: {one.question} {answer.answer} ({one.answer})")
    return picture


def question_of(index: int, kind: str) -> Question:
    """A question of this type about a test scene, with its true answer."""
    found = questions(scene_at(index, "test"), scene_rng("test", 0, index, "questions"))
    return next(one for one in found if one.type == kind)


if __name__ == "__main__":
    main()

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from textlens.agent.nearest_shots import NearestShots, ShotEmbeddings
from textlens.agent.reader.reader import ImageReader
from textlens.encoders.clip.clip import Clip
from textlens.encoders.images import load_image
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.prompting.templates import Context, Shot
from textlens.scenes.scene_files import write_scenes


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.from_pretrained(WEIGHTS / "scenes" / "coca")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scenes")
    for _ in write_scenes(8, folder):
        pass
    return sorted(str(path) for path in folder.glob("**/*.png"))


def test_the_most_like_image_comes_last_and_never_the_querys_own(clip: Clip, pictures: list[str]) -> None:
    shots = [Shot(question="What?", answer=str(i), id=path, image=path) for i, path in enumerate(pictures)]
    nearest = NearestShots(clip, shots, len(shots) - 1)
    embedded = clip.embed_images([load_image(path) for path in pictures])
    for i, path in enumerate(pictures[:3]):
        assert nearest(Shot(image=path, id="another"))[-1] == shots[i]
        others = nearest(Shot(image=path, id=path))
        assert shots[i] not in others
        like = [float(embedded[i] @ embedded[int(shot.answer or "")]) for shot in others]
        assert like == sorted(like)


def test_the_most_like_question(clip: Clip) -> None:
    questions = ["Where is the star?", "How many things are there?", "What color is the cat?"]
    shots = [Shot(question=question, answer="?", id=question) for question in questions]
    nearest = NearestShots(clip, shots, 2, by="question")
    for question in questions:
        other, last = nearest(Shot(question=question, id="another"))
        assert last.question == question
        assert other.question != question


def test_the_most_like_words_and_several_kinds_together(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, questions = ["a red star", "a blue cat", ""], ["Where is the star?", "What color is the cat?"]
    shots = [
        Shot((Context(text),) if text else (), question, "?", id=f"{text}|{question}")
        for text in texts
        for question in questions
    ]
    by_words = NearestShots(clip, shots, 2, by="words")
    assert {shot.context[0].text for shot in by_words(Shot((Context("a blue cat"),)))} == {"a blue cat"}
    assert by_words(Shot()) == shots[1::-1]  # nothing to compare: the first ones
    embeddings = ShotEmbeddings(clip)
    both = NearestShots(embeddings, shots, 1, by="question+words")
    for shot in shots[:4]:
        assert both(Shot(shot.context, shot.question)) == [shot]
    calls: list[Sequence[str]] = []
    monkeypatch.setattr(clip, "embed_texts", calls.append)
    NearestShots(embeddings, shots, 1, by="words")
    assert calls == []  # what was embedded before is not embedded again


def test_the_reader_asks_with_the_nearest_shots(clip: Clip, pictures: list[str]) -> None:
    shots = [Shot(question="How many things are there?", answer="7", id=path, image=path) for path in pictures[:-1]]
    reader = ImageReader.from_specs(["scenes:coca"], "tiny")
    nearest = NearestShots(clip, shots, 1)
    first, last = reader.ask([pictures[0], Path(pictures[-1])], ["Is it red?"] * 2, shots=nearest)
    for answer, path in ((first, pictures[0]), (last, pictures[-1])):
        (shot,) = nearest(Shot(image=path, id=answer.image))
        (words,) = reader.describer.describe([shot.image])
        assert words.descriptions[0].text in (answer.prompt or "")


@pytest.mark.parametrize(
    ("shots", "by", "told"),
    [
        ([Shot(answer="a", id="7")], "image", "'7' has none"),
        ([Shot(answer="a", image="missing.png")], "image", "missing.png"),
        ([Shot(answer="a", image="missing.png")], "question", "has none"),
        ([], "luck", "expected one of image, question"),
    ],
)
def test_what_cannot_be_compared_is_an_error(clip: Clip, shots: list[Shot], by: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        NearestShots(clip, shots, 1, by=by)

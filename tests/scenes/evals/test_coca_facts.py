"""The CoCa that comes along keeps its promises, on a sample of the test split that is quick to go through."""

import json

import pytest
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.registry import WEIGHTS
from textlens.scenes.evals.coca_facts import caption_facts, retrieval, zero_shot_nouns
from textlens.scenes.evals.testbed import pictures
from textlens.scenes.scene import scene_at


@pytest.fixture(scope="module")
def clip():
    return Clip.from_pretrained(WEIGHTS / "scenes" / "coca")


def test_folder_is_small_and_says_how_it_was_made():
    files = list((WEIGHTS / "scenes" / "coca").iterdir())
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    record = json.loads((WEIGHTS / "scenes" / "coca" / "training.json").read_text())
    assert record["recipe"] == "coca"
    assert record["steps"] == record["settings"]["loop"]["steps"]


def test_zero_shot_nouns(clip):
    accuracy = zero_shot_nouns(clip, number=200)
    assert accuracy.all >= 0.9
    assert accuracy.number == 200


def test_retrieval_with_descriptive_captions(clip):
    assert retrieval(clip, groups=1) >= 0.85


def test_captions_state_the_facts(clip):
    rows = caption_facts(CocaCaptioner(clip), number=100)
    assert rows["all"]["noun"].f1 >= 0.85
    assert rows["all"]["triple"].f1 >= 0.8
    assert rows["all"]["noun"].f1 > rows["constant-text floor"]["noun"].f1 + 0.5
    parts = [rows[f"{count} object{'s' * (count > 1)}"]["triple"] for count in range(1, 5)]
    assert sum(part.true for part in parts) == rows["all"]["triple"].true


def test_words_do_not_depend_on_the_batch(clip):
    images = pictures([scene_at(index, "test", 2) for index in range(5)])
    captioner = CocaCaptioner(clip)
    alone = [captioner.describe([image])[0].text for image in images]
    assert [description.text for description in captioner.describe(images)] == alone

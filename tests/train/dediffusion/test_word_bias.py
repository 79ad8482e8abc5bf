"""Common words are preferred; nothing else of an encoder changes."""

import json
import math
import shutil

import pytest
from textlens.encoders.registry import WEIGHTS
from textlens.train.dediffusion.word_bias import frequency_bias, main


def test_the_bias_is_the_log_of_how_many_texts_have_a_word():
    found = frequency_bias(["dog", "cat", "runs"], ["A dog, a dog runs.", "The DOG", "dogs"], 0.5)
    assert found == [pytest.approx(0.5 * math.log(n), abs=1e-4) for n in (3, 1, 2)]


def test_an_encoders_config_gets_it_and_loses_it_again(tmp_path):
    for name in ("dediffusion", "coca"):
        shutil.copytree(WEIGHTS / "scenes" / name, tmp_path / name)
    before = json.loads((tmp_path / "dediffusion" / "config.json").read_text())
    (tmp_path / "texts.txt").write_text("a red star\na red sun\n")
    main(tmp_path / "dediffusion", tmp_path / "texts.txt", weight=1.0)
    after = json.loads((tmp_path / "dediffusion" / "config.json").read_text())
    assert max(after["word_bias"]) == pytest.approx(math.log(3), abs=1e-3)
    assert len(after["word_bias"]) == after["vocabulary_size"]
    main(tmp_path / "dediffusion", tmp_path / "texts.txt", weight=0)
    again = json.loads((tmp_path / "dediffusion" / "config.json").read_text())
    assert again["word_bias"] is None
    assert {name: again[name] for name in before} == before

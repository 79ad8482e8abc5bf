"""The encoder that training begins with."""

from __future__ import annotations

import pytest
import torch
from textlens.errors import InputError
from textlens.train.dediffusion.build_encoder import load_encoder

from .tiny_models import SIZES

WORDS = ["star", "red", "background", "nosuchword"]


def test_the_words_to_write_may_be_given(make, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("star\nred background\nnosuchword\n")
    for words in (WORDS, str(path)):
        assert set(make(words=words).vocabulary.words) == {"star", "red", "background"}
    assert set(WORDS[:3]) < set(make().vocabulary.words)


@pytest.mark.parametrize("head", ["tied", "linear"])
def test_a_second_stage_may_write_fewer_words(make, tmp_path, head):
    first = make(encoder=SIZES | {"head": head})
    first.encoder.save_pretrained(tmp_path / "first")
    restricted = make(start=str(tmp_path / "first"), words=WORDS)
    assert set(restricted.vocabulary.words) == {"star", "red", "background"}
    pixels = restricted.batch(range(2), 0)["pixels"]
    places = [first.vocabulary.words.index(word) for word in restricted.vocabulary.words]
    torch.testing.assert_close(restricted.model(pixels), first.model(pixels)[..., places])


def test_a_second_stage_may_leave_out_words_that_it_is_not_sure_of(make, tmp_path):
    make().encoder.save_pretrained(tmp_path / "first")
    careful = make(start=str(tmp_path / "first"), min_probability=0.5)
    assert careful.evaluate(careful.model.eval())["words"] < 5
    careful.encoder.save_pretrained(tmp_path / "careful")
    assert make(start=str(tmp_path / "careful")).encoder.config.min_probability == 0.5


def test_a_new_encoder_is_a_function_of_the_seed(make):
    torch.manual_seed(1)
    one = make().model.state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(tensor, one[name]) for name, tensor in make().model.state_dict().items())


def test_words_of_another_text_encoder_are_refused(make, tmp_path, other_tokenizer):
    recipe = make()
    recipe.encoder.save_pretrained(tmp_path / "first")
    recipe.decoder.tokenizer = other_tokenizer
    with pytest.raises(InputError, match="words of another text encoder"):
        load_encoder(str(tmp_path / "first"), recipe.clip, recipe.decoder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "reinforce"}, "estimator is 'reinforce'"),
        ({"estimator": "policy"}, "samples_per_image is 1; expected at least 2"),
        ({"estimator": "policy", "samples_per_image": 2, "clip_weight": 1.0}, "soft words"),
        ({"tau_end": 0.0}, "tau_end"),
        ({"continuous": True, "entropy_weight": 1.0}, "no words to weigh"),
        ({"random_backbone": True}, "needs encoder.train_backbone"),
        ({"timestep_range": (900, 100)}, "timestep_range"),
        ({"timestep_range": (0, 2000)}, "timestep_range"),
        ({"decoder": "no/where/at/all"}, "does not load as a text-to-image model"),
        ({"encoder": SIZES | {"num_queries": 63}}, "at most 62"),
        ({"encoder": SIZES | {"num_querys": 5}}, "unknown key 'encoder.num_querys'; expected num_queries"),
        ({"encoder": SIZES | {"heads": 3}}, "encoder: width 32 is no multiple of heads 3"),
        ({"words": "no/such/file.txt"}, "words is 'no/such/file.txt'"),
        ({"words": ["nosuchword"]}, "one of the 1 given words"),
        ({"words": ["star"], "encoder": SIZES | {"num_queries": 63}}, "at most 62"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)

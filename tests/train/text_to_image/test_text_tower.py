"""The exported text encoder: the same hidden states as open_clip's tower, and errors for towers it cannot be."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from textlens.encoders.clip.clip import Clip
from textlens.errors import InputError
from textlens.train.text_to_image.text_tower import export_text_encoder, renamed_weights
from transformers import CLIPTextModel, CLIPTokenizer

TOWER = {"context_length": 24, "vocab_size": 1920, "width": 32, "heads": 2, "layers": 2}
MODEL = {
    "embed_dim": 32,
    "pad_id": 1917,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16, "output_tokens": True,
    },
    "text_cfg": TOWER | {"hf_tokenizer_name": "local", "pad_id": 1917, "eos_id": 1919, "output_tokens": True},
    "multimodal_cfg": TOWER | {"layers": 1},
}  # fmt: skip
COCA = Path(str(files("textlens.weights") / "scenes" / "coca"))
TEXTS = ("a red sun", "", "Two blue cats, on a white background!", "Naïve zebra 42", "red " * 40)


def tiny(*, quick_gelu: bool = False, **text) -> Clip:
    config = MODEL | {"quick_gelu": quick_gelu, "text_cfg": MODEL["text_cfg"] | text}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        clip = Clip.from_config(config, tokenizer_folder=COCA)
        for parameter in clip.model.text.parameters():  # new norms and biases are all ones and zeros
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return tiny()


def pipeline_ids(tokenizer: CLIPTokenizer, texts) -> torch.Tensor:
    """As StableDiffusionPipeline tokenises its prompts."""
    length = tokenizer.model_max_length
    return tokenizer(
        list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


@torch.no_grad()
def tower_states(clip: Clip, ids: torch.Tensor) -> torch.Tensor:
    return clip.model.text(ids)[1]


def check_equal_up_to_the_end(clip: Clip) -> None:
    model, tokenizer = export_text_encoder(clip)
    ids = pipeline_ids(tokenizer, TEXTS)
    with torch.no_grad():
        found = model(ids)
    expected = tower_states(clip, clip.tokenize(TEXTS))
    ends = (ids == clip.eos_id).int().argmax(1)
    for row, end in enumerate(ends.tolist()):
        torch.testing.assert_close(found.last_hidden_state[row, : end + 1], expected[row, : end + 1], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.pooler_output, expected[torch.arange(len(ids)), ends], rtol=0, atol=1e-5)
    assert expected.std() > 0.5


def test_hidden_states_are_the_towers(clip):
    check_equal_up_to_the_end(clip)


def test_hidden_states_of_the_small_coca_are_its_towers():
    check_equal_up_to_the_end(Clip.from_pretrained(COCA))


def test_quick_gelu_is_carried_over():
    quick = tiny(quick_gelu=True)
    assert export_text_encoder(quick)[0].config.hidden_act == "quick_gelu"
    check_equal_up_to_the_end(quick)


def test_tokenizer_pads_and_ends_as_the_clips(clip):
    tokenizer = export_text_encoder(clip)[1]
    ids = pipeline_ids(tokenizer, TEXTS)
    assert torch.equal(ids, clip.tokenize(TEXTS))
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "a red sun"
    assert ids.shape == (5, 24)
    assert ids[1].tolist() == [1918, 1919, *[1917] * 22]
    assert ids[4, -1] == 1919


def test_saved_folder_is_the_same_text_encoder(clip, tmp_path):
    model, tokenizer = export_text_encoder(clip)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTextModel.from_pretrained(tmp_path, local_files_only=True)
    tokens = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    ids = pipeline_ids(tokens, TEXTS)
    assert torch.equal(ids, pipeline_ids(tokenizer, TEXTS))
    with torch.no_grad():
        assert torch.equal(again(ids).last_hidden_state, model(ids).last_hidden_state)
    assert (again.config.bos_token_id, again.config.eos_token_id, again.config.pad_token_id) == (1918, 1919, 1917)


def test_the_export_shares_no_weights_with_the_clip(clip):
    before = clip.model.text.token_embedding.weight.clone()
    model, _ = export_text_encoder(clip)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(clip.model.text.token_embedding.weight, before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"embed_cls": True}, "class token"),
        ({"no_causal_mask": True}, "no causal mask"),
        ({"ls_init_value": 1e-5}, "custom, scaled"),
        ({"block_type": "custom"}, "custom, scaled"),
        ({"act_kwargs": {"approximate": "tanh"}}, "activation"),
    ],
)
def test_towers_that_cannot_be_mapped_are_errors(text, message):
    with pytest.raises(InputError, match=message):
        export_text_encoder(tiny(**text))


def test_a_clip_without_a_tower_of_its_own_or_its_tokenizer_is_an_error(clip):
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    plain = Clip.from_config({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text})
    with pytest.raises(InputError, match="text tower of CLIP"):
        export_text_encoder(plain)
    custom = Clip.from_config({"embed_dim": 16, "custom_text": True, "vision_cfg": vision, "text_cfg": text})
    with pytest.raises(InputError, match="expected transformers' CLIPTokenizer"):
        export_text_encoder(custom)


def test_no_weight_is_forgotten(clip):
    weights = clip.model.text.state_dict()
    model, _ = export_text_encoder(clip)
    renamed = renamed_weights(model, weights)
    assert set(renamed) == set(model.state_dict())
    values = sum(weight.numel() for weight in weights.values()) - weights["text_projection"].numel()
    assert sum(weight.numel() for weight in renamed.values()) == values

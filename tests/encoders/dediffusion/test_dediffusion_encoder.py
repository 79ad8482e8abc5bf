from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError
from safetensors.torch import load_file, save_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.dediffusion.dediffusion_encoder import (
    Dediffusion,
    DediffusionConfig,
    DediffusionModel,
    distinct_words,
)
from textlens.encoders.registry import load_encoder
from textlens.errors import InputError
from torch.nn import functional as F
from transformers import CLIPTokenizer

from ..pictures import images

Build = Callable[..., Clip]
SMALL = DediffusionConfig(num_queries=5, depth=2, width=32, heads=4)
PICKED = 40  # kept words of the tests' tokenizer: letters, digits, "cat", "sun", "red", "on"


@pytest.fixture(scope="module")
def clip(tiny_coca: Build) -> Clip:
    return tiny_coca()


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="module")
def new(clip: Clip, tokenizer: CLIPTokenizer) -> Callable[..., Dediffusion]:
    """Builds one of random weights whose words differ between images: what it saw is louder than what it is."""

    def build(clip: Clip = clip, seed: int = 0, **settings: object) -> Dediffusion:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = Dediffusion.new(replace(SMALL, **settings), clip, tokenizer, torch.randn(522, 24))
        with torch.no_grad():
            made.model.pooler.queries.mul_(0.1)
            for block in made.model.pooler.blocks:
                block.cross_attention.in_proj_weight[:64].mul_(5)
        return made

    return build


@pytest.fixture(scope="module", params=["linear", "tied"])
def encoder(new: Callable[..., Dediffusion], request: pytest.FixtureRequest) -> Dediffusion:
    return new(head=request.param)


@pytest.fixture
def saved(new: Callable[..., Dediffusion], tmp_path: Path) -> Path:
    new().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_the_words_are_the_likeliest_of_the_vocabulary(encoder: Dediffusion, tokenizer: CLIPTokenizer) -> None:
    pictures = images(6)
    pixels = encoder.clip.pixels(pictures)
    with torch.no_grad():
        logits = encoder.model(pixels)
    assert logits.shape == (6, 5, PICKED)
    best = logits.log_softmax(-1).max(-1)
    found = encoder.describe(pictures)
    ids = encoder.vocabulary.ids[best.indices]
    assert [one.text for one in found] == tokenizer.batch_decode(ids) == encoder.vocabulary.texts(ids)
    assert [one.tokens for one in found] == [tuple(one.text.split()) for one in found]
    assert {one.encoder for one in found} == {"dediffusion"}
    scores = torch.tensor([one.scores["log_probability"] for one in found])
    torch.testing.assert_close(scores, best.values.sum(-1))
    assert len({one.text for one in found}) > 3
    assert encoder.vocabulary.share_surviving(ids) == 1.0


def test_order_and_batching_do_not_matter(encoder: Dediffusion) -> None:
    pictures = images(5)
    together = [one.text for one in encoder.describe(pictures)]
    assert [one.text for one in replace(encoder, batch_size=2).describe(pictures)] == together
    assert [encoder.describe([picture])[0].text for picture in pictures] == together
    assert encoder.describe([]) == []


def test_the_text_can_be_cut_short(encoder: Dediffusion) -> None:
    whole, short = encoder.describe(images(3)), encoder.describe(images(3), num_tokens=2)
    assert [one.tokens for one in short] == [one.tokens[:2] for one in whole]
    assert all(a.scores["log_probability"] > b.scores["log_probability"] for a, b in zip(short, whole, strict=True))
    for number in (0, 6):
        with pytest.raises(InputError, match=f"num_tokens is {number}; expected 1 to 5"):
            encoder.describe(images(1), num_tokens=number)


def test_words_that_it_is_not_sure_of_are_left_out(new: Callable[..., Dediffusion]) -> None:
    every = new()
    pixels = every.clip.pixels(images(6))
    with torch.no_grad():
        probabilities = every.model(pixels).softmax(-1).amax(-1)  # (6, 5)
    least = float(probabilities.flatten().sort().values[14:16].mean())  # between two, whatever the rounding
    careful = new(min_probability=least)
    for whole, found, row in zip(every.describe(images(6)), careful.describe(images(6)), probabilities, strict=True):
        sure = [word for word, p in zip(whole.tokens, row, strict=True) if p >= least]
        assert list(found.tokens) == (sure or [whole.tokens[int(row.argmax())]])
    assert {len(one.tokens) for one in careful.describe(images(6))} != {5}
    assert [len(one.tokens) for one in new(min_probability=0.999).describe(images(3))] == [1, 1, 1]
    with pytest.raises(InputError, match="min_probability is 1"):
        new(min_probability=1.0)


def test_no_word_is_said_twice_where_that_is_asked_for(new: Callable[..., Dediffusion]) -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]]).unsqueeze(0)
    found, words = distinct_words(probabilities.log())
    assert words.tolist() == [[1, 0, 2]]  # the second query is surer of word 0 than the first
    assert found.exp().tolist() == [pytest.approx([0.3, 0.6, 0.4])]
    encoder = new(distinct=True)
    assert all(len(set(one.tokens)) == 5 for one in encoder.describe(images(6)))
    with pytest.raises(InputError, match="5 queries cannot write different words of 3"):
        distinct_words(torch.zeros(1, 5, 3))


def test_a_bias_towards_words_counts_where_they_are_chosen(new: Callable[..., Dediffusion]) -> None:
    plain = new()
    wanted = 7
    biased = new(word_bias=[100.0 * (place == wanted) for place in range(PICKED)])
    assert biased.describe(images(1))[0].tokens == (plain.vocabulary.words[wanted],) * 5
    pixels = plain.clip.pixels(images(2))
    assert torch.equal(plain.word_logits(pixels), biased.word_logits(pixels))
    with pytest.raises(InputError, match=f"word_bias has 3 numbers for {PICKED} words"):
        new(word_bias=[0.0] * 3)


def test_the_tied_head_measures_cosines_with_the_text_encoders_embeddings(clip: Clip, tokenizer: CLIPTokenizer) -> None:
    table = 7 * torch.randn(522, 24, generator=torch.Generator().manual_seed(1))
    made = Dediffusion.new(replace(SMALL, logit_scale=9.0), clip, tokenizer, table)
    kept = table[made.vocabulary.ids]
    hidden = torch.randn(2, 5, 32)
    head = made.model.head
    expected = 9 * F.cosine_similarity(head.projection(hidden)[:, :, None], kept, dim=-1)
    torch.testing.assert_close(head(hidden), expected)
    assert "embeddings" not in dict(head.named_parameters())


def test_a_scale_above_the_cap_is_clamped_outside_the_graph_and_comes_back(
    new: Callable[..., Dediffusion], clip: Clip, tmp_path: Path
) -> None:
    made = new()
    scale = made.model.head.log_scale
    with torch.no_grad():
        scale.fill_(math.log(150.0))
    made.save_pretrained(tmp_path)  # as an older version left it
    optimizer = torch.optim.SGD([scale], lr=1e-6)
    made.model(made.clip.pixels(images(2))).square().mean().backward()  # asks for a smaller scale
    optimizer.step()
    assert scale < math.log(150.0)
    made.model.clamp_scale()
    assert scale.exp().item() == pytest.approx(100)
    loaded = Dediffusion.from_pretrained(tmp_path, backbone=clip)
    assert float(loaded.model.head.log_scale.exp()) == pytest.approx(100)
    assert loaded.describe(images(3)) == made.describe(images(3))


def test_a_linear_head_has_no_scale_to_clamp(new: Callable[..., Dediffusion]) -> None:
    made = new(head="linear")
    before = made.describe(images(2))
    made.model.clamp_scale()
    assert made.describe(images(2)) == before


def test_a_frozen_backbone_gets_no_gradient_and_all_else_does(encoder: Dediffusion, clip: Clip) -> None:
    model = encoder.model
    logits = model(encoder.clip.pixels(images(3)))
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert encoder.clip is clip
    assert all(p.grad is None and not p.requires_grad for p in clip.model.visual.parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    model.zero_grad()
    assert not [name for name in model.state_dict() if not name.startswith(("pooler.", "head."))]


@pytest.mark.parametrize("attentional_pool", [True, False])
def test_a_trained_backbone_is_a_copy_that_is_saved(
    new: Callable[..., Dediffusion], tiny_coca: Build, tmp_path: Path, attentional_pool: bool
) -> None:
    clip = tiny_coca(attentional_pool=attentional_pool)
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    made = new(clip, train_backbone=True)
    optimizer = torch.optim.SGD([p for p in made.model.parameters() if p.requires_grad], lr=0.1)
    made.model(clip.pixels(images(3))).square().mean().backward()
    trained = [name for name, p in made.model.named_parameters() if p.requires_grad and name.startswith("backbone.")]
    grads = dict(made.model.named_parameters())
    assert "backbone.conv1.weight" in trained
    assert "backbone.proj" not in trained
    assert all(grads[name].grad is not None and grads[name].grad.abs().sum() > 0 for name in trained)
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in clip.model.state_dict().items())
    made.model.eval()
    made.save_pretrained(tmp_path)
    again = Dediffusion.from_pretrained(tmp_path, backbone=clip)
    assert again.describe(images(4)) == made.describe(images(4))
    assert not torch.equal(again.model.backbone.conv1.weight, clip.model.visual.conv1.weight)
    assert all(torch.equal(value, before[name]) for name, value in clip.model.state_dict().items())


def test_save_and_load(encoder: Dediffusion, clip: Clip, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "full")
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"config.json", "model.safetensors", "tokenizer"}
    again = Dediffusion.from_pretrained(tmp_path / "full", backbone=clip)
    assert again.config == encoder.config
    assert again.vocabulary.words == encoder.vocabulary.words
    assert again.describe(images(4)) == encoder.describe(images(4))
    encoder.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}
    half = Dediffusion.from_pretrained(tmp_path / "half", backbone=clip, spec="mine")
    assert {t.dtype for t in half.model.state_dict().values()} == {torch.float32}
    assert {one.encoder for one in half.describe(images(2))} == {"mine"}


def test_the_backbone_moves_along(new: Callable[..., Dediffusion], tiny_coca: Build) -> None:
    made = new(tiny_coca())
    made.model.double()
    assert made.clip.dtype == torch.float64
    assert made.describe(images(2))


def test_the_backbone_is_found_beside_the_checkpoint(
    new: Callable[..., Dediffusion], clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip.save_pretrained(tmp_path / "weights" / "coca")
    made = new(Clip.from_pretrained(tmp_path / "weights" / "coca"))
    made.save_pretrained(tmp_path / "weights" / "dediffusion")
    config = json.loads((tmp_path / "weights" / "dediffusion" / "config.json").read_text())
    assert (config["backbone"], config["vocabulary_size"], config["patch_width"]) == ("../coca", PICKED, 64)
    shutil.move(tmp_path / "weights", tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    expected = [one.text for one in made.describe(images(3))]
    moved = Dediffusion.from_pretrained("../elsewhere/dediffusion")
    assert [one.text for one in moved.describe(images(3))] == expected
    spec = f"dediffusion:{tmp_path / 'elsewhere' / 'dediffusion'}"
    found = load_encoder(spec, device="cpu").describe(images(3))
    assert [one.text for one in found] == expected
    assert {one.encoder for one in found} == {spec}
    shutil.rmtree(tmp_path / "elsewhere" / "coca")
    with pytest.raises(InputError, match=r"De-Diffusion in .* is missing: config.json names it as '[.][.]/coca'"):
        Dediffusion.from_pretrained("../elsewhere/dediffusion")


def test_what_is_pushed_loads_without_anything_else(
    new: Callable[..., Dediffusion], clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip.save_pretrained(tmp_path / "coca")
    made = new(Clip.from_pretrained(tmp_path / "coca"))
    calls: list[dict[str, object]] = []

    def upload(_: HfApi, *, folder_path: Path, **rest: object) -> str:
        shutil.copytree(folder_path, tmp_path / "hub")
        calls.append(rest)
        return "address"

    monkeypatch.setattr(HfApi, "create_repo", lambda _, repo_id, **rest: calls.append({"repo_id": repo_id, **rest}))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert made.push_to_hub("me/words", private=True) == "address"
    assert calls[0] == {"repo_id": "me/words", "private": True, "exist_ok": True}
    assert calls[1]["repo_id"] == "me/words"
    shutil.rmtree(tmp_path / "coca")
    again = Dediffusion.from_pretrained(tmp_path / "hub")
    assert [one.text for one in again.describe(images(3))] == [one.text for one in made.describe(images(3))]


def test_pushing_without_network_or_name(encoder: Dediffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nothing could be pushed to 'a/b/c'.*Repo id must be"):
        encoder.push_to_hub("a/b/c")

    def offline(*_: object, **__: object) -> None:
        raise HTTPError("no network")

    monkeypatch.setattr(HfApi, "create_repo", offline)
    with pytest.raises(InputError, match=r"nothing could be pushed to 'me/words' .*no network.*hf auth login"):
        encoder.push_to_hub("me/words")


def test_a_damaged_checkpoint_says_what_is_wrong(saved: Path, clip: Clip) -> None:
    whole = load_file(saved / "model.safetensors")
    bias = whole["head.projection.bias"]
    for change, message in (
        ({"head.projection.bias": torch.zeros(23)}, "does not fit the config.json beside it.*size mismatch"),
        ({"extra": torch.zeros(1)}, "Unexpected key"),
    ):
        save_file({**whole, **change}, saved / "model.safetensors")
        with pytest.raises(InputError, match=message):
            Dediffusion.from_pretrained(saved, backbone=clip)
    save_file({name: t for name, t in whole.items() if t is not bias}, saved / "model.safetensors")
    with pytest.raises(InputError, match=r"Missing key.*head.projection.bias"):
        Dediffusion.from_pretrained(saved, backbone=clip)
    for damage in (b"", b"PK\x03\x04" + bytes(100), None):
        if damage is None:
            (saved / "model.safetensors").unlink()
        else:
            (saved / "model.safetensors").write_bytes(damage)
        with pytest.raises(InputError, match=r"model.safetensors cannot be read"):
            Dediffusion.from_pretrained(saved, backbone=clip)


def test_folders_that_are_no_dediffusion(saved: Path, clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder saved by De-Diffusion"):
        Dediffusion.from_pretrained(tmp_path / "nothing", backbone=clip)
    with pytest.raises(InputError, match="neither a folder nor a De-Diffusion"):
        Dediffusion.from_pretrained("no/such/repository", backbone=clip)
    config = json.loads((saved / "config.json").read_text())
    for text, message in (
        ("{", "cannot be read"),
        (
            '{"clip": "tiny"}',
            r"config\.json is no config of De-Diffusion: clip is unknown; its fields are num_queries, ",
        ),
        (json.dumps({**config, "num_queries": "many"}), "num_queries is 'many'"),
        (json.dumps({**config, "head": "wide"}), "head is 'wide'; input should be 'linear' or 'tied'"),
        (json.dumps({**config, "heads": 5}), "width 32 is no multiple of heads 5"),
        (json.dumps({**config, "width": 64}), "does not fit"),
    ):
        (saved / "config.json").write_text(text)
        with pytest.raises(InputError, match=message):
            Dediffusion.from_pretrained(saved, backbone=clip)


def test_a_tokenizer_of_other_words_is_refused(saved: Path, clip: Clip) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "keep_punctuation": True}))
    with pytest.raises(InputError, match=r"the tokenizer gives 72 words, but this De-Diffusion was made for 40"):
        Dediffusion.from_pretrained(saved, backbone=clip)
    shutil.rmtree(saved / "tokenizer")
    with pytest.raises(InputError, match="expected the tokenizer's files there"):
        Dediffusion.from_pretrained(saved, backbone=clip)
    (saved / "tokenizer").mkdir()
    for text in ("{", "{}", "[]"):
        (saved / "tokenizer" / "tokenizer.json").write_text(text)
        with pytest.raises(InputError, match="holds no tokenizer"):
            Dediffusion.from_pretrained(saved, backbone=clip)


def test_another_backbone_is_refused(saved: Path, tiny_coca: Build) -> None:
    with pytest.raises(InputError, match=r"trained on CLIP 'tiny' .*64 numbers.*'tiny' \(48\) is in use"):
        Dediffusion.from_pretrained(saved, backbone=tiny_coca(attentional_pool=False))
    other = tiny_coca()
    other.name = "other"
    with pytest.raises(InputError, match="'other'"):
        Dediffusion.from_pretrained(saved, backbone=other)


def test_parts_that_do_not_fit(clip: Clip, tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(InputError, match=r"shape \(521, 24\); expected \(522, width\)"):
        Dediffusion.new(SMALL, clip, tokenizer, torch.zeros(521, 24))
    with pytest.raises(InputError, match="tied head got embeddings of shape none"):
        Dediffusion.new(SMALL, clip, tokenizer)
    for change, message in (
        ({"num_queries": 0}, "num_queries is 0"),
        ({"logit_scale": 0.0}, "logit_scale=0.0"),
        ({"mlp_ratio": -1}, "mlp_ratio=-1"),
    ):
        with pytest.raises(InputError, match=message):
            replace(SMALL, **change)
    made = Dediffusion.new(replace(SMALL, head="linear"), clip, tokenizer)
    assert made.config.text_width == 0
    with pytest.raises(InputError, match="batch_size is 0"):
        replace(made, batch_size=0)


def test_weights_depend_on_the_global_seed_alone(clip: Clip, tokenizer: CLIPTokenizer) -> None:
    def build(seed: int) -> DediffusionModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Dediffusion.new(replace(SMALL, head="linear"), clip, tokenizer).model

    first, again, other = build(1).state_dict(), build(1).state_dict(), build(2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["pooler.queries"], other["pooler.queries"])

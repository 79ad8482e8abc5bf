from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.clip.open_clip_files import published_name
from textlens.errors import InputError

from ..pictures import images

Build = Callable[..., Clip]
TEXTS = ["a red cat on the sun", "cat", "two suns, one cat!"]


@pytest.fixture(scope="module")
def saved(tiny_coca: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coca")
    tiny_coca().save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_reload_gives_the_same_embeddings_logits_and_ids(tiny_coca: Build, saved: Path) -> None:
    before, after = tiny_coca(), Clip.from_pretrained(saved)
    torch.testing.assert_close(after.embed_images(images(3)), before.embed_images(images(3)), rtol=0, atol=0)
    torch.testing.assert_close(after.embed_texts(TEXTS), before.embed_texts(TEXTS), rtol=0, atol=0)
    assert torch.equal(after.tokenize(TEXTS), before.tokenize(TEXTS))
    assert after.model_cfg == before.model_cfg
    assert after.is_coca
    assert (after.embed_dim, after.context_length, after.image_size) == (48, 20, (32, 32))


def test_open_clip_itself_reads_the_folder(saved: Path) -> None:
    ours = Clip.from_pretrained(saved)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{saved}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{saved}")
    picture = images(1)[0]
    assert torch.equal(transform(picture)[None], ours.pixels([picture]))
    assert torch.equal(tokenizer(TEXTS), ours.tokenize(TEXTS))
    with torch.no_grad():
        expected = model.eval().encode_image(ours.pixels([picture]))
    torch.testing.assert_close(ours.embed_images([picture]), expected)


def test_pixels_come_on_the_models_device_or_the_one_asked_for(tiny_coca: Build) -> None:
    clip = tiny_coca()
    expected = clip.pixels(images(2))
    clip.model.to("meta")
    assert clip.pixels(images(2)).device.type == clip.pixels([]).device.type == "meta"
    assert torch.equal(clip.pixels(images(2), device="cpu"), expected)
    assert clip.pixels([], device="cpu").device.type == "cpu"


def test_bf16_weights_load_into_fp32_and_bf16_models(tiny_coca: Build, tmp_path: Path) -> None:
    clip = tiny_coca()
    clip.save_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {t.dtype for t in load_file(tmp_path / "open_clip_model.safetensors").values()} == {torch.bfloat16}
    full, half = Clip.from_pretrained(tmp_path), Clip.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert (full.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    for one in (full, half):
        embedding = one.embed_images(images(2))
        assert embedding.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(embedding, clip.embed_images(images(2))).min() > 0.99


@pytest.mark.parametrize("embed_cls", [False, True])
def test_embeddings_are_normalised_and_do_not_depend_on_the_batch(tiny_coca: Build, embed_cls: bool) -> None:
    clip = tiny_coca(embed_cls=embed_cls)
    pictures = images(5)
    together, apart = clip.embed_images(pictures), clip.embed_images(pictures, batch_size=2)
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(clip.embed_texts(TEXTS), clip.embed_texts(TEXTS, batch_size=1))
    assert clip.embed_texts([]).shape == clip.embed_images([]).shape == (0, 48)


def test_embeddings_never_run_the_text_decoder(tiny_coca: Build) -> None:
    clip = tiny_coca()
    clip.model.text_decoder.register_forward_pre_hook(lambda *_: pytest.fail("the decoder ran"))
    clip.embed_images(images(1))
    clip.embed_texts(TEXTS)


@pytest.mark.parametrize("attentional_pool", [False, True])
def test_patch_tokens_are_the_last_blocks_patches_and_carry_gradients(tiny_coca: Build, attentional_pool: bool) -> None:
    clip = tiny_coca(attentional_pool=attentional_pool)
    seen: list[torch.Tensor] = []
    clip.model.visual.transformer.register_forward_hook(lambda *call: seen.append(call[-1]))
    pixels = clip.pixels(images(2)).requires_grad_()
    tokens = clip.patch_tokens(pixels)
    clip.embed_pixels(pixels)
    torch.testing.assert_close(tokens, seen[-1][:, 1:])
    assert tokens.shape[1:] == clip.patch_shape == (16, 64 if attentional_pool else 48)
    clip.patch_tokens(pixels, normalize=True).square().mean().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_normalised_patch_tokens_are_what_the_pooler_sees(tiny_coca: Build) -> None:
    clip = tiny_coca()
    seen: list[torch.Tensor] = []
    clip.model.visual.attn_pool.ln_k.register_forward_hook(lambda *call: seen.append(call[-1]))
    pixels = clip.pixels(images(1))
    clip.embed_pixels(pixels)
    torch.testing.assert_close(clip.patch_tokens(pixels, normalize=True), seen[0][:, 1:])


def test_text_goes_to_ids_and_back(tiny_coca: Build) -> None:
    clip = tiny_coca()
    ids = clip.tokenize(["A  red cat, on the SUN!"])
    assert ids.shape == (1, 20)
    assert ids[0, 0] == clip.bos_id
    assert clip.pad_id not in (clip.bos_id, clip.eos_id)
    assert ids[0, -1] == clip.pad_id
    assert clip.decode(ids[0]) == "a red cat, on the sun!"
    assert clip.pieces(clip.tokenize(["red cat"])[0]) == ("red", "cat")
    long = clip.tokenize(["cat " * 60])[0]
    assert long.shape == (20,)
    assert long[-1] == clip.eos_id


def test_open_clips_own_tokenizer_keeps_exclamation_marks_and_drops_padding() -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    clip = Clip.from_config(config)
    assert not clip.is_coca
    assert (clip.bos_id, clip.eos_id, clip.pad_id) == (49406, 49407, 0)
    assert clip.decode(clip.tokenize(["hello ! world"])[0]) == "hello! world"
    assert clip.embed_texts(["hello"]).shape == (1, 16)


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1), (1, 1)])
def test_extreme_strips_are_cut_before_they_are_enlarged(tiny_coca: Build, size: tuple[int, int]) -> None:
    pixels = tiny_coca().pixels([Image.new("RGB", size, "red")])
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.allclose(pixels, pixels[:, :, :1, :1])


def test_missing_folder_and_unknown_names_say_what_is_valid(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        Clip.from_pretrained(tmp_path / "none")
    with pytest.raises(InputError, match=r"coca_ViT-B-32/laion2b_s13b_b90k"):
        Clip.from_pretrained("coca_ViT-B-32/laion2b")
    with pytest.raises(InputError, match=r"coca_ViT-B-32"):
        Clip.from_config("coca_ViT-B32")


@pytest.mark.parametrize("tag", ["mscoco_finetuned_laion2b_s13b_b90k", "mscoco_finetuned_laion2B-s13B-b90k"])
def test_a_published_tag_is_taken_in_either_spelling_as_by_open_clip(tag: str) -> None:
    assert published_name(f"coca_ViT-L-14/{tag}") == ("coca_ViT-L-14", "mscoco_finetuned_laion2b_s13b_b90k")
    assert open_clip.get_pretrained_cfg("coca_ViT-L-14", tag)


def test_a_model_of_the_hub_is_read_as_its_folder_is(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **_: object) -> str:
        assert name == "me/coca"
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    clip = Clip.from_pretrained("hf-hub:me/coca")
    assert clip.name == "hf-hub:me/coca"
    assert torch.equal(clip.embed_texts(TEXTS), Clip.from_pretrained(saved).embed_texts(TEXTS))


def test_a_folder_without_config_names_what_it_holds(copied: Path) -> None:
    (copied / "open_clip_config.json").unlink()
    with pytest.raises(InputError, match=r"no open_clip_config.json .*open_clip_model.safetensors"):
        Clip.from_pretrained(copied)


@pytest.mark.parametrize("text", ["{", "[]", '{"embed_dim": 3}', '{"model_cfg": {"embed_dim": 8}}'])
def test_a_bad_config_is_an_input_error(copied: Path, text: str) -> None:
    (copied / "open_clip_config.json").write_text(text)
    with pytest.raises(InputError):
        Clip.from_pretrained(copied)


def test_missing_truncated_and_foreign_weights(copied: Path) -> None:
    path = copied / "open_clip_model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", b"PK\x03\x04" + bytes(100)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            Clip.from_pretrained(copied)
    path.unlink()
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors cannot be read \(No such file"):
        Clip.from_pretrained(copied)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_refused(copied: Path, change: str) -> None:
    path = copied / "open_clip_model.safetensors"
    weights = load_file(path)
    if change == "missing":
        del weights["visual.proj"]
    elif change == "unexpected":
        weights["visual.extra"] = torch.zeros(1)
    else:  # open_clip itself would interpolate this one without a word
        weights["visual.positional_embedding"] = torch.zeros(5, 64)
    save_file(weights, path)
    with pytest.raises(InputError, match=r"does not fit.*visual"):
        Clip.from_pretrained(copied)


def test_open_clips_49k_tokenizer_is_never_taken_silently(copied: Path) -> None:
    path = copied / "open_clip_config.json"
    config = json.loads(path.read_text())
    del config["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="49408 tokens, its model only 522"):
        Clip.from_pretrained(copied)


def test_missing_tokenizer_files_are_an_input_error(copied: Path) -> None:
    for path in copied.glob("*token*"):
        path.unlink()
    with pytest.raises(InputError, match="tokenizer"):
        Clip.from_pretrained(copied)


def test_argmax_pooling_needs_end_of_text_as_the_highest_id(tiny_coca: Build) -> None:
    clip = tiny_coca()
    clip.tokenizer.tokenizer.add_tokens(["zebra"])
    clip.model_cfg["text_cfg"]["vocab_size"] = 523
    with pytest.raises(InputError, match="highest"):
        Clip(clip.model, clip.tokenizer, clip.model_cfg, name="tiny")

"""Random models of the real transformers classes, saved to a folder and loaded as any Hub model would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file
from textlens.encoders.huggingface import HuggingFaceCaptioner
from textlens.encoders.registry import load_clip
from textlens.errors import InputError
from tokenizers import Tokenizer, models, pre_tokenizers

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
WORDS = [*SPECIAL.values(), "<image>", "a", "red", "cat", "sun", "on", "the", *"bcdefgh", "[DEC]"]
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.5,  # lively weights: other images, other words
}
TEXT = {key: VISION[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
TEXT |= {"vocab_size": len(WORDS), "max_position_embeddings": 128, "initializer_range": 0.7, **IDS}
SQUARE = {"height": 32, "width": 32}


def tokenizer() -> hf.PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    extra = {"image_token": "<image>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, extra_special_tokens=extra, **SPECIAL)


def plain_tokenizer(size: int = len(WORDS)) -> hf.PreTrainedTokenizerFast:
    """Without an image token of its own, as the published BLIP-2 and Kosmos-2 have it; `size` words."""
    words = {word: i for i, word in enumerate([*WORDS, *(f"w{i}" for i in range(size - len(WORDS)))])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)


def save_blip(folder: Path) -> None:
    begin = WORDS.index("[DEC]")  # as BLIP has it: a begin token that the tokenizer takes for a word
    text = {**TEXT, "encoder_hidden_size": 32, "sep_token_id": 3, "bos_token_id": begin}
    hf.BlipForConditionalGeneration(hf.BlipConfig(text_config=text, vision_config=VISION)).save_pretrained(folder)
    hf.BlipProcessor(hf.BlipImageProcessor(size=SQUARE), tokenizer()).save_pretrained(folder)


def save_git(folder: Path) -> None:
    hf.GitForCausalLM(hf.GitConfig(vision_config=VISION, **TEXT)).save_pretrained(folder)
    hf.GitProcessor(clip_images(), tokenizer()).save_pretrained(folder)


def save_encoder_decoder(folder: Path) -> None:
    decoder = hf.GPT2Config(
        vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=2, initializer_range=0.7, add_cross_attention=True, **IDS
    )
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(hf.ViTConfig(**VISION), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    hf.VisionEncoderDecoderModel(config).save_pretrained(folder)
    hf.ViTImageProcessor(size=SQUARE).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def save_llava(folder: Path) -> None:
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION),
        text_config=hf.LlamaConfig(**TEXT),
        image_token_index=WORDS.index("<image>"),
        vision_feature_layer=-1,
    )
    hf.LlavaForConditionalGeneration(config).save_pretrained(folder)
    template = (
        "{% for m in messages %}{% for c in m.content %}"
        "{% if c.type == 'image' %}<image> {% else %}{{ c.text }}{% endif %}{% endfor %} {% endfor %}"
    )
    hf.LlavaProcessor(
        clip_images(),
        tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)


def save_llava_without_template(folder: Path) -> None:
    save_llava(folder)
    (folder / "chat_template.jinja").unlink()


def save_paligemma(folder: Path) -> None:
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**VISION),
        text_config=hf.GemmaConfig(**{**TEXT, "vocab_size": 1200, "num_key_value_heads": 1, "head_dim": 16}),
        image_token_index=WORDS.index("<image>"),
        projection_dim=32,
    )
    hf.PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    pictures = hf.SiglipImageProcessor(size=SQUARE)
    pictures.image_seq_length = 16
    hf.PaliGemmaProcessor(pictures, tokenizer()).save_pretrained(folder)


QFORMER = {**TEXT, "encoder_hidden_size": 32, "cross_attention_frequency": 1}
OPT = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "init_std": 0.7,
    **IDS,
}


def save_instructblip(folder: Path) -> None:
    config = hf.InstructBlipConfig(
        vision_config=VISION,
        qformer_config=QFORMER,
        text_config={"model_type": "opt", **OPT},
        num_query_tokens=4,
        image_token_index=WORDS.index("<image>"),
    )
    hf.InstructBlipForConditionalGeneration(config).save_pretrained(folder)
    pictures = hf.BlipImageProcessor(size=SQUARE)
    hf.InstructBlipProcessor(pictures, plain_tokenizer(), plain_tokenizer(), num_query_tokens=4).save_pretrained(folder)


def save_blip2(folder: Path) -> None:
    config = hf.Blip2Config(
        vision_config=VISION,
        qformer_config=QFORMER,
        text_config={"model_type": "opt", **OPT},
        num_query_tokens=4,
        image_token_index=WORDS.index("<image>"),
    )
    hf.Blip2ForConditionalGeneration(config).save_pretrained(folder)
    hf.Blip2Processor(hf.BlipImageProcessor(size=SQUARE), plain_tokenizer(), num_query_tokens=4).save_pretrained(folder)


def save_kosmos2(folder: Path) -> None:
    text = {"vocab_size": 240, "embed_dim": 32, "ffn_dim": 64, "layers": 2, "attention_heads": 2, "init_std": 0.7}
    config = hf.Kosmos2Config(
        text_config={**text, "max_position_embeddings": 256, **IDS}, vision_config=VISION, latent_query_num=64
    )
    hf.Kosmos2ForConditionalGeneration(config).save_pretrained(folder)
    hf.Kosmos2Processor(clip_images(), plain_tokenizer(200), 4).save_pretrained(folder)


def clip_images() -> Any:
    return hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE)


def images() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(5)
    noise = torch.randint(0, 256, (3, 40, 30, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(array) for array in noise.numpy()]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Callable[[Path], None]], Path]:
    def save(write: Callable[[Path], None]) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            write(tmp_path)
        return tmp_path

    return save


@pytest.mark.parametrize("write", [save_blip, save_git, save_encoder_decoder])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_captions_are_what_the_model_itself_generates(saved: Callable, write: Callable, num_beams: int) -> None:
    folder = saved(write)
    captioner = HuggingFaceCaptioner.from_pretrained(folder, max_tokens=6, num_beams=num_beams, batch_size=2)
    found = captioner.describe(images())
    model = hf.AutoModelForImageTextToText.from_pretrained(folder).eval()
    pixels = hf.AutoImageProcessor.from_pretrained(folder)(images=images(), return_tensors="pt").pixel_values
    for one, row in zip(found, pixels, strict=True):
        ids = model.generate(pixel_values=row[None], max_new_tokens=6, num_beams=num_beams, do_sample=False)[0]
        specials = {*SPECIAL.values(), "<image>", WORDS[model.generation_config.bos_token_id]}
        expected = [WORDS[i] for i in ids if WORDS[i] not in specials]
        assert one.text.split() == expected
        assert one.tokens == tuple(expected)
        assert one.encoder == f"hf:{folder}"
    assert any(one.text for one in found)


def test_a_chat_model_is_asked_the_prompt_and_only_its_answer_is_kept(saved: Callable) -> None:
    folder = saved(save_llava)
    answers = {}
    for prompt in ("the cat", "on a red sun"):
        captioner = HuggingFaceCaptioner.from_pretrained(folder, prompt=prompt, max_tokens=6)
        answers[prompt] = [one.text for one in captioner.describe(images())]
        assert all(len(text.split()) <= 6 for text in answers[prompt])
    assert len({*answers["the cat"], *answers["on a red sun"]}) > 2


PROMPTED = [
    save_blip,
    save_blip2,
    save_git,
    save_instructblip,
    save_kosmos2,
    save_llava,
    save_llava_without_template,
    save_paligemma,
]


@pytest.mark.parametrize("write", PROMPTED)
def test_models_of_all_kinds_are_asked_and_do_not_echo_the_prompt(saved: Callable, write: Callable) -> None:
    folder, prompt = saved(write), "the red cat on the red sun"
    captioner = HuggingFaceCaptioner.from_pretrained(folder, prompt=prompt, max_tokens=6)
    found = captioner.describe(images()[:2])
    assert len(found) == 2
    for one, image in zip(found, images()[:2], strict=True):
        assert prompt not in one.text
        assert len(one.text.split()) <= 6
        assert captioner.describe([image])[0].text == one.text  # alone as in a batch
    captioner.prompt = "the red cat"
    assert any(one.text for one in [*found, *captioner.describe(images()[:2])])  # random weights may end at once
    by_default = HuggingFaceCaptioner.from_pretrained(folder, max_tokens=6).describe(images()[:2])
    assert all(len(one.text.split()) <= 6 for one in by_default)


def test_the_prompt_reaches_the_model(saved: Callable) -> None:
    folder = saved(save_llava_without_template)
    captioner = HuggingFaceCaptioner.from_pretrained(folder, prompt="the cat", max_tokens=2)
    ids = captioner._inputs(images()[:1])["input_ids"][0].tolist()
    words = [WORDS[i] for i in ids if WORDS[i] not in ("<image>", "<unk>")]
    assert words == ["the", "cat"]  # USER: and ASSISTANT: are no words of this tokenizer


def test_a_model_that_takes_no_prompt_says_so(saved: Callable) -> None:
    with pytest.raises(InputError, match=r"vision-encoder-decoder, which takes no prompt"):
        HuggingFaceCaptioner.from_pretrained(saved(save_encoder_decoder), prompt="the cat")


def test_it_has_no_clip_to_embed_texts_with(saved: Callable) -> None:
    with pytest.raises(InputError, match=r"the encoder 'hf:.*' has no CLIP"):
        load_clip(f"hf:{saved(save_git)}")


def test_pickled_weights_are_refused_with_the_way_out(saved: Callable) -> None:
    folder = saved(save_git)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_model.bin, which is a pickle.*use_safetensors=False"):
        HuggingFaceCaptioner.from_pretrained(folder)


def test_missing_weights_are_refused(saved: Callable) -> None:
    folder = saved(save_git)
    weights = load_file(folder / "model.safetensors")
    del weights["git.embeddings.word_embeddings.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack .*word_embeddings"):
        HuggingFaceCaptioner.from_pretrained(folder)


def test_other_models_and_empty_folders_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not load"):
        HuggingFaceCaptioner.from_pretrained(tmp_path)
    small = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 10}
    hf.GPT2LMHeadModel(hf.GPT2Config(**small, **IDS)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="image-to-text"):
        HuggingFaceCaptioner.from_pretrained(tmp_path)

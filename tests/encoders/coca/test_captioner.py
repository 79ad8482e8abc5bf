from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.coca.coca_decoder import CachedCoca
from textlens.errors import InputError
from torch import Tensor

from .. import pictures

Build = Callable[..., Clip]
images = partial(pictures.images, seed=5, size=(32, 32))
CONFIGS = [
    {"layers": 1, "embed_cls": False, "end_boost": 3},
    {"layers": 2, "embed_cls": True, "end_boost": 4},
    {"layers": 3, "embed_cls": False, "attentional_pool": False, "end_boost": 2},
    {"layers": 3, "embed_cls": True, "seed": 1, "end_boost": 2},
]


@torch.no_grad()
def next_log_probs(clip: Clip, pixels: Tensor, prefix: list[int]) -> Tensor:
    """The plain way: the whole prefix through open_clip's own forward. (1, 3, H, W) -> (V,)."""
    # Without a class token open_clip's text tower takes full-length texts only; what follows the prefix cannot matter.
    padding = [] if clip.model.text.cls_emb is not None else [clip.pad_id] * (clip.context_length - len(prefix))
    logits = clip.model(pixels, torch.tensor([prefix + padding]), output_labels=False)["logits"]
    return logits[0, len(prefix) - 1].log_softmax(dim=-1)


def plain_greedy(clip: Clip, pixels: Tensor, max_tokens: int, min_tokens: int) -> tuple[tuple[int, ...], float]:
    ends, prefix, total = [clip.eos_id, clip.pad_id], [clip.bos_id], 0.0
    for position in range(max_tokens):
        log_probs = next_log_probs(clip, pixels, prefix)
        if position < min_tokens:
            log_probs[ends] = -torch.inf
        token = int(log_probs.argmax())
        total += float(log_probs[token])
        if token in ends:
            break
        prefix.append(token)
    return tuple(prefix[1:]), total


def plain_beam(clip: Clip, pixels: Tensor, beams: int, max_tokens: int) -> tuple[tuple[int, ...], float]:
    ends, live, done = {clip.eos_id, clip.pad_id}, [([clip.bos_id], 0.0)], []
    for _ in range(max_tokens):
        offers = []
        for prefix, total in live:
            log_probs, tokens = next_log_probs(clip, pixels, prefix).topk(3 * beams)
            offers += [(total + float(p), [*prefix, int(t)]) for p, t in zip(log_probs, tokens, strict=True)]
        offers.sort(key=lambda offer: -offer[0])
        done += [(total, text) for total, text in offers[:beams] if text[-1] in ends]
        live = [(text, total) for total, text in offers if text[-1] not in ends][:beams]
        if len(done) >= beams:
            break
    else:
        done += [(total, text) for text, total in live]
    total, text = max(done, key=lambda hypothesis: hypothesis[0] / (len(hypothesis[1]) - 1))
    return tuple(token for token in text[1:] if token not in ends), total


@pytest.mark.parametrize("config", CONFIGS)
def test_each_cached_step_gives_open_clips_logits(tiny_coca: Build, config: dict) -> None:
    clip = tiny_coca(**config)
    pixels = clip.pixels(images(3))
    ids = torch.randint(0, 500, (3, clip.context_length), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = clip.bos_id
    with torch.no_grad():
        expected = clip.model(pixels, ids, output_labels=False)["logits"]
        cached = CachedCoca(clip.model, clip.model.visual(pixels)[1], capacity=clip.context_length)
        steps = [cached.step(tokens) for tokens in ids[:, : expected.shape[1]].unbind(1)]
    torch.testing.assert_close(torch.stack(steps, dim=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("min_tokens", [0, 6])
def test_greedy_equals_the_plain_full_prefix_way(tiny_coca: Build, config: dict, min_tokens: int) -> None:
    clip = tiny_coca(**config)
    pixels = clip.pixels(images(6))
    captioner = CocaCaptioner(clip, min_tokens=min_tokens)
    found = captioner.generate(pixels)
    for text, one in zip(found, pixels.split(1), strict=True):
        ids, total = plain_greedy(clip, one, captioner.search.max_tokens, min_tokens)
        assert text.ids == ids
        assert text.log_probability == pytest.approx(total, abs=1e-3)
    assert len({len(text.ids) for text in found}) > 1, "degenerate: rows should end at different steps"
    assert max(len(set(text.ids)) for text in found) > 3, "degenerate: one word over and over"


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("beams", [2, 4])
def test_beam_search_equals_the_plain_full_prefix_way(tiny_coca: Build, config: dict, beams: int) -> None:
    clip = tiny_coca(**config)
    pixels = clip.pixels(images(4))
    found = CocaCaptioner(clip, num_beams=beams, max_tokens=12).generate(pixels)
    for text, one in zip(found, pixels.split(1), strict=True):
        ids, total = plain_beam(clip, one, beams, max_tokens=12)
        assert text.ids == ids
        assert text.log_probability == pytest.approx(total, abs=1e-3)


def test_dropping_finished_images_changes_nothing(tiny_coca: Build) -> None:
    clip = tiny_coca(layers=3, embed_cls=True, end_boost=2, seed=1)
    pixels = clip.pixels(images(8))
    for beams in (1, 3):
        captioner = CocaCaptioner(clip, num_beams=beams)
        together = [text.ids for text in captioner.generate(pixels)]
        assert together == [captioner.generate(one)[0].ids for one in pixels.split(1)]


def test_descriptions_hold_words_pieces_and_log_probability(tiny_coca: Build) -> None:
    clip = tiny_coca()
    captioner = CocaCaptioner(clip, max_tokens=5, batch_size=2, spec="coca:tiny")
    found = captioner.describe(images(5))
    expected = captioner.generate(clip.pixels(images(5)))
    assert len({one.text for one in found}) > 1
    for one, text in zip(found, expected, strict=True):
        assert one.text == clip.decode(text.ids)
        assert one.tokens == clip.pieces(text.ids)
        assert one.encoder == "coca:tiny"
        assert one.scores["log_probability"] == pytest.approx(text.log_probability, abs=1e-4)
    assert captioner.describe([]) == []


def test_a_clip_without_decoder_cannot_caption() -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with pytest.raises(InputError, match="need a CoCa, got a CLIP"):
        CocaCaptioner(Clip.from_config(config))


def test_a_bidirectional_text_tower_is_refused(tiny_coca: Build) -> None:
    clip = tiny_coca()
    clip.model.text.attn_mask = None
    with pytest.raises(InputError, match="causal"):
        CocaCaptioner(clip)


@pytest.mark.parametrize(
    "setting",
    [{"max_tokens": 0}, {"max_tokens": 20}, {"num_beams": 0}, {"max_tokens": 4, "min_tokens": 5}, {"batch_size": 0}],
)
def test_settings_out_of_range_are_named(tiny_coca: Build, setting: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{list(setting)[-1]} is"):
        CocaCaptioner(tiny_coca(), **setting)


def test_coca_vit_b_32_saves_reloads_and_captions(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = Clip.from_config("coca_ViT-B-32")
    clip.model.to(torch.bfloat16).to(torch.float32)  # so that 0.5 GB of bf16 hold exactly what is compared
    clip.save_pretrained(tmp_path, dtype=torch.bfloat16)
    again = Clip.from_pretrained(tmp_path)
    pixels, ids = clip.pixels(images(2)), clip.tokenize(["a cat", "two dogs on a lawn"])
    with torch.no_grad():
        assert torch.equal(again.model(pixels, ids)["logits"], clip.model(pixels, ids)["logits"])
    captioner = CocaCaptioner(again, max_tokens=4, spec=f"coca:{tmp_path}")
    texts = captioner.describe(images(2))
    for text, one in zip(captioner.generate(pixels), pixels.split(1), strict=True):
        assert text.ids == plain_greedy(again, one, max_tokens=4, min_tokens=0)[0]
    assert all(text.text and len(text.tokens) == 4 for text in texts)

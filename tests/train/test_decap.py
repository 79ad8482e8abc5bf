from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.decap_encoder import Decap
from textlens.errors import InputError
from textlens.scenes.source import SceneData
from textlens.train.data.base import DataSource, Sample
from textlens.train.data.caption_ids import IGNORED, caption_ids, check_max_tokens, padded, shortened
from textlens.train.data.files import FileData
from textlens.train.data.text_embeddings import cached_embeddings, fingerprint
from textlens.train.decap import DecapRecipe, DecapTraining
from textlens.train.engine.run import run, run_file
from textlens.train.engine.settings import parse, settings
from torch.nn import functional as F
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

WORDS = ("red", "blue", "cat", "dog", "sun", "on", "the", "big")
CAPTIONS = [f"{a} {b} on {c}" for a in ("red", "blue", "big") for b in ("cat", "dog", "sun") for c in ("cat", "sun")]
HELD_OUT = [
    ("the big red cat", "red cat on the dog"),
    ("the sun", CAPTIONS[4]),
    ("the blue dog", " ", "the  blue dog on red"),
]
SIZES = [(30, 70), (32, 32), (100, 21)]


@settings
class Photos:
    """As real data is: several captions an item, some in several items, images of several sizes or none."""

    source: str = "photos"
    images: bool = True

    def open(self, *, image_size: int = 0, texts: bool = True) -> DataSource:
        return PhotoSource(self.images)


class PhotoSource(DataSource):
    size = len(CAPTIONS) // 2

    def __init__(self, images: bool) -> None:
        super().__init__()
        self.images = images

    def row(self, index: int, seed: int) -> int:
        raise AssertionError("text-only training reads no samples")

    def read(self, row: int, index: int, seed: int, *, image: bool = True) -> Sample:
        raise AssertionError("text-only training reads no samples")

    def captions(self) -> Iterator[str]:
        for texts in zip(CAPTIONS[::2], CAPTIONS[1::2], CAPTIONS[1::2], strict=True):
            yield from (*texts, "", f" {HELD_OUT[0][1]}\n")

    def held_out(self, number: int) -> list[Sample]:
        drawn = zip(HELD_OUT[:number], SIZES, strict=False)
        return [
            Sample(
                f"photo {row}",
                row,
                Image.new("RGB", size, (80 * row, 0, 200)) if self.images else None,
                texts[0],
                texts,
            )
            for row, (texts, size) in enumerate(drawn)
        ]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A tiny CLIP of random weights whose words are whole tokens; padding is the end token, as in many real ones."""
    letters = list(bytes_to_unicode().values())
    merges, pieces = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        left = word[0]
        for i, letter in enumerate(word[1:], 2):
            right = letter + ("</w>" if i == len(word) else "")
            if left + right not in pieces:
                merges.append((left, right))
                pieces.append(left + right)
            left += right
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<start>", "<end>"])}
    special = {"bos_token": "<start>", "eos_token": "<end>", "unk_token": "<end>", "pad_token": "<end>"}
    folder = tmp_path_factory.mktemp("clip")
    CLIPTokenizer(vocab=vocabulary, merges=merges, **special).save_pretrained(folder / "tokenizer")
    text = {"context_length": 16, "vocab_size": len(vocabulary), "width": 64, "heads": 4, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": {**text, "hf_tokenizer_name": "own"}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = Clip.from_config(config, tokenizer_folder=folder / "tokenizer")
    with torch.no_grad():
        clip.model.token_embedding.weight.mul_(50)  # else all random texts are nearly alike
    clip.save_pretrained(folder / "tiny")
    return Clip.from_pretrained(folder / "tiny")


@pytest.fixture
def config(clip: Clip) -> DecapTraining:
    values = {
        "clip": clip.name,
        "loop": {"steps": 6, "batch_size": 8, "learning_rate": 3e-3, "num_workers": 0, "save_every": 100},
        "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2},
        "max_tokens": 10,
        "label_smoothing": 0.0,
    }
    return DecapTraining(data=Photos(), **values)  # type: ignore[arg-type]


Make = Callable[..., DecapRecipe]


@pytest.fixture
def make(config: DecapTraining, tmp_path: Path) -> Make:
    return lambda **changes: DecapRecipe(replace(config, **changes), tmp_path / "cache")


def test_training_captions_are_distinct_and_never_held_out(make: Make) -> None:
    recipe = make()
    expected = [text for text in CAPTIONS if text != CAPTIONS[4]]
    assert recipe.captions == list(recipe.memory.texts) == expected
    assert [sample.text for sample in recipe.held_out] == [texts[0] for texts in HELD_OUT]
    assert CAPTIONS[4] in make(validation=1).captions  # then it is nobody's held-out caption


def test_captions_with_unwanted_words_are_left_out(make: Make) -> None:
    found = make(without_words=("Dog", "re")).captions
    assert found == [text for text in CAPTIONS if "dog" not in text and text != CAPTIONS[4]]


def test_every_epoch_reads_each_caption_once_in_another_order(make: Make) -> None:
    recipe = make()
    size = len(recipe.captions)
    epochs = [recipe.batch(range(i * size, (i + 1) * size), seed=7)["own_entry"].tolist() for i in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(size))
    assert epochs[0] != epochs[1]
    assert recipe.batch([3, size + 5], seed=7)["own_entry"].tolist() == [epochs[0][3], epochs[1][5]]
    assert recipe.batch(range(size), seed=8)["own_entry"].tolist() != epochs[0]


class Billion(list[str]):
    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, row: int) -> str:  # type: ignore[override]
        return CAPTIONS[row % len(CAPTIONS)]


def test_the_order_of_an_epoch_takes_no_memory(make: Make) -> None:
    recipe = make()
    recipe.captions, recipe.memory_rows = Billion(), range(10**9)
    recipe.embeddings = np.broadcast_to(recipe.embeddings[0], (10**9, 64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = recipe.batch(range(10**9 - 8, 10**9), seed=0)["own_entry"].tolist()
    assert len(set(rows)) == 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB; a list of the rows takes 8 GB


def test_labels_hold_start_words_and_end_and_nothing_past_it(make: Make, clip: Clip) -> None:
    recipe = make()
    batch = recipe.batch([0, 1, 2], seed=0)
    for row, entry in zip(batch["labels"], batch["own_entry"].tolist(), strict=True):
        words = [i for i in row.tolist() if i != IGNORED]
        assert words[0] == clip.bos_id
        assert words[-1] == clip.eos_id
        assert words.count(clip.eos_id) == 1  # the end token that pads the tokenizer's rows is no label
        assert clip.decode(words) == recipe.captions[entry]


def test_a_length_mask_and_not_an_id_hides_the_padding(clip: Clip) -> None:
    """Id 0 is "!" in CLIP's vocabulary: a caption may hold it, and it must be learnt like any other."""
    ids, labels = padded(*caption_ids(["cat !! sun", "cat"], clip, 10))
    assert labels[0].tolist().count(0) == 1
    assert labels[1].tolist() == [*ids[1, :3].tolist(), *[IGNORED] * 3]


def test_long_captions_keep_their_end_and_are_counted(clip: Clip) -> None:
    texts = ["cat", " ".join(["cat"] * 4), " ".join(["sun"] * 5), " ".join(["red"] * 30)]
    ids, lengths = caption_ids(texts, clip, 6)
    assert shortened(texts, clip, 6) == shortened(texts, clip, 6, batch_size=1) == 2
    assert lengths.tolist() == [3, 6, 6, 6]
    assert [row[length - 1] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)] == [clip.eos_id] * 4
    assert clip.decode(ids[2]) == "sun sun sun sun"
    with pytest.raises(InputError, match="reads 16"):
        check_max_tokens(clip, 17)


def test_loss_is_the_mean_cross_entropy_of_the_real_tokens(make: Make) -> None:
    recipe = make(label_smoothing=0.1)
    batch = recipe.batch([0, 1, 2, 3], seed=0)
    model = recipe.model.eval()
    with torch.no_grad():
        found = recipe.loss(model, batch, step=0, indices=range(4))["loss"]
        log_p = model(batch["embeddings"], batch["ids"]).log_softmax(-1)
    losses = [
        -0.9 * log_p[row, place, label] - 0.1 * log_p[row, place].mean()
        for row, labels in enumerate(batch["labels"].tolist())
        for place, label in enumerate(labels)
        if label != IGNORED
    ]
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_noise_is_keyed_by_sample_and_of_the_asked_size(make: Make) -> None:
    noisy = make(noise_std=0.05)
    clean, one = make().batch([0, 1, 2], seed=0), noisy.batch([0, 1, 2], seed=0)
    assert torch.equal(one["embeddings"][1:2], noisy.batch([1], seed=0)["embeddings"])
    torch.testing.assert_close(one["embeddings"].norm(dim=-1), torch.ones(3))
    cosines = (clean["embeddings"] * one["embeddings"]).sum(-1)
    assert torch.all((cosines > 0.8) & (cosines < 0.99))  # about 1 / sqrt(1 + 64 * 0.05²) = 0.93
    assert not torch.equal(one["embeddings"], noisy.batch([0, 1, 2], seed=1)["embeddings"])


class Seen(torch.nn.Module):
    """Remembers the embeddings that it was to decode."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeddings: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        self.embeddings = embeddings
        return self.model(embeddings, *others)


def test_projected_training_reads_the_memory_without_the_own_entry(make: Make) -> None:
    recipe = make(projected=True, temperature=0.02)
    batch = recipe.batch([0, 1], seed=0)
    model = Seen(recipe.model)
    recipe.loss(model, batch, step=0, indices=[0, 1])
    memory = recipe.memory.embeddings.double()
    logits = batch["embeddings"].double() @ memory.T / 0.02
    logits[[0, 1], batch["own_entry"]] = -torch.inf
    expected = F.normalize(logits.softmax(-1) @ memory, dim=-1)
    torch.testing.assert_close(model.embeddings.double(), expected, rtol=0, atol=1e-5)


def test_captions_outside_a_small_memory_have_no_entry_to_leave_out(make: Make) -> None:
    small = make(projected=True, memory_size=4)
    everything = range(len(small.captions))
    batch = small.batch(everything, seed=0)
    own = [i for i in batch["own_entry"].tolist() if i >= 0]
    assert sorted(own) == [0, 1, 2, 3]
    assert batch["own_entry"].tolist().count(-1) == len(everything) - 4
    full = make().batch(everything, seed=0)["own_entry"].tolist()  # which is the caption's number
    for caption, entry in zip(full, batch["own_entry"].tolist(), strict=True):
        assert entry < 0 or small.memory.texts[entry] == small.captions[caption]
    small.loss(small.model, batch, step=0, indices=everything)["loss"].backward()
    assert all(p.grad is not None for p in small.model.parameters())


def test_embeddings_are_made_once(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_embeddings(CAPTIONS, clip, tmp_path)
    assert isinstance(first, np.memmap)
    assert first.dtype == np.float16
    torch.testing.assert_close(torch.tensor(first).float(), clip.embed_texts(CAPTIONS), rtol=0, atol=1e-3)
    monkeypatch.setattr("textlens.train.data.text_embeddings.embed_texts", None)  # a second embedding would fail
    assert np.array_equal(cached_embeddings(CAPTIONS, clip, tmp_path), first)
    assert [path.name for path in tmp_path.glob("*.npy")] == [f"{fingerprint(CAPTIONS, clip)}.npy"]


def test_other_texts_and_other_weights_have_other_embeddings(clip: Clip, tmp_path: Path) -> None:
    assert len({fingerprint(texts, clip) for texts in (CAPTIONS, CAPTIONS[:-1], CAPTIONS[::-1])}) == 3
    path = tmp_path / f"{fingerprint(CAPTIONS, clip)}.npy"
    np.save(path, np.zeros((len(CAPTIONS), 64), dtype=np.float16))  # as if the CLIP had been trained on since then
    rows = cached_embeddings(CAPTIONS, clip, tmp_path)
    torch.testing.assert_close(torch.tensor(rows).float(), clip.embed_texts(CAPTIONS), rtol=0, atol=1e-3)


def test_training_writes_a_decap_that_reproduces_captions(config: DecapTraining, clip: Clip, tmp_path: Path) -> None:
    loop = replace(config.loop, steps=250, batch_size=17, learning_rate=1e-2)
    gpt2 = replace(config.gpt2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    result = run(DecapRecipe, replace(config, loop=loop, gpt2=gpt2), tmp_path / "run")
    assert result.finished
    decap = Decap.from_pretrained(tmp_path / "run" / "model")  # which names the CLIP's folder
    texts = list(decap.memory.texts)  # type: ignore[union-attr]
    written = decap.describe_embeddings(clip.embed_texts(texts), strategy="vd")
    assert sum(one.text == text for one, text in zip(written, texts, strict=True)) >= 14  # of 17
    record = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    facts = [record["settings"][name] for name in ("captions", "shortened_captions")]
    assert (record["recipe"], record["steps"], facts) == ("decap", 250, [17, 0])
    assert record["final_metrics"]["validation"]["image_cider_d"] == result.evaluation["image_cider_d"]


def test_evaluation_of_items_with_images_and_several_captions(make: Make) -> None:
    recipe = make()
    figures = recipe.evaluate(recipe.model.eval())
    assert set(figures) == {
        *("loss", "token_accuracy", "exact_match", "exact_match_projected"),
        *("text_cider_d", "text_bleu_4", "image_cider_d", "image_bleu_4"),
    }
    assert all(sample.image is None for sample in recipe.held_out)  # embedded once; photographs are large
    assert not any(name.startswith("image") for name in make(data=Photos(images=False)).evaluate(recipe.model))


def test_evaluation_scores_what_the_default_strategy_writes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make(temperature=0.05)
    scored: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        "textlens.train.decap.text_figures", lambda source, texts, samples: scored.append(tuple(texts)) or {}
    )
    with torch.no_grad():
        for parameter in recipe.decoder.parameters():
            parameter.mul_(8)  # so that different embeddings are written differently
    recipe.evaluate(recipe.model.eval())
    decap = Decap(recipe.decap, recipe.clip, recipe.decoder, recipe.memory)
    images = [sample.image for sample in PhotoSource(True).held_out(3)]
    of_texts = decap.describe_embeddings(recipe.clip.embed_texts([texts[0] for texts in HELD_OUT]))
    assert scored == [tuple(one.text for one in of_texts), tuple(one.text for one in decap.describe(images))]
    assert scored[0] != scored[1]


def test_exact_match_counts_captions_written_word_for_word(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make()
    true = [texts[0] for texts in HELD_OUT]
    monkeypatch.setattr(recipe, "write", lambda embeddings: [true[0], "a cat", true[2]])
    figures = recipe.evaluate(recipe.model.eval())
    assert figures["exact_match"] == figures["exact_match_projected"] == pytest.approx(2 / 3)


def test_validation_bounds_the_items(make: Make) -> None:
    recipe = make(validation=2)
    assert len(recipe.held_out) == len(recipe.held_out_embeddings) == len(recipe.image_embeddings) == 2


def test_scenes_add_their_facts(make: Make) -> None:
    recipe = make(data=SceneData(number=20, styles={"short": 1.0}), validation=4)
    assert len(recipe.held_out) == 4
    assert {"text_cider_d", "text_noun_f1", "image_noun_f1"} <= set(recipe.evaluate(recipe.model.eval()))


def test_resumed_training_equals_uninterrupted(config: DecapTraining, tmp_path: Path) -> None:
    config = replace(config, noise_std=0.02, projected=True, memory_size=9)
    run(DecapRecipe, config, tmp_path / "whole")
    paused = run(DecapRecipe, config, tmp_path / "parts", max_minutes=0)
    assert not paused.finished
    assert not (tmp_path / "parts" / "model").exists()
    assert run(DecapRecipe, config, tmp_path / "parts", resume=True).finished
    weights = [(tmp_path / one / "model" / "decoder.safetensors").read_bytes() for one in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_second_stage_goes_on_from_the_first(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(
        f"{{clip: {clip.name}, data: {{source: scenes, number: 30}}, gpt2: {{n_embd: 16, n_layer: 1, n_head: 2}}, "
        "max_tokens: 12, validation: 2, loop: {steps: 2, batch_size: 4, num_workers: 0}, stages: [{loop: {seed: 0}}, "
        "{loop: {steps: 1, learning_rate: 1.0e-9, seed: 5}, data: {styles: {descriptive: 0.0, short: 1.0}}}]}"
    )
    assert run_file(DecapRecipe, path, tmp_path / "run").finished
    first, second = (Decap.from_pretrained(tmp_path / "run" / name).decoder for name in ("stage-1/model", "model"))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    started = json.loads((tmp_path / "run" / "model" / "training.json").read_text())["started_from"]
    assert started["steps"] == 2


def test_a_start_of_other_sizes_is_refused(config: DecapTraining, make: Make, tmp_path: Path) -> None:
    make().save(tmp_path / "decap")
    assert make(start=str(tmp_path / "decap"), gpt2=replace(config.gpt2, resid_pdrop=0.3))
    with pytest.raises(InputError, match="n_embd is 32, here 16"):
        make(start=str(tmp_path / "decap"), gpt2=replace(config.gpt2, n_embd=16))


BAD = {
    "noise_std": -1.0,
    "label_smoothing": 1.0,
    "validation": 0,
    "memory_size": 0,
    "temperature": 0.0,
    "max_tokens": 2,
}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_bad_settings_name_the_key(config: DecapTraining, name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name} is {value}; "):
        replace(config, **{name: value})  # type: ignore[arg-type]


def test_sizes_of_the_decoder_are_checked(clip: Clip) -> None:
    values = {"clip": clip.name, "data": {"source": "scenes"}, "loop": {"steps": 1, "batch_size": 1}}
    with pytest.raises(InputError, match=r"unknown key 'gpt2\.n_embed'; expected n_embd, "):
        parse(DecapTraining, {**values, "gpt2": {"n_embed": 8}})
    with pytest.raises(InputError, match="gpt2: n_embd is 30; expected a multiple of n_head, 4"):
        parse(DecapTraining, {**values, "gpt2": {"n_embd": 30}})


def test_data_that_leaves_too_little(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="leaves 0 distinct captions"):
        make(without_words=("on",))
    with pytest.raises(InputError, match=r"data\.number is 0"):
        make(data=SceneData())
    monkeypatch.setattr(PhotoSource, "held_out", lambda self, number: [])
    with pytest.raises(InputError, match="beside 0 held-out items"):
        make()


def test_held_out_photographs_may_lie_in_files_beside_a_text_file(make: Make, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a red cat\na cat on the sun\nred sun\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = []
    for number, sample in enumerate(PhotoSource(True).held_out(3)):
        sample.image.save(photos / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "text": sample.text}))
    (photos / "metadata.jsonl").write_text("\n".join(rows))
    recipe = make(data=FileData(f"texts:{tmp_path / 'captions.txt'}", held_out=f"imagefolder:{photos}"))
    assert len(recipe.captions) == 3
    assert "image_cider_d" in recipe.evaluate(recipe.model.eval())


def test_a_tokenizer_learnt_from_the_captions_comes_along(make: Make, clip: Clip, tmp_path: Path) -> None:
    recipe = make(vocabulary=600)
    assert recipe.decap.num_tokens == 600
    recipe.save(tmp_path / "decap")
    loaded = Decap.from_pretrained(tmp_path / "decap", clip=clip)
    texts = recipe.captions[:3]
    ids, lengths = caption_ids(texts, loaded.text, 10)
    assert [loaded.text.decode(row[:length]) for row, length in zip(ids, lengths, strict=True)] == texts
    images = [sample.image for sample in PhotoSource(True).held_out(2)]
    written = [
        one.text for one in Decap(recipe.decap, clip, recipe.decoder, recipe.memory, recipe.text).describe(images)
    ]
    assert [one.text for one in loaded.describe(images)] == written

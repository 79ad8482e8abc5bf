"""Self-critical training: what is drawn, what it is worth, and that captions get better by it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.coca.coca_decoder import CachedCoca
from textlens.encoders.decoding import Search, draw_texts
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.metrics.caption_metrics import plain_tokenize
from textlens.metrics.cider import CiderD
from textlens.train.captions.self_critical import SelfCriticalConfig, SelfCriticalRecipe
from textlens.train.coca import CocaConfig, CocaRecipe, new_clip
from textlens.train.engine.loop import LoopConfig, train
from textlens.train.engine.run import run
from textlens.train.engine.settings import read_settings

from ..tiny_coca import MODEL, TOKENIZER

LOOP = LoopConfig(steps=6, batch_size=8, learning_rate=1e-3, num_workers=0, save_every=3, log_every=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    new_clip(MODEL, 0, tokenizer=TOKENIZER).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def data(spec) -> dict:
    return {"source": spec, "text": "json:captions", "held_out_share": 0.2, "crop_scale": None}


def build(base: str, data: dict, **values) -> SelfCriticalRecipe:
    given = {"loop": LOOP, "data": data, "start": base, **values}
    return SelfCriticalRecipe(SelfCriticalConfig(**given), Path("unused"))


class FixedShares:
    """A `StepDecoder` whose next token has the same distribution at every step, and which counts its rows."""

    def __init__(self, shares: list[float], images: int, beams: int) -> None:
        self.logits, self.images, self.beams = torch.tensor(shares).log(), images, beams
        self.rows: list[int] = []

    def step(self, tokens):
        assert len(tokens) == self.images * self.beams
        self.rows.append(len(tokens))
        return self.logits.expand(len(tokens), -1)

    def select_images(self, images):
        self.images = len(images)

    def select_beams(self, rows):
        raise AssertionError("nothing to select")


def test_texts_are_drawn_as_often_as_they_are_likely():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(2000 * 2, 3, generator=generator)
    written = draw_texts(FixedShares([0.5, 0.3, 0.2], 2000, 2), uniform, Search(0, (2,), 3, num_beams=2))
    cold = draw_texts(FixedShares([0.5, 0.3, 0.2], 2000, 2), uniform, Search(0, (2,), 3, num_beams=2), temperature=0.5)
    assert torch.bincount(cold[:, 0]) / 4000 == pytest.approx([0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38], abs=0.02)
    first, ended = written[:, 0], written[:, 0] == 2
    assert torch.bincount(first) / 4000 == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    assert (written[ended, 1:] == -1).all()
    assert (written[~ended, 1] >= 0).all()


def test_uniform_numbers_decide_and_finished_images_are_left_out():
    decoder = FixedShares([0.5, 0.25, 0.25], 3, 2)
    uniform = torch.tensor([[0.9, 0, 0], [0.8, 0, 0], [0.9, 0, 0], [0.99, 0, 0], [0.0, 0.6, 0.49], [0.8, 0.1, 0.1]])
    written = draw_texts(decoder, uniform, Search(0, (2,), 3, num_beams=2))
    assert written.tolist() == [[2, -1, -1], [2, -1, -1], [2, -1, -1], [2, -1, -1], [0, 1, 0], [2, -1, -1]]
    assert decoder.rows == [6, 2, 2]
    assert draw_texts(FixedShares([0.5, 0.25, 0.25], 1, 1), uniform[:1], Search(0, (2,), 3, 1)).tolist() == [[1, 0, 0]]


def test_the_first_token_is_drawn_from_the_shares_of_the_plain_model(base):
    clip = Clip.from_pretrained(base)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    search = CocaCaptioner(clip, num_beams=3).search
    uniform = torch.full((6, search.max_tokens), 0.5)
    with torch.no_grad():
        decoder = CachedCoca(clip.model, clip.model.visual(pixels)[1], capacity=search.max_tokens, num_beams=3)
        median = draw_texts(decoder, uniform, search)[:, 0]
        shares = clip.model(pixels, clip.tokenize(["a", "dog"]))["logits"][:, 0].softmax(-1).cumsum(-1)
    assert median.tolist() == (shares > 0.5).int().argmax(-1).repeat_interleave(3).tolist()


def test_rewards_are_cider_against_the_captions_of_the_image(base, data):
    recipe = build(base, data, drawn=3)
    batch = recipe.batch(range(4), 0)
    recipe.model.train()
    recipe.clip.model.visual.eval()
    modes = [module.training for module in recipe.clip.model.modules()]
    (shared,) = recipe.share(recipe.model, [batch])
    assert [module.training for module in recipe.clip.model.modules()] == modes
    assert shared["written"].shape == (12, 23)
    references = {row: recipe.source.read(row, 0, 0, image=False).texts for row in range(recipe.source.size)}
    words = {row: [[*text.split(), "<end>"] for text in plain_tokenize(texts)] for row, texts in references.items()}
    cider = CiderD(words.values())
    rows, ends = batch["rows"].tolist(), set(recipe._search.end_ids)
    for place, ids in enumerate(shared["written"].tolist()):
        drawn = [id_ for id_ in ids if id_ >= 0]
        end = ["<end>"] if drawn[-1] in ends else []
        (plain,) = plain_tokenize([recipe.clip.decode([id_ for id_ in drawn if id_ not in ends])])
        expected = cider.scores([[*plain.split(), *end]], words[rows[place // 3]])
        assert recipe._rewards(shared["written"][place // 3 * 3 :][:3], batch["rows"][place // 3 :][:1])[
            0, place % 3
        ] == pytest.approx(expected[0])
    torch.testing.assert_close(shared["better"].sum(1), torch.zeros(4))


def test_the_gradient_makes_the_better_caption_likelier(base, data):
    recipe = build(base, data, drawn=2)
    batch = recipe.batch(range(2), 0)
    (shared,) = recipe.share(recipe.model, [batch])
    better = torch.tensor([[1.0, -1.0], [0.0, 0.0]])

    def likely() -> torch.Tensor:
        """Mean log probability of each caption's tokens, (4,)."""
        found = []
        for place in range(4):
            one = torch.zeros(4).index_fill_(0, torch.tensor([place]), 1.0).view(2, 2)
            figures = recipe.loss(recipe.model, batch, step=0, indices=[0, 1], **{**shared, "better": one})
            found.append(-figures["loss"].detach())
        return torch.stack(found)

    before = likely()
    optimizer = torch.optim.SGD([p for p in recipe.model.parameters() if p.requires_grad], lr=0.5)
    recipe.loss(recipe.model, batch, step=0, indices=[0, 1], **{**shared, "better": better})["loss"].backward()
    optimizer.step()
    after = likely()
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_true_captions_are_learnt_beside(base, data):
    recipe = build(base, data, drawn=2, caption_weight=0.5)
    batch = recipe.batch(range(3), 0)
    (shared,) = recipe.share(recipe.model, [batch])
    figures = recipe.loss(recipe.model, batch, step=0, indices=range(3), **shared)
    samples = recipe.source.samples(range(3), 0)
    text = recipe.clip.tokenize([sample.text for sample in samples])
    with torch.no_grad():
        logits = recipe.clip.model(recipe.clip.pixels([sample.image for sample in samples]), text)["logits"]
    labels = text[:, 1:]
    expected = torch.nn.functional.cross_entropy(
        logits[:, : labels.shape[1]].flatten(0, 1), labels.flatten(), ignore_index=recipe.pad_id
    )
    torch.testing.assert_close(figures["caption"], expected, rtol=1e-4, atol=1e-4)
    none = {**shared, "better": torch.zeros_like(shared["better"])}
    alone = recipe.loss(recipe.model, batch, step=0, indices=range(3), **none)
    torch.testing.assert_close(alone["loss"], 0.5 * alone["caption"])


def test_the_reward_rises(base, data, tmp_path):
    loop = replace(LOOP, steps=40, batch_size=16, learning_rate=3e-3)
    first = CocaConfig(loop=loop, data=data, start=base, contrastive_weight=0.0)
    taught = CocaRecipe(first, tmp_path / "cache")
    train(taught, first.loop, tmp_path / "first")
    taught.save(tmp_path / "taught")
    recipe = build(str(tmp_path / "taught"), data, loop=replace(loop, learning_rate=1e-3))
    train(recipe, recipe.config.loop, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward"] for line in lines if line["kind"] == "train"]
    assert sum(rewards[-5:]) > 1.2 * sum(rewards[:5])
    assert "cider_d" in lines[-1]


def test_stop_and_resume_are_an_uninterrupted_run(base, data, tmp_path):
    config = build(base, data, dropout=0.2, num_beams=2).config
    run(SelfCriticalRecipe, config, tmp_path / "whole" / "run")
    assert not run(SelfCriticalRecipe, config, tmp_path / "parts" / "run", max_minutes=0.0).finished
    assert run(SelfCriticalRecipe, config, tmp_path / "parts" / "run", resume=True).finished
    one, other = (
        Clip.from_pretrained(tmp_path / name / "run" / "model").model.state_dict() for name in ("whole", "parts")
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    record = json.loads((tmp_path / "whole" / "run" / "model" / "training.json").read_text())
    assert record["recipe"] == "self-critical"
    assert CocaCaptioner.from_pretrained(str(tmp_path / "whole" / "run" / "model")).search.num_beams == 2


def test_wrong_settings_are_told(base, data):
    with pytest.raises(InputError, match="has no end; expected finite data"):
        build(base, {"source": "scenes", "styles": {"short": 1.0}})
    with pytest.raises(InputError, match="drawn"):
        build(base, data, drawn=1)


def test_committed_settings_are_read():
    config = read_settings(SelfCriticalConfig, WEIGHTS.parent / "configs" / "photo-coca-self-critical.yaml")
    assert (config.start, config.caption_weight) == ("runs/photo-coca/model", 0.1)

"""The linear probe finds what is there to be found, and no more."""

from __future__ import annotations

import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.registry import WEIGHTS
from textlens.scenes.evals.decap_limits import TEMPERATURES, limits, nouns_shown, probe
from textlens.scenes.scene import scene_at
from textlens.scenes.world import NOUNS

SCENES = [scene_at(index, "train") for index in range(400)]
TRAIN, TEST = SCENES[:300], SCENES[300:]


def test_a_probe_reads_all_that_is_told_and_nothing_from_noise() -> None:
    told = nouns_shown(SCENES)
    assert told.shape == (400, len(NOUNS))
    assert probe(told[:300], TRAIN, told[300:], TEST)["all"] > 0.99
    noise = torch.randn(400, 32, generator=torch.Generator().manual_seed(1))
    assert probe(noise[:300], TRAIN, noise[300:], TEST)["all"] < 0.2


def test_every_kind_of_embedding_has_its_row() -> None:
    rows = limits(Clip.from_pretrained(WEIGHTS / "scenes" / "coca"), TRAIN, TEST[:40], memory_size=100)
    assert len(rows) == 3 + len(TEMPERATURES)
    assert all(0 <= share <= 1 for row in rows.values() for share in row.values())
    assert rows["a caption's own embedding"]["1"] > rows["an image's embedding, probe trained on captions"]["1"]

from __future__ import annotations

import pytest
import torch
from textlens.encoders.tags.tags_encoder import Tags, TagsConfig
from textlens.evals.tag_captions import confirmed, judge
from torch import nn


@pytest.mark.parametrize(
    ("name", "caption", "right"),
    [
        ("golden retriever", "Two dogs play in the snow .", True),
        ("golden retriever", "A puppy sleeps", True),
        ("Chihuahua dog", "A small DOG", True),
        ("golden retriever", "A man eats a hotdog", False),
        ("hot dog", "Two hot dogs with mustard", True),
        ("mountain bike", "A cyclist on a trail", True),
        ("umbrella", "Women with umbrellas", True),
        ("umbrella", "Women in the rain", False),
        ("bikini", "A girl swims", False),
        ("baseball player", "The player runs", True),
        ("catamaran", "A boat at sea", True),
    ],
)
def test_what_confirms_a_tag(name: str, caption: str, right: bool) -> None:
    assert confirmed(name, ["A photo .", caption]) is right


class Tower:
    """The part of a CLIP that `Tags` checks."""

    name, patch_shape = "tower", (1, 2)


def test_figures_of_known_tags() -> None:
    config = TagsConfig("tower", 2, ["pug", "umbrella", "tank"], threshold=0.3, max_tags=2)
    tags = Tags(config, Tower(), nn.Linear(2, 3))  # type: ignore[arg-type]
    chances = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.28, 0.28, 0.24]])
    found = judge(tags, chances, [["A dog with an umbrella"], ["A tree"], ["A dog"]])
    assert found["first"] == 0.5
    assert found["further"] == 1
    assert found["first_of_next_photo"] == 0
    assert found["blank"] == pytest.approx(1 / 3)
    assert found["tags_shown"] == 1

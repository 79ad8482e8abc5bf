from __future__ import annotations

from collections import Counter

import open_clip
from textlens.train.tags.tag_names import _RENAMED, plain_names
from timm.data import ImageNetInfo


def test_names_are_plain_and_shared_only_by_classes_of_the_same_thing() -> None:
    names = plain_names()
    assert len(names) == 1000
    assert not [name for name in names if set(name) & set("()/,") or name != name.strip()]
    shared = {name for name, number in Counter(names).items() if number > 1}
    assert shared == {"sunglasses", "missile", "laptop", "corn", "computer monitor"}
    assert _RENAMED.keys() <= set(open_clip.IMAGENET_CLASSNAMES)


def test_names_stand_in_the_order_of_imagenet() -> None:
    info = ImageNetInfo("imagenet-1k")
    descriptions = [info.index_to_description(i) for i in range(1000)]
    words = {207: "golden retriever", 852: "tennis ball", 281: "tabby", 134: "crane", 517: "crane", 999: "paper"}
    for i, word in words.items():
        assert word in plain_names()[i]
        assert word in descriptions[i]


def test_breeds_say_that_they_are_dogs() -> None:
    assert {plain_names()[i] for i in (151, 242, 207, 254)} == {"Chihuahua dog", "boxer dog", "golden retriever", "pug"}

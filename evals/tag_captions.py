"""How often captions confirm the encoder `tags`, by the chance it states. `python -m textlens.evals.tag_captions`

A tag is right where a caption of the photograph has its name, its last word, or a word for its kind (`KINDS`). Captions
do not tell everything, so true shares are higher; the floor, tags of the next photograph, shows how much is luck.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from ..encoders.registry import load_encoder
from ..encoders.tags.tags_encoder import Tags
from ..errors import InputError
from ..metrics.calibration import expected_calibration_error, reliability
from ..train.data.pixels import image_of
from .photos import open_all

BATCH = 32
KINDS = {  # what captions may say (a regular expression) of tags with one of these words
    r"dogs?|pupp(y|ies)": "dog hound terrier retriever spaniel setter collie corgi poodle schnauzer mastiff pinscher "
    "malamute pug bulldog sheepdog bloodhound foxhound coonhound greyhound deerhound otterhound wolfhound bullmastiff",
    r"cats?|kittens?": "cat",
    r"birds?|ducks?|geese|goose|swans?|pigeons?|seagulls?": "bird duck goose swan heron egret stork crane pelican "
    "flamingo albatross gallinule rooster hen parrot",
    r"horses?|pony|ponies": "horse horse-drawn",
    r"cows?|bulls?|cattle": "ox water buffalo bullock",
    r"bikes?|bicycles?|biking|bicyclists?|bikers?|cyclists?|cycling": "bike bicycle",
    r"motorcycles?|motorbikes?|dirt ?bikes?|scooters?": "moped scooter",
    r"boats?|ships?|kayaks?|canoes?|rafts?": "boat ship canoe catamaran trimaran schooner sailboat motorboat gondola "
    "lifeboat liner speedboat fireboat paddle",
    r"cars?|trucks?|vehicles?|jeeps?|suvs?|vans?": "car convertible limousine jeep minivan van truck taxicab wagon "
    "ambulance racer pickup go-kart",
    r"trains?|subway": "locomotive train railroad tram trolleybus",
    r"(base|basket|foot|soccer|tennis|volley|rugby)?\s?balls?": "ball baseball basketball volleyball",
    r"football|helmets?": "helmet football",
    r"swimsuits?|swimwear|bathing suits?|bikinis?|trunks": "bikini suit trunks bathing",
    r"pools?|swim(s|ming|mers?)?": "tub snorkel swimming",
    r"snow(y|board|boards|boarder|boarders|boarding|mobile)?|ski(s|er|ers|ing)?|sleds?": "ski snowmobile bobsleigh "
    "dogsled sled alp snowplow",
    r"mountains?|cliffs?|hills?|rocks?|rocky|peaks?|climb(s|er|ers|ing)?": "mountain cliff valley volcano headland",
    r"beach(es)?|ocean|sea|shore|sand|waves?|water|lake|river": "beach sandbar lakeshore headland breakwater pier dock",
    r"hats?|caps?|helmets?|bonnets?": "hat cap helmet bonnet sombrero",
    r"shirts?|sweaters?|jackets?|hood(ie|ed)?|coats?|sweatshirts?": "t-shirt jersey sweatshirt cardigan coat poncho "
    "cloak",
    r"dress(es)?|gowns?|robes?|costumes?|skirts?": "gown skirt kimono abaya sarong robe miniskirt hoopskirt vestment",
    r"guitars?": "guitar",
    r"swings?|swinging": "swing",
    r"stairs?|steps|railings?|rails?": "handrail",
    r"fences?": "fence chain-link",
    r"bench(es)?": "bench",
    r"phones?|cellphones?": "phone payphone telephone",
    r"glasses|sunglasses|goggles": "sunglasses glass goggles",
    r"store|shop|market|mall": "shop store grocery bakery confectionery bookstore",
    r"stage|concert|band|microphones?|sing(s|er|ing)?|perform\w*": "stage microphone drum",
    r"camera|photograph\w*|pictures?": "camera",
    r"tricycles?|bikes?": "tricycle unicycle",
    r"divers?|scuba|diving": "diver snorkel",
    r"skateboard\w*|ramp": "skateboard",
    r"surf\w*|paddle": "paddle",
}


@cache
def evidence(name: str) -> re.Pattern[str]:
    """What a caption must have to confirm the tag."""
    words = name.lower().split()
    plural = "(s|es)?"
    ways = [re.escape(name.lower()) + plural, re.escape(words[-1]) + plural]
    ways += [said for said, kinds in KINDS.items() if set(words) & set(kinds.split())]
    return re.compile(rf"\b({'|'.join(ways)})\b")


def confirmed(name: str, captions: Sequence[str]) -> bool:
    """Whether a caption has the name, its last word or a word for its kind."""
    return any(evidence(name).search(caption.lower()) for caption in captions)


def judge(tags: Tags, chances: Tensor, captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """chances (N, tags) and the captions of N photographs -> figures of the first and of the further tags shown."""
    best = chances.topk(min(tags.config.max_tags, chances.shape[1]))
    own = [
        [confirmed(tags.vocabulary[tag], texts) for tag in row]
        for row, texts in zip(best.indices.tolist(), captions, strict=True)
    ]
    moved = [*captions[1:], captions[0]]
    floor = [
        confirmed(tags.vocabulary[tag], texts) for tag, texts in zip(best.indices[:, 0].tolist(), moved, strict=True)
    ]
    right, shown = torch.tensor(own), best.values >= tags.config.threshold  # (N, max_tags)
    first = best.values[:, 0]
    return {
        "photos": len(captions),
        "blank": _share(~shown[:, 0]),
        "first": _share(right[:, 0][shown[:, 0]]),
        "first_of_next_photo": _share(torch.tensor(floor)[shown[:, 0]]),
        "further": _share(right[:, 1:][shown[:, 1:]]),
        "tags_shown": float(shown.sum(1).float().mean()),
        "mean_chance": float(first.mean()),
        "ece": expected_calibration_error(first, right[:, 0]),
        "by_chance": [
            f"{one.low:.1f}-{one.high:.1f}: {one.right:.2f} of {one.number}"
            for one in reliability(first, right[:, 0], bins=10)
        ],
    }


def _share(values: Tensor) -> float:
    return float(values.float().mean()) if values.numel() else float("nan")


def main(
    data: Annotated[str, typer.Option(help="Photographs with captions, such as webdataset:val-*.tar")],
    text: Annotated[str, typer.Option(help="Their captions: a column, or json:FIELD in shards.")] = "text",
    encoder: Annotated[str, typer.Option(help="A tags encoder.")] = "tags",
    number: Annotated[int, typer.Option(min=1, help="Most photographs.")] = 1000,
) -> None:
    """Print how often captions confirm the first tag and further tags, and the first by its chance."""
    tags = load_encoder(encoder)
    if not isinstance(tags, Tags):
        raise InputError(f"{encoder!r} is no tags encoder; expected tags or tags:FOLDER")
    source = open_all(data, text=text)
    rows = range(min(number, source.size or number))
    chances, captions = [], []
    for start in rows[::BATCH]:
        samples = source.samples(rows[start : start + BATCH], seed=0)
        chances.append(tags.chances(tags.logits([image_of(one) for one in samples])))
        captions += [one.texts for one in samples]
    print(json.dumps(judge(tags, torch.cat(chances), captions), indent=1))


if __name__ == "__main__":
    typer.run(main)

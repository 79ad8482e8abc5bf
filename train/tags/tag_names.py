"""Names of ImageNet's 1,000 classes that a lay reader understands without a picture.

open_clip's list, which OpenAI curated for CLIP, with fewer brackets, and the kind of animal said where its name does
not. Classes that show the same thing share a name: sunglasses, missile, laptop, corn, computer monitor.
"""

from __future__ import annotations

import re

import open_clip

_DOGS = range(151, 269)
_SAYS_DOG = r"dog|hound|terrier|retriever|spaniel|setter|collie|corgi|poodle|schnauzer|mastiff|pinscher|malamute|pug"
_COMMON = (  # nouns of breeds, which open_clip writes with capitals
    r"Hound|Coonhound|Greyhound|Deerhound|Terrier|Retriever|Spaniel|Setter|Pointer|Sheepdog|Dog|Schnauzer|Poodle|"
    r"Mastiff|Bulldog|Pinscher|Collie|Corgi|Husky|Malamute|Miniature|Giant|Standard|Toy|Papillon|Boxer|Beagle|"
    r"Bloodhound|Otterhound|Whippet|Bullmastiff|Golden"
)
_RENAMED = {
    **{f"{name}": f"{name} bird" for name in (
        "brambling", "junco", "bulbul", "jay", "ptarmigan", "coucal", "bee eater", "hornbill", "jacamar", "toucan",
        "limpkin", "bustard", "dunlin", "dowitcher", "oystercatcher", "spoonbill",
    )},
    **{f"{name}": f"{name} monkey" for name in (
        "guenon", "langur", "black-and-white colobus", "marmoset",
    )},
    **{f"{name}": f"{name} mushroom" for name in ("agaric", "gyromitra", "bolete")},
    "kite (bird of prey)": "kite bird",
    "American dipper": "dipper bird",
    "lorikeet": "lorikeet parrot",
    "macaw": "macaw parrot",
    "african grey parrot": "African grey parrot",
    "red-breasted merganser": "merganser duck",
    "common gallinule": "gallinule bird",
    "American coot": "coot bird",
    "ruddy turnstone": "turnstone bird",
    "common redshank": "redshank bird",
    "tench": "tench fish",
    "sturgeon": "sturgeon fish",
    "agama": "agama lizard",
    "Carolina anole": "anole lizard",
    "banded gecko": "gecko lizard",
    "Gila monster": "Gila monster lizard",
    "terrapin": "terrapin turtle",
    "triceratops": "triceratops dinosaur",
    "tusker": "tusked elephant",
    "dugong": "dugong sea cow",
    "isopod": "woodlouse",
    "lacewing": "lacewing insect",
    "cicada": "cicada insect",
    "Groenendael dog": "Belgian sheepdog",
    "brussels griffon": "Brussels griffon",
    "Mexican hairless dog (xoloitzcuintli)": "Mexican hairless dog",
    "red wolf or maned wolf": "red wolf",
    "dingo": "dingo wild dog",
    "dhole": "dhole wild dog",
    "Egyptian Mau": "Egyptian Mau cat",
    "common sorrel horse": "sorrel horse",
    "ram (adult male sheep)": "ram sheep",
    "Alpine ibex": "ibex goat",
    "hartebeest": "hartebeest antelope",
    "impala (antelope)": "impala antelope",
    "arabian camel": "camel",
    "siamang": "siamang gibbon",
    "white-headed capuchin": "capuchin monkey",
    "common squirrel monkey": "squirrel monkey",
    "indri": "indri lemur",
    "Band-Aid": "adhesive bandage",
    "baluster / handrail": "handrail",
    "military hat (bearskin or shako)": "bearskin military hat",
    "poke bonnet": "bonnet",
    "brass memorial plaque": "memorial plaque",
    "cardboard box / carton": "cardboard box",
    "automated teller machine": "cash machine",
    "bell or wind chime": "wind chime",
    "chiffonier": "chest of drawers",
    "spiral or coil": "spiral",
    "cornet": "cornet trumpet",
    "Crock Pot": "slow cooker",
    "cuirass": "cuirass armour",
    "gas mask or respirator": "gas mask",
    "half-track": "half-track military vehicle",
    "hamper": "laundry hamper",
    "hand-held computer": "handheld computer",
    "gymnastic horizontal bar": "horizontal bar",
    "hot tub": "tub",
    "laptop computer": "laptop",
    "notebook computer": "laptop",
    "loupe magnifying glass": "magnifying glass",
    "ford model t": "vintage car",
    "monitor": "computer monitor",
    "CRT monitor": "computer monitor",
    "vespa": "motor scooter",
    "overskirt": "layered skirt",
    "product packet / packaging": "packet",
    "Pickelhaube": "spiked helmet",
    "plectrum": "guitar pick",
    "drink pitcher": "pitcher jug",
    "quill": "quill pen",
    "fishing casting reel": "fishing reel",
    "ruler measuring stick": "ruler",
    "shoji screen / room divider": "room divider",
    "balaclava ski mask": "ski mask",
    "keyboard space bar": "space bar",
    "swim trunks / shorts": "swim trunks",
    "through arch bridge": "steel arch bridge",
    "vaulted or arched ceiling": "arched ceiling",
    "velvet fabric": "velvet",
    "stupa": "stupa shrine",
    "military aircraft": "warplane",
    "website": "web page",
    "traffic or street sign": "street sign",
    "dust jacket": "book cover",
    "consomme": "clear soup",
    "trifle": "trifle dessert",
    "cherimoya (custard apple)": "custard apple",
    "cardoon": "cardoon thistle",
    "carbonara": "pasta carbonara",
    "promontory": "headland",
    "rapeseed": "rapeseed field",
    "corn cob": "corn",
    "husky": "husky dog",
}  # fmt: skip


def plain_names() -> list[str]:
    """The names of ImageNet's classes, in order; those that show the same thing are equal."""
    return [_plain(i, name) for i, name in enumerate(open_clip.IMAGENET_CLASSNAMES)]


def _plain(number: int, name: str) -> str:
    name = _RENAMED.get(name, name)
    if number in _DOGS:
        name = re.sub(rf"\b({_COMMON})\b", lambda found: found[0].lower(), name)
        if not re.search(_SAYS_DOG, name):
            name += " dog"
    return name

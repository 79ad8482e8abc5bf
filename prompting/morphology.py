"""English word forms: the singular of nouns and the base of verbs, by rules and short lists of exceptions."""

from __future__ import annotations

from functools import lru_cache


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


_PLURALS = _pairs(
    """
    men:man women:woman children:child people:person persons:person mice:mouse geese:goose feet:foot teeth:tooth
    oxen:ox leaves:leaf wolves:wolf knives:knife wives:wife lives:life shelves:shelf loaves:loaf scarves:scarf
    calves:calf halves:half elves:elf thieves:thief hooves:hoof cacti:cactus dice:die buses:bus gases:gas
    lenses:lens movies:movie cookies:cookie zombies:zombie pies:pie ties:tie shoes:shoe toes:toe canoes:canoe
    horses:horse houses:house roses:rose vases:vase noses:nose cheeses:cheese axes:axe caches:cache phases:phase
    statues:statue trees:tree bees:bee knees:knee eyes:eye firemen:fireman fishermen:fisherman
    policemen:policeman snowmen:snowman bases:base purses:purse nurses:nurse bruises:bruise cruises:cruise
    courses:course cases:case corpses:corpse
    """
)
_SAME = word_set(
    """
    sheep deer fish moose series species aircraft salmon shrimp bison trout offspring
    """
)
_ALWAYS_PLURAL = word_set(
    """
    glasses sunglasses scissors jeans pants trousers shorts goggles binoculars clothes headphones tweezers
    pajamas stairs
    """
)
_NOT_PLURAL = word_set(
    """
    glass grass dress bus lens gas cactus octopus walrus canvas christmas tennis chess news compass always
    """
)

_IRREGULAR = _pairs(
    """
    sat:sit stood:stand lay:lie lying:lie lies:lie lain:lie laid:lay ran:run held:hold wore:wear worn:wear
    ate:eat eaten:eat flew:fly flown:fly drank:drink drunk:drink rode:ride ridden:ride drove:drive driven:drive
    swam:swim sang:sing caught:catch threw:throw thrown:throw fell:fall fallen:fall grew:grow grown:grow
    slept:sleep dug:dig hung:hang built:build drew:draw drawn:draw wrote:write written:write made:make took:take
    taken:take gave:give given:give went:go gone:go came:come saw:see seen:see seated:sit tying:tie woven:weave
    knelt:kneel bent:bend broke:break hidden:hide hid:hide bitten:bite rising:rise rose:rise risen:rise
    shone:shine swung:swing spun:spin fed:feed led:lead left:leave lit:light shot:shoot stuck:stick fought:fight
    shown:show dying:die set:set cut:cut put:put hit:hit split:split spread:spread
    """
)


def irregular_forms() -> dict[str, str]:
    """Irregular verb forms to their base."""
    return _IRREGULAR


@lru_cache(maxsize=8192)
def singular(noun: str) -> str:
    """The singular of a noun in lower case: "wolves" -> "wolf"."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun in _SAME or noun in _ALWAYS_PLURAL or noun in _NOT_PLURAL or len(noun) < 4 or not noun.endswith("s"):
        return noun
    if noun.endswith(("ss", "us", "is")):
        return noun
    if noun.endswith("ies"):
        return f"{noun[:-3]}y"
    if noun.endswith(("ches", "shes", "sses", "xes", "zes", "toes", "goes")):
        return noun[:-2]
    return noun[:-1]


def is_plural(noun: str) -> bool:
    """Whether the form is a plural. Nouns with one form for both ("sheep") and pair nouns ("glasses") count as
    neither.
    """
    return singular(noun) != noun


def fixed_number(noun: str) -> bool:
    """Whether the noun's form says nothing of its number."""
    return noun in _SAME or noun in _ALWAYS_PLURAL


@lru_cache(maxsize=8192)
def verb_base(word: str, known: frozenset[str] = frozenset()) -> str:
    """The base of a verb form in lower case: "running" -> "run". `known` bases decide between "hop" and "hope"."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in known:
        return word
    candidates = _stems(word)
    return next((stem for stem in candidates if stem in known), candidates[0])


def _stems(word: str) -> list[str]:
    """Possible bases, the likeliest by rule first."""
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word[: -len(ending)]
            if ending == "ed" and stem.endswith("i"):
                return [f"{stem[:-1]}y"]
            if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
                return [stem[:-1], stem]
            return (
                [stem, f"{stem}e", stem[:-1]] if not stem.endswith(("v", "c", "u", "at", "iz")) else [f"{stem}e", stem]
            )
    if word.endswith("ies") and len(word) > 4:
        return [f"{word[:-3]}y", word[:-1]]
    if word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return [word[:-2], word[:-1]]
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        return [word[:-1]]
    return [word]
